// A pointer that the keyboard moves, so that every tool works without a mouse: arrows move it (with Shift ten pixels),
// Enter presses and lets go, Space clicks (with Shift outside), Escape puts it away.

import { signal } from "@preact/signals";
import type { Axis } from "../api/types";
import { onSlice, voxelAt } from "../scan/scan";
import { activeAxis, cursor, reading, scan } from "../state";
import type { Point } from "./geometry";
import { touch } from "./local";
import type { PointerAt, Stage, Tool } from "./tool";

const FAR = 10;
const ARROWS: Record<string, Point> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/** The plane that the keyboard's pointer is on, and whether it is pressed; null while there is none. */
export const keyPointer = signal<{ axis: Axis; pressed: boolean } | null>(null);

/** The planes on screen, as they were drawn last. */
const stages = new Map<Axis, Stage>();

export function remember(stage: Stage): void {
  stages.set(stage.axis, stage);
}

export function forgetStages(): void {
  stages.clear();
}

export function enterKeys(axis: Axis = activeAxis.peek()): boolean {
  const open = reading.peek();
  // prompts are along one axis: where its plane is on screen, the pointer is there
  const at = open && stages.has(open.axis) ? open.axis : axis;
  if (!stages.has(at)) return false;
  keyPointer.value = { axis: at, pressed: false };
  document.querySelector<HTMLElement>(`[data-plane="${at}"][tabindex]`)?.focus();
  touch();
  return true;
}

/** What it has begun is forgotten. */
export function leaveKeys(tool: Tool): void {
  const now = keyPointer.peek();
  if (!now) return;
  if (now.pressed) tool.cancel();
  keyPointer.value = null;
  touch();
}

/** Where the keyboard's pointer is: on the pixel of the crosshair. */
export function keyPosition(axis: Axis): Point {
  return onSlice(axis, cursor.value);
}

function pointer(stage: Stage, outside: boolean): PointerAt {
  const [x, y] = keyPosition(stage.axis);
  const [screenX, screenY] = stage.toScreen(x, y);
  const { axis, slice } = stage;
  return { axis, slice, x, y, screenX, screenY, button: 0, alt: outside, shift: false, ctrl: false, kind: "keys" };
}

/** The stored direction that goes a way on screen, whichever way the slice is turned. */
function towards(stage: Stage, way: Point): Point {
  const from = stage.toScreen(0, 0);
  const sideways = (to: [number, number]): number => (to[0] - from[0]) * way[0] + (to[1] - from[1]) * way[1];
  const [x, y] = [sideways(stage.toScreen(1, 0)), sideways(stage.toScreen(0, 1))];
  return Math.abs(x) > Math.abs(y) ? [Math.sign(x), 0] : [0, Math.sign(y)];
}

function move(stage: Stage, way: Point, far: boolean): void {
  const shape = scan.peek()?.geometry.planes[stage.axis].shape;
  if (!shape) return;
  const [dx, dy] = towards(stage, way);
  const [x, y] = keyPosition(stage.axis);
  const step = far ? FAR : 1;
  const to: Point = [
    Math.min(Math.max(x + dx * step, 0), shape[1] - 1),
    Math.min(Math.max(y + dy * step, 0), shape[0] - 1),
  ];
  cursor.value = voxelAt(stage.axis, stage.slice, to[0], to[1]);
}

/** A key for the pointer; true when it was. */
export function keyForPointer(event: KeyboardEvent, tool: Tool): boolean {
  const now = keyPointer.peek();
  const stage = now && stages.get(now.axis);
  if (!now || !stage) return false;
  const way = ARROWS[event.key];
  if (way) {
    move(stage, way, event.shiftKey);
    if (now.pressed) tool.move(pointer(stage, false), stage);
    else tool.hover(pointer(stage, false), stage);
  } else if (event.key === "Enter") {
    const pressed = now.pressed ? false : tool.down(pointer(stage, event.shiftKey), stage);
    if (now.pressed) tool.up(pointer(stage, false), stage);
    keyPointer.value = { axis: now.axis, pressed };
  } else if (event.key === " ") {
    if (now.pressed) return true;
    if (tool.down(pointer(stage, event.shiftKey), stage)) tool.up(pointer(stage, event.shiftKey), stage);
  } else if (event.key === "Escape") {
    if (now.pressed) {
      tool.cancel();
      keyPointer.value = { axis: now.axis, pressed: false };
    } else leaveKeys(tool);
  } else return false;
  touch();
  return true;
}
