import { expect, it } from "vitest";
import type { MaskSlice } from "../../src/reading/masks";
import { difference } from "../../src/view/difference";

const MINE: MaskSlice = { x0: 1, y0: 1, x1: 3, y1: 2, data: Uint8Array.from([1, 1]) };
const THEIRS: MaskSlice = { x0: 2, y0: 1, x1: 4, y1: 3, data: Uint8Array.from([1, 0, 0, 1]) };

function pixels(mask: MaskSlice): string[] {
  const width = mask.x1 - mask.x0;
  return [...mask.data].flatMap((on, n) => (on ? [`${mask.x0 + (n % width)},${mask.y0 + Math.floor(n / width)}`] : []));
}

it("two masks have pixels in common, and each its own", () => {
  const { both, mine, theirs } = difference(MINE, THEIRS);
  expect(pixels(both)).toEqual(["2,1"]);
  expect(pixels(mine)).toEqual(["1,1"]);
  expect(pixels(theirs)).toEqual(["3,2"]);
});

it("a mask against nothing is all of one's own", () => {
  expect(pixels(difference(MINE, undefined).mine)).toEqual(["1,1", "2,1"]);
  expect(pixels(difference(undefined, THEIRS).theirs)).toEqual(["2,1", "3,2"]);
  expect(pixels(difference(MINE, undefined).both)).toEqual([]);
});

it("the same two are compared once", () => {
  expect(difference(MINE, THEIRS)).toBe(difference(MINE, THEIRS));
});
