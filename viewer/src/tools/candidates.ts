// Other answers to what was asked: fetched when there is doubt, or when somebody wants them.

import { signal } from "@preact/signals";
import { ApiError, isAbort } from "../api/http";
import type { Candidate } from "../reading/reading";
import { reading } from "../state";
import { local } from "./local";
import { activeColour, drawMask, heard } from "./steps";

/** Of which mask: after another step they are answers to something else. */
export interface Place {
  readonly object: number;
  readonly slice: number;
  readonly revision: number;
}

export const candidates = signal<(Place & { readonly found: readonly Candidate[] }) | null>(null);
export const searching = signal(false);
/** The server does not know how. */
let missing = false;

export function isOf(place: Place, other: Place | null): boolean {
  return (
    other !== null && place.object === other.object && place.slice === other.slice && place.revision === other.revision
  );
}

/** Ask for other answers. `quiet`: nobody asked us to, so a failure is not said. */
export async function search(place: Place, quiet: boolean): Promise<void> {
  const open = reading.peek();
  if (!open || missing || searching.peek() || isOf(place, candidates.peek())) return;
  searching.value = true;
  try {
    const asked = open.candidates(place.object, place.slice);
    const found = (quiet ? await asked : await heard(asked)) ?? [];
    if (reading.peek() === open) candidates.value = { ...place, found };
  } catch (error) {
    if (error instanceof ApiError && [404, 405].includes(error.status)) missing = true;
    // it was nobody's wish: the answer itself is there
    else if (!isAbort(error)) candidates.value = { ...place, found: [] };
  } finally {
    searching.value = false;
  }
}

/** One of them on the picture, while it is looked at. */
export function tryOn(place: Place, candidate: Candidate | null): void {
  const open = reading.peek();
  if (!open) return;
  local.value = candidate && {
    axis: open.axis,
    slice: place.slice,
    object: place.object,
    colour: activeColour(),
    mask: candidate.mask,
  };
}

export function choose(place: Place, candidate: Candidate): void {
  candidates.value = null;
  void drawMask(place.slice, candidate.mask);
}
