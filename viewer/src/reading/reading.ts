// A session of a reader on a case, as the page holds it: the server's is the truth, this is what has come of it.

import type { ReadonlySignal, Signal } from "@preact/signals";
import type { ApiError } from "../api/http";
import type { Axis, JobInfo, MaskStatus, ObjectInfo, PromptEntry } from "../api/types";
import type { MaskSlice, Masks } from "./masks";

/** One of three answers to an ambiguous prompt. */
export interface Candidate {
  mask: MaskSlice;
  predictedIou: number | null;
}

/** What was put on a slice last, for handles on the picture and after a reload. */
export interface Asked {
  object: number;
  slice: number;
  entry: PromptEntry;
}

export interface StepResult {
  status: MaskStatus | null;
  predictedIou: number | null;
}

export interface Reading {
  readonly id: string;
  readonly caseId: string;
  readonly axis: Axis;
  readonly slices: number;
  /** false: somebody else's, or closed: it is looked at. */
  readonly mine: boolean;
  readonly notes: readonly string[];
  readonly objects: ReadonlySignal<readonly ObjectInfo[]>;
  /** Number of the object that prompts are about; null before there is one. */
  readonly active: Signal<number | null>;
  readonly masks: Masks;
  /** Prompts as they stand, by object and slice. */
  readonly asked: ReadonlySignal<readonly Asked[]>;
  readonly undoable: ReadonlySignal<number>;
  readonly redoable: ReadonlySignal<number>;
  readonly jobs: ReadonlySignal<readonly JobInfo[]>;
  /** Steps and changes that were sent and not answered yet. */
  readonly pending: ReadonlySignal<number>;
  /** Slices whose first answer costs a decode alone. */
  readonly embedded: ReadonlySignal<ReadonlySet<number>>;
  /** Whether the server hears us and tells of changes. */
  readonly connected: ReadonlySignal<boolean>;
  /** Values outside of [low, high] are in no mask drawn; null: no limit, or one that the server does not tell. */
  readonly keptRange: ReadonlySignal<readonly [number | null, number | null] | null>;
  /** The model that answers: its name, the licence of its weights, whether it answers clicks without a box. */
  readonly model: {
    readonly name: string | null;
    readonly licence: string | null;
    readonly knowsClicks: boolean | null;
  };
  /** Why nothing more comes of it: closed elsewhere, or its scan is another one by now. null: it is open. */
  readonly over: ReadonlySignal<ApiError | null>;

  /** Steps go to the server one after the other, in order. Raises ApiError: nothing has changed then, or nobody knows (`NotTaken`). */
  prompt(entry: PromptEntry): Promise<StepResult>;
  /** The object's mask on a slice is to be exactly this one. */
  draw(object: number, slice: number, mask: MaskSlice): Promise<StepResult>;
  undo(): Promise<void>;
  redo(): Promise<void>;
  addObject(name: string, colour?: string): Promise<ObjectInfo>;
  changeObject(
    id: number,
    change: Partial<Pick<ObjectInfo, "name" | "colour" | "visible" | "locked">>,
  ): Promise<ObjectInfo>;
  /** An object and all its masks: a step, which can be undone. */
  removeObject(id: number): Promise<void>;
  propagate(object: number, maxMm?: number): Promise<JobInfo>;
  /** Look for every organ that the server's heads were measured on, without a prompt; each found is a step in the end. */
  findOrgans(): Promise<JobInfo>;
  stop(job: string): Promise<void>;
  /** Draw an object on the slices between those that it is drawn on. */
  interpolate(object: number): Promise<void>;
  /** Draw an object on every slice where the structure is that `name` means; ApiError with a question where none is known. */
  text(object: number, name: string): Promise<void>;
  /** Up to three answers to what was asked of an object on a slice. */
  candidates(object: number, slice: number): Promise<readonly Candidate[]>;
  /** Values outside of [low, high] are in no mask drawn from now on; null: no limit. */
  keepRange(range: readonly [number | null, number | null] | null): Promise<void>;
  /** The slice on screen. */
  look(slice: number): void;
  /** Once all steps are answered. */
  settled(): Promise<void>;
  /** Stops listening; once what is under way is answered, or a minute later, nothing more is sent. The session stays open. */
  leave(): Promise<void>;
}
