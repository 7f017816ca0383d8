// The open case: its scan and its reading come and go together.

import { effect, signal, untracked } from "@preact/signals";
import { getCase } from "../api/cases";
import { ApiError, explain, isAbort } from "../api/http";
import type { Axis, CaseInfo } from "../api/types";
import { type OpenOptions, openReading } from "../reading/open";
import type { Reading } from "../reading/reading";
import { axisNumber, type Scan, type Voxel } from "../scan/scan";
import {
  activeAxis,
  cursor,
  layout,
  locked,
  messages,
  myName,
  offline,
  openCase,
  reading,
  route,
  scan,
  window_,
} from "../state";
import { openScan } from "../view/load";
import { keep, kept } from "./kept";
import { tell } from "./tell";

/** A case on its way; `problem` says why it does not come, `status` what the server answered (0: nothing). */
export const opening = signal<{ id: string; problem: string | null; status?: number } | null>(null);
/** Another axis is on its way. */
export const turning = signal(false);

let under: AbortController | null = null;
let stopKeeping = () => {};

export interface Way {
  /** Somebody's session, to look at. */
  session?: string | undefined;
  /** Where the open session cannot be gone on with: a new one that begins from its masks. */
  anew?: boolean;
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
    const [info, around, begun] = await Promise.all([getCase(id, control.signal), ...parts]);
    if (control.signal.aborted) throw control.signal.reason;
    enter(info, around, begun);
    opening.value = null;
  } catch (error) {
    // whichever came, or comes later, has nobody any more
    parts[0].then((late) => late.close(), ignore);
    parts[1].then((late) => late.leave(), ignore);
    if (control.signal.aborted || under !== control) return;
    control.abort();
    const status = error instanceof ApiError ? error.status : 500;
    opening.value = isAbort(error) ? null : { id, problem: why(error), status };
  }
}

function options({ session, anew }: Way, signal: AbortSignal): OpenOptions {
  return { signal, ...(session !== undefined && { session }), ...(anew && { anew }) };
}

function ignore(): void {}

function why(error: unknown): string {
  // a scan that cannot be read says so itself, in the server's words
  const known = error instanceof ApiError && error.status === 422 && error.detail !== "";
  return known ? error.detail.replaceAll("`", "") : explain(error);
}

/** Leaves the case: what is on its way is given up, the session stays open on the server. */
export function leaveCase(): void {
  under?.abort();
  under = null;
  stopKeeping();
  stopKeeping = () => {};
  reading.peek()?.leave();
  scan.peek()?.close();
  reading.value = null;
  scan.value = null;
  openCase.value = null;
  opening.value = null;
}

function enter(info: CaseInfo, around: Scan, begun: Reading): void {
  const { geometry } = around;
  const before = kept(info.id, geometry);
  const [slices, rows, columns] = geometry.shape;
  const middle: Voxel = [columns >> 1, rows >> 1, slices >> 1];
  cursor.value = before?.cursor ?? drawn(begun, middle);
  window_.value = before?.window ?? firstWindow(around);
  activeAxis.value = before?.activeAxis ?? begun.axis;
  layout.value = before?.layout ?? "one";
  if (before?.active != null && begun.objects.peek().some((object) => object.id === before.active)) {
    begun.active.value = before.active;
  }
  openCase.value = info;
  scan.value = around;
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
      active: reading.value?.active.value ?? null,
    };
    keep(caseId, where);
  });
}

/** Work along another axis: the reading is closed, and one along that axis begins from its masks. */
export async function alongAxis(axis: Axis): Promise<void> {
  const old = reading.peek();
  const info = openCase.peek();
  if (old === null || info === null || !old.mine || old.axis === axis || turning.peek()) return;
  const active = old.active.peek();
  turning.value = true;
  try {
    const begun = await openReading(info.id, { axis, start: { session: old.id } });
    if (openCase.peek()?.id !== info.id) {
      begun.leave();
      return;
    }
    old.leave();
    if (begun.objects.peek().some((object) => object.id === active)) begun.active.value = active;
    reading.value = begun;
    activeAxis.value = begun.axis;
  } catch (error) {
    tell(error, () => void alongAxis(axis));
  } finally {
    turning.value = false;
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
        if (who === null || to.page === "cases") leaveCase();
        else void openCaseById(to.id, { session: to.session });
      });
    }),
    // one that did not come because the server was gone, or the login locked, comes once that is over
    effect(() => {
      if (offline.value || locked.value) return;
      untracked(() => {
        const status = opening.value?.status;
        if (status === 0 || status === 423) openAgain();
      });
    }),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}

/** Tries once more what the address says. */
export function openAgain(anew = false): void {
  const to = route.peek();
  if (to.page === "case") void openCaseById(to.id, { session: to.session, anew });
}
