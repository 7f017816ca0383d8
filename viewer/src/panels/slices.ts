// How each slice of an object came to be, and where the propagation is least sure.

import { computed, type ReadonlySignal } from "@preact/signals";
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
  return reading.masks.slices(object).flatMap((slice) => {
    const state = reading.masks.get(object, slice);
    // an answer may be that there is nothing
    if (!state || state.mask.x1 <= state.mask.x0) return [];
    const kind = kindOf(state.status, asked.get(slice), state.confidence !== null);
    return [{ slice, kind, confidence: kind === "propagated" ? state.confidence : null }];
  });
}

export interface ActiveSlices {
  readonly slices: readonly SliceInfo[];
  /** Of these, as `leastSure` has them. */
  readonly leastSure: readonly SliceInfo[];
}

const known = new WeakMap<Reading, ReadonlySignal<ActiveSlices>>();

/** Slices of the active structure: made once a change, whoever looks at them. */
export function activeSlices(reading: Reading): ActiveSlices {
  let found = known.get(reading);
  if (!found) {
    found = computed(() => {
      reading.masks.version.value;
      const active = reading.active.value;
      const slices = active === null ? [] : slicesOf(reading, active);
      return { slices, leastSure: leastSure(slices) };
    });
    known.set(reading, found);
  }
  return found.value;
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
 * Where to look next: the least sure, which `order` begins with; while that is looked at, the next less sure, and so on.
 * `last`: where it led last, if that slice is still shown. undefined where nothing is known.
 */
export function nextLeastSure(order: readonly SliceInfo[], last: number | null): SliceInfo | undefined {
  const at = order.findIndex((one) => one.slice === last);
  return order[(at + 1) % Math.max(order.length, 1)];
}
