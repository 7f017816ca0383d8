// How far a task is: which of its structures have a mask, which proposals nobody has looked at yet, which slices are left.

import type { TaskInfo } from "../api/annotate";
import type { ObjectInfo } from "../api/types";
import { t } from "../i18n";
import { sliceNow, toSlice } from "../panels/goto";
import type { Reading } from "../reading/reading";
import { reading, say } from "../state";
import { project } from "./project";
import { isProposal, plain } from "./proposals";
import { absent, looked, task } from "./task";

/** drawn: it has a mask. proposed: only such as nobody has looked at. empty: it has none. */
export type State = "drawn" | "proposed" | "empty";

export interface Part {
  readonly name: string;
  readonly object: ObjectInfo | null;
  readonly colour: string;
  readonly state: State;
  /** Said to be absent, and without a mask. */
  readonly absent: boolean;
}

/** The object of a structure; null: it was deleted. */
function objectOf(open: Reading, name: string): ObjectInfo | null {
  return open.objects.value.find((one) => plain(one.name) === plain(name)) ?? null;
}

/** Slices of an object on which a task asks for masks, that have one. */
function drawnOn(now: TaskInfo, open: Reading, object: number): number[] {
  open.masks.version.value;
  return open.masks.slices(object).filter((slice) => {
    const mask = open.masks.get(object, slice)?.mask;
    return mask !== undefined && mask.x1 > mask.x0 && (now.slices?.includes(slice) ?? true);
  });
}

/** The structures of a task, as they are asked for. */
export function partsOf(now: TaskInfo, open: Reading): Part[] {
  return now.structures.map((name) => {
    const object = objectOf(open, name);
    const slices = object === null ? [] : drawnOn(now, open, object.id);
    const untouched = object !== null && slices.some((slice) => isProposal(open, object, slice));
    const state = slices.length === 0 ? "empty" : untouched ? "proposed" : "drawn";
    const told = project.value?.structures.find((one) => plain(one.name) === plain(name));
    const colour = object?.colour ?? told?.colour ?? "#888888";
    return { name, object, colour, state, absent: state === "empty" && absent.value.has(plain(name)) };
  });
}

/** Structures about which something is to be asked before a task is handed in. */
export function openParts(now: TaskInfo, open: Reading): Part[] {
  return partsOf(now, open).filter((part) => part.state !== "drawn");
}

/** The one that is drawn now. One that was deleted is made again. shows: also where it is. */
export async function choose(open: Reading, part: Part, shows = true): Promise<void> {
  if (part.object === null) {
    if (open.mine) await open.addObject(part.name, part.colour);
    return;
  }
  open.active.value = part.object.id;
  const slices = open.masks.slices(part.object.id);
  if (shows && slices.length > 0 && !slices.includes(sliceNow(open))) toSlice(open, slices[slices.length >> 1]!);
}

/** Marks the active structure's proposals as looked at, and goes on to the next structure that is not done. */
export function accept(now: TaskInfo, open: Reading): void {
  const parts = partsOf(now, open);
  const at = parts.findIndex((part) => part.object !== null && part.object.id === open.active.peek());
  const part = parts[at];
  if (part?.state !== "proposed") {
    say({ kind: "info", text: t("annotate.nothing-proposed"), seconds: 5 });
    if (part !== undefined && part.state === "empty") return;
  } else looked.value = new Set([...looked.peek(), plain(part.name)]);
  const rest = [...parts.slice(at + 1), ...parts.slice(0, Math.max(at, 0))];
  const next = rest.find((one) => one.state === "proposed") ?? rest.find((one) => one.state === "empty" && !one.absent);
  if (next === undefined) {
    if (part?.state === "proposed") say({ kind: "info", text: t("annotate.all-looked"), seconds: 8 });
    return;
  }
  void choose(open, next);
}

/** All of these were looked at, or are not there. */
export function answered(parts: readonly Part[]): void {
  const named = (state: State) => parts.filter((part) => part.state === state).map((part) => plain(part.name));
  looked.value = new Set([...looked.peek(), ...named("proposed")]);
  absent.value = new Set([...absent.peek(), ...named("empty")]);
}

// -- slices ------------------------------------------------------------------------------------------------------------

export interface Asked {
  readonly slices: readonly number[];
  readonly done: number;
  /** Where to go next; null: one is on screen, and all others are done. */
  readonly next: number | null;
}

/** Slices that a task asks for; null where it asks for all. */
export function askedSlices(now: TaskInfo, open: Reading): Asked | null {
  if (now.slices === null || now.slices.length === 0) return null;
  const objects = partsOf(now, open).flatMap((part) => (part.object === null ? [] : [part.object]));
  const drawn = new Set(
    objects.flatMap((one) => drawnOn(now, open, one.id).filter((slice) => !isProposal(open, one, slice))),
  );
  const slices = [...now.slices].sort((a, b) => a - b);
  const at = sliceNow(open);
  const round = [...slices.filter((slice) => slice > at), ...slices.filter((slice) => slice < at)];
  const left = round.find((slice) => !drawn.has(slice));
  const done = slices.filter((slice) => drawn.has(slice)).length;
  return { slices, done, next: left ?? round[0] ?? null };
}

/** Shows the next slice that is asked for, the ones without a mask first; false where none are asked for. */
export function toNextSlice(): boolean {
  const [now, open] = [task.peek(), reading.peek()];
  const found = now && open && askedSlices(now, open);
  if (!found) return false;
  if (found.next !== null) toSlice(open, found.next);
  return true;
}
