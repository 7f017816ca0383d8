// Which masks of a task are as a model made them, and nobody has looked at them yet.

import type { ObjectInfo } from "../api/types";
import type { MaskSlice } from "../reading/masks";
import type { Reading } from "../reading/reading";
import { looked, proposed, task } from "./task";

/** A structure's name, however it is written. */
export function plain(name: string): string {
  return name.toLowerCase().replace(/[\s_]+/g, "_");
}

/** The masks of a reading on these slices, by structure; what is compared with them later is a proposal while it is the same. */
export function masksOn(open: Reading, places: ReadonlyMap<string, readonly number[]>): Map<string, MaskSlice> {
  const found = new Map<string, MaskSlice>();
  for (const object of open.objects.peek()) {
    for (const slice of places.get(plain(object.name)) ?? []) {
      const mask = open.masks.get(object.id, slice)?.mask;
      if (mask !== undefined) found.set(`${object.id}/${slice}`, mask);
    }
  }
  return found;
}

/** Whether a mask is as a model made it, and its structure was not looked at yet. slice null: any of its masks. */
export function isProposal(open: Reading, object: ObjectInfo, slice: number | null): boolean {
  if (task.value === null || proposed.value.size === 0 || looked.value.has(plain(object.name))) return false;
  const places = slice === null ? open.masks.slices(object.id) : [slice];
  return places.some((one) => {
    const was = proposed.value.get(`${object.id}/${one}`);
    const is = open.masks.get(object.id, one)?.mask;
    return was !== undefined && is !== undefined && isSame(was, is);
  });
}

function isSame(a: MaskSlice, b: MaskSlice): boolean {
  if (a === b) return true;
  if (a.x0 !== b.x0 || a.y0 !== b.y0 || a.x1 !== b.x1 || a.y1 !== b.y1) return false;
  return a.data.every((pixel, at) => pixel === b.data[at]);
}
