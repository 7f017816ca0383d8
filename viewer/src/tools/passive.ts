// Tools that take no step: the plane itself pans and changes the window while they are chosen, for touch and pens.

import type { Tool, ToolId } from "./tool";

const CURSORS: Partial<Record<ToolId, string>> = { pan: "grab", window: "ns-resize" };

export function passive(id: ToolId): Tool {
  return {
    id,
    cursor: () => CURSORS[id] ?? "crosshair",
    down: () => false,
    move: () => {},
    up: () => {},
    hover: () => {},
    cancel: () => {},
    key: () => false,
    draw: () => {},
  };
}
