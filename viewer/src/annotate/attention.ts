// How long a task has had somebody's attention: the page is on screen, and a hand was on mouse, keys or screen within half
// a minute. While it has, the server hears that somebody still works on it.

import { effect } from "@preact/signals";
import { keepTask } from "../api/annotate";
import { ApiError } from "../api/http";
import { idleFor } from "../shell/idle";
import { locked, reading } from "../state";
import { doing, gone, seconds, task } from "./task";
import { heedGone, lookAfter } from "./work";

const TICK_MS = 1000;
/** ms after a sign of a hand for which somebody is still looking. */
const ATTENTIVE_MS = 30_000;
/** What a tick may count: a browser that slept counts nothing for it. */
const MOST_MS = 2 * TICK_MS;
const ALIVE_MS = 60_000;

export function attentive(): boolean {
  return !document.hidden && !locked.peek() && idleFor() < ATTENTIVE_MS;
}

/** Counts, and tells the server. Returns how to end that. */
export function followAttention(): () => void {
  let last = Date.now();
  let told: { task: string; at: number } | null = null;
  const timer = setInterval(() => {
    const now = Date.now();
    const passed = Math.min(now - last, MOST_MS);
    last = now;
    const at = task.peek();
    if (at === null || reading.peek() === null || gone.peek() !== null || !attentive()) return;
    seconds.value += passed / 1000;
    if (told?.task !== at.id) told = { task: at.id, at: now };
    if (now - told.at < ALIVE_MS) return;
    told.at = now;
    void alive(at.id);
  }, TICK_MS);
  // a session that is closed elsewhere may be one that was handed in there
  const stop = effect(() => {
    if (task.value !== null && reading.value?.over.value && doing.peek() === null) void lookAfter();
  });
  return () => {
    clearInterval(timer);
    stop();
  };
}

async function alive(id: string): Promise<void> {
  try {
    await keepTask(id);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    await heedGone(error);
  }
}
