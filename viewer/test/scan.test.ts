import { describe, expect, it } from "vitest";
import type { PlaneInfo } from "../src/api/types";
import { fromUpright, onSlice, toUpright, uprightShape, voxelAt } from "../src/scan/scan";

const FLAGS = [false, true];
const PLANES: PlaneInfo[] = FLAGS.flatMap((transpose) =>
  FLAGS.flatMap((flip_rows) =>
    FLAGS.map((flip_columns) => ({
      count: 5,
      shape: [4, 7] as [number, number],
      spacing_mm: [1, 2] as [number, number],
      view: { transpose, flip_rows, flip_columns },
    })),
  ),
);

describe("upright and stored positions", () => {
  it("lead back to each other in all eight orders", () => {
    for (const plane of PLANES) {
      const [u, v] = toUpright(plane, 2, 3);
      expect(fromUpright(plane, u, v)).toEqual([2, 3]);
    }
  });
  it("are as the server turns slices: transposed first, then flipped", () => {
    const plane = { ...PLANES[0]!, view: { transpose: true, flip_rows: true, flip_columns: false } };
    expect(uprightShape(plane)).toEqual([7, 4]);
    expect(toUpright(plane, 2, 3)).toEqual([3, 5]);
  });
});

describe("a voxel", () => {
  it("is found from a slice and back", () => {
    expect(voxelAt("k", 9, 2, 3)).toEqual([2, 3, 9]);
    expect(voxelAt("j", 9, 2, 3)).toEqual([2, 9, 3]);
    expect(voxelAt("i", 9, 2, 3)).toEqual([9, 2, 3]);
    expect(onSlice("j", [2, 9, 3])).toEqual([2, 3]);
  });
});
