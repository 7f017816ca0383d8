// Keeping the keyboard inside of what lies over the page.

const REACHABLE =
  'a[href], button:not([disabled]), input:not([disabled]), select:not([disabled]), textarea:not([disabled]), [tabindex="0"]';

/** What Tab stops at inside of an element, in order. */
export function reachable(inside: Element): HTMLElement[] {
  return [...inside.querySelectorAll<HTMLElement>(REACHABLE)].filter(
    (one) => one.closest("[hidden], [inert]") === null,
  );
}

/** At the end goes on at the beginning, and the other way. True when the focus was moved. */
export function trapTab(event: KeyboardEvent, inside: Element): boolean {
  if (event.key !== "Tab") return false;
  const stops = reachable(inside);
  if (stops.length === 0) {
    event.preventDefault();
    return true;
  }
  const first = stops[0]!;
  const last = stops[stops.length - 1]!;
  const at = document.activeElement;
  const out = at === null || !inside.contains(at);
  const next = event.shiftKey ? (out || at === first ? last : null) : out || at === last ? first : null;
  if (next === null) return false;
  event.preventDefault();
  next.focus();
  return true;
}
