// The open case: its scan and its reading come and go together.

import { effect, signal, untracked } from "@preact/signals";
import { lookedAt, openedTask } from "../annotate/opening";
import { getCase } from "../api/cases";
import { ApiError, explain, isAbort } from "../api/http";
import type { Axis, CaseInfo } from "../api/types";
import { pause } from "../api/wait";
import { t } from "../i18n";
import { NoneOpen, type OpenOptions, openReading } from "../reading/open";
import type { Reading } from "../reading/reading";
import { hasEnded } from "../reading/told";
import { axisNumber, type Scan, type Voxel } from "../scan/scan";
import {
  activeAxis,
  cursor,
  layout,
  messages,
  myName,
  offline,
  openCase,
  type Route,
  reading,
  route,
  say,
  scan,
  window_,
} from "../state";
import { openScan } from "../view/load";
import { agreed } from "./asking";
import { type Kept, keep, kept } from "./kept";
import { tell } from "./tell";

interface OnItsWay {
  id: string;
  /** Why it does not come. */
  problem: string | null;
  /** What the server answered (0: nothing). */
  status?: number;
  /** The session that it begins from when it is tried again. */
  from?: string;
  /** It is a task, and no longer the reader's. */
  taken?: boolean;
}

/** A case on its way. */
export const opening = signal<OnItsWay | null>(null);
/** Another axis is on its way: no step is taken meanwhile. */
export const turning = signal(false);

/** ms for the reading before the scan is shown without it. */
const SHOWN_AFTER = 300;
/** ms for steps that are under way before the axis is changed, or the login ends. */
const ANSWERED_WITHIN = 60_000;

let under: AbortController | null = null;
let stopKeeping = () => {};

export interface Way {
  /** Somebody's session, to look at. */
  session?: string | undefined;
  /** Where the open session cannot be gone on with: a new one that begins from its masks. */
  anew?: boolean;
  /** Where no session is open any more: the one to begin from. */
  from?: string | undefined;
}

/** Opens a case; what was open is left. */
export async function openCaseById(id: string, way: Way = {}): Promise<void> {
  leaveCase();
  const control = new AbortController();
  under = control;
  opening.value = { id, problem: null };
  const parts: [Promise<Scan>, Promise<Reading>] = [
    openScan(id, control.signal),
    openReading(id, options(way, control.signal)),
  ];
  try {
    await comes(id, parts, control);
  } catch (error) {
    // whichever came, or comes later, has nobody any more
    parts[0].then((late) => late.close(), ignore);
    parts[1].then((late) => late.leave(), ignore);
    if (control.signal.aborted || under !== control) return;
    leaveCase();
    const status = error instanceof ApiError ? error.status : 500;
    const from = error instanceof NoneOpen ? error.from : way.from;
    const begins = from === undefined ? {} : { from };
    opening.value = isAbort(error) ? null : { id, ...begins, problem: why(error), status };
  }
}

/** Opens the session of a task, once `find` has said where it is. */
async function openTaskById(id: string, find: typeof openedTask): Promise<void> {
  leaveCase();
  const control = new AbortController();
  under = control;
  opening.value = { id, problem: null };
  try {
    const found = await find(id, control.signal);
    if (under === control) await openCaseById(found.case, { session: found.session });
  } catch (error) {
    if (under !== control) return;
    leaveCase();
    const status = error instanceof ApiError ? error.status : 500;
    const taken = find === openedTask && (status === 404 || status === 409);
    const problem = taken ? t("annotate.taken") : why(error);
    opening.value = isAbort(error) ? null : { id, problem, status, taken };
  }
}

/** What an address is about; nothing where it is about no scan. */
async function openRoute(to: Route, way: Way = {}): Promise<void> {
  if (to.page === "case") await openCaseById(to.id, { session: to.session, ...way });
  else if (to.page === "task") await openTaskById(to.id, openedTask);
  else if (to.page === "look") await openTaskById(to.id, lookedAt);
}

/** Both parts of a case; the scan first where the masks of its reading take longer than a moment. */
async function comes(id: string, parts: [Promise<Scan>, Promise<Reading>], { signal }: AbortController): Promise<void> {
  const [scanned, begins] = parts;
  const fails = begins.then(() => new Promise<never>(() => {}));
  const [info, around] = await Promise.race([Promise.all([getCase(id, signal), scanned]), fails]);
  const soon = await Promise.race([begins, pause(SHOWN_AFTER, signal).then(() => null)]);
  signal.throwIfAborted();
  const before = kept(info.id, around.geometry);
  const at = show(info, around, before);
  const begun = soon ?? (await begins);
  signal.throwIfAborted();
  enter(info, begun, before, at);
  opening.value = null;
}

function options({ session, anew, from }: Way, signal: AbortSignal): OpenOptions {
  const named = session !== undefined && { session };
  return { signal, ...named, ...(anew && { anew }), ...(from !== undefined && { from }) };
}

function ignore(): void {}

function why(error: unknown): string {
  if (error instanceof ApiError && error.status === 409) return t("shell.opening.other");
  // a scan that cannot be read says so itself, in the server's words
  const known = error instanceof ApiError && error.status === 422 && error.detail !== "";
  return known ? error.detail.replaceAll("`", "") : explain(error);
}

/** Leaves the case: steps on their way go on, what else is is given up. The session stays open on the server. */
export function leaveCase(): void {
  under?.abort();
  under = null;
  stopKeeping();
  stopKeeping = () => {};
  void reading.peek()?.leave();
  scan.peek()?.close();
  reading.value = null;
  scan.value = null;
  openCase.value = null;
  opening.value = null;
}

