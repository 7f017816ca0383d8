// Lines, dots and words over a picture: light on a dark border, so that they are seen on black and on white.

import type { Stroke } from "../api/types";
import { type Box, edgeOnScreen, handles, onScreen, type Point, sizeOf } from "./geometry";
import type { Stage } from "./tool";

const SHADE = "rgba(0, 0, 0, 0.7)";
const FONT = '12px system-ui, "Noto Sans", "Noto Sans CJK KR", sans-serif';
const HANDLE = 3.5;

type Context = CanvasRenderingContext2D;

function twice(context: Context, colour: string, width: number, dash: number[]): void {
  context.lineCap = "round";
  context.lineJoin = "round";
  context.setLineDash([]);
  context.lineWidth = width + 2;
  context.strokeStyle = SHADE;
  context.stroke();
  context.setLineDash(dash);
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke();
  context.setLineDash([]);
}

/** Corners joined by lines; `closed` back to the first. */
export function way(
  context: Context,
  stage: Stage,
  points: readonly Point[],
  colour: string,
  closed = false,
  dash: number[] = [],
): void {
  context.beginPath();
  points.forEach(([x, y], number) => {
    const [u, v] = stage.toScreen(x, y);
    if (number === 0) context.moveTo(u, v);
    else context.lineTo(u, v);
  });
  if (closed) context.closePath();
  twice(context, colour, 1.5, dash);
}

/** The pixels under a pen. */
export function stroke(context: Context, stage: Stage, one: Stroke, colour: string): void {
  const wide = one.width_mm ?? one.width_px ?? 0;
  const width = Math.max(screenSize(stage, wide, one.width_mm !== undefined), 1.5);
  context.beginPath();
  one.points.forEach(([x, y], number) => {
    const [u, v] = stage.toScreen(x, y);
    if (number === 0) context.moveTo(u, v);
    else context.lineTo(u, v);
    if (one.points.length === 1) context.lineTo(u + 0.01, v);
  });
  context.save();
  context.globalAlpha = 0.55;
  context.lineCap = "round";
  context.lineJoin = "round";
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke();
  context.restore();
  twice(context, one.inside ? "#fff" : "#ffb0a8", 1, one.inside ? [] : [2, 4]);
}

/** CSS pixels of a length in mm (or in the smaller side of a pixel). */
export function screenSize(stage: Stage, length: number, mm = stage.pitchMm !== null): number {
  if (mm && stage.pitchMm) return (length * stage.scale[0]) / stage.pitchMm[0];
  return length * Math.min(...stage.scale);
}

export function box(context: Context, stage: Stage, edges: Box, colour: string, dash: number[] = []): void {
  const [left, top, right, bottom] = onScreen(edges, stage);
  context.beginPath();
  context.rect(left, top, right - left, bottom - top);
  twice(context, colour, 1.5, dash);
}

export function boxHandles(context: Context, stage: Stage, edges: Box, colour: string): void {
  for (const { at } of handles(edges, stage)) square(context, at, colour);
}

export function square(context: Context, at: Point, colour: string): void {
  context.fillStyle = SHADE;
  context.fillRect(at[0] - HANDLE - 1, at[1] - HANDLE - 1, 2 * HANDLE + 2, 2 * HANDLE + 2);
  context.fillStyle = colour;
  context.fillRect(at[0] - HANDLE, at[1] - HANDLE, 2 * HANDLE, 2 * HANDLE);
}

/** Where the label of a box is: above it, or within where there is no room. Dragging it moves the box. */
export function labelPlace(stage: Stage, edges: Box): Point {
  const [left, top] = onScreen(edges, stage);
  return [Math.max(left, 2), top < 24 ? Math.max(top, 0) + 4 : top - 22];
}

export const LABEL_HEIGHT = 18;

export function labelWidth(text: string): number {
  return text.length * 6.6 + 12;
}

export function words(context: Context, text: string, at: Point, colour = "#fff"): void {
  context.font = FONT;
  context.textBaseline = "middle";
  context.textAlign = "left";
  const width = Math.max(context.measureText(text).width + 12, 1);
  context.fillStyle = SHADE;
  context.fillRect(at[0], at[1], width, LABEL_HEIGHT);
  context.fillStyle = colour;
  context.fillText(text, at[0] + 6, at[1] + LABEL_HEIGHT / 2 + 0.5);
}

/** A click: inside a full disc with a plus, outside a ring with a minus. */
export function click(context: Context, stage: Stage, point: Point, inside: boolean): void {
  const [u, v] = stage.toScreen(point[0], point[1]);
  context.beginPath();
  context.arc(u, v, 6, 0, 2 * Math.PI);
  context.fillStyle = inside ? "#1b6e3a" : "#b3261e";
  context.fill();
  context.lineWidth = 1.5;
  context.strokeStyle = "#fff";
  context.stroke();
  context.beginPath();
  context.moveTo(u - 3, v);
  context.lineTo(u + 3, v);
  if (inside) {
    context.moveTo(u, v - 3);
    context.lineTo(u, v + 3);
  }
  context.stroke();
}

export function ring(context: Context, at: Point, radius: number): void {
  context.beginPath();
  context.arc(at[0], at[1], Math.max(radius, 1), 0, 2 * Math.PI);
  twice(context, "#fff", 1, []);
}

/** The pointer that keys move. */
export function keyCursor(context: Context, stage: Stage, point: Point, reach = 14): void {
  const [u, v] = stage.toScreen(point[0], point[1]);
  context.beginPath();
  context.moveTo(u - reach, v);
  context.lineTo(u - 4, v);
  context.moveTo(u + 4, v);
  context.lineTo(u + reach, v);
  context.moveTo(u, v - reach);
  context.lineTo(u, v - 4);
  context.moveTo(u, v + 4);
  context.lineTo(u, v + reach);
  twice(context, "#ffd166", 2, []);
  if (Math.min(...stage.scale) > 4) {
    // the pixel itself, where it can be seen
    const [a, b] = [edgeOnScreen(stage, point[0], point[1]), edgeOnScreen(stage, point[0] + 1, point[1] + 1)];
    context.beginPath();
    context.rect(Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.abs(b[0] - a[0]), Math.abs(b[1] - a[1]));
    twice(context, "#ffd166", 1, []);
  }
}

/** "42 × 31 mm", in the order of the screen. */
export function boxText(stage: Stage, edges: Box): string {
  const [wide, high] = sizeOf(edges, stage.pitchMm);
  const turned = isTurned(stage);
  const [first, second] = turned ? [high, wide] : [wide, high];
  return `${short(first)} × ${short(second)} ${unit(stage)}`;
}

/** Whether rows of the stored slice are columns on screen. */
export function isTurned(stage: Stage): boolean {
  const from = stage.toScreen(0, 0);
  const to = stage.toScreen(1, 0);
  return Math.abs(to[1] - from[1]) > Math.abs(to[0] - from[0]);
}

export function unit(stage: Stage): string {
  return stage.pitchMm ? "mm" : "px";
}

/** One decimal below 100, none above. */
export function short(value: number): string {
  return value < 100 ? value.toFixed(1) : value.toFixed(0);
}
