import { describe, expect, it } from "vitest";
import { AXES } from "../../src/api/types";
import { fromUpright, uprightShape, voxelAt } from "../../src/scan/scan";
import { axesOf, edgeLetters, growsUpwards, inside, letters, planeName, toMm, type Vector } from "../../src/scan/space";
import { grid, ORDERS } from "./grid";

const EDGES = {
  axial: { left: "R", right: "L", top: "A", bottom: "P" },
  coronal: { left: "R", right: "L", top: "S", bottom: "I" },
  sagittal: { left: "A", right: "P", top: "S", bottom: "I" },
};

describe("letters at the edges", () => {
  const straight = ORDERS.filter((order) => !order.turned);

  it("are those of a radiologist in all 48 orders that a file can store a scan in", () => {
    expect(straight).toHaveLength(48);
    for (const order of straight) {
      for (const axis of AXES) expect(edgeLetters(order, axis)).toEqual(EDGES[planeName(order, axis)!]);
      expect(AXES.map((axis) => planeName(order, axis)).sort()).toEqual(["axial", "coronal", "sagittal"]);
    }
  });

  it("agree with where upright positions lie in the patient, straight or oblique", () => {
    for (const order of ORDERS) {
      for (const axis of AXES) {
        const plane = order.planes[axis];
        const [rows, columns] = uprightShape(plane);
        const at = (u: number, v: number): Vector => {
          const [x, y] = fromUpright(plane, u, v);
          return toMm(order, voxelAt(axis, 1, x - 0.5, y - 0.5));
        };
        const from = (a: Vector, b: Vector): string => {
          const length = Math.hypot(...a.map((value, n) => b[n]! - value));
          return letters(a.map((value, n) => (b[n]! - value) / length) as unknown as Vector);
        };
        const edges = edgeLetters(order, axis)!;
        expect(from(at(0, 1), at(columns, 1))).toBe(edges.right);
        expect(from(at(columns, 1), at(0, 1))).toBe(edges.left);
        expect(from(at(1, 0), at(1, rows))).toBe(edges.bottom);
        expect(from(at(1, rows), at(1, 0))).toBe(edges.top);
      }
    }
  });

  it("begin with the nearest direction where the scan is oblique", () => {
    for (const order of ORDERS.filter((one) => one.turned)) {
      for (const axis of AXES) {
        const edges = edgeLetters(order, axis)!;
        const expected = EDGES[planeName(order, axis)!];
        expect([edges.left[0], edges.right[0]]).toEqual([expected.left, expected.right]);
        expect([edges.top[0], edges.bottom[0]]).toEqual([expected.top, expected.bottom]);
      }
    }
  });

  it("are not there where nobody knows how the patient lay", () => {
    expect(edgeLetters(grid({ calibrated: false, axcodes: null }), "k")).toBeNull();
    expect(planeName(grid({ calibrated: false, axcodes: null }), "k")).toBeNull();
  });
});

describe("a direction", () => {
  it("is named by what it leans to, the nearest first", () => {
    expect(letters([1, 0, 0])).toBe("L");
    expect(letters([0.8, -0.6, 0])).toBe("LA");
    expect(letters([-0.3, 0.1, -0.95])).toBe("I");
    expect(letters([-0.45, 0.1, -0.89])).toBe("IR");
    expect(letters([0.6, 0.55, 0.58])).toBe("LSP");
  });
});

it("slices go up to head, front and right, however they are stored", () => {
  expect(AXES.map((axis) => growsUpwards(grid({ axcodes: "RAS" }), axis))).toEqual([true, true, true]);
  expect(AXES.map((axis) => growsUpwards(grid({ axcodes: "LPI" }), axis))).toEqual([false, false, false]);
  expect(growsUpwards(grid({ calibrated: false, axcodes: null }), "k")).toBe(false);
});

describe("planes", () => {
  it("come as axial, coronal, sagittal", () => {
    expect(axesOf(grid())).toEqual(["k", "j", "i"]);
    const turned = ORDERS.find((order) => order.axcodes === "PSL" && !order.turned)!;
    expect(axesOf(turned)).toEqual(["j", "i", "k"]);
  });

  it("of a picture are one", () => {
    const picture = grid({ shape: [1, 4, 5], calibrated: false, axcodes: null });
    expect(axesOf(picture)).toEqual(["k"]);
  });
});

it("millimetres are those of the affine, for positions between centres too", () => {
  const affine = [
    [0, 2, 0, 10],
    [-1, 0, 0, 20],
    [0, 0, 3, 30],
    [0, 0, 0, 1],
  ];
  expect(toMm(grid({ affine }), [1, 2.5, 3])).toEqual([15, 19, 39]);
});

it("a voxel beside the grid is the nearest inside", () => {
  expect(inside(grid(), [-3, 2.6, 99])).toEqual([0, 3, 2]);
});
