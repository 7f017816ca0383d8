// Where a scan lies in the patient: millimetres, and the letters at the edges of a picture.
//
// World coordinates are LPS: x grows to the patient's left, y to the back, z to the head. Letters: right and left, anterior
// and posterior, inferior (feet) and superior (head).

import { AXES, type Axis, type Geometry } from "../api/types";
import { axisNumber, IN_PLANE, type Voxel } from "./scan";

export type Vector = readonly [number, number, number];
export type PlaneName = "axial" | "coronal" | "sagittal";

const LETTERS: readonly (readonly [string, string])[] = [
  ["R", "L"],
  ["A", "P"],
  ["I", "S"],
];
/** A direction is named by another axis too when it leans to it by more than 20 degrees. */
const LEANS = Math.sin((20 / 180) * Math.PI);

/** LPS mm of a voxel, also of positions between centres. */
export function toMm(geometry: Geometry, [i, j, k]: Vector): Vector {
  const row = (n: number): number => {
    const [a, b, c, d] = geometry.affine[n]!;
    return a! * i + b! * j + c! * k + d!;
  };
  return [row(0), row(1), row(2)];
}

/** Where an axis of the grid grows to, of length 1. */
export function directionOf(geometry: Geometry, axis: Axis): Vector {
  const column = geometry.affine.slice(0, 3).map((row) => row[axisNumber(axis)]!);
  const length = Math.hypot(...column);
  return [column[0]! / length, column[1]! / length, column[2]! / length];
}

/** What a direction is called: the letter it is nearest to, then those it leans to, e.g. "LA". */
export function letters(direction: Vector): string {
  return [0, 1, 2]
    .filter((axis) => Math.abs(direction[axis]!) > LEANS)
    .sort((a, b) => Math.abs(direction[b]!) - Math.abs(direction[a]!))
    .map((axis) => LETTERS[axis]![direction[axis]! > 0 ? 1 : 0])
    .join("");
}

/** Where right and down on screen lead to, on upright slices along an axis. */
export function screenDirections(geometry: Geometry, axis: Axis): { right: Vector; down: Vector } {
  const { view } = geometry.planes[axis];
  const [x, y] = IN_PLANE[axis];
  const [across, along] = view.transpose ? [y, x] : [x, y];
  const turned = (of: Axis, flip: boolean): Vector => {
    const [a, b, c] = directionOf(geometry, of);
    return flip ? [-a, -b, -c] : [a, b, c];
  };
  return { right: turned(across, view.flip_columns), down: turned(along, view.flip_rows) };
}

export interface EdgeLetters {
  left: string;
  right: string;
  top: string;
  bottom: string;
}

/** Letters at the four edges of upright slices; null where nobody knows how the patient lay. */
export function edgeLetters(geometry: Geometry, axis: Axis): EdgeLetters | null {
  if (!geometry.calibrated || !geometry.axcodes) return null;
  const { right, down } = screenDirections(geometry, axis);
  const opposite = ([a, b, c]: Vector): Vector => [-a, -b, -c];
  return {
    left: letters(opposite(right)),
    right: letters(right),
    top: letters(opposite(down)),
    bottom: letters(down),
  };
}

/** What slices along an axis are called: by the direction that they are stacked in. Null where it is not known. */
export function planeName(geometry: Geometry, axis: Axis): PlaneName | null {
  if (!geometry.calibrated) return null;
  switch (geometry.axcodes?.[axisNumber(axis)]) {
    case "S":
    case "I":
      return "axial";
    case "A":
    case "P":
      return "coronal";
    case "L":
    case "R":
      return "sagittal";
    default:
      return null;
  }
}

/** Whether later slices are further up on a bar of slices: towards head, front or right, however they are stored. */
export function growsUpwards(geometry: Geometry, axis: Axis): boolean {
  const to = geometry.calibrated ? geometry.axcodes?.[axisNumber(axis)] : undefined;
  return to === "S" || to === "A" || to === "R";
}

/** Axes with slices to look at: axial, coronal, sagittal; of a picture one. */
export function axesOf(geometry: Geometry): Axis[] {
  const flat = AXES.filter((axis) => geometry.planes[axis].count === 1);
  if (flat.length) return [flat.includes(geometry.axis) ? geometry.axis : flat[0]!];
  const order = ["axial", "coronal", "sagittal"];
  return [...AXES].sort(
    (a, b) => order.indexOf(planeName(geometry, a) ?? "") - order.indexOf(planeName(geometry, b) ?? ""),
  );
}

/** A voxel inside the grid. */
export function inside(geometry: Geometry, voxel: Vector): Voxel {
  const sizes = [geometry.shape[2], geometry.shape[1], geometry.shape[0]];
  const at = (n: number): number => Math.min(Math.max(Math.round(voxel[n]!), 0), sizes[n]! - 1);
  return [at(0), at(1), at(2)];
}
