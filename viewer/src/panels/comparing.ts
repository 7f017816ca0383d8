// Comparing a reading with another one, or with a file: asked of the server, its masks kept for the picture.

import { signal } from "@preact/signals";
import { compare, comparedMasks } from "../api/results";
import type { Compared, ComparedStructure } from "../api/types";
import { keptMasks } from "../reading/kept";
import type { Reading } from "../reading/reading";
import { comparison } from "./comparison";
import { toSlice } from "./goto";
import { difference } from "./overlap";

export type Against = { session: string } | File;

export interface Outcome {
  /** The session that was compared. */
  readonly session: string;
  readonly title: string;
  readonly against: Against;
  readonly structures: readonly ComparedStructure[];
  /** How the reference was read. */
  readonly notes: readonly string[];
  /** Of the masks that were compared. */
  readonly version: number;
}

export const outcome = signal<Outcome | null>(null);
export const comparing = signal(false);

let under: AbortController | null = null;

/**
 * Compares, and has the picture show the difference. Raises ApiError, or AbortError once the comparison was ended; what
 * was there before stays then.
 */
export async function compareWith(reading: Reading, against: Against, title: string): Promise<void> {
  under?.abort();
  const control = new AbortController();
  const { signal } = control;
  under = control;
  comparing.value = true;
  try {
    const version = reading.masks.version.peek();
    const found = await compare(reading.id, against, signal);
    const reference = keptMasks(reading);
    for (const object of withReference(found)) {
      for (const frame of await comparedMasks(reading.id, found.reference, object, signal)) reference.take(frame);
    }
    signal.throwIfAborted();
    const { structures, notes = [] } = found;
    outcome.value = { session: reading.id, title, against, structures, notes, version };
    comparison.value = { session: reading.id, reference, title, object: null };
  } finally {
    if (under === control) under = null;
    comparing.value = under !== null;
  }
}

function withReference(found: Compared): number[] {
  return found.structures.flatMap((one) => (one.object === null ? [] : [one.object]));
}

/** Also one that is on its way. */
export function endComparison(): void {
  under?.abort();
  under = null;
  outcome.value = null;
  comparison.value = null;
}

/** Shows the difference of one structure alone, where it is largest; of that one again: of all. */
export function showDifference(reading: Reading, object: number): void {
  const shown = comparison.peek();
  if (!shown) return;
  const alone = shown.object !== object;
  comparison.value = { ...shown, object: alone ? object : null };
  const slice = alone ? mostDifferent(reading, object) : undefined;
  if (slice !== undefined) toSlice(reading, slice);
}

/** The slice on which most pixels differ; undefined where none do. */
export function mostDifferent(reading: Reading, object: number): number | undefined {
  const reference = comparison.peek()?.reference;
  if (!reference) return undefined;
  const slices = new Set([...reading.masks.slices(object), ...reference.slices(object)]);
  let most = 0;
  let where: number | undefined;
  for (const slice of [...slices].sort((a, b) => a - b)) {
    const differing = difference(reading.masks.get(object, slice)?.mask, reference.get(object, slice)?.mask);
    if (differing > most) [most, where] = [differing, slice];
  }
  return where;
}
