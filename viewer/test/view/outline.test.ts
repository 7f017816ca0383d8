import { describe, expect, it } from "vitest";
import type { MaskSlice } from "../../src/reading/masks";
import { outline } from "../../src/view/outline";

function drawn(rows: string[], x0 = 0, y0 = 0): MaskSlice {
  const data = Uint8Array.from([...rows.join("")].map((pixel) => (pixel === "#" ? 1 : 0)));
  return { x0, y0, x1: x0 + rows[0]!.length, y1: y0 + rows.length, data };
}

/** Area inside of a closed line, negative for a hole. */
function area(line: number[]): number {
  let sum = 0;
  for (let n = 0; n < line.length; n += 2) {
    const [x, y] = [line[n]!, line[n + 1]!];
    const [nextX, nextY] = [line[(n + 2) % line.length]!, line[(n + 3) % line.length]!];
    sum += x * nextY - nextX * y;
  }
  return sum / 2;
}

describe("the border of a mask", () => {
  it("of a rectangle has its four corners, at the edges of its pixels", () => {
    expect(outline(drawn(["##", "##", "##"], 10, 20))).toEqual([[10, 20, 12, 20, 12, 23, 10, 23]]);
  });

  it("goes around a hole the other way", () => {
    const lines = outline(drawn(["###", "#.#", "###"]));
    expect(lines.map(area)).toEqual([9, -1]);
  });

  it("keeps pixels that touch at a corner apart", () => {
    expect(outline(drawn(["#.", ".#"])).map(area)).toEqual([1, 1]);
    expect(outline(drawn([".#", "#."])).map(area)).toEqual([1, 1]);
    expect(outline(drawn(["##.", "#.#", ".##"])).map(area)).toEqual([3, 3]);
  });

  it("encloses what is inside, whatever it looks like", () => {
    let seed = 7;
    const random = () => {
      seed = (seed * 16807) % 2147483647;
      return seed / 2147483647;
    };
    for (let trial = 0; trial < 50; trial += 1) {
      const rows = Array.from({ length: 9 }, () =>
        Array.from({ length: 11 }, () => (random() < 0.6 ? "#" : ".")).join(""),
      );
      const mask = drawn(rows, 3, 4);
      const inside = mask.data.reduce((sum, pixel) => sum + pixel, 0);
      expect(outline(mask).reduce((sum, line) => sum + area(line), 0)).toBe(inside);
    }
  });

  it("of nothing is none", () => {
    expect(outline(drawn(["..", ".."]))).toEqual([]);
  });
});
