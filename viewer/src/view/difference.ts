// Two masks against each other: what both have, and what only one of them has. Hatched, so that colour is not all.

import { type MaskSlice, NOTHING } from "../reading/masks";
import type { Frame } from "./frame";
import { pathOnScreen } from "./paths";

export interface Difference {
  readonly both: MaskSlice;
  readonly mine: MaskSlice;
  readonly theirs: MaskSlice;
}

const known = new WeakMap<MaskSlice, WeakMap<MaskSlice, Difference>>();

/** What of two masks on a slice is of both, only of the first, only of the second. */
export function difference(mine: MaskSlice = NOTHING, theirs: MaskSlice = NOTHING): Difference {
  let of = known.get(mine);
  if (!of) {
    of = new WeakMap();
    known.set(mine, of);
  }
  let found = of.get(theirs);
  if (!found) {
    found = {
      both: combine(mine, theirs, (a, b) => a & b),
      mine: combine(mine, theirs, (a, b) => a & ~b),
      theirs: combine(mine, theirs, (a, b) => b & ~a),
    };
    of.set(theirs, found);
  }
  return found;
}

function combine(a: MaskSlice, b: MaskSlice, of: (a: number, b: number) => number): MaskSlice {
  const some = [a, b].filter((mask) => mask.x1 > mask.x0 && mask.y1 > mask.y0);
  if (!some.length) return NOTHING;
  const x0 = Math.min(...some.map((mask) => mask.x0));
  const y0 = Math.min(...some.map((mask) => mask.y0));
  const x1 = Math.max(...some.map((mask) => mask.x1));
  const y1 = Math.max(...some.map((mask) => mask.y1));
  const data = new Uint8Array((x1 - x0) * (y1 - y0));
  for (let y = y0, n = 0; y < y1; y += 1) {
    for (let x = x0; x < x1; x += 1, n += 1) data[n] = of(at(a, x, y), at(b, x, y)) & 1;
  }
  return { x0, y0, x1, y1, data };
}

function at(mask: MaskSlice, x: number, y: number): number {
  if (x < mask.x0 || y < mask.y0 || x >= mask.x1 || y >= mask.y1) return 0;
  return mask.data[(y - mask.y0) * (mask.x1 - mask.x0) + x - mask.x0]!;
}

// As in the legend of the comparison: --good both, --accent mine, --warn theirs, as the dark theme has them: pictures
// are on black in both themes.
const BOTH = "#6fd08c";
const MINE = "#5ab0f2";
const THEIRS = "#f0b429";

/** Both: an outline. Only mine: hatched upwards. Only theirs: hatched downwards. context: CSS pixels. */
export function paintDifference(context: CanvasRenderingContext2D, of: Difference, frame: Frame): void {
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  // what both have is last: its border is theirs, too, where only one goes on
  for (const [mask, colour, slope] of [
    [of.mine, MINE, 1],
    [of.theirs, THEIRS, -1],
    [of.both, BOTH, 0],
  ] as const) {
    const path = pathOnScreen(mask, frame);
    if (slope) hatch(context, path, mask, frame, colour, slope);
    context.strokeStyle = colour;
    context.stroke(path);
  }
}

function hatch(
  context: CanvasRenderingContext2D,
  path: Path2D,
  mask: MaskSlice,
  frame: Frame,
  colour: string,
  slope: 1 | -1,
): void {
  const [ax, ay] = frame.toScreen(mask.x0 - 0.5, mask.y0 - 0.5);
  const [bx, by] = frame.toScreen(mask.x1 - 0.5, mask.y1 - 0.5);
  const [left, right] = [Math.max(Math.min(ax, bx), 0), Math.min(Math.max(ax, bx), frame.width)];
  const [top, bottom] = [Math.max(Math.min(ay, by), 0), Math.min(Math.max(ay, by), frame.height)];
  if (right <= left || bottom <= top) return;
  context.save();
  context.globalAlpha = 0.35;
  context.fillStyle = colour;
  context.fill(path, "evenodd");
  context.globalAlpha = 1;
  context.clip(path, "evenodd");
  context.beginPath();
  const rise = bottom - top;
  // lines start at multiples of their distance, so that hatching does not swim when the mask changes
  for (let x = Math.floor((left - rise) / 6) * 6; x < right + rise; x += 6) {
    context.moveTo(x, slope > 0 ? bottom : top);
    context.lineTo(x + rise, slope > 0 ? top : bottom);
  }
  context.strokeStyle = colour;
  context.lineWidth = 1.25;
  context.stroke();
  context.restore();
}
