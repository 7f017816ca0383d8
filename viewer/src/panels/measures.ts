// Measurements of the structures: asked for behind all else, some time after the last change.

import { effect, signal } from "@preact/signals";
import { measures } from "../api/results";
import type { Measure } from "../api/types";
import type { Reading } from "../reading/reading";
import { offline } from "../state";

/** By number of the object, as last measured. */
export const measured = signal<ReadonlyMap<number, Measure>>(new Map());
/** Whether masks have changed since. */
export const stale = signal(false);

/** ms after the last change; while masks keep coming, the longest between two measurements. */
const QUIET = 600;
const LONGEST = 4000;
/** ms before another try where the server would not. */
const AGAIN = 10_000;

/** Keeps `measured` that of a reading, until the returned function is called. */
export function followMeasures(reading: Reading, ask: (session: string) => Promise<Measure[]> = measures): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let since = 0;
  let asking = false;
  let ended = false;

  function plan(wait: number): void {
    clearTimeout(timer);
    const left = since === 0 ? wait : Math.max(0, since + LONGEST - Date.now());
    if (since === 0) since = Date.now();
    timer = setTimeout(measure, Math.min(wait, left));
  }

  async function measure(): Promise<void> {
    if (asking) return;
    asking = true;
    since = 0;
    const version = reading.masks.version.peek();
    try {
      const found = await ask(reading.id);
      if (ended) return;
      measured.value = new Map(found.map((one) => [one.object, one]));
      asking = false;
      if (reading.masks.version.peek() === version) stale.value = false;
      else plan(QUIET);
    } catch {
      // numbers that are not there yet stay marked as such; the next change, or a while, tries again
      asking = false;
      if (!ended && !offline.peek()) {
        since = Date.now() + AGAIN;
        plan(AGAIN);
      }
    }
  }

  measured.value = new Map();
  const stop = effect(() => {
    reading.masks.version.value;
    const drawn = reading.objects.value.some(({ id }) => reading.masks.slices(id).length > 0);
    // of a reading that has had none there is nothing to be measured
    if (!drawn && measured.peek().size === 0) return;
    stale.value = true;
    clearTimeout(timer);
    // a server that is gone is asked once it is back
    if (offline.value) return;
    if (!asking) plan(QUIET);
  });
  return () => {
    ended = true;
    stop();
    clearTimeout(timer);
    measured.value = new Map();
    stale.value = false;
  };
}
