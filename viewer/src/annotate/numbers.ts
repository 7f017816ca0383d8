// The numbers of a project: what masks cost, how good models and people are, and which model answers.

import { signal } from "@preact/signals";
import { backTo, type ModelLine, models, type Statistics, statistics } from "../api/annotate";
import { explain, isAbort } from "../api/http";
import { t } from "../i18n";
import { agreed } from "../shell/asking";
import { learnModel } from "../shell/model";
import { tell } from "../shell/tell";
import { say } from "../state";
import { learnProject } from "./project";

export const told = signal<{ statistics: Statistics; models: ModelLine[] } | null>(null);
export const problem = signal<string | null>(null);

export async function learnNumbers(signal?: AbortSignal): Promise<void> {
  try {
    const [numbers, lines] = await Promise.all([statistics(signal), models(signal)]);
    told.value = { statistics: numbers, models: lines };
    problem.value = null;
  } catch (error) {
    if (!isAbort(error)) problem.value = explain(error);
  }
}

export function forgetNumbers(): void {
  told.value = null;
  problem.value = null;
}

/** What a model is called. */
export function modelName(round: number | null): string {
  return round === null ? t("annotate.first-model") : t("annotate.round-of", { round });
}

/** Has an earlier model answer again. */
export async function goBack(round: number | null): Promise<void> {
  const words = { title: t("annotate.back.title"), text: t("annotate.back.text", { model: modelName(round) }) };
  if (!(await agreed({ ...words, yes: t("annotate.back.do"), no: t("shell.cancel") }))) return;
  try {
    await backTo(round);
    say({ kind: "info", text: t("annotate.back.done", { model: modelName(round) }), seconds: 8 });
  } catch (error) {
    tell(error);
  }
  await Promise.all([learnNumbers(), learnProject(), learnModel()]);
}

/** Share of masks that were taken as they were proposed; null without a mask. */
export function untouchedShare(line: { masks: number; untouched: number }): number | null {
  return line.masks === 0 ? null : line.untouched / line.masks;
}

/** Sums over all readers. */
export function totals(numbers: Statistics): { masks: number; clicks: number | null; perHour: number | null } {
  const masks = sum(numbers.readers.map((line) => line.masks));
  const steps = sum(numbers.readers.map((line) => line.clicks));
  // a rate counts those alone whose time is known
  const timed = numbers.readers.filter((line) => line.masks_per_hour !== null && line.seconds > 0);
  const hours = sum(timed.map((line) => line.seconds)) / 3600;
  const made = sum(timed.map((line) => (line.masks_per_hour! * line.seconds) / 3600));
  return { masks, clicks: masks === 0 ? null : steps / masks, perHour: hours === 0 ? null : made / hours };
}

function sum(values: readonly number[]): number {
  return values.reduce((all, one) => all + one, 0);
}
