// The project that is served, where there is one: asked for as somebody comes, and from time to time while it is on screen.

import { effect, signal } from "@preact/signals";
import { version } from "../api/account";
import { type ProjectInfo, projectInfo, type TaskInfo } from "../api/annotate";
import { idleFor } from "../shell/idle";
import { locked, me, offline, route } from "../state";

export const project = signal<ProjectInfo | null>(null);

const PAGES = ["cases", "review"];
const AGAIN_MS = 8000;
const AWAY_MS = 60_000;

let asked = 0;

/** Asks; without an answer what was known stays. */
export async function learnProject(): Promise<void> {
  asked += 1;
  const mine = asked;
  try {
    // a server without a project says so itself: nothing is asked that it does not have
    const told = (await version()).project ? await projectInfo() : null;
    if (mine === asked) project.value = told;
  } catch {
    // that the server is gone is said by its banner
  }
}

/** What the reader works on from now on. */
export function nowMine(task: TaskInfo): void {
  const before = project.peek();
  if (before !== null) project.value = { ...before, me: { ...before.me, task: task.id, case: task.case } };
}

/** Of another reader. */
export function forgetProject(): void {
  asked += 1;
  project.value = null;
}

/** The task of the reader that is about a case; null where none is. */
export function taskAbout(caseId: string): string | null {
  const mine = project.value?.me;
  return mine !== undefined && mine.case === caseId ? mine.task : null;
}

/** Asks again as a page comes that shows it, and from time to time meanwhile. Returns how to end that. */
export function followProject(): () => void {
  const again = () => {
    const may = project.peek() !== null && me.peek() !== null && !locked.peek() && !offline.peek();
    if (PAGES.includes(route.peek().page) && may) void learnProject();
  };
  const timer = setInterval(() => {
    if (!document.hidden && idleFor() < AWAY_MS) again();
  }, AGAIN_MS);
  const stop = effect(() => {
    if (PAGES.includes(route.value.page)) again();
  });
  return () => {
    clearInterval(timer);
    stop();
  };
}
