// What the whole page shares: who is there, which case is open, where we look, and what is shown how.

import { computed, signal } from "@preact/signals";
import type { Axis, CaseInfo, Me } from "./api/types";
import type { Reading } from "./reading/reading";
import type { Scan, Voxel } from "./scan/scan";
import type { ToolId } from "./tools/tool";

export const me = signal<Me | null>(null);
/** Changes when somebody else comes, and not when the same reader is asked for again. */
export const myName = computed(() => me.value?.name ?? null);
/** A login that was idle: the password is asked for, and the reading stays as it is behind. */
export const locked = signal(false);
/** The server does not answer. */
export const offline = signal(false);

/**
 * Where the page is: the cases or one of them (`#/case/ID`), or somebody's session of it. Of a project: a task that is
 * worked on, one that a reviewer looks at (over the reading of another one), those that wait for review, the numbers.
 */
export type Route =
  | { page: "cases" | "review" | "statistics" }
  | { page: "case"; id: string; session?: string }
  | { page: "task"; id: string }
  | { page: "look"; id: string; beside?: string };
export const route = signal<Route>({ page: "cases" });

/** The open case. */
export const openCase = signal<CaseInfo | null>(null);
export const scan = signal<Scan | null>(null);
export const reading = signal<Reading | null>(null);

/** The linked crosshair: a voxel, (i, j, k). Each plane shows the slice that it is on. */
export const cursor = signal<Voxel>([0, 0, 0]);
/** Values shown as black and as white. */
export const window_ = signal<{ name: string; low: number; high: number }>({ name: "auto", low: 0, high: 1 });
/** One large plane, three planes and 3D, or 3D alone. */
export const layout = signal<"one" | "four" | "volume">("one");
/** The plane that keys are about, and the large one. */
export const activeAxis = signal<Axis>("k");
export const tool = signal<ToolId>("box");
/** Of brush and eraser, in mm (pixels where there are none). */
export const brushSize = signal(5);

/** The panel at the right, which makes room on small screens. */
export const panelShown = signal(true);

/** How masks are shown. */
export const masksShown = signal(true);
export const maskStyle = signal<"fill" | "outline">("fill");
export const maskOpacity = signal(0.35);
export const crosshairShown = signal(true);

/** A message that stays until it is closed, or for some seconds. What to do, in the reader's words. */
export interface Message {
  id: number;
  kind: "info" | "warning" | "error";
  text: string;
  /** Something that helps, as a button. */
  action?: { text: string; run: () => void };
  seconds?: number;
}
export const messages = signal<readonly Message[]>([]);
let last = 0;
/** There is room for so many. */
const MOST_MESSAGES = 4;
export function say(message: Omit<Message, "id">): number {
  last += 1;
  const one = { ...message, id: last };
  const others = messages.value.filter((other) => other.text !== one.text);
  // what goes by itself makes room first; nothing of that kind pushes out what there is something to press on
  const dispensable =
    others.find((other) => other.kind === "info") ??
    others.find((other) => other.action === undefined) ??
    (message.kind === "info" ? undefined : others[0]);
  messages.value = [...(others.length < MOST_MESSAGES ? others : others.filter((other) => other !== dispensable)), one];
  return last;
}
export function unsay(id: number): void {
  messages.value = messages.value.filter((one) => one.id !== id);
}
