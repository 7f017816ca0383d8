// What the page knows of a task beside its masks: a reload goes on there. In this window's session storage, by the task's
// id; numbers and names of structures alone.

import type { Difficulty } from "../api/annotate";

export interface Kept {
  /** Of attention. */
  seconds: number;
  /** Structures whose proposals were looked at. */
  looked: string[];
  /** Structures that the reader says the scan does not have. */
  absent: string[];
  difficulty: Difficulty | null;
}

const NOTHING: Kept = { seconds: 0, looked: [], absent: [], difficulty: null };
const key = (task: string) => `medsam.task.${task}`;

export function kept(task: string): Kept {
  try {
    const found: unknown = JSON.parse(sessionStorage.getItem(key(task)) ?? "null");
    return isKept(found) ? found : NOTHING;
  } catch {
    return NOTHING;
  }
}

export function keep(task: string, what: Partial<Kept>): void {
  try {
    sessionStorage.setItem(key(task), JSON.stringify({ ...kept(task), ...what }));
  } catch {
    // a full or forbidden storage costs this alone
  }
}

export function forget(task: string): void {
  try {
    sessionStorage.removeItem(key(task));
  } catch {
    // there is none
  }
}

function isKept(found: unknown): found is Kept {
  if (typeof found !== "object" || found === null) return false;
  const { seconds, looked, absent, difficulty } = found as Partial<Kept>;
  const texts = (list: unknown) => Array.isArray(list) && list.every((one) => typeof one === "string");
  return (
    Number.isFinite(seconds) &&
    texts(looked) &&
    texts(absent) &&
    (difficulty === null || difficulty === "easy" || difficulty === "hard")
  );
}
