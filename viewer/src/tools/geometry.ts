// Plane geometry of the tools. Points are pixel numbers (the centre of column n is n), boxes are half-open edges
// (column n lies between n and n + 1): an edge is a pixel number and a half.

import type { Stage } from "./tool";

export type Point = readonly [number, number];
export type Box = readonly [number, number, number, number];
/** Rows and columns of a stored slice. */
export type Shape = readonly [number, number];

/** Which edges of a box a drag moves: -1 the lower one, 1 the upper one, 0 neither. Both 0: the whole box. */
export interface Grip {
  readonly x: -1 | 0 | 1;
  readonly y: -1 | 0 | 1;
}

export const WHOLE: Grip = { x: 0, y: 0 };
const GRIPS: readonly Grip[] = [
  { x: -1, y: -1 },
  { x: 1, y: -1 },
  { x: 1, y: 1 },
  { x: -1, y: 1 },
  { x: 0, y: -1 },
  { x: 1, y: 0 },
  { x: 0, y: 1 },
  { x: -1, y: 0 },
];

/** Hundredths of a pixel: what a hand can mean, and what reads well in a prompts file. */
export function rounded(value: number): number {
  // no -0: JSON and tests tell it from 0
  return Math.round(value * 100) / 100 + 0;
}

function within(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

/** The nearest position that lies on the slice, borders of its outer pixels included. */
export function onto(point: Point, shape: Shape): Point {
  return [rounded(within(point[0], -0.5, shape[1] - 0.5)), rounded(within(point[1], -0.5, shape[0] - 0.5))];
}

export function isOn(point: Point, shape: Shape): boolean {
  return point[0] >= -0.5 && point[1] >= -0.5 && point[0] <= shape[1] - 0.5 && point[1] <= shape[0] - 0.5;
}

/** At least a pixel of [low, high] that lies between 0 and length. */
function side(low: number, high: number, length: number): [number, number] {
  let first = within(Math.min(low, high), 0, length);
  let last = within(Math.max(low, high), 0, length);
  if (last - first < 1) {
    const middle = within((first + last) / 2, 0.5, length - 0.5);
    first = middle - 0.5;
    last = middle + 0.5;
  }
  return [rounded(first), rounded(last)];
}

/** The box with two corners, given as edges, cut to the slice. */
export function boxOf(a: Point, b: Point, shape: Shape): Box {
  const [x0, x1] = side(a[0], b[0], shape[1]);
  const [y0, y1] = side(a[1], b[1], shape[0]);
  return [x0, y0, x1, y1];
}

/** The box between two positions of a pointer. */
export function boxBetween(a: Point, b: Point, shape: Shape): Box {
  return boxOf([a[0] + 0.5, a[1] + 0.5], [b[0] + 0.5, b[1] + 0.5], shape);
}

/** The box of all pixels from one to another, both in. */
export function boxOfPixels(a: Point, b: Point, shape: Shape): Box {
  const low: Point = [Math.min(a[0], b[0]), Math.min(a[1], b[1])];
  return boxOf(low, [Math.max(a[0], b[0]) + 1, Math.max(a[1], b[1]) + 1], shape);
}

/** A box after a grip was moved by (dx, dy) pixels. A whole box stays whole at the border; edges may change sides. */
export function dragged(box: Box, grip: Grip, dx: number, dy: number, shape: Shape): Box {
  if (grip.x === 0 && grip.y === 0) {
    const right = within(dx, -box[0], shape[1] - box[2]);
    const down = within(dy, -box[1], shape[0] - box[3]);
    return [rounded(box[0] + right), rounded(box[1] + down), rounded(box[2] + right), rounded(box[3] + down)];
  }
  const [x0, x1] = grip.x === 0 ? [box[0], box[2]] : grip.x < 0 ? [box[0] + dx, box[2]] : [box[0], box[2] + dx];
  const [y0, y1] = grip.y === 0 ? [box[1], box[3]] : grip.y < 0 ? [box[1] + dy, box[3]] : [box[1], box[3] + dy];
  return boxOf([x0, y0], [x1, y1], shape);
}

/** A position of an edge on screen. */
export function edgeOnScreen(stage: Stage, x: number, y: number): [number, number] {
  return stage.toScreen(x - 0.5, y - 0.5);
}

/** Corners and middles of edges on screen, with what they move. */
export function handles(box: Box, stage: Stage): { grip: Grip; at: [number, number] }[] {
  const along = (low: number, high: number, which: -1 | 0 | 1) =>
    which < 0 ? low : which > 0 ? high : (low + high) / 2;
  return GRIPS.map((grip) => ({
    grip,
    at: edgeOnScreen(stage, along(box[0], box[2], grip.x), along(box[1], box[3], grip.y)),
  }));
}

/** A box on screen: left, top, right, bottom. */
export function onScreen(box: Box, stage: Stage): [number, number, number, number] {
  const [ax, ay] = edgeOnScreen(stage, box[0], box[1]);
  const [bx, by] = edgeOnScreen(stage, box[2], box[3]);
  return [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
}

/** What of a box lies under a place on screen: a corner first, then an edge (on all of its length). */
export function gripAt(box: Box, stage: Stage, screen: Point, reach: number): Grip | null {
  const corners = handles(box, stage).slice(0, 4);
  const near = corners.find(({ at }) => Math.hypot(at[0] - screen[0], at[1] - screen[1]) <= reach);
  if (near) return near.grip;
  for (const { grip, at } of handles(box, stage).slice(4)) {
    const [left, top, right, bottom] = onScreen(box, stage);
    const upright = Math.abs(at[0] - left) < 0.01 || Math.abs(at[0] - right) < 0.01;
    const across = upright ? Math.abs(screen[0] - at[0]) : Math.abs(screen[1] - at[1]);
    const along = upright ? screen[1] >= top && screen[1] <= bottom : screen[0] >= left && screen[0] <= right;
    if (along && across <= reach) return grip;
  }
  return null;
}

/** Cursor of CSS for a grip, by the way it goes on screen. */
export function gripCursor(box: Box, grip: Grip, stage: Stage): string {
  if (grip.x === 0 && grip.y === 0) return "move";
  const found = handles(box, stage).find((one) => one.grip.x === grip.x && one.grip.y === grip.y);
  const [left, top, right, bottom] = onScreen(box, stage);
  const dx = Math.sign(Math.round((found?.at[0] ?? 0) - (left + right) / 2));
  const dy = Math.sign(Math.round((found?.at[1] ?? 0) - (top + bottom) / 2));
  if (dx === 0) return "ns-resize";
  if (dy === 0) return "ew-resize";
  return dx === dy ? "nwse-resize" : "nesw-resize";
}

/** Distance of two positions in mm, or in pixels where there are none. */
export function distance(a: Point, b: Point, pitchMm: Point | null): number {
  const [px, py] = pitchMm ?? [1, 1];
  return Math.hypot((b[0] - a[0]) * px, (b[1] - a[1]) * py);
}

/** Width and height of a box in mm, or in pixels. */
export function sizeOf(box: Box, pitchMm: Point | null): [number, number] {
  const [px, py] = pitchMm ?? [1, 1];
  return [(box[2] - box[0]) * px, (box[3] - box[1]) * py];
}

/** Distance of a point from a segment, in the units of the three. */
export function fromSegment(point: Point, a: Point, b: Point): number {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const square = dx * dx + dy * dy;
  const along = square === 0 ? 0 : within(((point[0] - a[0]) * dx + (point[1] - a[1]) * dy) / square, 0, 1);
  return Math.hypot(point[0] - a[0] - along * dx, point[1] - a[1] - along * dy);
}

/** Whether two segments have a point in common. */
export function cross(a: readonly [Point, Point], b: readonly [Point, Point]): boolean {
  const turn = (p: Point, q: Point, r: Point) => (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]);
  const sides = (one: readonly [Point, Point], two: readonly [Point, Point]) =>
    turn(one[0], one[1], two[0]) * turn(one[0], one[1], two[1]);
  return sides(a, b) <= 0 && sides(b, a) <= 0;
}

/** A stroke without the points that lie within `tolerance` of the line through those that stay. */
export function simplified(points: readonly Point[], tolerance: number): Point[] {
  if (points.length < 3) return [...points];
  const first = points[0]!;
  const last = points[points.length - 1]!;
  let far = 0;
  let at = 0;
  points.forEach((point, number) => {
    const off = fromSegment(point, first, last);
    if (off > far) {
      far = off;
      at = number;
    }
  });
  if (far <= tolerance) return [first, last];
  const left = simplified(points.slice(0, at + 1), tolerance);
  return [...left.slice(0, -1), ...simplified(points.slice(at), tolerance)];
}

/** Square pixels that corners enclose; 0 when there is no area. */
export function areaOf(corners: readonly Point[]): number {
  let twice = 0;
  corners.forEach((corner, number) => {
    const next = corners[(number + 1) % corners.length]!;
    twice += corner[0] * next[1] - next[0] * corner[1];
  });
  return Math.abs(twice) / 2;
}
