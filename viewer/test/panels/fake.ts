// A reading without a server, for the panels: what it is told is what it has.

import { type Signal, signal } from "@preact/signals";
import type { Axis, JobInfo, MaskStatus, ObjectInfo, PromptEntry } from "../../src/api/types";
import type { MaskSlice, MaskState, Masks } from "../../src/reading/masks";
import type { Asked, Reading } from "../../src/reading/reading";

/** A full square mask of so many pixels a side, at a corner. */
export function square(side: number, x0 = 0, y0 = 0): MaskSlice {
  return { x0, y0, x1: x0 + side, y1: y0 + side, data: new Uint8Array(side * side).fill(1) };
}

export class FakeMasks implements Masks {
  readonly axis: Axis = "k";
  readonly version = signal(0);
  changed = 0;
  private readonly kept = new Map<number, Map<number, MaskState>>();

  put(object: number, slice: number, status: MaskStatus = "refined", mask: MaskSlice = square(4)): void {
    const slices = this.kept.get(object) ?? new Map<number, MaskState>();
    const confidence = slices.get(slice)?.confidence ?? null;
    slices.set(slice, {
      mask,
      revision: 1,
      status,
      predictedIou: null,
      confidence,
      expectedDice: null,
      ambiguous: false,
    });
    this.kept.set(object, slices);
    this.changed += 1;
    this.version.value += 1;
  }
  /** What a propagation said of its slices. */
  sure(object: number, slices: Record<number, number>): void {
    for (const [slice, confidence] of Object.entries(slices)) {
      const before = this.get(object, Number(slice))!;
      this.kept.get(object)!.set(Number(slice), { ...before, confidence });
    }
    this.version.value += 1;
  }
  get(object: number, slice: number): MaskState | undefined {
    return this.kept.get(object)?.get(slice);
  }
  slices(object: number): readonly number[] {
    return [...(this.kept.get(object)?.keys() ?? [])].sort((a, b) => a - b);
  }
  cut(_object: number): MaskSlice | undefined {
    return undefined;
  }
}

export function structure(id: number, name: string, more: Partial<ObjectInfo> = {}): ObjectInfo {
  return { id, name, colour: "#288c28", visible: true, locked: false, ...more };
}

export class FakeReading implements Reading {
  readonly id = "session";
  readonly caseId = "case";
  readonly axis: Axis = "k";
  slices = 20;
  mine = true;
  readonly notes: readonly string[] = [];
  readonly objects = signal<readonly ObjectInfo[]>([structure(1, "liver"), structure(2, "kidney_right")]);
  readonly active: Signal<number | null> = signal<number | null>(1);
  readonly masks = new FakeMasks();
  readonly asked = signal<readonly Asked[]>([]);
  readonly undoable = signal(0);
  readonly redoable = signal(0);
  readonly jobs = signal<readonly JobInfo[]>([]);
  readonly pending = signal(0);
  readonly embedded = signal<ReadonlySet<number>>(new Set<number>());
  readonly connected = signal(true);
  readonly keptRange = signal(null);
  readonly model = { name: "litemedsam", licence: null, knowsClicks: false };
  readonly over = signal(null);
  /** What was asked of it, in order. */
  readonly calls: unknown[][] = [];

  asks(object: number, slice: number, entry: Partial<PromptEntry> = { box: [0, 0, 4, 4] }): void {
    this.asked.value = [...this.asked.value, { object, slice, entry: { object, slice, ...entry } }];
  }
  sure(object: number, slices: Record<number, number>): void {
    this.masks.sure(object, slices);
  }

  private async did<T>(result: T, ...call: unknown[]): Promise<T> {
    this.calls.push(call);
    return result;
  }
  prompt(entry: PromptEntry) {
    return this.did({ status: "first" as const, predictedIou: 0.9 }, "prompt", entry);
  }
  draw(object: number, slice: number, mask: MaskSlice) {
    this.masks.put(object, slice, "drawn", mask);
    return this.did({ status: "drawn" as const, predictedIou: null }, "draw", object, slice, mask);
  }
  undo() {
    return this.did(undefined, "undo");
  }
  redo() {
    return this.did(undefined, "redo");
  }
  addObject(name: string, colour = "#ff0000") {
    const object = structure(this.objects.value.length + 1, name, { colour });
    this.objects.value = [...this.objects.value, object];
    return this.did(object, "addObject", name);
  }
  changeObject(id: number, change: Partial<ObjectInfo>) {
    const object = { ...this.objects.value.find((one) => one.id === id)!, ...change };
    this.objects.value = this.objects.value.map((one) => (one.id === id ? object : one));
    return this.did(object, "changeObject", id, change);
  }
  removeObject(id: number) {
    this.objects.value = this.objects.value.filter((one) => one.id !== id);
    return this.did(undefined, "removeObject", id);
  }
  propagate(object: number, maxMm?: number) {
    const job: JobInfo = { id: "job", object, state: "queued", done: 0, total: null, detail: null };
    this.jobs.value = [...this.jobs.value, job];
    return this.did(job, "propagate", object, maxMm);
  }
  findOrgans() {
    const job: JobInfo = { id: "organs", object: null, state: "queued", done: 0, total: null, detail: null };
    this.jobs.value = [...this.jobs.value, job];
    return this.did(job, "findOrgans");
  }
  stop(job: string) {
    return this.did(undefined, "stop", job);
  }
  text(object: number, name: string) {
    return this.did(undefined, "text", object, name);
  }

  interpolate(object: number) {
    return this.did(undefined, "interpolate", object);
  }
  candidates() {
    return this.did([], "candidates");
  }
  keepRange() {
    return this.did(undefined, "keepRange");
  }
  look(): void {}
  settled() {
    return this.did(undefined, "settled");
  }
  leave() {
    return this.did(undefined, "leave");
  }
}
