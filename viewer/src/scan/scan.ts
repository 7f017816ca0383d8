// A scan in the page: its grid, and its voxels as they come.

import type { ReadonlySignal } from "@preact/signals";
import type { Axis, Geometry, PlaneInfo } from "../api/types";

/** A voxel: (i, j, k), integers. */
export type Voxel = readonly [number, number, number];

/** Values of a stored slice, row by row; in colour three a pixel. */
export interface Pixels {
  rows: number;
  columns: number;
  /** 1, or 3 in colour */
  channels: 1 | 3;
  data: ArrayLike<number> & { readonly buffer: ArrayBufferLike };
}

/**
 * The voxels of a case. Slices of the acquired axis are asked for one by one as they are looked at; the whole volume comes
 * behind them in pieces, from which the other planes are cut.
 */
export interface Scan {
  readonly caseId: string;
  readonly geometry: Geometry;
  /** false: too large to be kept here as a whole; its slices come one by one, and `loaded` says nothing. It may turn out while it comes. */
  readonly whole?: boolean;
  /** How much of the volume is here, 0 to 1. */
  readonly loaded: ReadonlySignal<number>;
  /** Goes up whenever further pixels have come: read it to be drawn again. */
  readonly version: ReadonlySignal<number>;
  /** A slice as stored, or undefined while it is on its way; asking brings it. */
  slice(axis: Axis, index: number): Pixels | undefined;
  /** The value (in colour: three) of a voxel, or undefined while it is not here. */
  value(voxel: Voxel): number | readonly [number, number, number] | undefined;
  /** Ends all that is on its way, and forgets the voxels. */
  close(): void;
}

/** The two stored axes of a slice along `axis`: x (columns), then y (rows). */
export const IN_PLANE: Record<Axis, readonly [Axis, Axis]> = { k: ["i", "j"], j: ["i", "k"], i: ["j", "k"] };
const NUMBER: Record<Axis, 0 | 1 | 2> = { i: 0, j: 1, k: 2 };

export function axisNumber(axis: Axis): 0 | 1 | 2 {
  return NUMBER[axis];
}

/** The voxel of column x and row y of a slice. */
export function voxelAt(axis: Axis, slice: number, x: number, y: number): Voxel {
  const voxel: [number, number, number] = [0, 0, 0];
  const [first, second] = IN_PLANE[axis];
  voxel[NUMBER[axis]] = slice;
  voxel[NUMBER[first]] = x;
  voxel[NUMBER[second]] = y;
  return voxel;
}

/** (x, y) of a voxel on slices along `axis`. */
export function onSlice(axis: Axis, voxel: Voxel): [number, number] {
  const [first, second] = IN_PLANE[axis];
  return [voxel[NUMBER[first]], voxel[NUMBER[second]]];
}

/** Upright (rows, columns) of a plane. */
export function uprightShape(plane: PlaneInfo): [number, number] {
  return plane.view.transpose ? [plane.shape[1], plane.shape[0]] : [plane.shape[0], plane.shape[1]];
}

/** Edge position (x, y) of a stored slice -> upright. Edges run from 0 to columns and to rows. */
export function toUpright(plane: PlaneInfo, x: number, y: number): [number, number] {
  const [rows, columns] = uprightShape(plane);
  const [u, v] = plane.view.transpose ? [y, x] : [x, y];
  return [plane.view.flip_columns ? columns - u : u, plane.view.flip_rows ? rows - v : v];
}

/** The other way. */
export function fromUpright(plane: PlaneInfo, u: number, v: number): [number, number] {
  const [rows, columns] = uprightShape(plane);
  const a = plane.view.flip_columns ? columns - u : u;
  const b = plane.view.flip_rows ? rows - v : v;
  return plane.view.transpose ? [b, a] : [a, b];
}
