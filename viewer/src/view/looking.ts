// How the scan is looked at, and the moves that keys, buttons, wheel and hand have in common.

import { type Signal, signal } from "@preact/signals";
import type { Axis, Geometry } from "../api/types";
import { remember, remembered } from "../remembered";
import { axisNumber, type Voxel } from "../scan/scan";
import { axesOf, growsUpwards, inside } from "../scan/space";
import { activeAxis, cursor, layout, scan, window_ } from "../state";
import { pressed } from "../tools/drag";
import { type Camera, FITTED } from "./frame";

export const cameras: Record<Axis, Signal<Camera>> = { i: signal(FITTED), j: signal(FITTED), k: signal(FITTED) };

const KEPT = "medsam.smooth";
/** Between pixels: smoothed, or each a square of its own. */
export const smooth = signal(remembered(KEPT) !== "no");
smooth.subscribe((on) => remember(KEPT, on ? "yes" : "no"));

/** Where the pointer is, in CSS pixels of a plane; null: over none. */
export const pointer = signal<{ axis: Axis; x: number; y: number } | null>(null);
/** Space is held: the left button moves the picture. */
export const moving = signal(false);
/** Slices run by. */
export const running = signal(false);
export const framesPerSecond = signal(12);

/** The axis of the large plane, and that keys are about. */
export function mainAxis(geometry: Geometry): Axis {
  const axes = axesOf(geometry);
  return axes.includes(activeAxis.value) ? activeAxis.value : axes[0]!;
}

/** Planes on screen. */
export function axesShown(geometry: Geometry): Axis[] {
  if (layout.value === "volume" && axesOf(geometry).length > 1) return [];
  return layout.value === "four" ? axesOf(geometry) : [mainAxis(geometry)];
}

export function toSlice(axis: Axis, index: number): void {
  const geometry = scan.peek()?.geometry;
  if (!geometry) return;
  const voxel: [number, number, number] = [...cursor.peek()];
  voxel[axisNumber(axis)] = index;
  toVoxel(voxel);
}

export function toVoxel(voxel: Voxel): void {
  const geometry = scan.peek()?.geometry;
  if (!geometry || pressed.peek()) return;
  const next = inside(geometry, voxel);
  if (next.some((value, n) => value !== cursor.peek()[n])) cursor.value = next;
}

/** So many slices down the bar: away from head, front or right. */
export function scroll(axis: Axis, down: number): void {
  const geometry = scan.peek()?.geometry;
  if (geometry) toSlice(axis, cursor.peek()[axisNumber(axis)] + (growsUpwards(geometry, axis) ? -down : down));
}

export function fitAll(): void {
  for (const camera of Object.values(cameras)) camera.value = FITTED;
}

/** Show values around a level. The narrowest is a thousandth of what the scan was shown through first. */
export function showWindow(level: number, width: number): void {
  const first = scan.peek()?.geometry.windows[0];
  const least = first ? Math.max(first.high - first.low, 1e-6) / 1000 : 1e-6;
  const kept = Math.max(width, least);
  if (Number.isFinite(level) && Number.isFinite(kept)) {
    window_.value = { name: "own", low: level - kept / 2, high: level + kept / 2 };
  }
}

/** A preset of the scan, by number from 0. False: there is none. */
export function preset(number: number): boolean {
  const found = scan.peek()?.geometry.windows[number];
  if (found) window_.value = { ...found };
  return found !== undefined;
}

/** Make a plane the large one, or show all again. */
export function enlarge(axis: Axis): void {
  activeAxis.value = axis;
  layout.value = layout.peek() === "one" ? "four" : "one";
}
