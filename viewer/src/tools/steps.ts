// From a hand's movement to a step of the reading: whether it may be taken, of which object, and what is on screen until
// the answer is there.

import { batch, signal } from "@preact/signals";
import { task } from "../annotate/task";
import type { Axis, ObjectInfo, PromptEntry } from "../api/types";
import { t } from "../i18n";
import { startsAnew } from "../reading/asked";
import type { MaskSlice } from "../reading/masks";
import type { Asked, Reading, StepResult } from "../reading/reading";
import { NotTaken } from "../reading/untaken";
import { voxelAt } from "../scan/scan";
import { planeName } from "../scan/space";
import { alongAxis, turning } from "../shell/session";
import { tell } from "../shell/tell";
import { cursor, masksShown, reading, say, scan } from "../state";
import type { Point, Shape } from "./geometry";
import { drawnOn, nameLocal, Overlay, touch } from "./local";
import { isSame } from "./paint";

/** What is asked, without of whom and where. */
export type Wish = Omit<PromptEntry, "object" | "slice">;

/** A step that was sent and is not answered: it stays on screen. object null: of one that is not made yet. */
export interface Sent {
  readonly axis: Axis;
  readonly slice: number;
  readonly object: number | null;
  readonly wish: Wish;
  /** What is painted of it. */
  readonly over: Overlay;
}

export const sent = signal<readonly Sent[]>([]);

/** Whether steps or changes are on their way: what was asked for is not there yet. */
export function underWay(of: Reading | null): boolean {
  return (of?.pending.value ?? 0) > 0 || sent.value.length > 0;
}

/** First answers that a refined one may take the place of, by object and slice: of the latest step there. */
const firsts = new WeakMap<Reading, Map<string, MaskSlice>>();

/** What was answered first where a refined mask stands now. */
export function firstAnswer(of: Reading, object: number, slice: number): MaskSlice | null {
  return firsts.get(of)?.get(`${object} ${slice}`) ?? null;
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
  if (!open || !scan.peek() || turning.peek()) return "closed";
  if (open.over.peek()) return "over";
  if (!open.mine) return "theirs";
  if (open.axis !== axis) return "plane";
  return activeObject(open)?.locked ? "locked" : null;
}

