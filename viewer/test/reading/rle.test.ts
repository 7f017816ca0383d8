import { describe, expect, it } from "vitest";
import type { MaskSlice } from "../../src/reading/masks";
import { tightened } from "../../src/reading/masks";
import { toRle } from "../../src/reading/rle";
import { numbersFrom, pixelsOf } from "../api/frames";
import { fromRle } from "./unrle";

// counts: as pycocotools 2.0 writes them
const KNOWN: [string, string[], string][] = [
  ["an outline", ["........", "...##...", "..####..", "...#....", "........", "........"], ">142OO2O:"],
  ["nothing", ["....", "....", "...."], "<"],
  ["all", ["####", "####", "####"], "0<"],
  ["the first pixel", ["#..", "...", "...", "..."], "01;"],
  ["the last pixel", ["...", "...", "...", "..#"], ";1"],
  ["whole columns", [".##.", ".##.", ".##.", ".##.", ".##."], "5:5"],
  ["over the end of a column", ["..#..", ".....", ".....", ".#..."], "72;"],
  [
    "noise",
    ["...######", "..##...##", ".#.#.#..#", "..#.#.###", ".##.#.##.", "..##.#.#.", "#..#...##"],
    "6120O020N200100O0OO010O01100O61I",
  ],
];

function whole(rows: string[]): MaskSlice {
  return { x0: 0, y0: 0, x1: rows[0]!.length, y1: rows.length, data: pixelsOf(...rows) };
}

describe("run lengths", () => {
  it.each(KNOWN)("of %s are pycocotools'", (_, rows, counts) => {
    const size: [number, number] = [rows.length, rows[0]!.length];
    expect(toRle(whole(rows), ...size)).toEqual({ size, counts });
    // what is kept is the smallest rectangle
    expect(toRle(tightened(whole(rows)), ...size)).toEqual({ size, counts });
    expect(fromRle({ size, counts })).toEqual(tightened(whole(rows)));
  });

  it("of an ellipse on a slice of 512 x 512 are pycocotools'", () => {
    const data = Uint8Array.from({ length: 512 * 512 }, (_, at) => {
      const [x, y] = [at % 512, Math.floor(at / 512)];
      return (x - 250) ** 2 / 90 ** 2 + (y - 300) ** 2 / 40 ** 2 < 1 ? 1 : 0;
    });
    const { counts } = toRle({ x0: 0, y0: 0, x1: 512, y1: 512, data }, 512, 512);
    expect(counts.length).toBe(366);
    expect(counts.slice(0, 60)).toBe("Wi`2;b?6K4M2M4M2N2N2N2N2N2O0O2N2N2O0O2O0O2N2O0O2O0O2O0O2O000");
    expect(fromRle({ size: [512, 512], counts }).data.reduce((sum, one) => sum + one, 0)).toBe(11285);
  });

  it("come back as the mask that they were made of", () => {
    const random = numbersFrom(11);
    for (let round = 0; round < 300; round += 1) {
      const [rows, columns] = [1 + Math.floor(random() * 12), 1 + Math.floor(random() * 12)];
      const likely = random();
      const data = Uint8Array.from({ length: rows * columns }, () => (random() < likely ? 1 : 0));
      const mask = tightened({ x0: 0, y0: 0, x1: columns, y1: rows, data });
      expect(fromRle(toRle(mask, rows, columns))).toEqual(mask);
    }
  });

  it("of a brush over the border are those of what is on the slice", () => {
    const brush = { x0: -1, y0: -1, x1: 2, y1: 2, data: new Uint8Array(9).fill(1) };
    expect(fromRle(toRle(brush, 4, 3))).toEqual({ x0: 0, y0: 0, x1: 2, y1: 2, data: new Uint8Array(4).fill(1) });
    const outside = { x0: -5, y0: 0, x1: -2, y1: 1, data: new Uint8Array(3).fill(1) };
    expect(toRle(outside, 4, 3).counts).toBe("<");
  });
});
