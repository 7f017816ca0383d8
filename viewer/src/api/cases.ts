// Scans on the server: found, opened, brought, shared.

import { API, ApiError, addressOf, ask, heed, jsonOf, ownHeaders, renew, request, uploadBroken } from "./http";
import type { CaseInfo, Geometry, Uploaded } from "./types";
import { pause } from "./wait";

/** cases of one answer */
const PAGE = 100;
/** ms between two looks at a case that is being read */
const LOOKS = [50, 100, 250, 500];

export interface CaseQuery {
  /** Part of the name or modality. */
  q?: string;
  kind?: CaseInfo["kind"];
  mine?: boolean;
  order?: "oldest" | "newest";
  /** Also whose they are, for those who may know. */
  patients?: boolean;
  limit?: number;
}

export interface CasePage {
  cases: CaseInfo[];
  /** Give it to `listCases` for what comes after; null: that was all. */
  next: string | null;
}

/** A page of the scans that the reader may open, the newest first. */
export async function listCases(query: CaseQuery = {}, after: string | null = null, signal?: AbortSignal) {
  const limit = query.limit ?? PAGE;
  const { q, ...rest } = query;
  const asked = { order: "newest", ...rest, q: q || null, after, limit };
  const cases = await ask<CaseInfo[]>("/cases", { query: asked, signal });
  return { cases, next: cases.length < limit ? null : cases[cases.length - 1]!.id } satisfies CasePage;
}

export function getCase(id: string, signal?: AbortSignal): Promise<CaseInfo> {
  return ask(`/cases/${id}`, { signal });
}

/** Have a scan read; its grid when it is in memory. Raises ApiError for one that cannot be read. */
export async function openScanOf(id: string, signal?: AbortSignal): Promise<Geometry> {
  for (let look = 0; ; look += 1) {
    const answer = await request(`/cases/${id}/open`, { method: "POST", repeatable: true, signal });
    if (answer.status !== 202) return jsonOf<Geometry>(answer, signal);
    await pause(LOOKS[Math.min(look, LOOKS.length - 1)]!, signal);
  }
}

export async function deleteCase(id: string): Promise<void> {
  await request(`/cases/${id}`, { method: "DELETE" });
}

/** user: as they log in */
export async function shareCase(id: string, user: string, may = true): Promise<void> {
  await request(`/cases/${id}/share`, { method: "POST", json: { user, may }, repeatable: true });
}

/** Address of a small picture of a scan; 404 where there is none. */
export function thumbnailOf(id: string): string {
  return addressOf(`/cases/${id}/thumbnail`);
}

// -- uploads ---------------------------------------------------------------------------------------------------------

/** A file and what it is called: with its folders, where it came in some. */
export interface Brought {
  file: File;
  path: string;
}

export interface UploadProgress {
  /** Bytes that are on their way, and in all. */
  sent: number;
  total: number;
  /** All bytes are there: the server looks at what they are. */
  reading: boolean;
}

/** Bring files, all at once: a case a series. Raises ApiError, and AbortError where `signal` says so. */
export async function uploadFiles(
  files: readonly Brought[],
  told: (progress: UploadProgress) => void = () => {},
  signal?: AbortSignal,
): Promise<Uploaded> {
  const form = new FormData();
  for (const { file, path } of files) form.append("file", file, path);
  try {
    return await upload(form, told, signal);
  } catch (error) {
    // the login was renewed in another tab
    const isOld = error instanceof ApiError && error.status === 403;
    if (isOld && (await renew())) return upload(form, told, signal);
    throw error;
  }
}

function upload(form: FormData, told: (progress: UploadProgress) => void, signal?: AbortSignal): Promise<Uploaded> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    // `fetch` says nothing of how much has left
    const call = new XMLHttpRequest();
    const stop = (): void => call.abort();
    signal?.addEventListener("abort", stop);
    call.open("POST", `${API}/cases`);
    for (const [name, value] of Object.entries(ownHeaders("POST"))) call.setRequestHeader(name, value);
    call.upload.onprogress = (event) => told({ sent: event.loaded, total: event.total, reading: false });
    call.upload.onload = (event) => told({ sent: event.loaded, total: event.total, reading: true });
    call.onload = () => {
      const failure = refusedUpload(call);
      if (failure === null) return resolve(JSON.parse(call.responseText) as Uploaded);
      heed(failure).then(() => reject(failure), reject);
    };
    call.onerror = () => void uploadBroken().then(reject);
    call.onabort = () => reject(signal?.reason ?? new DOMException("stopped", "AbortError"));
    call.onloadend = () => signal?.removeEventListener("abort", stop);
    call.send(form);
  });
}

function refusedUpload(call: XMLHttpRequest): ApiError | null {
  if (call.status >= 200 && call.status < 300) return null;
  const after = Number.parseFloat(call.getResponseHeader("Retry-After") ?? "");
  try {
    const said = JSON.parse(call.responseText) as { detail?: string; parameters?: string[] };
    return new ApiError(call.status, said.detail ?? "", said.parameters ?? [], Number.isFinite(after) ? after : null);
  } catch {
    return new ApiError(call.status, "");
  }
}

/** Files that were dropped, those in folders and their folders too. To be called in the event itself. */
export async function filesDropped(transfer: DataTransfer): Promise<Brought[]> {
  // entries are there as long as the event lasts: all of them first
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  if (entries.every((entry) => entry === null)) return filesChosen(transfer.files);
  const found: Brought[] = [];
  for (const entry of entries) if (entry !== null) await walk(entry, found);
  return found;
}

/** Files of an `<input type="file">`, with `webkitdirectory` or without. */
export function filesChosen(files: FileList | readonly File[]): Brought[] {
  return [...files].filter(isWanted).map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

async function walk(entry: FileSystemEntry, found: Brought[]): Promise<void> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    if (isWanted(file)) found.push({ file, path: entry.fullPath.replace(/^\/+/, "") });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // a hundred at a time
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const one of some) await walk(one, found);
  }
}

/** Nothing that a file manager leaves in folders. */
function isWanted(file: File): boolean {
  return !file.name.startsWith(".") && file.name !== "Thumbs.db" && file.name !== "desktop.ini";
}
