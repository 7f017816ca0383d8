// Grids for tests. orders.json: what `medsam.geometry` says of a grid of 3 x 4 x 5 voxels (K, J, I) of 3 x 2 x 1 mm in
// all 48 orders of its axes, and of some of them turned by 25 degrees about the head's axis and 20 about the left's.

import type { Axis, Geometry, PlaneInfo } from "../../src/api/types";
import orders from "./orders.json";

interface Order {
  turned: boolean;
  affine: number[][];
  axcodes: string;
  axis: string;
  planes: unknown;
}

/** A geometry as the server tells it. */
export function grid(change: Partial<Geometry> = {}): Geometry {
  const shape = change.shape ?? [3, 4, 5];
  const [planes, rows, columns] = shape;
  const view = { transpose: false, flip_rows: false, flip_columns: false };
  return {
    shape,
    affine: [
      [1, 0, 0, 0],
      [0, 1, 0, 0],
      [0, 0, 1, 0],
      [0, 0, 0, 1],
    ],
    calibrated: true,
    spacing_mm: [1, 1, 1],
    axcodes: "LPS",
    axis: "k",
    planes: {
      k: { count: planes, shape: [rows, columns], spacing_mm: [1, 1], view },
      j: { count: rows, shape: [planes, columns], spacing_mm: [1, 1], view },
      i: { count: columns, shape: [planes, rows], spacing_mm: [1, 1], view },
    },
    modality: "CT",
    units: "HU",
    colour: false,
    dtype: "<i2",
    windows: [{ name: "auto", low: -160, high: 240 }],
    notes: [],
    ...change,
  };
}

export interface Ordered extends Geometry {
  turned: boolean;
}

export const ORDERS: Ordered[] = (orders as Order[]).map((order) => ({
  ...grid({
    affine: order.affine,
    axcodes: order.axcodes,
    axis: order.axis as Axis,
    planes: order.planes as Record<Axis, PlaneInfo>,
  }),
  turned: order.turned,
}));
