// A plane for tests: the lowest of a grid, looked at through a camera.

import type { PlaneInfo } from "../../src/api/types";
import { type Camera, FITTED, Frame } from "../../src/view/frame";

export function plane(change: Partial<PlaneInfo> = {}): PlaneInfo {
  return {
    count: 5,
    shape: [40, 80],
    spacing_mm: [2, 1],
    view: { transpose: false, flip_rows: false, flip_columns: false },
    ...change,
  };
}

/** On a plane of 200 x 200 CSS pixels. */
export function frame(of: PlaneInfo = plane(), camera: Camera = FITTED, calibrated = true): Frame {
  return new Frame("k", 2, of, calibrated, 200, 200, camera);
}
