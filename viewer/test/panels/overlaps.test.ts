import { describe, expect, it } from "vitest";
import { difference, shared } from "../../src/panels/overlap";
import { overlapsOf } from "../../src/panels/overlaps";
import type { MaskSlice } from "../../src/reading/masks";
import { FakeReading, square, structure } from "./fake";

/** Rows of "#" and ".", at a corner. */
function drawn(x0: number, y0: number, ...rows: string[]): MaskSlice {
  const data = Uint8Array.from(rows.join(""), (one) => (one === "#" ? 1 : 0));
  return { x0, y0, x1: x0 + rows[0]!.length, y1: y0 + rows.length, data };
}

describe("two masks", () => {
  const one = drawn(2, 1, ".##.", "####", ".#..");
  const other = drawn(4, 2, "###", "#..");
  it("share the pixels that are in both, wherever their rectangles are", () => {
    // row 2: columns 2-5 and 4-6; row 3: column 3 and column 4
    expect(shared(one, other)).toBe(2);
    expect(shared(other, one)).toBe(2);
    expect(shared(one, drawn(30, 30, "#"))).toBe(0);
    expect(shared(one, undefined)).toBe(0);
  });
  it("differ by what is in one alone", () => {
    expect(difference(one, other)).toBe(5 + 2);
    expect(difference(one, one)).toBe(0);
    expect(difference(undefined, other)).toBe(4);
  });
});

describe("structures", () => {
  it("that share voxels are paired, those that share most first", () => {
    const reading = new FakeReading();
    reading.objects.value = [structure(1, "lung"), structure(2, "tumour"), structure(3, "cord"), structure(4, "heart")];
    for (const slice of [3, 4]) {
      reading.masks.put(1, slice, "refined", square(10));
      reading.masks.put(2, slice, "refined", square(3, 2, 2));
      reading.masks.put(3, slice, "refined", square(3, 20, 20));
    }
    reading.masks.put(4, 3, "refined", square(4, 8, 8));
    reading.masks.put(4, 9, "refined", square(40));
    expect(overlapsOf(reading)).toEqual([
      { first: 1, second: 2, voxels: 18 },
      { first: 1, second: 4, voxels: 4 },
    ]);
  });
});
