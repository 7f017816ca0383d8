// COCO's run lengths read back, for tests of what is written.

import { type MaskSlice, tightened } from "../../src/reading/masks";
import type { Rle } from "../../src/reading/rle";

const ZERO = 48;

/** The mask in its smallest rectangle. Raises RangeError for what is no mask. */
export function fromRle({ size: [rows, columns], counts }: Rle): MaskSlice {
  const runs = fromText(counts);
  const sum = runs.reduce((total, run) => total + run, 0);
  if (sum !== rows * columns || runs.some((run) => run < 0)) throw new RangeError("run lengths of another size");
  const data = new Uint8Array(rows * columns);
  let at = 0;
  for (const [number, run] of runs.entries()) {
    if (number % 2 === 1) {
      for (let pixel = at; pixel < at + run; pixel += 1) data[(pixel % rows) * columns + Math.floor(pixel / rows)] = 1;
    }
    at += run;
  }
  return tightened({ x0: 0, y0: 0, x1: columns, y1: rows, data });
}

function fromText(text: string): number[] {
  const counts: number[] = [];
  let at = 0;
  while (at < text.length) {
    let value = 0;
    let shift = 0;
    let group: number;
    do {
      group = text.charCodeAt(at) - ZERO;
      if (Number.isNaN(group) || group < 0 || group > 63 || shift > 30) throw new RangeError("no run lengths");
      value |= (group & 31) << shift;
      shift += 5;
      at += 1;
    } while (group & 32);
    if (group & 16 && shift < 32) value |= -1 << shift;
    if (counts.length > 2) value += counts[counts.length - 2]!;
    counts.push(value);
  }
  return counts;
}
