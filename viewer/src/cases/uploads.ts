// Files on their way to the server: one upload at a time, further ones wait behind it.

import { signal } from "@preact/signals";
import { type Brought, type UploadProgress, uploadFiles } from "../api/cases";
import { isAbort } from "../api/http";
import type { CaseInfo } from "../api/types";
import { t } from "../i18n";
import { go } from "../shell/routing";
import { tell } from "../shell/tell";
import { me, route, say } from "../state";
import { refresh } from "./list";

export interface Upload extends UploadProgress {
  /** How many files. */
  files: number;
  /** Further files that wait. */
  waiting: number;
}

export const uploading = signal<Upload | null>(null);
/** Files are being looked for in folders that were dropped. */
export const gathering = signal(false);
/** Cases of the last upload, which the list points out. */
export const arrived = signal<ReadonlySet<string>>(new Set());

let stop: AbortController | null = null;
let queue: (readonly Brought[])[] = [];

/** Brings files. What becomes of them is said; a single case is opened. */
export async function bring(found: Promise<readonly Brought[]> | readonly Brought[]): Promise<void> {
  let files: readonly Brought[];
  gathering.value = true;
  try {
    files = await found;
  } catch {
    say({ kind: "error", text: t("cases.unreadable") });
    return;
  } finally {
    gathering.value = false;
  }
  if (files.length === 0) {
    say({ kind: "warning", text: t("cases.nothing") });
    return;
  }
  queue.push(files);
  if (uploading.value !== null) countWaiting();
  else await work();
}

/** Gives up what is on its way and what waits. Nothing of it stays on the server. */
export function stopUploads(): void {
  queue = [];
  stop?.abort();
}

function countWaiting(): void {
  const waiting = queue.reduce((sum, files) => sum + files.length, 0);
  if (uploading.value !== null) uploading.value = { ...uploading.value, waiting };
}

async function work(): Promise<void> {
  for (let files = queue.shift(); files !== undefined; files = queue.shift()) await send(files);
}

async function send(files: readonly Brought[]): Promise<void> {
  const control = new AbortController();
  stop = control;
  const total = files.reduce((sum, one) => sum + one.file.size, 0);
  uploading.value = { files: files.length, waiting: 0, sent: 0, total, reading: false };
  countWaiting();
  try {
    const told = (progress: UploadProgress) => {
      if (uploading.value !== null) uploading.value = { ...uploading.value, ...progress };
    };
    const { cases, notes } = await uploadFiles(files, told, control.signal);
    uploading.value = null;
    came(cases, notes);
  } catch (error) {
    uploading.value = null;
    if (isAbort(error)) say({ kind: "info", text: t("cases.stopped") });
    else if (me.value !== null) tell(error, () => void bring(files));
  }
}

function came(cases: readonly CaseInfo[], notes: readonly string[]): void {
  arrived.value = new Set(cases.map((one) => one.id));
  void refresh();
  if (notes.length > 0) say({ kind: "warning", text: `${t("cases.leftOut")}\n${notes.slice(0, 5).join("\n")}` });
  const [first] = cases;
  if (first !== undefined && cases.length === 1 && queue.length === 0 && route.value.page === "cases") {
    go({ page: "case", id: first.id });
  } else say({ kind: "info", text: t(cases.length === 1 ? "cases.cameOne" : "cases.came", { count: cases.length }) });
}
