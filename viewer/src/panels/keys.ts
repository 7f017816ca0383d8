// Keys of the panels: N next structure (with Shift: a new one), H hide masks, O outline or fill, G propagate, X least sure.

import { maskStyle, masksShown, reading } from "../state";
import { nextStructure, propagate, toLeastSure } from "./actions";
import { letterOf } from "./letter";
import { reach } from "./reach";
import { addStructure } from "./structures";

/** True when the key was meant for the panels. */
export function onKey(event: KeyboardEvent): boolean {
  const letter = letterOf(event);
  const open = reading.peek();
  if (letter === null || open === null) return false;
  if (event.shiftKey) return letter === "n" && addStructure();
  switch (letter) {
    case "n":
      nextStructure(open);
      return true;
    case "h":
      masksShown.value = !masksShown.peek();
      return true;
    case "o":
      maskStyle.value = maskStyle.peek() === "fill" ? "outline" : "fill";
      return true;
    case "g":
      if (!event.repeat) void propagate(open, reach.peek() ?? undefined);
      return true;
    case "x":
      toLeastSure();
      return true;
    default:
      return false;
  }
}
