import { describe, expect, it } from "vitest";
import type { Geometry } from "../../src/api/types";
import { Voxels } from "../../src/scan/voxels";
import { grid } from "./grid";

// 100 k + 10 j + i: what a voxel is worth says where it is
function filled(geometry: Geometry = grid()): Voxels {
  const voxels = new Voxels(geometry);
  for (let k = 0; k < 3; k += 1) voxels.writePlanes(k, plane(k));
  return voxels;
}
function plane(k: number): Int16Array {
  return Int16Array.from({ length: 20 }, (_, n) => 100 * k + 10 * Math.floor(n / 5) + (n % 5));
}

it("a volume that turns out too large for its values is kept as slices, which come one by one", () => {
  // 60 voxels: 120 bytes of int16, 480 of float64
  const voxels = new Voxels(grid({ dtype: "<f8" }), 200);
  voxels.writePlanes(0, new Float64Array(20).fill(7));
  expect([voxels.whole, voxels.share, voxels.has("k", 0)]).toEqual([true, 1 / 3, true]);
  voxels.writePlanes(1, new Float64Array(20).fill(0.1));
  expect([voxels.whole, voxels.share, voxels.has("k", 0)]).toEqual([false, 0, false]);
  voxels.writeSlice("k", 1, new Float64Array(20).fill(0.1));
  expect(voxels.value([0, 0, 1])).toBe(0.1);
});

describe("slices of a volume", () => {
  it("are cut along each axis, rows along the later one", () => {
    const voxels = filled();
    expect([...(voxels.slice("k", 2)!.data as Int16Array)]).toEqual([...plane(2)]);
    expect([...(voxels.slice("j", 1)!.data as Int16Array)]).toEqual([
      10, 11, 12, 13, 14, 110, 111, 112, 113, 114, 210, 211, 212, 213, 214,
    ]);
    expect([...(voxels.slice("i", 3)!.data as Int16Array)]).toEqual([
      3, 13, 23, 33, 103, 113, 123, 133, 203, 213, 223, 233,
    ]);
  });

  it("of the first axis are no copies, so that a scan costs its voxels once", () => {
    const voxels = filled();
    expect(voxels.slice("k", 0)!.data.buffer).toBe(voxels.slice("k", 2)!.data.buffer);
  });

  it("are the same object while nothing changes", () => {
    const voxels = filled();
    expect(voxels.slice("i", 3)).toBe(voxels.slice("i", 3));
  });

  it("are missing until all that they go through is here", () => {
    const voxels = new Voxels(grid());
    voxels.writePlanes(0, plane(0));
    voxels.writePlanes(2, plane(2));
    expect(voxels.has("k", 1)).toBe(false);
    expect(voxels.slice("j", 0)).toBeUndefined();
    expect(voxels.share).toBeCloseTo(2 / 3);
    voxels.writePlanes(1, plane(1));
    expect(voxels.slice("j", 0)!.data[5]).toBe(100);
    expect(voxels.share).toBe(1);
  });

  it("in colour have three values a pixel", () => {
    const voxels = new Voxels(grid({ shape: [2, 1, 2], colour: true, dtype: "|u1" }));
    voxels.writePlanes(0, new Uint8Array([1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16]));
    expect(voxels.value([1, 0, 1])).toEqual([14, 15, 16]);
    expect([...(voxels.slice("i", 1)!.data as Uint8Array)]).toEqual([4, 5, 6, 14, 15, 16]);
  });
});

describe("slices that come by themselves", () => {
  it("of the acquired axis are written into the volume", () => {
    const voxels = new Voxels(grid({ axis: "i" }));
    voxels.writeSlice("i", 3, Int16Array.from([3, 13, 23, 33, 103, 113, 123, 133, 203, 213, 223, 233]));
    expect(voxels.has("i", 3)).toBe(true);
    expect(voxels.value([3, 2, 1])).toBe(123);
    expect(voxels.value([2, 2, 1])).toBeUndefined();
    expect(voxels.slice("i", 3)!.data[9]).toBe(213);
  });

  it("of other axes are kept until the volume is here", () => {
    const voxels = new Voxels(grid());
    voxels.writeSlice(
      "j",
      1,
      Int16Array.from({ length: 15 }, (_, n) => n),
    );
    expect(voxels.slice("j", 1)!.data[7]).toBe(7);
    expect(voxels.value([2, 1, 1])).toBe(7);
  });

  it("survive the volume becoming wider", () => {
    const voxels = new Voxels(grid({ dtype: "<i4" }));
    voxels.writeSlice(
      "k",
      0,
      Int32Array.from({ length: 20 }, (_, n) => n),
    );
    voxels.slice("k", 0);
    voxels.writeSlice(
      "k",
      1,
      Int32Array.from({ length: 20 }, () => 70000),
    );
    expect(voxels.slice("k", 0)!.data[19]).toBe(19);
    expect(voxels.slice("k", 1)!.data[19]).toBe(70000);
  });
});

describe("a scan too large for the page", () => {
  it("is kept as the slices that are looked at", () => {
    const voxels = new Voxels(grid(), 10);
    expect(voxels.whole).toBe(false);
    voxels.writeSlice("k", 1, plane(1));
    expect(voxels.slice("k", 1)!.data[11]).toBe(121);
    expect(voxels.value([1, 2, 1])).toBe(121);
    expect(voxels.value([1, 2, 2])).toBeUndefined();
  });
});

describe("what is missing", () => {
  const all = grid({ shape: [10, 4, 5] });

  it("begins where one looks, and goes on from there", () => {
    const voxels = new Voxels(all);
    expect(voxels.missing(4, 3)).toEqual([4, 3]);
    voxels.writePlanes(4, new Int16Array(60));
    expect(voxels.missing(4, 3)).toEqual([1, 3]);
    voxels.writePlanes(1, new Int16Array(60));
    expect(voxels.missing(4, 3)).toEqual([7, 3]);
    voxels.writePlanes(7, new Int16Array(60));
    expect(voxels.missing(4, 3)).toEqual([0, 1]);
    voxels.writePlanes(0, new Int16Array(20));
    expect(voxels.missing(4, 3)).toBeNull();
  });
});

it("a voxel beside the grid has no value", () => {
  expect(filled().value([5, 0, 0])).toBeUndefined();
  expect(filled().value([0, -1, 0])).toBeUndefined();
});
