// Borders of masks as lines that a canvas draws: made once a mask, and once a place on screen.

import type { MaskSlice } from "../reading/masks";
import type { Frame } from "./frame";
import { outline } from "./outline";

const paths = new WeakMap<MaskSlice, Path2D>();

/** The border of a mask, in edges of the stored slice. */
function pathOf(mask: MaskSlice): Path2D {
  let path = paths.get(mask);
  if (!path) {
    path = new Path2D();
    for (const line of outline(mask)) {
      path.moveTo(line[0]!, line[1]!);
      for (let n = 2; n < line.length; n += 2) path.lineTo(line[n]!, line[n + 1]!);
      path.closePath();
    }
    paths.set(mask, path);
  }
  return path;
}

const onScreen = new WeakMap<MaskSlice, { frame: Frame; path: Path2D }>();

/** The border of a mask on screen, CSS pixels. */
export function pathOnScreen(mask: MaskSlice, frame: Frame): Path2D {
  const known = onScreen.get(mask);
  if (known?.frame === frame) return known.path;
  const path = new Path2D();
  path.addPath(pathOf(mask), new DOMMatrix(frame.matrix()));
  onScreen.set(mask, { frame, path });
  return path;
}
