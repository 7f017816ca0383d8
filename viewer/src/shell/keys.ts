// Keys of the page: each part is asked in turn whether one was meant for it.

import { onKey as forTasks } from "../annotate/keys";
import { onKey as forPanels } from "../panels/keys";
import { letterOf } from "../panels/letter";
import { layout, locked, reading } from "../state";
import { onKey as forTools } from "../tools/keys";
import { onKey as forView } from "../view/keys";
import { dialogs } from "./dialog";
import { helpShown } from "./help";

const LAYOUTS = ["one", "four", "volume"] as const;

/** Whether keys go into a field, where they are letters. */
export function typing(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement)
    return true;
  return target instanceof HTMLInputElement && !["button", "checkbox", "radio", "range", "file"].includes(target.type);
}

/** Whether a key works the control that has the focus: Enter and space press it, arrows move a slider. */
function working(event: KeyboardEvent): boolean {
  const { target, key } = event;
  if (!(target instanceof HTMLElement)) return false;
  // with Shift it presses nothing, but hands a task in
  if ((key === "Enter" && !event.shiftKey) || key === " ") return target.closest("button, a, summary, input") !== null;
  const moves = key.startsWith("Arrow") || key.startsWith("Page") || key === "Home" || key === "End";
  return (
    moves && target.closest('input, [role="slider"], [role="listbox"], [role="radiogroup"], [role="menu"]') !== null
  );
}

function forShell(event: KeyboardEvent): boolean {
  if (forTasks(event)) return true;
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  if (event.key === "?") {
    helpShown.value = true;
    return true;
  }
  if (letterOf(event) === "v" && !event.shiftKey && reading.value !== null) {
    layout.value = LAYOUTS[(LAYOUTS.indexOf(layout.value) + 1) % LAYOUTS.length]!;
    return true;
  }
  return false;
}

type Hears = (event: KeyboardEvent) => boolean;

/** True when a part took the key. What another has taken already, and what is typed, is nobody's. */
export function dispatch(
  event: KeyboardEvent,
  parts: readonly Hears[] = [forShell, forTools, forView, forPanels],
): boolean {
  if (event.defaultPrevented || event.isComposing || locked.value || dialogs.value > 0) return false;
  if (typing(event.target) || working(event)) return false;
  const room = reading.value !== null;
  const taken = parts.some((hears, number) => (room || number === 0) && hears(event));
  if (taken) event.preventDefault();
  return taken;
}

export function followKeys(): () => void {
  const hear = (event: KeyboardEvent) => void dispatch(event);
  window.addEventListener("keydown", hear);
  return () => window.removeEventListener("keydown", hear);
}
