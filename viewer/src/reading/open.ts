// How a reading begins. A reader and a case have one session at a time: it is gone on with, or another one takes its place
// and begins from its masks.

import { ApiError, ask, request } from "../api/http";
import { sessionsOf } from "../api/results";
import type { Axis, ObjectInfo, SessionInfo, SessionLine } from "../api/types";
import { LiveReading } from "./live";
import type { Reading } from "./reading";

export interface OpenOptions {
  /** Along which slices are counted; default: that of the open session, or as acquired. */
  axis?: Axis;
  /** Masks to begin from: those of another session of one's own, open or closed. */
  start?: { session: string };
  /** A session to begin from where none is open: one that was closed. */
  from?: string;
  /** A session to look at, of anybody's; nothing of it is changed unless it is one's own. */
  session?: string;
  /**
   * Where the open session cannot be gone on with (409: another model or scan): close it and begin a new one from its
   * masks. What `axis` and `start` say is meant already.
   */
  anew?: boolean;
  signal?: AbortSignal;
}

/** The session that was open is closed, and none has taken its place. */
export class NoneOpen extends ApiError {
  constructor(
    why: ApiError,
    /** To begin from. */
    readonly from: string,
  ) {
    super(why.status, why.detail, why.parameters, why.retryAfter);
    this.name = "NoneOpen";
  }
}

/** Open the reader's session on a case. Raises ApiError, 409 where the one that is open cannot be gone on with. */
export async function openReading(caseId: string, options: OpenOptions = {}): Promise<Reading> {
  const told =
    options.session === undefined
      ? await begun(caseId, options)
      : await ask<SessionInfo>(`/sessions/${options.session}`, { signal: options.signal });
  const reading = new LiveReading(told);
  try {
    await reading.begin(options.signal);
  } catch (error) {
    reading.leave();
    throw error;
  }
  return reading;
}

async function begun(caseId: string, options: OpenOptions): Promise<SessionInfo> {
  const { axis, start, from, anew, signal } = options;
  if (axis === undefined && start === undefined && from === undefined && !anew) return opened({ case: caseId }, signal);
  const sessions = await sessionsOf(caseId, false, signal);
  const open = sessions.find((one) => one.closed === null);
  if (open === undefined && from !== undefined) {
    const last = sessions.find((one) => one.id === from);
    const along = axis ?? last?.axis;
    const before = await knownOf(from, signal);
    const told = await opened({ case: caseId, ...(along && { axis: along }), start: { session: from } }, signal);
    return withAll(told, before);
  }
  const differs = anew || start !== undefined || (axis !== undefined && open?.axis !== axis);
  if (open !== undefined && differs) return replaced(open, options);
  return opened({ case: caseId, ...(axis && { axis }), ...(start && { start }) }, signal);
}

/** Close the session that is open, and begin another one from its masks, or from those that are named. */
async function replaced(open: SessionLine, { axis, start, signal }: OpenOptions): Promise<SessionInfo> {
  const from = start ?? { session: open.id };
  const before = await knownOf(from.session, signal);
  signal?.throwIfAborted();
  // from here on to the end, also where the case is left meanwhile: a reader who finds none open would begin with nothing
  await request(`/sessions/${open.id}`, { method: "DELETE" });
  let told: SessionInfo;
  try {
    told = await opened({ case: open.case, ...(axis && { axis }), start: from });
  } catch (error) {
    // such as masks that do not fit: the reader goes on as before
    const again = await opened({ case: open.case, axis: open.axis, start: { session: open.id } }).catch(() => null);
    if (again === null) throw error instanceof ApiError ? new NoneOpen(error, open.id) : error;
    await withAll(again, before);
    throw error;
  }
  return withAll(told, before);
}

function opened(json: unknown, signal?: AbortSignal): Promise<SessionInfo> {
  // one that was opened by an answer that was lost is open: asking again finds it
  return ask("/sessions", { method: "POST", json, repeatable: true, signal });
}

async function knownOf(session: string, signal: AbortSignal | undefined): Promise<readonly ObjectInfo[]> {
  try {
    return (await ask<SessionInfo>(`/sessions/${session}`, { signal })).objects;
  } catch (error) {
    if (error instanceof ApiError && error.status !== 0) return [];
    throw error;
  }
}

/**
 * Have a session that began from another one's masks have all of that one's objects: those without a mask are not among
 * them. Of the others, and of what masks are kept to, the server has it as it was.
 */
async function withAll(told: SessionInfo, before: readonly ObjectInfo[]): Promise<SessionInfo> {
  const objects = [...told.objects];
  const path = `/sessions/${told.id}/objects`;
  for (const { name, colour, visible, locked } of before) {
    if (objects.some((one) => one.name === name)) continue;
    let made = await ask<ObjectInfo>(path, { method: "POST", json: { name, colour } });
    if (!visible || locked) {
      made = await ask<ObjectInfo>(`${path}/${made.id}`, { method: "PATCH", json: { visible, locked } });
    }
    objects.push(made);
  }
  return { ...told, objects };
}
