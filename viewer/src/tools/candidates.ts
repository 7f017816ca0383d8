// Other answers to what was asked: fetched when there is doubt, or when somebody wants them.

import { signal } from "@preact/signals";
import type { Candidate } from "../reading/reading";
import { tell } from "../shell/tell";
import { reading } from "../state";
import { Overlay } from "./local";
import { activeColour, drawMask } from "./steps";

/** Of which mask: after another step they are answers to something else. */
export interface Place {
  readonly session: string;
  readonly object: number;
  readonly slice: number;
  readonly revision: number;
}

export const candidates = signal<(Place & { readonly found: readonly Candidate[] }) | null>(null);
export const searching = signal(false);
/** Of one that is looked at. */
const trial = new Overlay();

export function isOf(place: Place, other: Place | null): boolean {
  return (
    other !== null &&
    place.session === other.session &&
    place.object === other.object &&
    place.slice === other.slice &&
    place.revision === other.revision
  );
}

/** Ask for other answers. `quiet`: nobody asked us to, so a failure is not said. */
export async function search(place: Place, quiet: boolean): Promise<void> {
  const open = reading.peek();
  if (!open || searching.peek() || isOf(place, candidates.peek())) return;
  searching.value = true;
  try {
    const found = await open.candidates(place.object, place.slice);
    if (reading.peek() === open) candidates.value = { ...place, found };
  } catch (error) {
    // where it was nobody's wish: the answer itself is there
    if (!quiet) tell(error, () => void search(place, quiet));
  } finally {
    searching.value = false;
  }
}

/** One of them on the picture, while it is looked at. */
export function tryOn(place: Place, candidate: Candidate | null): void {
  const open = reading.peek();
  if (!open) return;
  const { slice, object } = place;
  trial.show(
    candidate && { axis: open.axis, slice, object, colour: activeColour(), mask: candidate.mask, tried: true },
  );
}

export function choose(place: Place, candidate: Candidate): void {
  const drawn = drawMask(place.slice, candidate.mask);
  candidates.value = null;
  trial.show(null);
  void drawn;
}
