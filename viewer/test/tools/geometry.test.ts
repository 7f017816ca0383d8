import { describe, expect, it } from "vitest";
import {
  areaOf,
  boxBetween,
  boxOfPixels,
  cross,
  distance,
  dragged,
  fromSegment,
  gripAt,
  gripCursor,
  handles,
  onto,
  simplified,
  sizeOf,
} from "../../src/tools/geometry";
import { boxText, labelPlace } from "../../src/tools/pen";
import { plane, stageOf } from "./fake";

const SHAPE = [20, 30] as const;

describe("a box between two positions", () => {
  it("has half-open edges: the centre of column 3 is 3, its edges are 3 and 4", () => {
    expect(boxBetween([2.5, 4.5], [9.5, 6.5], SHAPE)).toEqual([3, 5, 10, 7]);
  });
  it("does not matter which corner came first", () => {
    expect(boxBetween([9.5, 6.5], [2.5, 4.5], SHAPE)).toEqual([3, 5, 10, 7]);
  });
  it("ends at the border of the slice", () => {
    expect(boxBetween([-8, -9], [99, 99], SHAPE)).toEqual([0, 0, 30, 20]);
  });
  it("is a pixel wide at least, also at the border", () => {
    expect(boxBetween([4, 4], [4.2, 9.5], SHAPE)).toEqual([4.1, 4.5, 5.1, 10]);
    expect(boxBetween([40, 4], [50, 8], SHAPE)).toEqual([29, 4.5, 30, 8.5]);
  });
  it("by keys holds the pixels from the first to the last", () => {
    expect(boxOfPixels([15, 23], [10, 20], [40, 40])).toEqual([10, 20, 16, 24]);
  });
});

describe("a box that is dragged", () => {
  const box = [4, 5, 10, 9] as const;
  it("moves the edges of its grip alone", () => {
    expect(dragged(box, { x: 1, y: 0 }, 3, 7, SHAPE)).toEqual([4, 5, 13, 9]);
    expect(dragged(box, { x: -1, y: -1 }, -2, 1, SHAPE)).toEqual([2, 6, 10, 9]);
  });
  it("turns over when an edge passes the other", () => {
    expect(dragged(box, { x: 1, y: 0 }, -9, 0, SHAPE)).toEqual([1, 5, 4, 9]);
  });
  it("as a whole keeps its size and stays on the slice", () => {
    expect(dragged(box, { x: 0, y: 0 }, -50, 50, SHAPE)).toEqual([0, 16, 6, 20]);
  });
});

describe("handles", () => {
  const info = plane([20, 30], [2, 1]);
  const stage = stageOf(info, 5);
  const box = [4, 5, 10, 9] as const;
  it("are eight, at corners and middles of the edges on screen", () => {
    // 5 CSS pixels a mm, 1 x 2 mm a pixel, picture at (7, 11)
    expect(handles(box, stage).map((one) => one.at)).toEqual([
      [27, 61],
      [57, 61],
      [57, 101],
      [27, 101],
      [42, 61],
      [57, 81],
      [42, 101],
      [27, 81],
    ]);
  });
  it("are hit within reach; corners before edges; edges on all of their length", () => {
    expect(gripAt(box, stage, [54, 64], 6)).toEqual({ x: 1, y: -1 });
    expect(gripAt(box, stage, [57, 70], 6)).toEqual({ x: 1, y: 0 });
    expect(gripAt(box, stage, [35, 98], 6)).toEqual({ x: 0, y: 1 });
    expect(gripAt(box, stage, [42, 81], 6)).toBeNull();
    expect(gripAt(box, stage, [80, 81], 6)).toBeNull();
  });
  it("of a turned slice are those that lie there on screen", () => {
    const turned = stageOf({ ...info, view: { transpose: true, flip_rows: false, flip_columns: true } }, 5);
    const [left, top] = labelPlace(turned, box);
    // stored y runs to the left on screen, so the upper y is the left edge
    const upper = handles(box, turned).find((one) => one.grip.x === 0 && one.grip.y === 1)!;
    expect(upper.at[0]).toBe(left);
    expect(top).toBeLessThan(upper.at[1]);
    expect(gripAt(box, turned, [upper.at[0], upper.at[1] + 5], 6)).toEqual({ x: 0, y: 1 });
    expect(gripCursor(box, { x: 0, y: 1 }, turned)).toBe("ew-resize");
    expect(boxText(turned, box)).toBe("8.0 × 6.0 mm");
  });
});

describe("lengths", () => {
  it("are mm where pixels have them", () => {
    expect(distance([0, 0], [3, 2], [1, 2])).toBe(5);
    expect(distance([0, 0], [3, 4], null)).toBe(5);
    expect(sizeOf([2, 2, 12, 4], [0.5, 3])).toEqual([5, 6]);
  });
  it("from a segment are to its nearest point", () => {
    expect(fromSegment([3, 4], [0, 0], [10, 0])).toBe(4);
    expect(fromSegment([13, 4], [0, 0], [10, 0])).toBe(5);
    expect(fromSegment([3, 4], [0, 0], [0, 0])).toBe(5);
  });
});

describe("strokes and loops", () => {
  it("lose points that say nothing, and no corner", () => {
    const points: [number, number][] = [
      [0, 0],
      [1, 0.1],
      [2, -0.1],
      [5, 0],
      [5, 2],
      [5, 5],
    ];
    expect(simplified(points, 0.2)).toEqual([
      [0, 0],
      [5, 0],
      [5, 5],
    ]);
    expect(simplified([[1, 1]], 1)).toEqual([[1, 1]]);
  });
  it("stay on the slice", () => {
    expect(onto([-9, 33.333], SHAPE)).toEqual([-0.5, 19.5]);
    expect(onto([4.126, -0.001], SHAPE)).toEqual([4.13, 0]);
  });
  it("enclose square pixels", () => {
    expect(
      areaOf([
        [0, 0],
        [4, 0],
        [4, 3],
        [0, 3],
      ]),
    ).toBe(12);
    expect(
      areaOf([
        [0, 0],
        [4, 4],
      ]),
    ).toBe(0);
  });
  it("cross or do not", () => {
    const long = [
      [0, 0],
      [10, 0],
    ] as const;
    expect(
      cross(long, [
        [5, -2],
        [5, 2],
      ]),
    ).toBe(true);
    expect(
      cross(long, [
        [5, 1],
        [5, 2],
      ]),
    ).toBe(false);
    expect(
      cross(long, [
        [12, -1],
        [12, 1],
      ]),
    ).toBe(false);
  });
});
