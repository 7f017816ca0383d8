import { beforeEach, describe, expect, it } from "vitest";
import type { Geometry } from "../../src/api/types";
import { type Kept, keep, kept } from "../../src/shell/kept";

const GRID = { shape: [20, 30, 40] } as unknown as Geometry;
const WHERE: Kept = {
  cursor: [39, 29, 19],
  window: { name: "lung", low: -1350, high: 150 },
  layout: "four",
  activeAxis: "j",
  active: { session: "s", object: 2 },
};

beforeEach(() => sessionStorage.clear());

describe("where a reader was", () => {
  it("is there again, of its own case alone", () => {
    keep("a", WHERE);
    expect(kept("a", GRID)).toEqual(WHERE);
    expect(kept("b", GRID)).toBeNull();
  });

  it("is kept under the case's id, without any name", () => {
    keep("a", WHERE);
    expect(Object.keys(sessionStorage)).toEqual(["medsam.case.a"]);
  });

  it.each([
    ["a voxel beyond the columns", { ...WHERE, cursor: [40, 0, 0] }],
    ["a voxel before the first", { ...WHERE, cursor: [0, 0, -1] }],
    ["half a voxel", { ...WHERE, cursor: [0.5, 0, 0] }],
    ["no window", { ...WHERE, window: undefined }],
    ["another layout", { ...WHERE, layout: "nine" }],
    ["another axis", { ...WHERE, activeAxis: "x" }],
    ["a name for an object", { ...WHERE, active: { session: "s", object: "liver" } }],
    ["an object of nobody knows which session", { ...WHERE, active: 2 }],
    ["a number", 7],
  ])("is forgotten when it is %s", (_, found) => {
    sessionStorage.setItem("medsam.case.a", JSON.stringify(found));
    expect(kept("a", GRID)).toBeNull();
  });

  it("is forgotten when it is no JSON", () => {
    sessionStorage.setItem("medsam.case.a", "{");
    expect(kept("a", GRID)).toBeNull();
  });
});
