// Keys of the tools. Letters are those of the key also where a keyboard writes another script.

import { letterUnder } from "../panels/letter";
import { activeAxis, tool } from "../state";
import { currentTool } from "./current";
import { enterKeys, keyForPointer, keyPointer, leaveKeys } from "./keypointer";
import { resize } from "./sizes";
import { back, takingBack } from "./steps";
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

/** True when the key was meant for a tool. The page asks only for keys that are neither typed nor work a control. */
export function onKey(event: KeyboardEvent): boolean {
  const name = letterUnder(event);
  if (event.ctrlKey || event.metaKey) return !event.altKey && undo(event, name);
  const chosen = currentTool();
  if (chosen.key(event) || keyForPointer(event, chosen)) return true;
  if (event.altKey) return false;
  if (event.key === "Enter") return enterOnPlane(event.target);
  if (event.shiftKey) return false;
  if (event.key === "[" || event.code === "BracketLeft") return resize(-1);
  if (event.key === "]" || event.code === "BracketRight") return resize(1);
  if (name === "k") {
    if (!keyPointer.peek()) return enterKeys();
    leaveKeys(chosen);
    return true;
  }
  const id = name === null ? undefined : TOOL_KEYS[name];
  if (id) tool.value = id;
  return id !== undefined;
}

function undo(event: KeyboardEvent, name: string | null): boolean {
  if (name !== "z" && name !== "y") return false;
  // a key that is held takes back one step after the other, and stops with the hand
  if (!event.repeat || takingBack.peek().length === 0) void back(name === "y" || event.shiftKey);
  return true;
}

function enterOnPlane(target: EventTarget | null): boolean {
  const plane = target instanceof Element ? target.closest<HTMLElement>("[data-plane]") : null;
  return plane !== null && enterKeys((plane.dataset.plane as "i" | "j" | "k" | undefined) ?? activeAxis.peek());
}
