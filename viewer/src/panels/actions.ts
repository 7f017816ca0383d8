// What the panels' buttons and keys do with the active structure.

import type { ObjectInfo } from "../api/types";
import { until } from "../api/wait";
import { t } from "../i18n";
import type { Reading } from "../reading/reading";
import { hasEnded } from "../reading/told";
import { tell } from "../shell/tell";
import { reading as open, say } from "../state";
import { underWay } from "../tools/steps";
import { spoken } from "./format";
import { sliceNow, toSlice } from "./goto";
import { activeSlices, nextLeastSure } from "./slices";

/** Why something cannot be done with the active structure now; null: it can. */
export type Obstacle = "nobody" | "looking" | "locked" | "empty" | "running" | "one-slice" | "no-gap" | "end" | null;

function obstacle(reading: Reading, id = reading.active.value): Obstacle {
  if (!reading.mine) return "looking";
  const object = reading.objects.value.find((one) => one.id === id);
  if (!object) return "nobody";
  if (object.locked) return "locked";
  reading.masks.version.value;
  return reading.masks.slices(object.id).length === 0 ? "empty" : null;
}

export function runningJob(reading: Reading, object: number | null) {
  return reading.jobs.value.find((job) => object !== null && job.object === object && !hasEnded(job));
}

/** When all steps are answered, or another reading is open. */
function answered(reading: Reading): Promise<void> {
  return until(() => open.value !== reading || !underWay(reading));
}

export function cannotPropagate(reading: Reading, id = reading.active.value): Obstacle {
  const why = obstacle(reading, id);
  // a structure may have its first mask in a moment
  if ((why === "empty" || why === "nobody") && underWay(reading)) return null;
  if (why) return why;
  if (reading.slices < 2) return "one-slice";
  return runningJob(reading, id) ? "running" : null;
}

/**
 * Follows a structure through the volume, once what was asked of it is answered: the one that is active now, whatever is
 * by then. Where none is, the one that is being made.
 */
export async function propagate(reading: Reading, maxMm?: number, id = reading.active.peek()): Promise<void> {
  if (cannotPropagate(reading, id) === null) await answered(reading);
  if (open.peek() !== reading) return;
  const object = id ?? reading.active.peek();
  const why = cannotPropagate(reading, object);
  if (why) {
    sayWhy(why);
    return;
  }
  await tried(reading.propagate(object!, maxMm), () => void propagate(reading, maxMm, object));
}

export function cannotFill(reading: Reading): Obstacle {
  const why = obstacle(reading);
  if (why) return why;
  const slices = reading.masks.slices(reading.active.value!);
  const gap = slices.some((slice, at) => at > 0 && slice - slices[at - 1]! > 1);
  return gap ? null : "no-gap";
}

/** Draws the active structure on the slices between those that it is on. */
export async function fill(reading: Reading): Promise<void> {
  const why = cannotFill(reading);
  if (why) return sayWhy(why);
  await tried(reading.interpolate(reading.active.value!));
}

/** Draws a structure wherever the scan has what it is called. */
export async function find(reading: Reading, object: ObjectInfo): Promise<void> {
  await tried(reading.text(object.id, object.name));
}

export function cannotCopy(reading: Reading, step: 1 | -1): Obstacle {
  const why = obstacle(reading);
  if (why) return why;
  const slice = sliceNow(reading);
  if (slice + step < 0 || slice + step >= reading.slices) return "end";
  return reading.masks.get(reading.active.value!, slice) ? null : "empty";
}

/** The active structure's mask of this slice, on the next or previous one too, which is shown. */
export async function copy(reading: Reading, step: 1 | -1): Promise<void> {
  const why = cannotCopy(reading, step);
  if (why) return sayWhy(why);
  const slice = sliceNow(reading);
  const object = reading.active.value!;
  const mask = reading.masks.get(object, slice)!.mask;
  if (await tried(reading.draw(object, slice + step, mask))) toSlice(reading, slice + step);
}

/** Where `toLeastSure` led. */
let led: { reading: string; object: number; slice: number } | null = null;

/** Shows the slice where the active structure is least sure; again: the next less sure. */
export function toLeastSure(): void {
  const reading = open.peek();
  if (!reading) return;
  const active = reading.active.peek();
  const now = sliceNow(reading);
  const still = led?.reading === reading.id && led.object === active && led.slice === now;
  const found = nextLeastSure(activeSlices(reading).leastSure, still ? now : null);
  if (!found) {
    say({ kind: "info", text: t("panels.none-unsure"), seconds: 5 });
    return;
  }
  led = { reading: reading.id, object: active!, slice: found.slice };
  toSlice(reading, found.slice);
}

/** The structure after the active one; from the last one to the first. */
export function nextStructure(reading: Reading): void {
  const objects = reading.objects.peek();
  if (objects.length === 0) return;
  const at = objects.findIndex((one) => one.id === reading.active.peek());
  const next = objects[(at + 1) % objects.length]!;
  reading.active.value = next.id;
  say({ kind: "info", text: t("panels.now", { name: spoken(next.name) }), seconds: 2 });
}

/** Deletes a structure with its masks, a step that undo takes back; its neighbour is the active one then. */
export async function remove(reading: Reading, object: ObjectInfo): Promise<void> {
  if (object.locked) return sayWhy("locked");
  const objects = reading.objects.peek();
  const at = objects.findIndex((one) => one.id === object.id);
  const neighbour = objects[at + 1] ?? objects[at - 1] ?? null;
  if (!(await tried(reading.removeObject(object.id)))) return;
  if (reading.active.peek() === object.id || reading.active.peek() === null) {
    reading.active.value = neighbour?.id ?? null;
  }
  const steps = reading.undoable.peek();
  const name = spoken(object.name);
  const back = () => {
    // by then another step may be the last one
    if (open.peek() === reading && reading.undoable.peek() === steps) void tried(reading.undo());
    else say({ kind: "info", text: t("panels.deleted-before", { name }), seconds: 8 });
  };
  say({
    kind: "info",
    text: t("panels.deleted", { name }),
    action: { text: t("panels.undo"), run: back },
    seconds: 8,
  });
}

/** Whether it was done; what went wrong is said. */
export async function tried(step: Promise<unknown>, again?: () => void): Promise<boolean> {
  try {
    await step;
    return true;
  } catch (error) {
    tell(error, again);
    return false;
  }
}

export function sayWhy(why: Exclude<Obstacle, null>): void {
  say({ kind: "info", text: t(`panels.cannot-${why}`), seconds: 6 });
}
