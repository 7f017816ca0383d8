import { describe, expect, it } from "vitest";
import type { SliceInfo } from "../../src/panels/slices";
import { keyed, saidOf } from "../../src/panels/strip";
import { bandOf, beyond, nearest, sliceAt } from "../../src/panels/strip-geometry";
import { barOf } from "../../src/panels/strip-paint";

describe("the strip", () => {
  it("has its slices from top to bottom without gaps", () => {
    const track = { height: 100, slices: 7, reversed: false };
    let end = 0;
    for (let slice = 0; slice < 7; slice += 1) {
      const band = bandOf(track, slice);
      expect(band.top).toBe(end);
      end = band.top + band.height;
    }
    expect(end).toBe(100);
  });
  it("can be turned", () => {
    const track = { height: 100, slices: 10, reversed: true };
    expect(bandOf(track, 0)).toEqual({ top: 90, height: 10 });
    expect(sliceAt(track, 0)).toBe(9);
    expect(sliceAt(track, 99)).toBe(0);
  });
  it("keeps each slice a pixel high where there are more slices than pixels", () => {
    const track = { height: 50, slices: 500, reversed: false };
    expect(bandOf(track, 499)).toEqual({ top: 49, height: 1 });
    expect(bandOf(track, 250).height).toBe(1);
  });
  it("knows the slice under the pointer, also beyond its ends", () => {
    const track = { height: 100, slices: 20, reversed: false };
    for (let slice = 0; slice < 20; slice += 1) expect(sliceAt(track, bandOf(track, slice).top)).toBe(slice);
    expect(sliceAt(track, -3)).toBe(0);
    expect(sliceAt(track, 400)).toBe(19);
  });
  it("finds the nearest, and the next beyond", () => {
    expect(nearest([3, 9, 20], 13)).toBe(9);
    expect(nearest([], 13)).toBeUndefined();
    expect(beyond([3, 9, 20], 9, 1)).toBe(20);
    expect(beyond([3, 9, 20], 9, -1)).toBe(3);
    expect(beyond([3, 9, 20], 20, 1)).toBeUndefined();
  });
  it("shows confidence by length, brightness and dashes", () => {
    const bar = (confidence: number | null) => barOf({ slice: 0, kind: "propagated", confidence });
    expect(bar(1)).toEqual({ length: 1, alpha: 1, dashed: false });
    expect(bar(0)).toEqual({ length: 0.3, alpha: 0.35, dashed: true });
    expect(bar(0.5).dashed).toBe(false);
    expect(bar(null).dashed).toBe(false);
    expect(barOf({ slice: 0, kind: "prompted", confidence: null })).toEqual({ length: 1, alpha: 1, dashed: false });
  });
});

const SLICES: SliceInfo[] = [
  { slice: 3, kind: "propagated", confidence: 0.41 },
  { slice: 4, kind: "prompted", confidence: null },
  { slice: 5, kind: "propagated", confidence: 0.9 },
  { slice: 9, kind: "drawn", confidence: null },
];

describe("the strip for keys and readers of screens", () => {
  it("goes through slices with a mask, and through those that were given", () => {
    expect(keyed("ArrowDown", SLICES, 4, false)).toBe(5);
    expect(keyed("ArrowUp", SLICES, 4, false)).toBe(3);
    expect(keyed("ArrowDown", SLICES, 4, true)).toBe(3);
    expect(keyed("PageDown", SLICES, 4, false)).toBe(9);
    expect(keyed("Home", SLICES, 4, false)).toBe(3);
    expect(keyed("End", SLICES, 4, false)).toBe(9);
    expect(keyed("ArrowDown", SLICES, 9, false)).toBeUndefined();
    expect(keyed("a", SLICES, 9, false)).toBeNull();
  });
  it("says what a slice is", () => {
    expect(saidOf(SLICES, 3, SLICES[0]!)).toBe("slice 4, propagated, confidence 41%, the least sure slice");
    expect(saidOf(SLICES, 4, SLICES[0]!)).toBe("slice 5, from your prompts");
    expect(saidOf(SLICES, 7, SLICES[0]!)).toBe("slice 8, no mask");
  });
});
