// What the hand is doing right now, for whoever paints planes.

import { signal } from "@preact/signals";
import type { Axis } from "../api/types";
import type { MaskSlice } from "../reading/masks";

/** An object's mask on a slice while it is painted, until the server's takes its place. */
export interface LocalMask {
  readonly axis: Axis;
  readonly slice: number;
  /** null: of an object that is not made yet */
  readonly object: number | null;
  readonly colour: string;
  readonly mask: MaskSlice;
  /** What was asked for before: another answer is on its way. */
  readonly faded?: boolean;
}

/** Painted in place of the mask that the reading has of the object on the slice. */
export const local = signal<LocalMask | null>(null);

/** Goes up when what tools draw over a plane has changed. */
export const touched = signal(0);

export function touch(): void {
  touched.value = touched.peek() + 1;
}
