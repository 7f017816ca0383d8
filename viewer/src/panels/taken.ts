// Whether what stands is in a file: of what was last taken home of a session, or sent to a PACS.

import { signal } from "@preact/signals";
import type { Reading } from "../reading/reading";

export interface Taken {
  readonly session: string;
  /** All steps up to it are in the file, as the server says. */
  readonly revision: number;
  /** What structures were called when it was asked for. */
  readonly called: string;
}

export const takenHome = signal<Taken | null>(null);

/** Names and colours, which files have, too. */
export function calledNow(reading: Reading): string {
  return JSON.stringify(reading.objects.value.map(({ id, name, colour }) => [id, name, colour]));
}

/** Whether the last file has everything: what was refined for it is no change. */
export function isHome(reading: Reading): boolean {
  reading.masks.version.value;
  const home = takenHome.value;
  if (home?.session !== reading.id) return false;
  return reading.masks.changed <= home.revision && calledNow(reading) === home.called;
}
