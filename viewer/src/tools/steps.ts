// From a hand's movement to a step of the reading: whether it may be taken, of which object, and what is on screen until
// the answer is there.

import { batch, signal } from "@preact/signals";
import type { Axis, ObjectInfo, PromptEntry } from "../api/types";
import { t } from "../i18n";
import type { MaskSlice } from "../reading/masks";
import type { Asked, Reading, StepResult } from "../reading/reading";
import { voxelAt } from "../scan/scan";
import { planeName } from "../scan/space";
import { alongAxis } from "../shell/session";
import { tell } from "../shell/tell";
import { cursor, masksShown, reading, say, scan } from "../state";
import type { Point, Shape } from "./geometry";
import { local, touch } from "./local";

/** What is asked, without of whom and where. */
export type Wish = Omit<PromptEntry, "object" | "slice">;

/** A step that was sent and is not answered: it stays on screen. object null: of one that is not made yet. */
export interface Sent {
  readonly axis: Axis;
  readonly slice: number;
  readonly object: number | null;
  readonly wish: Wish;
}

export const sent = signal<readonly Sent[]>([]);
/** First answers that a refined one may take the place of, by object and slice: of the latest step there. */
const firsts = new Map<string, MaskSlice>();

/** What was answered first where a refined mask stands now. */
export function firstAnswer(object: number, slice: number): MaskSlice | null {
  return firsts.get(`${object} ${slice}`) ?? null;
}

export function activeObject(of: Reading): ObjectInfo | undefined {
  return of.objects.value.find((one) => one.id === of.active.value);
}

/** Colour of what is drawn now. */
export function activeColour(): string {
  return (reading.value && activeObject(reading.value)?.colour) || "#5ab0f2";
}

/** Rows and columns of slices along an axis, as stored. */
export function shapeOf(axis: Axis): Shape | null {
  return scan.peek()?.geometry.planes[axis].shape ?? null;
}

/** Why nothing can be drawn on a plane, or null. */
export type Refusal = "closed" | "over" | "theirs" | "plane" | "locked";

export function refusal(axis: Axis): Refusal | null {
  const open = reading.peek();
  if (!open || !scan.peek()) return "closed";
  if (open.over.peek()) return "over";
  if (!open.mine) return "theirs";
  if (open.axis !== axis) return "plane";
  return activeObject(open)?.locked ? "locked" : null;
}

/** Says what to do instead. */
export function refuse(why: Refusal, axis: Axis): void {
  const open = reading.peek();
  if (why === "plane") {
    const run = () => void alongAxis(axis);
    const action = { text: t("tools.alongThis"), run };
    say({ kind: "info", text: t("tools.otherPlane", { plane: planeText(open!.axis) }), action, seconds: 12 });
  } else if (why === "locked" && open) {
    const object = activeObject(open)!;
    const run = () => void heard(open.changeObject(object.id, { locked: false }));
    const action = { text: t("tools.unlock"), run };
    say({ kind: "warning", text: t("tools.locked", { name: object.name }), action, seconds: 12 });
  } else {
    const words = why === "theirs" || why === "over" ? why : "closed";
    say({ kind: "info", text: t(`tools.${words}`), seconds: 8 });
  }
}

/** "axial", where it is known how the patient lay. */
function planeText(axis: Axis): string {
  const geometry = scan.peek()?.geometry;
  const name = geometry ? planeName(geometry, axis) : null;
  return t(`tools.plane.${name ?? axis}`);
}

/** A promise whose failure is said. */
export async function heard<T>(promise: Promise<T>): Promise<T | null> {
  try {
    return await promise;
  } catch (error) {
    tell(error);
    return null;
  }
}

let making: Promise<number> | null = null;

/** Number of the active object; the first prompt makes one. */
function objectOf(open: Reading): number | Promise<number> {
  const now = activeObject(open);
  if (now) return now.id;
  making ??= open
    .addObject(freeName(open.objects.peek()))
    .then((made) => {
      open.active.value = made.id;
      const now = local.peek();
      if (now?.object === null) local.value = { ...now, object: made.id, colour: made.colour };
      return made.id;
    })
    .finally(() => {
      making = null;
    });
  return making;
}

/** "structure 1", or the first number that is free. A name of files, so not of the page's language. */
export function freeName(objects: readonly ObjectInfo[]): string {
  const names = new Set(objects.map((one) => one.name));
  for (let number = 1; ; number += 1) {
    if (!names.has(`structure ${number}`)) return `structure ${number}`;
  }
}

/** show: what of it is on screen until the answer is there. */
async function step(
  what: Sent,
  send: (open: Reading, object: number) => Promise<StepResult>,
  show: () => void,
): Promise<StepResult | null> {
  const open = reading.peek();
  if (!open) return null;
  const taken = async () => {
    const found = objectOf(open);
    const object = typeof found === "number" ? found : await found;
    const known = open.objects.peek().find((one) => one.id === object);
    if (known && !known.visible) await open.changeObject(object, { visible: true });
    const result = await send(open, object);
    noteFirst(open, object, what.slice);
    return result;
  };
  // the request leaves first: the page is drawn anew while the server is at work
  const answer = taken();
  batch(() => {
    masksShown.value = true;
    sent.value = [...sent.peek(), what];
    show();
    touch();
  });
  const result = await heard(answer);
  sent.value = sent.peek().filter((one) => one !== what);
  if (local.peek()?.faded && sent.peek().length === 0) local.value = null;
  touch();
  return result;
}

