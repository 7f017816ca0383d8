// What became of a propagation, in words.

import type { JobInfo } from "../api/types";
import { t } from "../i18n";
import { shown } from "./goto";

/** Slice -> why the structure does not go on there; -1 and the number of slices are the ends of the scan. */
export type StopReasons = Readonly<Record<string, string>>;

/** Reasons that are named; the order they are told in is that of the slices. */
const NAMED: Readonly<Record<string, "vanished" | "disagreed" | "end">> = {
  vanished: "vanished",
  "stopped agreeing": "disagreed",
  "end of scan": "end",
};

/** "It ended on slice 30, where nothing more was found." One sentence for each end; none where the server says nothing. */
export function whyStopped(stopped: StopReasons | null | undefined, slices: number): string[] {
  return Object.entries(stopped ?? {})
    .map(([slice, reason]) => ({ slice: Number(slice), named: NAMED[reason] }))
    .filter((one) => one.named !== undefined)
    .sort((a, b) => a.slice - b.slice)
    .map(({ slice, named }) => {
      const inside = Math.min(slices - 1, Math.max(0, slice));
      return t(`panels.stopped-${named!}`, { slice: shown(inside) });
    });
}

/** The headline of a job: how far it is, or how it ended. */
export function toldOf(job: JobInfo): string {
  const { done, total, detail } = job;
  switch (job.state) {
    case "queued":
      return t("panels.job-queued");
    case "running":
      return total === null ? t("panels.job-begins") : t("panels.job-running", { done, total });
    case "done":
      return t("panels.job-done");
    case "stopped":
      return t("panels.job-stopped");
    case "failed":
      return t("panels.job-failed", { detail: detail ?? "" }).trim();
  }
}
