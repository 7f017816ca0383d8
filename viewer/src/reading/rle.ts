// COCO's run lengths of a slice, as prompts of kind `mask` and `drawn` have them.
//
// A slice is read column by column; counts tell how many pixels are outside, then inside, then outside ... Compressed,
// every count after the third is its difference to the one two before, and each number is written as 5-bit groups, the
// lowest first, as characters from "0" on, with the sixth bit for "more follows". Source: the COCO API's mask format
// (Lin et al. 2014).

import type { MaskSlice } from "./masks";
import { tightened } from "./masks";

export interface Rle {
  /** [rows, columns] */
  size: [number, number];
  counts: string;
}

const ZERO = 48;

/** Pixels of a mask beyond the slice are left out. */
export function toRle(mask: MaskSlice, rows: number, columns: number): Rle {
  const x0 = Math.max(mask.x0, 0);
  const x1 = Math.min(mask.x1, columns);
  const y0 = Math.max(mask.y0, 0);
  const y1 = Math.min(mask.y1, rows);
  const width = mask.x1 - mask.x0;
  const counts: number[] = [];
  let inside = 0;
  let began = 0;
  const turn = (at: number): void => {
    counts.push(at - began);
    began = at;
    inside = 1 - inside;
  };
  for (let x = x0; x < x1; x += 1) {
    // what is above the mask in its column is outside
    if (inside === 1 && y0 > 0) turn(x * rows);
    for (let y = y0; y < y1; y += 1) {
      const value = mask.data[(y - mask.y0) * width + (x - mask.x0)] === 0 ? 0 : 1;
      if (value !== inside) turn(x * rows + y);
    }
    if (inside === 1 && y1 < rows) turn(x * rows + y1);
  }
  if (inside === 1 && x1 * rows < rows * columns) turn(x1 * rows);
  counts.push(rows * columns - began);
  return { size: [rows, columns], counts: toText(counts) };
}

/** The other way. Raises RangeError for what is no mask. */
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

function toText(counts: readonly number[]): string {
  let text = "";
  for (const [number, count] of counts.entries()) {
    let left = number > 2 ? count - counts[number - 2]! : count;
    for (let more = true; more; ) {
      const group = left & 31;
      // arithmetic: the sign goes on
      left >>= 5;
      more = group & 16 ? left !== -1 : left !== 0;
      text += String.fromCharCode(ZERO + group + (more ? 32 : 0));
    }
  }
  return text;
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
