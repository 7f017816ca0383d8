// What speaks against an answer, and so what to do next. Rules of thumb on the mask and on what was asked: no measure of
// how right it is.

import type { MaskStatus } from "../api/types";
import type { ExpectedDice } from "../api/wire";
import type { MaskSlice } from "../reading/masks";
import type { Box } from "./geometry";
import { count, dice, isIn } from "./paint";

export type Advice = "nothing" | "wrong" | "uncertain" | "spills" | "unfilled" | "unsure" | "changed";

export interface Answer {
  readonly mask: MaskSlice;
  readonly status: MaskStatus;
  readonly predictedIou: number | null;
  readonly expectedDice: ExpectedDice | null;
  /** The first answer to the same step, where a refined one took its place. */
  readonly first: MaskSlice | null;
  /** The box that it was asked by, if nothing corrected it since. */
  readonly box: Box | null;
}

/** What the network says of itself below this is doubt. */
export const LOW_IOU = 0.7;
/** An answer from which less is expected is uncertain; probably wrong, if hardly any such is better. */
export const LOW_DICE = 0.7;
/** Share of the mask's pixels beyond the box. */
const SPILL = 0.02;
/** Share of a side of the box that the mask leaves free at one end. */
const GAP = 0.2;
/** Share of the box: a line across a box reaches all sides and fills nothing. */
const THIN = 0.15;
const SAME = 0.85;

/** Answers of the network; what was drawn by hand is nobody's doubt. */
function isAnswer(status: MaskStatus): boolean {
  return status === "first" || status === "refined";
}

function spill(mask: MaskSlice, [x0, y0, x1, y1]: Box): number {
  let beyond = 0;
  for (let y = mask.y0; y < mask.y1; y += 1) {
    for (let x = mask.x0; x < mask.x1; x += 1) {
      const inBox = x + 1 > x0 && x < x1 && y + 1 > y0 && y < y1;
      if (!inBox && isIn(mask, x, y)) beyond += 1;
    }
  }
  return beyond / Math.max(count(mask), 1);
}

function isUnfilled(mask: MaskSlice, [x0, y0, x1, y1]: Box): boolean {
  const wide = x1 - x0;
  const high = y1 - y0;
  const gaps = [(mask.x0 - x0) / wide, (x1 - mask.x1) / wide, (mask.y0 - y0) / high, (y1 - mask.y1) / high];
  // a pixel more or less is no gap in a small box
  const pixels = [mask.x0 - x0, x1 - mask.x1, mask.y0 - y0, y1 - mask.y1];
  return gaps.some((gap, side) => gap > GAP && pixels[side]! > 2) || count(mask) < THIN * wide * high;
}

/** What speaks against an answer, the weightiest first. */
export function advise(answer: Answer): Advice[] {
  if (!isAnswer(answer.status)) return [];
  if (count(answer.mask) === 0) return ["nothing"];
  const found: Advice[] = [];
  const expected = answer.expectedDice;
  if (expected && expected.value < LOW_DICE) found.push(expected.high < LOW_DICE ? "wrong" : "uncertain");
  if (answer.box && spill(answer.mask, answer.box) > SPILL) found.push("spills");
  if (answer.box && isUnfilled(answer.mask, answer.box)) found.push("unfilled");
  // it knows less of itself than what was learnt from its errors
  if (!expected && answer.predictedIou !== null && answer.predictedIou < LOW_IOU) found.push("unsure");
  if (answer.first && dice(answer.first, answer.mask) < SAME) found.push("changed");
  return found;
}
