// The tools, from top to bottom.

export function Toolbar() {
  return <div class="tools-bar" />;
}
