// Masks in the page. A mask is kept as the rectangle that holds it, a byte a pixel.

import type { ReadonlySignal } from "@preact/signals";
import type { Axis, MaskStatus } from "../api/types";

/** Of a stored slice: pixels [x0, x1) x [y0, y1), row by row, 1 inside. Nothing beyond; never changed in place. */
export interface MaskSlice {
  readonly x0: number;
  readonly y0: number;
  readonly x1: number;
  readonly y1: number;
  readonly data: Uint8Array;
}

/** A mask as it stands, and what the server says of it. */
export interface MaskState {
  readonly mask: MaskSlice;
  readonly revision: number;
  readonly status: MaskStatus;
  /** What the network says of its own answer. Not calibrated. */
  readonly predictedIou: number | null;
  readonly expectedDice: number | null;
}

/** All masks of a reading. */
export interface Masks {
  /** The axis that slices are counted along. */
  readonly axis: Axis;
  /** Goes up with each change of any mask: read it to be drawn again. */
  readonly version: ReadonlySignal<number>;
  get(object: number, slice: number): MaskState | undefined;
  /** Slices on which an object has a mask, ascending. */
  slices(object: number): readonly number[];
  /** What an object covers on any slice of any axis. */
  cut(object: number, axis: Axis, index: number): MaskSlice | undefined;
}
