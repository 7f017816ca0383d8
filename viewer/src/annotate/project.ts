// The project that is served, where there is one: asked for as somebody comes, and from time to time while it is on screen.

import { signal } from "@preact/signals";
import { version } from "../api/account";
import { type ProjectInfo, projectInfo } from "../api/annotate";
import { idleFor } from "../shell/idle";
import { locked, me, offline, route } from "../state";

export const project = signal<ProjectInfo | null>(null);

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

/** Of another reader. */
export function forgetProject(): void {
  asked += 1;
  project.value = null;
}

/** Asks again from time to time while it is on screen. Returns how to end that. */
export function followProject(): () => void {
  const timer = setInterval(() => {
    const seen = ["cases", "review"].includes(route.value.page) && !document.hidden && idleFor() < AWAY_MS;
    if (seen && project.value !== null && me.value !== null && !locked.value && !offline.value) void learnProject();
  }, AGAIN_MS);
  return () => clearInterval(timer);
}
