// Positions of a slice in the model's input: what `Frame` does on the server (medsam/transforms/frame.py). A slice is stood
// upright, scaled and padded right and bottom. Points are pixel numbers there; corners of a box are edges, scaled as they
// are, as SAM's public code takes them.

import type { PlaneInfo } from "../api/types";
import { fromUpright, toUpright, uprightShape } from "../scan/scan";
import type { Box, Point } from "./geometry";

/** size: a side of the model's input. resized: its rows and columns that the slice covers. */
export interface InputFrame {
  readonly plane: PlaneInfo;
  readonly size: number;
  readonly resized: readonly [number, number];
}

/** Model pixels an upright one, (x, y). */
function scaleOf({ plane, resized }: InputFrame): [number, number] {
  const [rows, columns] = uprightShape(plane);
  return [resized[1] / columns, resized[0] / rows];
}

export function pointToInput(frame: InputFrame, [x, y]: Point): [number, number] {
  const [u, v] = toUpright(frame.plane, x + 0.5, y + 0.5);
  const [sx, sy] = scaleOf(frame);
  return [u * sx - 0.5, v * sy - 0.5];
}

/** Its upper left and its lower right corner. */
export function boxToInput(frame: InputFrame, box: Box): [[number, number], [number, number]] {
  const [a, b] = [toUpright(frame.plane, box[0], box[1]), toUpright(frame.plane, box[2], box[3])];
  const [sx, sy] = scaleOf(frame);
  return [
    [Math.min(a[0], b[0]) * sx, Math.min(a[1], b[1]) * sy],
    [Math.max(a[0], b[0]) * sx, Math.max(a[1], b[1]) * sy],
  ];
}

/** A position of the logits -> pixel number on the stored slice. */
export function logitToStored(frame: InputFrame, side: number, x: number, y: number): Point {
  const [sx, sy] = scaleOf(frame);
  const step = frame.size / side;
  const [a, b] = fromUpright(frame.plane, ((x + 0.5) * step) / sx, ((y + 0.5) * step) / sy);
  return [a - 0.5, b - 0.5];
}
