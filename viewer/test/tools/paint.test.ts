import { describe, expect, it } from "vitest";
import { NOTHING } from "../../src/reading/masks";
import { count, dice, isSame, Sheet } from "../../src/tools/paint";
import { drawing, rowsOf } from "./fake";

describe("a disc", () => {
  it("holds the pixels whose centre is within half its size", () => {
    const sheet = new Sheet([9, 9]);
    sheet.stroke([4, 4], [4, 4], 4, [1, 1], 1);
    expect(rowsOf(sheet.mask())).toEqual(["..#..", ".###.", "#####", ".###.", "..#.."]);
    expect(sheet.mask()).toMatchObject({ x0: 2, y0: 2, x1: 7, y1: 7 });
  });
  it("is round in mm where pixels are not square", () => {
    const sheet = new Sheet([9, 9]);
    // 1 mm across, 2 mm down
    sheet.stroke([4, 4], [4, 4], 6, [1, 2], 1);
    expect(rowsOf(sheet.mask())).toEqual([".#####.", "#######", ".#####."]);
  });
  it("finer than a pixel is the pixel under it", () => {
    const sheet = new Sheet([9, 9]);
    sheet.stroke([3.4, 5.4], [3.4, 5.4], 0.1, [1, 1], 1);
    expect(sheet.mask()).toEqual(drawing(3, 5, "#"));
  });
  it("ends at the border of the slice", () => {
    const sheet = new Sheet([3, 3]);
    sheet.stroke([0, 0], [0, 0], 2, [1, 1], 1);
    sheet.stroke([-40, 1], [-40, 1], 2, [1, 1], 1);
    expect(sheet.mask()).toEqual(drawing(0, 0, "##", "#."));
  });
});

describe("a stroke", () => {
  it("has no holes between two samples of the pointer", () => {
    const sheet = new Sheet([5, 12]);
    sheet.stroke([1, 2], [10, 2], 2, [1, 1], 1);
    expect(rowsOf(sheet.mask())).toEqual([".##########.", "############", ".##########."]);
  });
  it("of the eraser clears, and the rectangle shrinks", () => {
    const sheet = new Sheet([4, 4], drawing(0, 0, "####", "####", "####", "####"));
    sheet.stroke([0, 0], [3, 0], 0.5, [1, 1], 0);
    expect(sheet.mask()).toEqual(drawing(0, 1, "####", "####", "####"));
  });
  it("of the eraser over everything leaves nothing", () => {
    const sheet = new Sheet([4, 4], drawing(1, 1, "##"));
    sheet.stroke([1, 1], [2, 1], 3, [1, 1], 0);
    expect(sheet.mask()).toEqual(NOTHING);
  });
  it("leaves the mask that it began from", () => {
    const mask = drawing(1, 1, "##");
    new Sheet([4, 4], mask).stroke([0, 0], [3, 3], 8, [1, 1], 0);
    expect(mask).toEqual(drawing(1, 1, "##"));
  });
});

describe("masks", () => {
  it("are the same by their pixels", () => {
    expect(isSame(drawing(5, 6, "##"), drawing(5, 6, "##"))).toBe(true);
    expect(isSame(drawing(5, 6, "##"), drawing(5, 7, "##"))).toBe(false);
    expect(isSame(drawing(5, 6, "#.#"), drawing(5, 6, "###"))).toBe(false);
    expect(isSame(undefined, NOTHING)).toBe(true);
    expect(isSame(drawing(5, 6, "##"), undefined)).toBe(false);
  });
  it("overlap by Dice", () => {
    const a = drawing(0, 0, "##", "##");
    expect(dice(a, a)).toBe(1);
    expect(dice(a, drawing(1, 0, "##", "##"))).toBe(0.5);
    expect(dice(a, drawing(7, 7, "#"))).toBe(0);
    expect(dice(NOTHING, NOTHING)).toBe(1);
    expect(count(a)).toBe(4);
  });
});