function noteFirst(open: Reading, object: number, slice: number): void {
  const now = open.masks.get(object, slice);
  const key = `${object} ${slice}`;
  if (now?.status === "first") firsts.set(key, now.mask);
  else firsts.delete(key);
}

/** What is there answers an older outline, until the new one is answered. */
function fade(open: Reading, slice: number): void {
  const object = open.active.peek();
  const mask = shownMask(slice);
  if (object !== null && mask?.data.length) {
    local.value = { axis: open.axis, slice, object, colour: activeColour(), mask, faded: true };
  }
}

/** The crosshair goes to the middle of what was asked, so that the other planes cut through it. */
function lookAt(axis: Axis, slice: number, wish: Wish): void {
  const { box, points, line, lines, lasso } = wish;
  const corners: readonly Point[] = box
    ? [
        [box[0] - 0.5, box[1] - 0.5],
        [box[2] - 0.5, box[3] - 0.5],
      ]
    : (lasso ?? line ?? lines?.[0] ?? points?.map(([x, y]): Point => [x, y]) ?? []);
  const shape = shapeOf(axis);
  if (corners.length === 0 || !shape) return;
  const middle = (which: 0 | 1): number => {
    const values = corners.map((corner) => corner[which]);
    const at = Math.round((Math.min(...values) + Math.max(...values)) / 2);
    return Math.min(Math.max(at, 0), shape[1 - which]! - 1);
  };
  cursor.value = voxelAt(axis, slice, middle(0), middle(1));
}

/** Ask about the active object on a slice of the reading's axis. */
export function ask(slice: number, wish: Wish): Promise<StepResult | null> {
  const open = reading.peek();
  if (!open) return Promise.resolve(null);
  const what: Sent = { axis: open.axis, slice, object: open.active.peek(), wish };
  return step(
    what,
    (on, object) => on.prompt({ object, slice, ...wish }),
    () => {
      lookAt(open.axis, slice, wish);
      if (isOutline(wish)) fade(open, slice);
    },
  );
}

/** The active object's mask on a slice is to be this one. Shown at once. */
export async function drawMask(slice: number, mask: MaskSlice): Promise<StepResult | null> {
  const open = reading.peek();
  if (!open) return null;
  const object = open.active.peek();
  const what: Sent = { axis: open.axis, slice, object, wish: {} };
  const result = await step(
    what,
    (on, number) => on.draw(number, slice, mask),
    () => {
      local.value = { axis: open.axis, slice, object, colour: activeColour(), mask };
    },
  );
  // unless the hand is further by now
  if (local.peek()?.mask === mask) local.value = null;
  return result;
}

/** The active object's mask on a slice, as it is on screen. */
export function shownMask(slice: number): MaskSlice | undefined {
  const open = reading.peek();
  if (!open) return undefined;
  const object = open.active.peek();
  const now = local.peek();
  if (now && now.axis === open.axis && now.slice === slice && now.object === object) return now.mask;
  return object === null ? undefined : open.masks.get(object, slice)?.mask;
}

/** What stands of the active object's prompts on a slice: the latest outline, and what corrected it since. */
export interface Standing {
  outline: Wish | null;
  points: [number, number, 0 | 1][];
  scribbles: NonNullable<PromptEntry["scribbles"]>;
}

const OUTLINES = ["box", "lasso", "line", "lines", "ellipse", "mask", "drawn"] as const;

export function isOutline(wish: Wish): boolean {
  return OUTLINES.some((key) => wish[key] !== undefined);
}

export function standing(axis: Axis, slice: number): Standing {
  const found: Standing = { outline: null, points: [], scribbles: [] };
  const open = reading.value;
  // what is about to be taken back stands no more, and has no handles
  if (!open || open.axis !== axis || takingBack.value > 0) return found;
  const object = open.active.value;
  const wishes = [
    ...open.asked.value.filter((one: Asked) => one.object === object && one.slice === slice).map((one) => one.entry),
    ...sent.value.filter((one) => one.slice === slice && one.axis === axis).map((one) => one.wish),
  ];
  for (const wish of wishes) {
    if (isOutline(wish)) {
      found.outline = wish;
      found.points = [];
      found.scribbles = [];
    }
    found.points.push(...(wish.points ?? []));
    found.scribbles.push(...(wish.scribbles ?? []));
  }
  return found;
}

/** Undos and redos under way. */
const takingBack = signal(0);

/** Take the last step back, or again. */
export async function back(forward = false): Promise<void> {
  const open = reading.peek();
  if (!open) return refuse("closed", "k");
  if (!open.mine) return refuse("theirs", open.axis);
  const there = forward ? open.redoable : open.undoable;
  if (there.peek() === 0 && open.pending.peek() === 0) {
    say({ kind: "info", text: t(forward ? "tools.nothingToRedo" : "tools.nothingToUndo"), seconds: 3 });
    return;
  }
  local.value = null;
  takingBack.value += 1;
  await heard(forward ? open.redo() : open.undo());
  takingBack.value -= 1;
  touch();
}
