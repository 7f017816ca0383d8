// How each slice of an object came to be, and where the propagation is least sure.

import type { Asked, Reading } from "../reading/reading";

/** prompted: asked of the network. drawn: by hand, or filled in between. propagated: followed from other slices. */
export type Kind = "prompted" | "drawn" | "propagated";

export interface SliceInfo {
  readonly slice: number;
  readonly kind: Kind;
  /** Of the propagation, 0 to 1; null where nothing is known. */
  readonly confidence: number | null;
}

/** An object's slices that have a mask, ascending. */
export function slicesOf(reading: Reading, object: number): SliceInfo[] {
  const asked = new Map<number, Asked>();
  for (const one of reading.asked.value) if (one.object === object) asked.set(one.slice, one);
  const confidence = reading.confidence.value.get(object);
  return reading.masks.slices(object).flatMap((slice) => {
    const state = reading.masks.get(object, slice);
    // an answer may be that there is nothing
    if (!state || state.mask.x1 <= state.mask.x0) return [];
    const kind = kindOf(state.status, asked.get(slice), confidence?.has(slice) ?? false);
    return [{ slice, kind, confidence: kind === "propagated" ? (confidence?.get(slice) ?? null) : null }];
  });
}

function kindOf(status: string | undefined, asked: Asked | undefined, followed: boolean): Kind {
  if (asked) return asked.entry.drawn ? "drawn" : "prompted";
  if (status === "propagated") return "propagated";
  if (status === "drawn") return "drawn";
  // what undo or redo brought back says no more how it came
  return followed || status === "restored" ? "propagated" : "prompted";
}

/** Propagated slices with a confidence, the least sure first; what was asked or drawn since is not among them. */
export function leastSure(slices: readonly SliceInfo[]): SliceInfo[] {
  return slices
    .filter((one) => one.kind === "propagated" && one.confidence !== null)
    .sort((a, b) => a.confidence! - b.confidence! || a.slice - b.slice);
}

/**
 * Where to look next: the least sure; while that is looked at, the next less sure, and so on. `last`: where it led last,
 * if that slice is still shown. undefined where nothing is known.
 */
export function nextLeastSure(slices: readonly SliceInfo[], last: number | null): SliceInfo | undefined {
  const order = leastSure(slices);
  const at = order.findIndex((one) => one.slice === last);
  return order[(at + 1) % Math.max(order.length, 1)];
}
