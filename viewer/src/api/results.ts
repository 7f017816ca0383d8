// What comes of a session: files, measures, comparison, and results on their way back to the PACS.

import { ApiError, ask, bytesOf, jsonOf, request, uploadBroken } from "./http";
import type { Compared, ExportFormat, Measure, OrgansInfo, SentInfo, SessionLine, StructureName } from "./types";
import type { Frame } from "./wire";
import { readFrames } from "./wire";

export interface Exported {
  blob: Blob;
  /** As the server calls it: no name of anybody. */
  name: string;
  /** Of the session: all steps up to it are there. */
  revision: number;
  /** Masks that are first answers still: of a session of before, which cannot be refined any more. */
  first: number;
}

/** What stands in `X-Medsam-Meta`; csv has none. */
function firstOf(answer: Response): number {
  const meta: { first?: number } = JSON.parse(answer.headers.get("X-Medsam-Meta") ?? "{}");
  return meta.first ?? 0;
}

/** 0 where none is told: what was taken counts as older than any mask then. */
function toldRevision(answer: Response): number {
  return Number(answer.headers.get("X-Medsam-Revision") ?? 0);
}

/** The masks as a file, once every first answer is refined. csv: measures. */
export async function exportLabels(session: string, format: ExportFormat, signal?: AbortSignal): Promise<Exported> {
  const answer = await request(`/sessions/${session}/labels`, { query: { format }, signal });
  const bytes = await bytesOf(answer, signal);
  const type = answer.headers.get("Content-Type") ?? "application/octet-stream";
  const file = { blob: new Blob([bytes], { type }), name: nameOf(answer) ?? `labels-${session.slice(0, 8)}.${format}` };
  return { ...file, revision: toldRevision(answer), first: firstOf(answer) };
}

/** What the server calls a file. */
function nameOf(answer: Response): string | undefined {
  return /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1];
}

/** Have the browser keep a file. */
export function save(file: Pick<Exported, "blob" | "name">): void {
  const address = URL.createObjectURL(file.blob);
  const link = document.createElement("a");
  link.href = address;
  link.download = file.name;
  document.body.append(link);
  link.click();
  link.remove();
  // the browser reads it behind this
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Store the masks in the PACS, beside the images they were drawn on. revision: as of a file. */
export async function sendToPacs(
  session: string,
  server: string,
  format: "seg" | "seg-labelmap" | "rtstruct" = "seg",
): Promise<SentInfo & { revision: number }> {
  const answer = await request(`/sessions/${session}/send`, { method: "POST", json: { server, format } });
  return { ...(await jsonOf<SentInfo>(answer)), revision: toldRevision(answer) };
}

/** What would be looked for on a session's scan without a prompt. */
export function organs(session: string, signal?: AbortSignal): Promise<OrgansInfo> {
  return ask(`/sessions/${session}/organs`, { signal });
}

/** What a search for organs has found, as a table. */
export async function organStatistics(session: string, job: string): Promise<Pick<Exported, "blob" | "name">> {
  const answer = await request(`/sessions/${session}/jobs/${job}/statistics`);
  const blob = new Blob([await bytesOf(answer)], { type: "text/csv" });
  return { blob, name: nameOf(answer) ?? `organs-${session.slice(0, 8)}.csv` };
}

/** Size, diameter and values of each structure. */
export function measures(session: string, signal?: AbortSignal): Promise<Measure[]> {
  return ask(`/sessions/${session}/measures`, { signal });
}

/** Compare with another session on the same scan, or with a file of labels. */
export function compare(session: string, reference: { session: string } | File, signal?: AbortSignal) {
  const path = `/sessions/${session}/compare`;
  if (!(reference instanceof File)) {
    return ask<Compared>(path, { method: "POST", json: { session: reference.session }, repeatable: true, signal });
  }
  const form = new FormData();
  form.append("file", reference, reference.name);
  return ask<Compared>(path, { method: "POST", body: form, signal }).catch(async (error: unknown) => {
    throw error instanceof ApiError && error.status === 0 ? await uploadBroken() : error;
  });
}

/** Masks of what was compared with, of an object of the session, along its axis. */
export async function comparedMasks(
  session: string,
  reference: string,
  object: number,
  signal?: AbortSignal,
): Promise<Frame[]> {
  const answer = await request(`/sessions/${session}/compare/${reference}/masks`, { query: { object }, signal });
  return readFrames(await bytesOf(answer, signal));
}

/** Sessions on a case that may be seen: one's own, closed ones too, and a reviewer sees everybody's. */
export function sessionsOf(caseId: string, everyones = false, signal?: AbortSignal): Promise<SessionLine[]> {
  return ask("/sessions", { query: { case: caseId, closed: true, everyones }, signal });
}

/** Names of structures that begin or go like `q`, with synonyms and colours. */
export function vocabulary(q: string, limit = 12, signal?: AbortSignal): Promise<StructureName[]> {
  return ask("/vocabulary", { query: { q, limit }, signal });
}
