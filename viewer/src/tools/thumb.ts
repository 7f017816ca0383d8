// A small picture of a part of a slice, upright and windowed, with a mask on it.

import type { PlaneInfo } from "../api/types";
import type { MaskSlice } from "../reading/masks";
import { fromUpright, type Pixels, toUpright } from "../scan/scan";
import { isIn } from "./paint";

/** Upright rectangle in edges of pixels: left, top, right, bottom. */
export type Crop = readonly [number, number, number, number];

/** The part of a slice that shows all of some masks, with a margin: as wide as high in mm. */
export function cropRound(plane: PlaneInfo, masks: readonly MaskSlice[]): Crop {
  const corners = masks
    .filter((mask) => mask.data.length > 0)
    .flatMap((mask) => [toUpright(plane, mask.x0, mask.y0), toUpright(plane, mask.x1, mask.y1)]);
  const [pu, pv] = uprightPitch(plane);
  const us = corners.map(([u]) => u);
  const vs = corners.map(([, v]) => v);
  const [left, right] = corners.length > 0 ? [Math.min(...us), Math.max(...us)] : [0, 1];
  const [top, bottom] = corners.length > 0 ? [Math.min(...vs), Math.max(...vs)] : [0, 1];
  const side = Math.max((right - left) * pu, (bottom - top) * pv, 12 * Math.max(pu, pv)) * 1.25;
  const [u, v] = [(left + right) / 2, (top + bottom) / 2];
  return [u - side / 2 / pu, v - side / 2 / pv, u + side / 2 / pu, v + side / 2 / pv];
}

function uprightPitch(plane: PlaneInfo): [number, number] {
  const [row, column] = plane.spacing_mm;
  return plane.view.transpose ? [row, column] : [column, row];
}

function rgb(colour: string): [number, number, number] {
  const number = Number.parseInt(colour.slice(1), 16);
  return Number.isNaN(number) ? [90, 176, 242] : [number >> 16, (number >> 8) & 255, number & 255];
}

/** RGBA of size x size pixels: the slice, and the mask filled with a bright border. */
export function picture(
  plane: PlaneInfo,
  pixels: Pixels,
  window: { low: number; high: number },
  mask: MaskSlice,
  colour: string,
  crop: Crop,
  size: number,
): Uint8ClampedArray<ArrayBuffer> {
  const out = new Uint8ClampedArray(size * size * 4);
  const ink = rgb(colour);
  const width = Math.max(window.high - window.low, Number.EPSILON);
  const place = (column: number, row: number): [number, number] => {
    const u = crop[0] + ((column + 0.5) / size) * (crop[2] - crop[0]);
    const v = crop[1] + ((row + 0.5) / size) * (crop[3] - crop[1]);
    const [x, y] = fromUpright(plane, u, v);
    return [Math.floor(x), Math.floor(y)];
  };
  const inside = (column: number, row: number) => isIn(mask, ...place(column, row));
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      const [x, y] = place(column, row);
      const at = (row * size + column) * 4;
      out[at + 3] = 255;
      if (x < 0 || y < 0 || x >= pixels.columns || y >= pixels.rows) continue;
      const isMask = isIn(mask, x, y);
      const isEdge =
        isMask &&
        !(inside(column - 1, row) && inside(column + 1, row) && inside(column, row - 1) && inside(column, row + 1));
      const share = isEdge ? 1 : isMask ? 0.3 : 0;
      for (let channel = 0; channel < 3; channel += 1) {
        const value = pixels.data[(y * pixels.columns + x) * pixels.channels + (channel % pixels.channels)]!;
        const grey = Math.min(Math.max(((value - window.low) / width) * 255, 0), 255);
        out[at + channel] = grey * (1 - share) + ink[channel]! * share;
      }
    }
  }
  return out;
}
