// Keys of the tools. Letters are those of the key also where a keyboard writes another script.

import { activeAxis, tool } from "../state";
import { currentTool } from "./current";
import { enterKeys, keyForPointer, keyPointer, leaveKeys } from "./keypointer";
import { resize } from "./sizes";
import { back } from "./steps";
import type { ToolId } from "./tool";

export const TOOL_KEYS: Readonly<Record<string, ToolId>> = {
  b: "box",
  s: "scribble",
  l: "lasso",
  p: "polygon",
  r: "line",
  d: "brush",
  e: "eraser",
  t: "threshold",
};

/** The Latin letter of a key. */
function letter(event: KeyboardEvent): string {
  if (/^[a-z]$/i.test(event.key)) return event.key.toLowerCase();
  return /^Key[A-Z]$/.test(event.code) ? event.code.slice(3).toLowerCase() : "";
}

/** Where keys are typed, or mean something of their own. */
function isTyped(target: EventTarget | null): boolean {
  if (!(target instanceof Element)) return false;
  return (
    target.closest("input:not([type=range], [type=checkbox], [type=radio]), textarea, select, [contenteditable]") !==
    null
  );
}

const OWN_KEYS = "button, a, input, summary, [role=slider], [role=listbox], [role=menu], [role=tablist], [role=tree]";

/** True when the key was meant for a tool. */
export function onKey(event: KeyboardEvent): boolean {
  if (event.defaultPrevented || isTyped(event.target)) return false;
  const name = letter(event);
  if (event.ctrlKey || event.metaKey) return !event.altKey && undo(event, name);
  const onControl = event.target instanceof Element && event.target.closest(OWN_KEYS) !== null;
  const chosen = currentTool();
  if (!(onControl && ["Enter", " "].includes(event.key)) && chosen.key(event)) return true;
  if (!onControl && keyForPointer(event, chosen)) return true;
  if (event.altKey) return false;
  if (event.key === "Enter" && !onControl) return enterOnPlane(event.target);
  if (event.shiftKey) return false;
  if (event.key === "[" || event.code === "BracketLeft") return resize(-1);
  if (event.key === "]" || event.code === "BracketRight") return resize(1);
  if (name === "k") {
    if (!keyPointer.peek()) return enterKeys();
    leaveKeys();
    return true;
  }
  const id = TOOL_KEYS[name];
  if (id) tool.value = id;
  return id !== undefined;
}

function undo(event: KeyboardEvent, name: string): boolean {
  if (name !== "z" && name !== "y") return false;
  void back(name === "y" || event.shiftKey);
  return true;
}

function enterOnPlane(target: EventTarget | null): boolean {
  const plane = target instanceof Element ? target.closest<HTMLElement>("[data-plane]") : null;
  return plane !== null && enterKeys((plane.dataset.plane as "i" | "j" | "k" | undefined) ?? activeAxis.peek());
}
