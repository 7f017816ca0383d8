// Masks beside those of a reading: what it is compared with.

import type { Frame } from "../api/wire";
import { MaskStore, type Masks } from "./masks";
import type { Reading } from "./reading";

class Kept extends MaskStore {
  /** Put one more mask in place. */
  take(frame: Frame): void {
    this.apply([frame], frame.revision);
  }
}

/** None yet, along the axis of a reading. */
export function keptMasks(reading: Pick<Reading, "axis">): Masks & { take(frame: Frame): void } {
  return new Kept(reading.axis);
}
