// Names of structures at their masks: of the active one the whole name, of each other one its number.

import type { ObjectInfo } from "../api/types";
import { spoken } from "../panels/format";
import { boxOn } from "../tools/box";
import { handles } from "../tools/geometry";
import * as pen from "../tools/pen";
import { type Area, meet } from "./cutout";
import type { Frame } from "./frame";

export const NAME_FONT = "600 11px system-ui, sans-serif";
const HEIGHT = 15;
/** CSS pixels of a mask on screen from which on it has a number. */
const NAMED_FROM = 10;
/** CSS pixels between a mask and its name, and from the middle of a handle to what may not lie on it. */
const GAP = 4;
const HANDLE = 5;

export interface Name {
  readonly text: string;
  readonly colour: string;
  readonly area: Area;
}

/** At a mask that covers `on`: below it, or where it hides nothing of `taken`. Null: there is no room for it. */
export function nameOf(
  frame: Frame,
  on: Area,
  taken: readonly Area[],
  object: ObjectInfo,
  active: boolean,
  widthOf: (text: string) => number,
): Name | null {
  if (!active && Math.max(on.right - on.left, on.bottom - on.top) < NAMED_FROM) return null;
  const text = active ? `${object.id} ${spoken(object.name)}` : String(object.id);
  return { text, colour: object.colour, area: placed(frame, on, taken, Math.ceil(widthOf(text)) + 8) };
}

function placed(frame: Frame, on: Area, taken: readonly Area[], width: number): Area {
  const lowest = Math.max(on.bottom, ...taken.map((one) => one.bottom));
  const [middle, centre] = [(on.left + on.right - width) / 2, (on.top + on.bottom - HEIGHT) / 2];
  const places: [number, number][] = [
    [middle, on.bottom + GAP],
    [middle, lowest + GAP],
    [middle, on.top - GAP - HEIGHT],
    [on.right + GAP, centre],
    [on.left - GAP - width, centre],
  ];
  const areas = places.map(([x, y]) => {
    const left = Math.round(Math.max(Math.min(x, frame.width - width - 2), 2));
    const top = Math.round(Math.max(Math.min(y, frame.height - HEIGHT - 2), 2));
    return { left, top, right: left + width, bottom: top + HEIGHT };
  });
  return areas.find((area) => !taken.some((one) => meet(area, one))) ?? areas[0]!;
}

/** What the hand takes a box by on a slice: its handles, and its size in words. */
export function grips(frame: Frame): Area[] {
  const box = boxOn(frame);
  if (!box) return [];
  const [left, top] = pen.labelPlace(frame, box);
  const label = { left, top, right: left + pen.labelWidth(pen.boxText(frame, box)), bottom: top + pen.LABEL_HEIGHT };
  const squares = handles(box, frame).map(({ at: [x, y] }) => {
    return { left: x - HANDLE, top: y - HANDLE, right: x + HANDLE, bottom: y + HANDLE };
  });
  return [...squares, label];
}

export function paintName(context: CanvasRenderingContext2D, { text, colour, area }: Name): void {
  const { left, top, right } = area;
  context.font = NAME_FONT;
  context.fillStyle = "rgb(0 0 0 / 75%)";
  context.fillRect(left, top, right - left, HEIGHT);
  context.fillStyle = colour;
  context.fillRect(left, top, 3, HEIGHT);
  context.fillStyle = "#fff";
  context.textBaseline = "middle";
  context.textAlign = "left";
  context.fillText(text, left + 5, top + 8);
}
