import { signal } from "@preact/signals";
import { describe, expect, it } from "vitest";
import type { MaskSlice, Masks } from "../../src/reading/masks";
import type { Scan } from "../../src/scan/scan";
import { toMm } from "../../src/scan/space";
import { Voxels } from "../../src/scan/voxels";
import { labelsOf, niftiOf, rasOf, solidOf, solidWindow, stepsFor } from "../../src/view/solid";
import { grid } from "../scan/grid";

const GEOMETRY = grid({
  shape: [2, 3, 4],
  affine: [
    [2, 0, 0, 10],
    [0, 3, 0, 20],
    [0, 0, 5, 30],
    [0, 0, 0, 1],
  ],
});

function scan(): Scan {
  const voxels = new Voxels(GEOMETRY);
  voxels.writePlanes(
    0,
    Int16Array.from({ length: 24 }, (_, n) => n),
  );
  return {
    caseId: "case",
    geometry: GEOMETRY,
    loaded: signal(1),
    version: signal(0),
    slice: (axis, index) => voxels.slice(axis, index),
    value: (voxel) => voxels.value(voxel),
    close: () => {},
  };
}

describe("a solid", () => {
  it("has no more voxels along an edge than are asked for, and none when they are few", () => {
    expect(stepsFor(grid({ shape: [300, 512, 511] }), 256)).toEqual([2, 2, 2]);
    expect(stepsFor(GEOMETRY, 256)).toEqual([1, 1, 1]);
  });

  it("has the means of what its voxels cover, less at the border", async () => {
    const solid = (await solidOf(scan(), 2))!;
    expect(solid.size).toEqual([2, 2, 2]);
    expect(solid.steps).toEqual([2, 2, 1]);
    // rows 0 and 1 are 0 1 2 3 and 4 5 6 7; row 2, alone at the border, is 8 9 10 11
    expect([...solid.data]).toEqual([3, 5, 9, 11, 15, 17, 21, 23]);
    expect(solid.data).toBeInstanceOf(Int16Array);
  });

  it("is made once of a scan, however often 3D is looked at", async () => {
    const of = scan();
    expect(await solidOf(of, 2)).toBe(await solidOf(of, 2));
    expect((await solidOf(of, 4))!.size).toEqual([4, 3, 2]);
  });

  it("lies where the scan lies, in RAS", () => {
    const steps = [2, 2, 1];
    const ras = rasOf(GEOMETRY, steps);
    const middle = toMm(GEOMETRY, [0.5, 0.5, 0]);
    expect(ras.map((row) => row[3])).toEqual([-middle[0], -middle[1], middle[2]]);
    expect(ras.map((row, n) => row[n])).toEqual([-4, -6, 5]);
  });
});

describe("what is seen of a solid", () => {
  it("of CT is bone, whatever the slices are seen through", () => {
    const windows = [{ name: "bone", low: -500, high: 1300 }];
    const ct = grid({ windows });
    expect(solidWindow(ct, { low: -160, high: 240 })).toEqual({ low: 100, high: 450 });
    expect(solidWindow(ct, { low: 300, high: 2000 })).toEqual({ low: 300, high: 2000 });
  });

  it("of others is what is not at the dark end", () => {
    expect(solidWindow(GEOMETRY, { low: 0, high: 1000 })).toEqual({ low: 200, high: 1000 });
  });
});

describe("labels", () => {
  it("of a mask are at the blocks that it touches, along whatever axis it is drawn", async () => {
    const solid = (await solidOf(scan(), 2))!;
    const on = (axis: "i" | "j" | "k", slice: number, mask: MaskSlice): Masks => ({
      axis,
      version: signal(1),
      changed: 1,
      get: (object, at) =>
        object === 7 && at === slice
          ? {
              mask,
              revision: 1,
              status: "refined",
              predictedIou: null,
              confidence: null,
              expectedDice: null,
              ambiguous: false,
            }
          : undefined,
      slices: (object) => (object === 7 ? [slice] : []),
      cut: () => undefined,
    });
    const pixel = (x: number, y: number): MaskSlice => ({ x0: x, y0: y, x1: x + 1, y1: y + 1, data: Uint8Array.of(1) });
    // voxel (3, 2, 1) is in the block (1, 1, 1), the last
    for (const masks of [on("k", 1, pixel(3, 2)), on("j", 2, pixel(3, 1)), on("i", 3, pixel(2, 1))]) {
      expect([...(await labelsOf(masks, [7], solid))]).toEqual([0, 0, 0, 0, 0, 0, 0, 7]);
    }
  });
});

it("a NIfTI file says size, type, pitch and place", () => {
  const ras = [
    [-2, 0, 0, -10],
    [0, -3, 0, -20],
    [0, 0, 5, 30],
  ];
  const file = niftiOf({ size: [2, 1, 1], data: Int16Array.from([-5, 9]), ras });
  const head = new DataView(file);
  expect([40, 42, 44, 46, 70, 72].map((at) => head.getInt16(at, true))).toEqual([3, 2, 1, 1, 4, 16]);
  expect([80, 84, 88, 108].map((at) => head.getFloat32(at, true))).toEqual([2, 3, 5, 352]);
  const rows = Array.from({ length: 12 }, (_, n) => head.getFloat32(280 + 4 * n, true));
  expect(rows).toEqual(ras.flat());
  expect([head.getInt16(352, true), head.getInt16(354, true)]).toEqual([-5, 9]);
});
