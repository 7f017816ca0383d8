// How a task comes on screen: the server says in which session it is worked on, and a reload goes on where it was.

import { batch, effect, untracked } from "@preact/signals";
import { openTask, type TaskInfo, taskInfo } from "../api/annotate";
import { ApiError } from "../api/http";
import { sliceNow, toSlice } from "../panels/goto";
import type { Reading } from "../reading/reading";
import { reading, scan } from "../state";
import { keep, kept } from "./kept";
import { nowMine } from "./project";
import { masksOn, plain } from "./proposals";
import { absent, asking, difficulty, gone, looked, opened, proposed, seconds, task, unseen } from "./task";

/** Opens a task to work on: where its session is. Raises ApiError. */
export async function openedTask(id: string, signal?: AbortSignal) {
  const told = await openTask(id, signal);
  batch(() => {
    const before = kept(id);
    opened.value = told.task;
    nowMine(told.task);
    unseen.value = new Map(Object.entries(told.unseen).map(([name, slices]) => [plain(name), slices]));
    gone.value = null;
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
      const [now, open] = [task.value, reading.value];
      untracked(() => {
        proposed.value = now === null || open === null ? new Map() : masksOn(open, unseen.peek());
        if (now !== null && open !== null) toAsked(now, open);
      });
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

/** Where the scan was looked at before is not where this task asks: nobody is to judge a mask that is not on screen. */
function toAsked({ slices }: TaskInfo, open: Reading): void {
  if (slices === null || slices.length === 0 || scan.peek() === null || slices.includes(sliceNow(open))) return;
  const shown = [...unseen.peek().values()].flat();
  toSlice(open, slices.find((one) => shown.includes(one)) ?? slices[slices.length >> 1]!);
}
