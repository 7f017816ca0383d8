// Where a reader looks: the slice of a reading, on a plane that shows it.

import type { Reading } from "../reading/reading";
import { axisNumber } from "../scan/scan";
import { activeAxis, cursor, layout } from "../state";
import { toSlice as bring } from "../view/looking";

/** The slice of a reading that the crosshair is on. */
export function sliceNow(reading: Reading): number {
  return cursor.value[axisNumber(reading.axis)];
}

/** Shows a slice of a reading. */
export function toSlice(reading: Reading, slice: number): void {
  bring(reading.axis, slice);
  activeAxis.value = reading.axis;
  if (layout.peek() === "volume") layout.value = "one";
}

/** A slice's number as people count: from 1. */
export function shown(slice: number): number {
  return slice + 1;
}
