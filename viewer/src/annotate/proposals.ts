// Which masks of a task are as a model proposes them, and nobody has looked at them yet.

import type { TaskInfo } from "../api/annotate";
import type { ObjectInfo } from "../api/types";
import type { Reading } from "../reading/reading";
import { began, looked, task } from "./task";

/** A structure's name, however it is written. */
export function plain(name: string): string {
  return name.toLowerCase().replace(/[\s_]+/g, "_");
}

/** Whether masks that a task's session began from are a model's, which nobody has seen. */
export function hasProposals(now: TaskInfo): boolean {
  return now.proposals > 0 && now.note === null && now.kind !== "adjudicate";
}

/** Whether a mask is as a model proposed it, and its structure was not looked at yet. */
export function isProposal(open: Reading, object: ObjectInfo, slice: number | null): boolean {
  const now = task.value;
  if (now === null || !hasProposals(now) || looked.value.has(plain(object.name))) return false;
  if (!now.structures.some((name) => plain(name) === plain(object.name))) return false;
  const places = slice === null ? open.masks.slices(object.id) : [slice];
  return places.some((one) => (open.masks.get(object.id, one)?.revision ?? Number.POSITIVE_INFINITY) <= began.value);
}
