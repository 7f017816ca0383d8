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
  /** A session to look at, of anybody's; nothing of it is changed unless it is one's own. */
  session?: string;
  /**
   * Where the open session cannot be gone on with (409: another model or scan): close it and begin a new one from its
   * masks. What `axis` and `start` say is meant already.
   */
  anew?: boolean;
  signal?: AbortSignal;
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
  const { axis, start, anew, signal } = options;
  if (axis !== undefined || start !== undefined || anew) {
    const open = (await sessionsOf(caseId, false, signal)).find((one) => one.closed === null);
    const differs = anew || start !== undefined || open?.axis !== axis;
    if (open !== undefined && differs) return replaced(open, options);
  }
  return opened({ case: caseId, ...(axis && { axis }), ...(start && { start }) }, signal);
}

/** Close the session that is open, and begin another one from its masks, or from those that are named. */
async function replaced(open: SessionLine, { axis, start, signal }: OpenOptions): Promise<SessionInfo> {
  const from = start ?? { session: open.id };
  const objects = await objectsOf(from.session, signal);
  await request(`/sessions/${open.id}`, { method: "DELETE", signal });
  try {
    const told = await opened({ case: open.case, ...(axis && { axis }), start: from }, signal);
    return { ...told, objects: await asBefore(told, objects) };
  } catch (error) {
    // such as masks that do not fit: the reader goes on as before
    const again = await opened({ case: open.case, axis: open.axis, start: { session: open.id } }, undefined);
    await asBefore(again, objects);
    throw error;
  }
}

function opened(json: unknown, signal: AbortSignal | undefined): Promise<SessionInfo> {
  // one that was opened by an answer that was lost is open: asking again finds it
  return ask("/sessions", { method: "POST", json, repeatable: true, signal });
}

async function objectsOf(session: string, signal: AbortSignal | undefined): Promise<ObjectInfo[]> {
  try {
    return (await ask<SessionInfo>(`/sessions/${session}`, { signal })).objects;
  } catch (error) {
    if (error instanceof ApiError && error.status !== 0) return [];
    throw error;
  }
}

/** Have objects as they were before: those without a mask are not among what a session begins from. */
async function asBefore(told: SessionInfo, before: readonly ObjectInfo[]): Promise<ObjectInfo[]> {
  const objects = [...told.objects];
  const path = `/sessions/${told.id}/objects`;
  for (const { name, colour, visible, locked } of before) {
    let at = objects.findIndex((one) => one.name === name);
    if (at < 0) at = objects.push(await ask<ObjectInfo>(path, { method: "POST", json: { name, colour } })) - 1;
    const now = objects[at]!;
    if (now.colour === colour && now.visible === visible && now.locked === locked) continue;
    const json = { colour, visible, locked };
    objects[at] = await ask<ObjectInfo>(`${path}/${now.id}`, { method: "PATCH", json });
  }
  return objects;
}
