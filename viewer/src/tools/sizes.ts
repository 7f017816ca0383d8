// Widths of pens: of the brush and of strokes, in mm (pixels where there are none).

import { signal } from "@preact/signals";
import { brushSize, tool } from "../state";
import type { ToolId } from "./tool";

/** Width of a scribble. */
export const strokeSize = signal(2);

/** Pens to choose from. */
export const PENS: readonly number[] = [0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100];

/** The width that a tool draws with, or undefined where it has none. */
export function sizeFor(id: ToolId) {
  if (id === "scribble") return strokeSize;
  return id === "brush" || id === "eraser" || id === "threshold" ? brushSize : undefined;
}

/** The next wider (1) or finer (-1) pen of the chosen tool. False where it has none. */
export function resize(by: 1 | -1): boolean {
  const size = sizeFor(tool.peek());
  if (!size) return false;
  const now = size.peek();
  const next = by > 0 ? PENS.find((pen) => pen > now) : PENS.findLast((pen) => pen < now);
  if (next !== undefined) size.value = next;
  return true;
}
