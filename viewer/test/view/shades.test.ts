import { describe, expect, it } from "vitest";
import type { Pixels } from "../../src/scan/scan";
import { shade, shadeSlice } from "../../src/view/shades";

function greys(data: Pixels["data"], low: number, high: number, channels: 1 | 3 = 1): number[][] {
  const columns = data.length / channels;
  const out = new Uint32Array(columns);
  shadeSlice({ rows: 1, columns, channels, data }, { low, high }, out);
  const bytes = new Uint8Array(out.buffer);
  return Array.from({ length: columns }, (_, n) => [...bytes.subarray(n * 4, n * 4 + 4)]);
}

describe("a window", () => {
  it("maps low to black, high to white, and what is between in a line", () => {
    const shown = { low: -160, high: 240 };
    expect([-1000, -160, 40, 240, 3000].map((value) => shade(value, shown))).toEqual([0, 0, 128, 255, 255]);
  });

  it("shows what is no number as black, and infinity as what it is beyond", () => {
    const shown = { low: 0, high: 1 };
    expect(
      [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].map((value) => shade(value, shown)),
    ).toEqual([0, 255, 0]);
  });

  it("without a width has no contrast to stretch, and divides by nothing", () => {
    expect([4, 5, 6].map((value) => shade(value, { low: 5, high: 5 }))).toEqual([0, 0, 255]);
  });

  it("is the same for each type of values", () => {
    const values = [-3, 0, 50, 100, 120];
    const expected = values.map((value) => [...Array(3).fill(shade(value, { low: -2, high: 101 })), 255]);
    for (const type of [Int8Array, Int16Array, Int32Array, Float32Array, Float64Array]) {
      expect(greys(type.from(values), -2, 101)).toEqual(expected);
    }
    for (const type of [Uint8Array, Uint16Array]) {
      expect(greys(type.from(values.slice(1)), -2, 101)).toEqual(expected.slice(1));
    }
  });

  it("that changes is another table", () => {
    const data = Int16Array.from([50]);
    expect(greys(data, 0, 100)[0]![0]).toBe(128);
    expect(greys(data, 0, 50)[0]![0]).toBe(255);
  });

  it("leaves colours in their order: red, green, blue", () => {
    expect(greys(Uint8Array.from([255, 0, 10, 1, 2, 3]), 0, 255, 3)).toEqual([
      [255, 0, 10, 255],
      [1, 2, 3, 255],
    ]);
  });
});
