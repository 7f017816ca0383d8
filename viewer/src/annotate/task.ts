// The task on screen, and what the page knows of it: signals alone, which all rooms read.

import { computed, signal } from "@preact/signals";
import type { Difficulty, TaskInfo } from "../api/annotate";
import type { MaskSlice } from "../reading/masks";
import { route } from "../state";

/** The one that was opened last. */
export const opened = signal<TaskInfo | null>(null);

/** The task on screen, to work on (`task`) or to look at (`seen`); null while it is on its way, and without one. */
const shown = computed(() => {
  const to = route.value;
  const is = (to.page === "task" || to.page === "look") && opened.value?.id === to.id;
  return is ? opened.value : null;
});
export const task = computed(() => (route.value.page === "task" ? shown.value : null));
export const seen = computed(() => (route.value.page === "look" ? shown.value : null));

/** What is under way. */
export const doing = signal<"next" | "handing" | "leaving" | null>(null);
/** It is no longer the reader's. open: it went back. taken: somebody else has it. done: elsewhere, by the reader. */
export const gone = signal<"open" | "taken" | "done" | null>(null);
/** After this one no other task is opened. */
export const stopAfter = signal(false);
export const difficulty = signal<Difficulty | null>(null);
/** Of attention, of the task on screen. */
export const seconds = signal(0);
/** Structures whose proposals were looked at, or that the scan does not have. */
export const looked = signal<ReadonlySet<string>>(new Set());
export const absent = signal<ReadonlySet<string>>(new Set());
/** Where the session showed a model's mask as it was opened: structure, as `plain` writes it -> slices. */
export const unseen = signal<ReadonlyMap<string, readonly number[]>>(new Map());
/** These masks, by object and slice. */
export const proposed = signal<ReadonlyMap<string, MaskSlice>>(new Map());
/** What is asked before something goes on. */
export const asking = signal<"hand-in" | "skip" | "return" | null>(null);