/** Says what to do instead. */
export function refuse(why: Refusal, axis: Axis): void {
  const open = reading.peek();
  if (why === "plane" && task.peek() !== null) {
    // masks of a project are along one axis
    say({ kind: "info", text: t("annotate.plane", { plane: planeText(open!.axis) }), seconds: 8 });
  } else if (why === "plane") {
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

/** Objects on their way: steps are about them, and wait. */
const making = new WeakMap<Reading, Promise<ObjectInfo>>();

/** Makes an object that steps are about from now on, also those that come before the server has answered. */
export function makeObject(open: Reading, name: string): Promise<ObjectInfo> {
  const made = open
    .addObject(name)
    .then((object) => {
      open.active.value = object.id;
      nameLocal(object.id, object.colour);
      return object;
    })
    .finally(() => {
      if (making.get(open) === made) making.delete(open);
    });
  making.set(open, made);
  return made;
}

/** Number of the object that steps are about; null: of one that is not made yet. */
function aimed(open: Reading): number | null {
  return making.has(open) ? null : (activeObject(open)?.id ?? null);
}

/** Of the reading on screen. */
export function activeNumber(): number | null {
  const open = reading.peek();
  return open && aimed(open);
}

/** The same, and made where it is not yet. */
function objectOf(open: Reading): number | Promise<number> {
  const now = aimed(open);
  if (now !== null) return now;
  const made = making.get(open) ?? makeObject(open, freeName(open.objects.peek()));
  return made.then((object) => object.id);
}

/** Where nothing is drawn on yet, have something made: the hand is about to draw on it. */
export function prepare(): void {
  const open = reading.peek();
  const made = open && objectOf(open);
  // the step that comes tries again, and says what is wrong
  if (made instanceof Promise) made.catch(() => {});
}

/** "structure 1", or the first number that is free. A name of files, so not of the page's language. */
export function freeName(objects: readonly ObjectInfo[]): string {
  const names = new Set(objects.map((one) => one.name));
  for (let number = 1; ; number += 1) {
    if (!names.has(`structure ${number}`)) return `structure ${number}`;
  }
}

interface Step {
  readonly what: Sent;
  send(open: Reading, object: number): Promise<StepResult>;
  /** What of it is on screen until the answer is there. */
  show(what: Sent): void;
  /** Whether it may be sent again once it has failed. */
  fits?(object: number): boolean;
}

async function take(step: Step): Promise<StepResult | null> {
  const { what } = step;
  const open = reading.peek();
  if (!open) return null;
  let object = what.object;
  let isSent = false;
  const taken = async () => {
    const found = object ?? objectOf(open);
    object = typeof found === "number" ? found : await found;
    const known = open.objects.peek().find((one) => one.id === object);
    if (known && !known.visible) await open.changeObject(object, { visible: true });
    isSent = true;
    const result = await step.send(open, object);
    noteFirst(open, object, what.slice);
    return result;
  };
  const again = async () => {
    const isLate = reading.peek() !== open || (object !== null && step.fits?.(object) === false);
    if (isLate) say({ kind: "info", text: t("tools.tooLate"), seconds: 8 });
    else await take({ ...step, what: { ...what, object, over: new Overlay() } });
  };
  // the request leaves first: the page is drawn anew while the server is at work
  const answer = taken().catch((error: unknown) => {
    const isSure = error instanceof NotTaken && (error.again !== undefined || !isSent);
    throw isSure ? new NotTaken(error, again) : error;
  });
  batch(() => {
    masksShown.value = true;
    sent.value = [...sent.peek(), what];
    step.show(what);
    touch();
  });
  const result = await heard(answer);
  batch(() => {
    sent.value = sent.peek().filter((one) => one !== what);
    what.over.show(null);
    touch();
  });
  return result;
}

function noteFirst(open: Reading, object: number, slice: number): void {
  const now = open.masks.get(object, slice);
  const key = `${object} ${slice}`;
  const known = firsts.get(open) ?? new Map<string, MaskSlice>();
  firsts.set(open, known);
  if (now?.status === "first") known.set(key, now.mask);
  else known.delete(key);
}

/** What is there answers an older outline, until the new one is answered. */
function fade(open: Reading, { axis, slice, object, over }: Sent): void {
  const mask = maskOf(open, slice, object);
  if (object !== null && mask?.data.length) {
    over.show({ axis, slice, object, colour: activeColour(), mask, faded: true });
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
  return take({
    what: sentOf(open, slice, wish),
    send: (on, object) => on.prompt({ object, slice, ...wish }),
    show: (shown) => {
      lookAt(open.axis, slice, wish);
      if (startsAnew(wish)) fade(open, shown);
    },
  });
}

/** The active object's mask on a slice is to be this one. Shown at once. */
export function drawMask(slice: number, mask: MaskSlice): Promise<StepResult | null> {
  const open = reading.peek();
  if (!open) return Promise.resolve(null);
  const what = sentOf(open, slice, {});
  const base = maskOf(open, slice, what.object);
  return take({
    what,
    send: (on, number) => on.draw(number, slice, mask),
    show: ({ axis, object, over }) => over.show({ axis, slice, object, colour: activeColour(), mask }),
    // what was painted since would be painted over
    fits: (number) => isSame(base, maskOf(open, slice, number)),
  });
}

function sentOf(open: Reading, slice: number, wish: Wish): Sent {
  return { axis: open.axis, slice, object: aimed(open), wish, over: new Overlay() };
}

/** An object's mask as it will be once all is answered that was painted. */
function maskOf(open: Reading, slice: number, object: number | null): MaskSlice | undefined {
  const drawn = drawnOn(open.axis, slice, object);
  return drawn ?? (object === null ? undefined : open.masks.get(object, slice)?.mask);
}

/** The active object's mask on a slice, as what is painted next goes on from it. */
export function shownMask(slice: number): MaskSlice | undefined {
  const open = reading.peek();
  return open ? maskOf(open, slice, aimed(open)) : undefined;
}

/** What stands of the active object's prompts on a slice: the latest outline, and what corrected it since. */
export interface Standing {
  outline: Wish | null;
  points: [number, number, 0 | 1][];
  scribbles: NonNullable<PromptEntry["scribbles"]>;
}

export function standing(axis: Axis, slice: number): Standing {
  const found: Standing = { outline: null, points: [], scribbles: [] };
  const open = reading.value;
  // what is about to be taken back stands no more, and has no handles
  if (!open || open.axis !== axis || takingBack.value.includes(open)) return found;
  const object = open.active.value;
  const wishes = [
    ...open.asked.value.filter((one: Asked) => one.object === object && one.slice === slice).map((one) => one.entry),
    ...sent.value
      .filter((one) => one.slice === slice && one.axis === axis && (one.object ?? object) === object)
      .map((one) => one.wish),
  ];
  for (const wish of wishes) {
    if (startsAnew(wish)) {
      found.outline = wish;
      found.points = [];
      found.scribbles = [];
    }
    found.points.push(...(wish.points ?? []));
    found.scribbles.push(...(wish.scribbles ?? []));
  }
  return found;
}

/** A reading for each undo and redo under way. */
export const takingBack = signal<readonly Reading[]>([]);

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
  const walked = forward ? open.redo() : open.undo();
  const last = sent.peek().at(-1);
  batch(() => {
    // one that is not answered yet is what is taken back
    if (last && !forward) {
      sent.value = sent.peek().slice(0, -1);
      last.over.show(null);
    }
    takingBack.value = [...takingBack.peek(), open];
    touch();
  });
  await heard(walked);
  takingBack.value = takingBack.peek().toSpliced(takingBack.peek().indexOf(open), 1);
  touch();
}
