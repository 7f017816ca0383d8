// COCO's run lengths of a slice, as prompts of kind `mask` and `drawn` have them.
//
// A slice is read column by column; counts tell how many pixels are outside, then inside, then outside ... Compressed,
// every count after the third is its difference to the one two before, and each number is written as 5-bit groups, the
// lowest first, as characters from "0" on, with the sixth bit for "more follows". Source: the COCO API's mask format
// (Lin et al. 2014).

import type { MaskSlice } from "./masks";

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
