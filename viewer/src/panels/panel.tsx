export function Panel() {
  return <div class="panels-panel" />;
}
