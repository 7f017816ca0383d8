// Masks under the hand: a whole slice in a byte a pixel, painted by discs that are round in the patient.

import { type MaskSlice, NOTHING } from "../reading/masks";
import { fromSegment, type Point, type Shape } from "./geometry";

/** Pixels [x0, x1) x [y0, y1). */
interface Rectangle {
  x0: number;
  y0: number;
  x1: number;
  y1: number;
}

/** The slice that a mask lies on, all of it. */
export class Sheet {
  readonly data: Uint8Array;
  /** Holds all pixels that are set, and perhaps more. */
  private bounds: Rectangle = { x0: 0, y0: 0, x1: 0, y1: 0 };

  constructor(
    readonly shape: Shape,
    mask: MaskSlice = NOTHING,
  ) {
    this.data = new Uint8Array(shape[0] * shape[1]);
    this.add(mask);
  }

  add(mask: MaskSlice): void {
    const wide = mask.x1 - mask.x0;
    for (let y = mask.y0; y < mask.y1; y += 1) {
      for (let x = mask.x0; x < mask.x1; x += 1) {
        if (mask.data[(y - mask.y0) * wide + x - mask.x0]) this.data[y * this.shape[1] + x] = 1;
      }
    }
    this.reach(mask);
  }

  /** Sets (or clears) all pixels whose centre is within half of `size` of the way from a to b, and those under both ends. */
  stroke(a: Point, b: Point, size: number, pitch: Point, value: 0 | 1): void {
    const radius = size / 2;
    const [px, py] = pitch;
    const from: Point = [a[0] * px, a[1] * py];
    const to: Point = [b[0] * px, b[1] * py];
    const area = this.cut({
      x0: Math.ceil(Math.min(a[0], b[0]) - radius / px),
      y0: Math.ceil(Math.min(a[1], b[1]) - radius / py),
      x1: Math.floor(Math.max(a[0], b[0]) + radius / px) + 1,
      y1: Math.floor(Math.max(a[1], b[1]) + radius / py) + 1,
    });
    for (let y = area.y0; y < area.y1; y += 1) {
      for (let x = area.x0; x < area.x1; x += 1) {
        if (fromSegment([x * px, y * py], from, to) <= radius + 1e-9) this.data[y * this.shape[1] + x] = value;
      }
    }
    this.reach(area);
    for (const [x, y] of [a, b]) this.dot(Math.round(x), Math.round(y), value);
  }

  /** The mask as it is now: a copy, in the smallest rectangle that holds it. */
  mask(): MaskSlice {
    return tight(this.data, this.shape, this.bounds);
  }

  private dot(x: number, y: number, value: 0 | 1): void {
    if (x < 0 || y < 0 || x >= this.shape[1] || y >= this.shape[0]) return;
    this.data[y * this.shape[1] + x] = value;
    this.reach({ x0: x, y0: y, x1: x + 1, y1: y + 1 });
  }

  private cut(area: Rectangle): Rectangle {
    const [rows, columns] = this.shape;
    return {
      x0: Math.max(area.x0, 0),
      y0: Math.max(area.y0, 0),
      x1: Math.min(area.x1, columns),
      y1: Math.min(area.y1, rows),
    };
  }

  private reach(area: Rectangle): void {
    if (area.x1 <= area.x0 || area.y1 <= area.y0) return;
    const old = this.bounds;
    const empty = old.x1 <= old.x0;
    this.bounds = empty
      ? { x0: area.x0, y0: area.y0, x1: area.x1, y1: area.y1 }
      : {
          x0: Math.min(old.x0, area.x0),
          y0: Math.min(old.y0, area.y0),
          x1: Math.max(old.x1, area.x1),
          y1: Math.max(old.y1, area.y1),
        };
  }
}

function tight(data: Uint8Array, shape: Shape, within: Rectangle): MaskSlice {
  const columns = shape[1];
  let [x0, y0, x1, y1] = [within.x1, within.y1, within.x0, within.y0];
  for (let y = within.y0; y < within.y1; y += 1) {
    const row = data.subarray(y * columns + within.x0, y * columns + within.x1);
    const first = row.indexOf(1);
    if (first < 0) continue;
    x0 = Math.min(x0, within.x0 + first);
    x1 = Math.max(x1, within.x0 + row.lastIndexOf(1) + 1);
    y0 = Math.min(y0, y);
    y1 = y + 1;
  }
  if (x1 <= x0) return NOTHING;
  const wide = x1 - x0;
  const out = new Uint8Array(wide * (y1 - y0));
  for (let y = y0; y < y1; y += 1) out.set(data.subarray(y * columns + x0, y * columns + x1), (y - y0) * wide);
  return { x0, y0, x1, y1, data: out };
}

/** Whether two masks are of the same pixels, each in the smallest rectangle. */
export function isSame(a: MaskSlice = NOTHING, b: MaskSlice = NOTHING): boolean {
  if (a.data.length === 0 || b.data.length === 0) return a.data.length === b.data.length;
  const isThere = a.x0 === b.x0 && a.y0 === b.y0 && a.x1 === b.x1 && a.y1 === b.y1;
  return isThere && a.data.every((pixel, at) => pixel === b.data[at]);
}

export function isIn(mask: MaskSlice, x: number, y: number): boolean {
  if (x < mask.x0 || y < mask.y0 || x >= mask.x1 || y >= mask.y1) return false;
  return mask.data[(y - mask.y0) * (mask.x1 - mask.x0) + x - mask.x0] === 1;
}

export function count(mask: MaskSlice): number {
  let sum = 0;
  for (const pixel of mask.data) sum += pixel;
  return sum;
}

/** Overlap of two masks: 1 equal, 0 apart. Two empty ones are equal. */
export function dice(a: MaskSlice, b: MaskSlice): number {
  const both = count(a) + count(b);
  if (both === 0) return 1;
  let common = 0;
  for (let y = Math.max(a.y0, b.y0); y < Math.min(a.y1, b.y1); y += 1) {
    for (let x = Math.max(a.x0, b.x0); x < Math.min(a.x1, b.x1); x += 1) {
      if (isIn(a, x, y) && isIn(b, x, y)) common += 1;
    }
  }
  return (2 * common) / both;
}
