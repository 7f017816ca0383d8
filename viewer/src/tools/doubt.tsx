// What the network says of its last answer, and what to do next.

export function Doubt() {
  return null;
}
