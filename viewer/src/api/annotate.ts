// A project of the data engine: its tasks, what comes of them, and how good people and models are. There is none on most
// servers.

import { ApiError, ask, request } from "./http";

export type TaskKind = "draw" | "gold" | "second" | "adjudicate" | "audit";
export type TaskState = "open" | "taken" | "submitted" | "approved" | "skipped" | "withdrawn";
export type Difficulty = "easy" | "hard";
/** Of a mask that a model made alone. */
export type Verdict = "good" | "wrong";

/**
 * round, weights: of the model that answers; null: the one it began with. me.task, me.case: that the reader has now.
 * me.masks: of today. me.gold: mean Dice on scans whose reference is known. counts.open: that somebody here may take;
 * audits are not among them. counts.mine: that the reader may take. counts.second: that wait for another reader to come.
 * counts.to_review: handed in by others.
 */
export interface ProjectInfo {
  name: string;
  structures: { name: string; colour: string }[];
  stage: number;
  order: string;
  round: number | null;
  weights: string | null;
  model: string;
  me: {
    task: string | null;
    case: string | null;
    done: number;
    today: number;
    masks: number;
    gold: number | null;
  };
  counts: Record<
    "open" | "audits" | "mine" | "second" | "taken" | "submitted" | "approved" | "skipped" | "to_review",
    number
  >;
  reviewer: boolean;
}

/** slices: that are asked for; null: wherever the structures are. note: why it was returned. after: the task it is about. */
export interface TaskInfo {
  id: string;
  scan: string;
  case: string;
  kind: TaskKind;
  stage: number;
  structures: string[];
  slices: number[] | null;
  state: TaskState;
  session: string | null;
  until: string | null;
  proposals: number;
  note: string | null;
  /** It was skipped. */
  why: string | null;
  mine: boolean;
  holder: string | null;
  after: string | null;
  /** A decision: one of the two readings is by who decides. */
  own: boolean;
  /** Of what was handed in: masks, those as they were proposed, the least that is expected of one; for reviewers. */
  masks?: number | null;
  untouched?: number | null;
  expected_dice?: number | null;
  difficulty?: Difficulty | null;
}

export interface TaskPage {
  tasks: TaskInfo[];
  /** Give it to `tasksOf` for what comes after. */
  next: string | null;
}

export interface HandingIn {
  session: string;
  seconds: number;
  difficulty: Difficulty | null;
  /** Structures that this scan does not have. */
  absent: string[];
  note: string | null;
  /** Of an audit. */
  verdict?: Verdict;
}

/** unseen: structure -> slices on which the session shows a model's mask as it is, which nobody vouched for. */
export interface Opened {
  session: string;
  task: TaskInfo;
  unseen: Record<string, number[]>;
}

/** dice: by structure, where the reference is known. */
export interface HandedIn {
  task: TaskInfo;
  masks: number;
  untouched: number;
  clicks: number;
  dice: Record<string, number> | null;
}

/** What masks of a group cost. */
export interface EffortLine {
  key: string;
  masks: number;
  untouched: number;
  clicks: number;
  boxes: number;
  strokes: number;
  seconds: number;
  masks_per_hour: number | null;
  clicks_per_mask: number | null;
}

export interface RoundLine extends EffortLine {
  promoted: boolean | null;
  dice_before: number | null;
  dice_after: number | null;
}

export interface Statistics {
  masks: number;
  untouched: number;
  readers: EffortLine[];
  structures: EffortLine[];
  rounds: RoundLine[];
  stages: EffortLine[];
  agreement: { structure: string; readers: [string, string]; dice: number; scans: number }[];
  gold: { reader: string; tasks: number; dice: number }[];
  /** low, high: between which the share of good ones lies, with 95 % confidence. */
  verdicts: { good: number; wrong: number; low: number; high: number };
}

/** Two readings of a scan that differ. adjudicate: the task in which a reviewer decides. */
export interface Disagreement {
  task: string;
  second: string;
  scan: string;
  structure: string;
  dice: number;
  slices: { slice: number; dice: number }[];
  readers: [string, string];
  adjudicate: string | null;
}

export interface ModelLine {
  round: number | null;
  kind: "started" | "promoted" | "back";
  at: string;
  weights: string | null;
  active: boolean;
  dice_before: number | null;
  dice_after: number | null;
  why: string | null;
}

const ROOT = "/annotate";
/** ms until an answer does not come any more: first answers are refined before masks are taken. */
const HANDING_IN = 180_000;

/** The project that is served; null where there is none. */
export async function projectInfo(signal?: AbortSignal): Promise<ProjectInfo | null> {
  try {
    return await ask<ProjectInfo>(ROOT, { signal });
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/** The task that the reader has, else the first one that is open; null: nothing is left. */
export async function nextTask(): Promise<TaskInfo | null> {
  // who has one gets the same again
  return (await ask<TaskInfo | undefined>(`${ROOT}/next`, { method: "POST", json: {}, repeatable: true })) ?? null;
}

export function tasksOf(state: TaskState, after: string | null = null, signal?: AbortSignal): Promise<TaskPage> {
  return ask(`${ROOT}/tasks`, { query: { state, after, limit: 100 }, signal });
}

export function taskInfo(id: string, signal?: AbortSignal): Promise<TaskInfo> {
  return ask(`${ROOT}/tasks/${id}`, { signal });
}

/** The session in which a task is done: the one that it has, or a new one. */
export function openTask(id: string, signal?: AbortSignal): Promise<Opened> {
  return ask(`${ROOT}/tasks/${id}/open`, { method: "POST", json: {}, repeatable: true, signal });
}

/** Somebody still works on it. */
export function keepTask(id: string): Promise<{ until: string }> {
  return ask(`${ROOT}/tasks/${id}/alive`, { method: "POST", json: {}, repeatable: true });
}

/** Twice with the same session is once. */
export function submitTask(id: string, what: HandingIn): Promise<HandedIn> {
  const options = { method: "POST", json: what, repeatable: true, timeout: HANDING_IN } as const;
  return ask(`${ROOT}/tasks/${id}/submit`, options);
}

export async function leaveTask(id: string, seconds: number): Promise<void> {
  await request(`${ROOT}/tasks/${id}/leave`, { method: "POST", json: { seconds } });
}

export async function skipTask(id: string, why: string, seconds: number): Promise<void> {
  await request(`${ROOT}/tasks/${id}/skip`, { method: "POST", json: { why, seconds } });
}

/** What was skipped is to be done after all. */
export async function reopenTask(id: string): Promise<void> {
  await request(`${ROOT}/tasks/${id}/reopen`, { method: "POST", json: {} });
}

export async function reviewTask(id: string, verdict: "approved" | "returned", note: string): Promise<void> {
  await request(`${ROOT}/tasks/${id}/review`, { method: "POST", json: { verdict, note } });
}

export function statistics(signal?: AbortSignal): Promise<Statistics> {
  return ask(`${ROOT}/statistics`, { signal });
}

export function disagreements(signal?: AbortSignal): Promise<Disagreement[]> {
  return ask(`${ROOT}/disagreements`, { signal });
}

export function models(signal?: AbortSignal): Promise<ModelLine[]> {
  return ask(`${ROOT}/models`, { signal });
}

/** The model of a round answers again; null: the one it began with. */
export async function backTo(round: number | null): Promise<void> {
  await request(`${ROOT}/models/back`, { method: "POST", json: { round } });
}