/** The scan, before its reading is there. Returns the voxel that is looked at. */
function show(info: CaseInfo, around: Scan, before: Kept | null): Voxel {
  const { geometry } = around;
  const [slices, rows, columns] = geometry.shape;
  const at: Voxel = before?.cursor ?? [columns >> 1, rows >> 1, slices >> 1];
  cursor.value = at;
  window_.value = before?.window ?? firstWindow(around);
  activeAxis.value = before?.activeAxis ?? geometry.axis;
  layout.value = before?.layout ?? "one";
  openCase.value = info;
  scan.value = around;
  return at;
}

function enter(info: CaseInfo, begun: Reading, before: Kept | null, at: Voxel): void {
  // unless somebody has looked elsewhere meanwhile
  if (before === null && cursor.peek() === at) {
    cursor.value = drawn(begun, at);
    activeAxis.value = begun.axis;
  }
  const active = before?.active ?? null;
  if (active?.session === begun.id && begun.objects.peek().some((object) => object.id === active.object)) {
    begun.active.value = active.object;
  }
  reading.value = begun;
  stopKeeping = keepPlace(info.id);
}

function firstWindow({ geometry }: Scan): { name: string; low: number; high: number } {
  return geometry.windows[0] ?? { name: "auto", low: 0, high: 255 };
}

/** Where the first structure is that has a mask, else the middle. */
function drawn(begun: Reading, middle: Voxel): Voxel {
  for (const object of begun.objects.peek()) {
    const slices = begun.masks.slices(object.id);
    if (slices.length === 0) continue;
    const at: [number, number, number] = [...middle];
    at[axisNumber(begun.axis)] = slices[slices.length >> 1]!;
    return at;
  }
  return middle;
}

function keepPlace(caseId: string): () => void {
  return effect(() => {
    const where = {
      cursor: cursor.value,
      window: window_.value,
      layout: layout.value,
      activeAxis: activeAxis.value,
      active: activeNow(),
    };
    keep(caseId, where);
  });
}

function activeNow(): Kept["active"] {
  const object = reading.value?.active.value ?? null;
  return object === null ? null : { session: reading.value!.id, object };
}

/** Once all steps are answered: true. That may take too long: false. */
function answered(of: Reading): Promise<boolean> {
  return Promise.race([of.settled().then(() => true), pause(ANSWERED_WITHIN).then(() => false)]);
}

/** Steps on their way arrive before the login ends, where they can. */
export async function beforeLogout(): Promise<void> {
  const open = reading.peek();
  if (open !== null && open.pending.peek() > 0 && !offline.peek()) await answered(open);
}

/** Work along another axis: the reading is closed, and one along that axis begins from its masks. */
export async function alongAxis(axis: Axis): Promise<void> {
  const old = reading.peek();
  const info = openCase.peek();
  if (old === null || info === null || !old.mine || old.axis === axis || turning.peek()) return;
  turning.value = true;
  try {
    if (await mayTurn(old)) await turned(old, info.id, axis);
  } catch (error) {
    tell(error, () => void alongAxis(axis));
  } finally {
    turning.value = false;
  }
}

/** Whether nothing is lost that the reader would miss. */
async function mayTurn(old: Reading): Promise<boolean> {
  const isRunning = old.jobs.peek().some((job) => !hasEnded(job));
  if (isRunning) {
    const [title, text] = [t("shell.turn.title"), t("shell.turn.running")];
    if (!(await agreed({ title, text, yes: t("shell.turn"), no: t("shell.cancel") }))) return false;
  }
  if (await answered(old)) return reading.peek() === old;
  say({ kind: "warning", text: t("shell.turn.waiting") });
  return false;
}

async function turned(old: Reading, caseId: string, axis: Axis): Promise<void> {
  const undoable = old.undoable.peek();
  const active = old.objects.peek().find((object) => object.id === old.active.peek())?.name;
  // that it is closed is no news then
  await old.leave();
  let begun: Reading | null;
  try {
    begun = await openReading(caseId, { axis, start: { session: old.id } });
    if (undoable > 0) say({ kind: "info", text: t("shell.turn.undo"), seconds: 8 });
  } catch (error) {
    tell(error, () => void alongAxis(axis));
    // whatever the server has by now
    begun = await openReading(caseId, { from: old.id }).catch(() => null);
  }
  if (reading.peek() !== old) {
    // the case was left meanwhile
    void begun?.leave();
  } else if (begun === null) {
    await openCaseById(caseId, { from: old.id });
  } else {
    // numbers are given anew
    const same = begun.objects.peek().find((object) => object.name === active);
    if (same !== undefined) begun.active.value = same.id;
    reading.value = begun;
    activeAxis.value = begun.axis;
  }
}

/** Opens what the address says, as soon as somebody is logged in, and leaves it when it says otherwise. */
export function followRoute(): () => void {
  const stops = [
    effect(() => {
      const to = route.value;
      const who = myName.value;
      untracked(() => {
        // what went wrong elsewhere is over
        messages.value = messages.value.filter((one) => one.kind !== "error");
        if (who === null || !("id" in to)) leaveCase();
        else void openRoute(to);
      });
    }),
    // one that did not come because the server was gone comes once that is over
    effect(() => {
      if (offline.value) return;
      untracked(() => {
        if (opening.value?.status === 0) openAgain();
      });
    }),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}

/** Tries once more what the address says. */
export function openAgain({ anew = false, from = opening.peek()?.from }: Way = {}): void {
  void openRoute(route.peek(), { anew, from });
}
