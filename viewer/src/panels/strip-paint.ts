// The strip's picture: a bar a slice, the longer and brighter the surer; what was asked and drawn has marks of its own.

import type { SliceInfo } from "./slices";
import { bandOf, type Track } from "./strip-geometry";

export interface Look {
  readonly colour: string;
  readonly ink: string;
  readonly ground: string;
  readonly warn: string;
}

/** Room for the mark of the least sure slice, pixels. */
const MARGIN = 8;
/** Below this, a bar is dashed too. */
export const DOUBTFUL = 0.5;

/** How much of the width a slice's bar has, and how opaque it is, 0 to 1. */
export function barOf(one: SliceInfo): { length: number; alpha: number; dashed: boolean } {
  if (one.kind !== "propagated") return { length: 1, alpha: 1, dashed: false };
  const sure = one.confidence ?? 0.6;
  return { length: 0.3 + 0.7 * sure, alpha: 0.35 + 0.65 * sure, dashed: one.confidence !== null && sure < DOUBTFUL };
}

export function paintStrip(
  context: CanvasRenderingContext2D,
  track: Track,
  width: number,
  slices: readonly SliceInfo[],
  least: number | null,
  now: number,
  look: Look,
): void {
  context.clearRect(0, 0, width, track.height);
  for (const one of slices) paintBar(context, track, width, one, look);
  // over the bars of neighbours, or a single prompted slice among hundreds would not be seen
  for (const one of slices) if (one.kind !== "propagated") paintMark(context, track, width, one, look);
  if (least !== null) paintLeast(context, track, least, look);
  const { top, height } = bandOf(track, now);
  context.strokeStyle = look.ink;
  context.lineWidth = 1;
  context.strokeRect(0.5, top - 0.5, width - 1, Math.max(height, 2) + 1);
}

function paintBar(context: CanvasRenderingContext2D, track: Track, width: number, one: SliceInfo, look: Look): void {
  const { top, height } = bandOf(track, one.slice);
  const { length, alpha, dashed } = barOf(one);
  const full = width - MARGIN - 2;
  const long = Math.max(2, Math.round(full * length));
  context.globalAlpha = alpha;
  context.fillStyle = look.colour;
  // a gap between bars that are high enough for one
  const high = height > 3 ? height - 1 : height;
  if (dashed) for (let x = 0; x < long; x += 5) context.fillRect(MARGIN + x, top, Math.min(3, long - x), high);
  else context.fillRect(MARGIN, top, long, high);
  context.globalAlpha = 1;
}

/** Prompted: a square at the end of the bar. Drawn: a ring there. */
function paintMark(context: CanvasRenderingContext2D, track: Track, width: number, one: SliceInfo, look: Look): void {
  const { top, height } = bandOf(track, one.slice);
  const y = Math.min(track.height - 3, Math.max(3, top + height / 2));
  const x = width - 5;
  context.fillStyle = look.ink;
  if (one.kind === "prompted") {
    context.fillStyle = look.ground;
    context.fillRect(x - 4, y - 4, 8, 8);
    context.fillStyle = look.ink;
    context.fillRect(x - 3, y - 3, 6, 6);
    return;
  }
  context.beginPath();
  context.arc(x, y, 3, 0, 2 * Math.PI);
  context.fillStyle = look.ground;
  context.fill();
  context.strokeStyle = look.ink;
  context.lineWidth = 1.5;
  context.stroke();
}

function paintLeast(context: CanvasRenderingContext2D, track: Track, slice: number, look: Look): void {
  const { top, height } = bandOf(track, slice);
  const y = Math.min(track.height - 5, Math.max(5, top + height / 2));
  context.fillStyle = look.warn;
  context.beginPath();
  context.moveTo(0, y - 5);
  context.lineTo(MARGIN - 1, y);
  context.lineTo(0, y + 5);
  context.closePath();
  context.fill();
}
