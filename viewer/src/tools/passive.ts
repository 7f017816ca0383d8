// Tools that take no step: the plane itself pans and changes the window while they are chosen, for touch and pens.

import type { Tool } from "./tool";

export function passive(id: "pan" | "window"): Tool {
  return {
    id,
    cursor: () => (id === "pan" ? "grab" : "ns-resize"),
    down: () => false,
    move: () => {},
    up: () => {},
    hover: () => {},
    cancel: () => {},
    key: () => false,
    draw: () => {},
  };
}
