// What was handed in, for reviewers: which tasks wait, where two readers differ, and what is said of them.

import { signal } from "@preact/signals";
import {
  type Disagreement,
  disagreements,
  reopenTask,
  reviewTask,
  type TaskInfo,
  type TaskState,
  tasksOf,
} from "../api/annotate";
import { explain, isAbort } from "../api/http";
import { t } from "../i18n";
import { go } from "../shell/routing";
import { tell } from "../shell/tell";
import { me, route, say } from "../state";
import { learnProject } from "./project";
import { asking, doing } from "./task";

/** Tasks that were handed in, those to look at first before the others; null: not known yet. */
export const submitted = signal<readonly TaskInfo[] | null>(null);
export const differing = signal<readonly Disagreement[]>([]);
/** Tasks that were skipped. */
export const skipped = signal<readonly TaskInfo[]>([]);
/** Tasks that were approved; null: not asked for, which only who looks for one does. */
export const approved = signal<readonly TaskInfo[] | null>(null);
export const problem = signal<string | null>(null);

/** Tasks that are shown at most: nobody reviews more before the list is asked for again. */
export const MOST = 500;

export async function learnSubmitted(signal?: AbortSignal): Promise<void> {
  try {
    const [tasks, found, left] = await Promise.all([
      all("submitted", signal),
      disagreements(signal),
      all("skipped", signal),
    ]);
    differing.value = found;
    skipped.value = left;
    // an audit is a verdict itself
    const toReview = tasks.filter((one) => one.kind !== "audit");
    submitted.value = inOrder(toReview, found);
    problem.value = null;
  } catch (error) {
    if (!isAbort(error)) problem.value = explain(error);
  }
}

export async function learnApproved(signal?: AbortSignal): Promise<void> {
  try {
    approved.value = await all("approved", signal);
  } catch (error) {
    if (!isAbort(error)) problem.value = explain(error);
  }
}

async function all(state: TaskState, signal: AbortSignal | undefined): Promise<TaskInfo[]> {
  const found: TaskInfo[] = [];
  let after: string | null = null;
  do {
    const page = await tasksOf(state, after, signal);
    found.push(...page.tasks);
    after = page.next;
  } while (after !== null && found.length < MOST);
  return found;
}

export function forgetSubmitted(): void {
  submitted.value = null;
  skipped.value = [];
  approved.value = null;
  differing.value = [];
  problem.value = null;
}

/** The lowest Dice of a task with another reading; null where none differs. */
export function dissentOf(now: TaskInfo, found: readonly Disagreement[] = differing.value): number | null {
  const own = found.filter((one) => one.task === now.id || one.second === now.id).map((one) => one.dice);
  return own.length > 0 ? Math.min(...own) : null;
}

/** Where readers differ most, then where the least is expected. */
export function inOrder(tasks: readonly TaskInfo[], found: readonly Disagreement[]): TaskInfo[] {
  const weight = (one: TaskInfo): [number, number] => [dissentOf(one, found) ?? 1, one.expected_dice ?? 1];
  return tasks
    .map((one) => ({ one, at: weight(one) }))
    .sort((a, b) => a.at[0] - b.at[0] || a.at[1] - b.at[1])
    .map(({ one }) => one);
}

/** Whether it is the reader's own work. */
export function isOwn(now: TaskInfo): boolean {
  return now.mine || (now.holder !== null && now.holder === me.value?.name);
}

/** Nobody reviews what they did themselves. */
export function mayReview(now: TaskInfo): boolean {
  return now.state === "submitted" && isOthers(now);
}

/** What was approved goes back, too. */
export function mayReturn(now: TaskInfo): boolean {
  return (now.state === "submitted" || now.state === "approved") && isOthers(now);
}

function isOthers(now: TaskInfo): boolean {
  const isReviewer = me.value !== null && me.value.role !== "reader";
  return isReviewer && !isOwn(now);
}

/** A task that was skipped is done after all. */
export async function reopen(now: TaskInfo): Promise<void> {
  if (doing.peek() !== null) return;
  doing.value = "leaving";
  try {
    await reopenTask(now.id);
    say({ kind: "info", text: t("annotate.reopened", { scan: now.scan }), seconds: 6 });
  } catch (error) {
    tell(error);
  } finally {
    doing.value = null;
  }
  await Promise.all([learnSubmitted(), learnProject()]);
}

export async function approve(now: TaskInfo): Promise<void> {
  await said(now, "approved", "");
}

export async function giveBack(now: TaskInfo, note: string): Promise<void> {
  await said(now, "returned", note);
}

async function said(now: TaskInfo, verdict: "approved" | "returned", note: string): Promise<void> {
  if (doing.peek() !== null) return;
  asking.value = null;
  doing.value = "leaving";
  try {
    await reviewTask(now.id, verdict, note);
  } catch (error) {
    tell(error);
    return;
  } finally {
    doing.value = null;
  }
  const who = now.holder ?? "";
  say({ kind: "info", text: t(`annotate.said.${verdict}`, { scan: now.scan, who }), seconds: 5 });
  void learnProject();
  // others review, too
  await learnSubmitted();
  const to = route.peek();
  if (to.page !== "look" || to.id !== now.id) return;
  const next = submitted.peek()?.find((one) => mayReview(one) && one.session !== null);
  go(next === undefined ? { page: "review" } : { page: "look", id: next.id });
}
