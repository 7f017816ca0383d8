// How a task comes on screen: the server says in which session it is worked on, and a reload goes on where it was.

import { batch, effect, untracked } from "@preact/signals";
import { openTask, type TaskInfo, taskInfo } from "../api/annotate";
import { ApiError } from "../api/http";
import type { Reading } from "../reading/reading";
import { reading } from "../state";
import { keep, kept } from "./kept";
import { hasProposals, isProposal, plain } from "./proposals";
import { absent, asking, began, difficulty, gone, looked, opened, seconds, task } from "./task";

/** Opens a task to work on: where its session is. Raises ApiError. */
export async function openedTask(id: string, signal?: AbortSignal) {
  const told = await openTask(id, signal);
  batch(() => {
    const before = kept(id);
    opened.value = told.task;
    gone.value = false;
    asking.value = null;
    seconds.value = before.seconds;
    difficulty.value = before.difficulty;
    looked.value = new Set(before.looked);
    absent.value = new Set(before.absent);
  });
  return { case: told.task.case, session: told.session };
}

/** Opens a task to look at. Raises ApiError. */
export async function lookedAt(id: string, signal?: AbortSignal) {
  const told = await taskInfo(id, signal);
  if (told.session === null) throw new ApiError(404, "This task was not begun yet.");
  asking.value = null;
  opened.value = told;
  return { case: told.case, session: told.session };
}

/** Keeps what a reload would lose. Returns how to end that. */
export function followWork(): () => void {
  const stops = [
    effect(() => {
      const now = task.value;
      const open = reading.value;
      if (now === null || open === null) return;
      untracked(() => {
        began.value = firstRevision(now, open);
      });
    }),
    // what was drawn on stays the reader's, also in a session that begins from this one
    effect(() => {
      const now = task.value;
      const open = reading.value;
      if (now === null || open === null || !hasProposals(now)) return;
      open.masks.version.value;
      began.value;
      if (kept(now.id).began?.session !== open.id) return;
      const drawn = open.objects.value.filter((one) => open.masks.slices(one.id).length > 0);
      const seen = drawn.filter((one) => !isProposal(open, one, null)).map((one) => plain(one.name));
      if (seen.some((name) => !looked.peek().has(name))) looked.value = new Set([...looked.peek(), ...seen]);
    }),
    effect(() => {
      const what = {
        seconds: seconds.value,
        difficulty: difficulty.value,
        looked: [...looked.value],
        absent: [...absent.value],
      };
      untracked(() => task.value && keep(task.value.id, what));
    }),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}

/** Of the masks that a session began from: all of them have the same, which a session without a step shows. */
function firstRevision(now: TaskInfo, open: Reading): number {
  const before = kept(now.id).began;
  if (before?.session === open.id) return before.revision;
  const revision =
    open.undoable.peek() === 0 && open.redoable.peek() === 0 ? open.masks.changed : oldestUntouched(open);
  keep(now.id, { began: { session: open.id, revision } });
  return revision;
}

function oldestUntouched(open: Reading): number {
  const revisions = open.objects.peek().flatMap(({ id }) =>
    open.masks.slices(id).flatMap((slice) => {
      const state = open.masks.get(id, slice);
      return state?.status === "restored" ? [state.revision] : [];
    }),
  );
  return revisions.length > 0 ? Math.min(...revisions) : 0;
}
