// What is known of a reading: answers and events bring it up to date.

import { batch, signal } from "@preact/signals";
import { ApiError } from "../api/http";
import type { Axis, JobInfo, ObjectInfo, SessionInfo } from "../api/types";
import { MaskStore } from "./masks";
import type { Asked, Reading } from "./reading";

const ENDED = ["done", "stopped", "failed"];

export class Told {
  readonly id: string;
  readonly caseId: string;
  readonly axis: Axis;
  readonly slices: number;
  readonly mine: boolean;
  readonly notes: readonly string[];
  readonly model: Reading["model"];
  readonly masks: MaskStore;
  readonly objects = signal<readonly ObjectInfo[]>([]);
  readonly active = signal<number | null>(null);
  readonly asked = signal<readonly Asked[]>([]);
  readonly undoable = signal(0);
  readonly redoable = signal(0);
  readonly jobs = signal<readonly JobInfo[]>([]);
  readonly pending = signal(0);
  readonly embedded = signal<ReadonlySet<number>>(new Set());
  readonly keptRange = signal<readonly [number | null, number | null] | null>(null);
  readonly over = signal<ApiError | null>(null);

  /** Nothing comes of it any more. */
  protected readonly closed: boolean;
  /** Of a slice. */
  protected readonly shape: readonly [number, number];
  /** Steps that are under way. */
  protected steps = 0;

  constructor(told: SessionInfo) {
    this.id = told.id;
    this.caseId = told.case;
    this.axis = told.axis;
    this.slices = told.slices;
    this.closed = (told.closed ?? null) !== null;
    this.mine = told.mine && !this.closed;
    this.notes = told.notes;
    this.model = {
      name: told.model ?? null,
      licence: told.licence || null,
      knowsClicks: told.knows_clicks ?? null,
    };
    const [k, j, i] = told.geometry.shape;
    this.shape = { k: [j, i], j: [k, i], i: [k, j] }[told.axis] as [number, number];
    this.masks = new MaskStore(told.axis);
    this.learn(told);
    this.active.value = told.objects[0]?.id ?? null;
  }

  protected learn(told: SessionInfo): void {
    // closed elsewhere: in another tab, or to go on along another axis
    if ((told.closed ?? null) !== null && !this.closed) this.over.value ??= new ApiError(404, "the session was closed");
    batch(() => {
      if (!same(told.objects, this.objects.value)) this.objects.value = told.objects;
      if (!same(told.jobs, this.jobs.value)) this.jobs.value = told.jobs;
      if (this.steps === 0) {
        this.undoable.value = told.undo;
        this.redoable.value = told.redo;
      }
      if (!same(told.keep_range ?? null, this.keptRange.value)) this.keptRange.value = told.keep_range ?? null;
      this.activate();
    });
  }

  /** One step more or less that can be undone. */
  protected count(path: string, by: number): void {
    batch(() => {
      this.undoable.value = Math.max(this.undoable.value + by, 0);
      if (path === "/undo") this.redoable.value += 1;
      else this.redoable.value = path === "/redo" ? Math.max(this.redoable.value - 1, 0) : 0;
    });
  }

  /** Prompts are about an object that is there. */
  private activate(): void {
    const objects = this.objects.value;
    if (!objects.some((one) => one.id === this.active.value)) this.active.value = objects.at(-1)?.id ?? null;
  }

  protected learnObject(one: ObjectInfo): void {
    const others = this.objects.value.filter((other) => other.id !== one.id);
    this.objects.value = [...others, one].sort((a, b) => a.id - b.id);
  }

  protected forgetObject(id: number): void {
    batch(() => {
      this.objects.value = this.objects.value.filter((one) => one.id !== id);
      this.asked.value = this.asked.value.filter((one) => one.object !== id);
      this.activate();
    });
  }

  /** Whether it is news that the job has ended. */
  protected learnJob(one: JobInfo): boolean {
    const before = this.jobs.value.find((other) => other.id === one.id);
    // a connection that was lost is told of some things twice
    if (before !== undefined && hasEnded(before) && !hasEnded(one)) return false;
    this.jobs.value = before
      ? this.jobs.value.map((other) => (other.id === one.id ? one : other))
      : [...this.jobs.value, one];
    return hasEnded(one) && before?.state !== one.state;
  }

  protected learnEmbedded(slice: number): void {
    if (!this.embedded.value.has(slice)) this.embedded.value = new Set([...this.embedded.value, slice]);
  }
}

export function hasEnded(job: JobInfo): boolean {
  return ENDED.includes(job.state);
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
