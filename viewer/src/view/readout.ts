// What is told of a place in the scan: where it is in the patient, which voxel, what value.

import type { Axis, Geometry } from "../api/types";
import { t } from "../i18n";
import { axisNumber, type Scan, type Voxel, voxelAt } from "../scan/scan";
import { planeName, toMm, type Vector } from "../scan/space";

export interface Place {
  voxel: Voxel;
  /** Between centres, of the pointer. */
  exact: Vector;
}

/** Where a pointer is; null: beside the slice. */
export function placeAt(geometry: Geometry, axis: Axis, slice: number, x: number, y: number): Place | null {
  const [rows, columns] = geometry.planes[axis].shape;
  const [column, row] = [Math.round(x), Math.round(y)];
  if (column < 0 || row < 0 || column >= columns || row >= rows) return null;
  return { voxel: voxelAt(axis, slice, column, row), exact: voxelAt(axis, slice, x, y) };
}

/** "L 12.3  P 40.0  S 102.5 mm": LPS with the letters that say it. Empty without millimetres. */
export function positionText(geometry: Geometry, at: Vector): string {
  if (!geometry.calibrated) return "";
  const [x, y, z] = toMm(geometry, at);
  const one = (value: number, low: string, high: string): string => {
    const text = Math.abs(value).toFixed(1);
    return `${value < 0 && text !== "0.0" ? low : high} ${text}`;
  };
  return `${one(x, "R", "L")}  ${one(y, "A", "P")}  ${one(z, "I", "S")} mm`;
}

/** The value of a voxel with its units; empty while it is not here. */
export function valueText(scan: Scan, voxel: Voxel): string {
  const value = scan.value(voxel);
  if (value === undefined) return "";
  if (typeof value !== "number") return `RGB ${value.join(" ")}`;
  const unit = scan.geometry.units ?? (scan.geometry.modality === "CT" ? "HU" : "");
  return `${numberText(value)}${unit && unit !== "US" ? ` ${unit}` : ""}`;
}

/** Whole numbers as they are, others with four digits that mean something. */
export function numberText(value: number): string {
  return Number.isInteger(value) || !Number.isFinite(value) ? String(value) : String(Number(value.toPrecision(4)));
}

/** A level or width: to a hundredth of the width, which is less than a shade. */
export function boundText(value: number, width: number): string {
  const digits = Math.min(Math.max(2 - Math.floor(Math.log10(width)), 0), 12);
  return String(Number(value.toFixed(digits)));
}

/** "Axial", "Image" where nobody knows, "Slices along i" of a grid without directions. */
export function planeText(geometry: Geometry, axis: Axis): string {
  const name = planeName(geometry, axis);
  if (name) return t(`view.${name}`);
  return geometry.planes[axis].count === 1 ? t("view.picture") : t("view.along", { axis });
}

/** "42 / 120": slices are counted from 1 for people. */
export function sliceText(geometry: Geometry, axis: Axis, at: Voxel): string {
  return `${at[axisNumber(axis)]! + 1} / ${geometry.planes[axis].count}`;
}
