export function Strip() {
  return <div class="panels-strip" />;
}
