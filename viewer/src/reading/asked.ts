// What was asked of each object on each slice, as it stands: the same rules as the session of the server has.

import type { ObjectInfo, PromptEntry } from "../api/types";
import type { Asked } from "./reading";

const ANEW = ["box", "lasso", "line", "lines", "ellipse", "mask", "drawn"] as const;

/** Whether an entry draws its slice anew, rather than correct what is there. */
export function startsAnew(entry: Partial<PromptEntry>): boolean {
  return ANEW.some((name) => entry[name] !== undefined);
}

/** What stands once an entry was put. */
export function withEntry(asked: readonly Asked[], entry: PromptEntry): Asked[] {
  const here = (one: Asked): boolean => one.object === entry.object && one.slice === entry.slice;
  const added: Asked = { object: entry.object, slice: entry.slice, entry };
  if (startsAnew(entry)) return [...asked.filter((one) => !here(one)), added];
  const last = asked.findLastIndex(here);
  const standing = last < 0 ? undefined : asked[last]!.entry;
  // in an entry points come before strokes: a click after a stroke begins a further one
  if (standing === undefined || (standing.scribbles?.length && entry.points?.length)) return [...asked, added];
  const joined: PromptEntry = { ...standing };
  if (entry.points) joined.points = [...(standing.points ?? []), ...entry.points];
  if (entry.scribbles) joined.scribbles = [...(standing.scribbles ?? []), ...entry.scribbles];
  return asked.map((one, number) => (number === last ? { ...one, entry: joined } : one));
}

/** Of a prompts file (`GET prompts`), whose entries name objects by `label`. */
export function fromFile(told: unknown, objects: readonly ObjectInfo[]): Asked[] {
  const entries = (told as { prompts?: unknown }).prompts;
  if (!Array.isArray(entries)) return [];
  const numbers = new Map(objects.map((one) => [one.name, one.id]));
  const found: Asked[] = [];
  for (const { label, ...entry } of entries as ({ label?: string; slice?: number } & Partial<PromptEntry>)[]) {
    // without a label it is of the file's default, which is an object's name, too
    const object = numbers.get(label ?? "object");
    if (object === undefined || entry.slice === undefined) continue;
    found.push({ object, slice: entry.slice, entry: { ...entry, object, slice: entry.slice } });
  }
  return found;
}
