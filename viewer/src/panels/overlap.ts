// Two masks of a slice: how much they share, and how much they differ.

import type { MaskSlice } from "../reading/masks";

/** Pixels that are in both. */
export function shared(one: MaskSlice | undefined, other: MaskSlice | undefined): number {
  if (!one || !other) return 0;
  const left = Math.max(one.x0, other.x0);
  const right = Math.min(one.x1, other.x1);
  let sum = 0;
  for (let y = Math.max(one.y0, other.y0); y < Math.min(one.y1, other.y1); y += 1) {
    let a = (y - one.y0) * (one.x1 - one.x0) + left - one.x0;
    let b = (y - other.y0) * (other.x1 - other.x0) + left - other.x0;
    for (let x = left; x < right; x += 1, a += 1, b += 1) sum += one.data[a]! & other.data[b]!;
  }
  return sum;
}

function area(mask: MaskSlice | undefined): number {
  let sum = 0;
  for (const pixel of mask?.data ?? []) sum += pixel;
  return sum;
}

/** Pixels that are in one of the two alone. */
export function difference(one: MaskSlice | undefined, other: MaskSlice | undefined): number {
  return area(one) + area(other) - 2 * shared(one, other);
}
