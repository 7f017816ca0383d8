/** Keys of the panels: N, H, O, G, X. True when the key was meant for them. */
export function onKey(_event: KeyboardEvent): boolean {
  return false;
}
