// What a reading is compared with, for the picture: view paints where both are, only mine and only theirs.

import { signal } from "@preact/signals";
import type { Masks } from "../reading/masks";

export interface Comparison {
  /** The session that is compared. */
  readonly session: string;
  /** Masks of the reference along the reading's axis; objects are numbered as the reading's, matched by name. */
  readonly reference: Masks;
  /** What it is called: a file's name, or a reader's. */
  readonly title: string;
  /** The object whose difference is painted; null: all that are shown. */
  readonly object: number | null;
}

export const comparison = signal<Comparison | null>(null);
