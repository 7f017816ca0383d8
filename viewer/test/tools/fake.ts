// A scan, a reading and a plane for tests of tools: what is sent is kept.

import { type Signal, signal } from "@preact/signals";
import type { Axis, Geometry, MaskStatus, ObjectInfo, PlaneInfo, PromptEntry, View } from "../../src/api/types";
import type { MaskSlice, MaskState } from "../../src/reading/masks";
import type { Asked, Candidate, Reading, StepResult } from "../../src/reading/reading";
import { type Pixels, type Scan, toUpright } from "../../src/scan/scan";
import { messages, reading, scan, tool } from "../../src/state";
import { type LocalMask, localOf } from "../../src/tools/local";
import type { PointerAt, Stage, ToolId } from "../../src/tools/tool";

export const UPRIGHT: View = { transpose: false, flip_rows: false, flip_columns: false };

export function plane(shape: [number, number], spacing: [number, number] = [1, 1], view: View = UPRIGHT): PlaneInfo {
  return { count: 9, shape, spacing_mm: spacing, view };
}

/** A plane on screen, upright, `zoom` CSS pixels a mm, as `view` shows it. */
export function stageOf(info: PlaneInfo, zoom = 4, axis: Axis = "k", slice = 3, calibrated = true): Stage {
  const [row, column] = info.spacing_mm;
  const [pu, pv] = info.view.transpose ? [row, column] : [column, row];
  return {
    axis,
    slice,
    scale: [column * zoom, row * zoom],
    pitchMm: calibrated ? [column, row] : null,
    toScreen(x, y) {
      const [u, v] = toUpright(info, x + 0.5, y + 0.5);
      return [u * pu * zoom + 7, v * pv * zoom + 11];
    },
  };
}

export function at(stage: Stage, x: number, y: number, more: Partial<PointerAt> = {}): PointerAt {
  const [screenX, screenY] = stage.toScreen(x, y);
  const { axis, slice } = stage;
  const rest = { button: 0, alt: false, shift: false, ctrl: false, kind: "mouse" as const };
  return { axis, slice, x, y, screenX, screenY, ...rest, ...more };
}

export function pixelsOf(rows: number, columns: number, value: (x: number, y: number) => number): Pixels {
  const data = new Int16Array(rows * columns);
  for (let number = 0; number < data.length; number += 1) {
    data[number] = value(number % columns, Math.floor(number / columns));
  }
  return { rows, columns, channels: 1, data };
}

export function fakeScan(info: PlaneInfo, pixels?: Pixels): Scan {
  const planes = { k: info, j: plane([9, info.shape[1]]), i: plane([9, info.shape[0]]) };
  const geometry = { planes, calibrated: true, dtype: "int16", units: "HU" } as unknown as Geometry;
  return {
    caseId: "c",
    geometry,
    loaded: signal(1),
    version: signal(0),
    slice: (axis) => (axis === "k" ? pixels : undefined),
    value: () => undefined,
    close: () => {},
  };
}

type Said = Partial<Pick<MaskState, "expectedDice" | "ambiguous">>;

export interface Fake extends Reading {
  prompts: PromptEntry[];
  drawn: { object: number; slice: number; mask: MaskSlice }[];
  put(object: number, slice: number, mask: MaskSlice, status?: MaskStatus, said?: Said): void;
  objects: Signal<readonly ObjectInfo[]>;
  asked: Signal<readonly Asked[]>;
  undoable: Signal<number>;
  /** What the server answers next: an error is thrown. */
  fails: Error | null;
  /** What answers wait for. */
  gate: Promise<void>;
  others: Candidate[];
  keptTo: unknown;
  undone: string[];
}

export function liver(change: Partial<ObjectInfo> = {}): ObjectInfo {
  return { id: 1, name: "liver", colour: "#aa5500", visible: true, locked: false, ...change };
}

export function fakeReading(objects: ObjectInfo[] = [liver()], change: Partial<Fake> = {}): Fake {
  const masks = new Map<string, MaskState>();
  const answer: StepResult = { status: "first", predictedIou: 0.9 };
  const version = signal(0);
  const fake = {
    id: "s",
    caseId: "c",
    axis: "k",
    slices: 9,
    mine: true,
    notes: [],
    objects: signal<readonly ObjectInfo[]>(objects),
    active: signal<number | null>(objects[0]?.id ?? null),
    masks: {
      axis: "k",
      version,
      get: (o: number, s: number) => masks.get(`${o} ${s}`),
      slices: () => [],
      cut: () => {},
    },
    asked: signal<readonly Asked[]>([]),
    undoable: signal(0),
    redoable: signal(0),
    jobs: signal([]),
    pending: signal(0),
    embedded: signal(new Set<number>()),
    connected: signal(true),
    keptRange: signal(null),
    over: signal(null),
    model: { name: null, licence: null, knowsClicks: null },
    prompts: [],
    drawn: [],
    fails: null,
    gate: Promise.resolve(),
    others: [],
    keptTo: undefined,
    undone: [],
    put(object: number, slice: number, mask: MaskSlice, status: MaskStatus = "refined", said: Said = {}) {
      const rest = { predictedIou: 0.9, confidence: null, expectedDice: null, ambiguous: false, ...said };
      masks.set(`${object} ${slice}`, { mask, revision: version.peek(), status, ...rest });
      version.value += 1;
    },
    async prompt(entry: PromptEntry) {
      await fake.gate;
      if (fake.fails) throw fake.fails;
      fake.prompts.push(entry);
      fake.asked.value = [...fake.asked.peek(), { object: entry.object, slice: entry.slice, entry }];
      return answer;
    },
    async draw(object: number, slice: number, mask: MaskSlice) {
      await fake.gate;
      if (fake.fails) throw fake.fails;
      fake.drawn.push({ object, slice, mask });
      fake.put(object, slice, mask, "drawn");
      return { status: "drawn", predictedIou: null };
    },
    async undo() {
      await fake.gate;
      fake.undone.push("undo");
    },
    async redo() {
      await fake.gate;
      fake.undone.push("redo");
    },
    async addObject(name: string) {
      await fake.gate;
      const made = liver({ id: fake.objects.peek().length + 1, name });
      fake.objects.value = [...fake.objects.peek(), made];
      return made;
    },
    async changeObject(id: number, part: Partial<ObjectInfo>) {
      fake.objects.value = fake.objects.peek().map((one) => (one.id === id ? { ...one, ...part } : one));
      return fake.objects.peek()[0]!;
    },
    async keepRange(range: unknown) {
      fake.keptTo = range;
    },
    async candidates() {
      return fake.others;
    },
    ...change,
  } as unknown as Fake;
  return fake;
}

/** Puts a case on the page. */
export function open(info: PlaneInfo, fake: Fake = fakeReading(), pixels?: Pixels): Fake {
  scan.value = fakeScan(info, pixels);
  reading.value = fake;
  messages.value = [];
  return fake;
}

/** What tools show of the first object on the slice 3, also before it is made. */
export function local(): LocalMask | undefined {
  return localOf("k", 3, 1) ?? localOf("k", 3, null);
}

export function choose(id: ToolId): void {
  tool.value = id;
}

/** A promise, and what keeps it. */
export function later(): { promise: Promise<void>; come: () => void } {
  let come = (): void => {};
  const promise = new Promise<void>((resolve) => {
    come = resolve;
  });
  return { promise, come };
}

/** Until all that was sent is answered. */
export async function settled(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
}

/** A mask from rows of "." and "#" at (x0, y0). */
export function drawing(x0: number, y0: number, ...rows: string[]): MaskSlice {
  const data = Uint8Array.from(rows.join(""), (sign) => (sign === "#" ? 1 : 0));
  return { x0, y0, x1: x0 + rows[0]!.length, y1: y0 + rows.length, data };
}

/** Rows of "." and "#" of a mask. */
export function rowsOf(mask: MaskSlice): string[] {
  const wide = mask.x1 - mask.x0;
  const signs = [...mask.data].map((pixel) => (pixel ? "#" : ".")).join("");
  return Array.from({ length: mask.y1 - mask.y0 }, (_, row) => signs.slice(row * wide, (row + 1) * wide));
}

export function key(name: string, more: Partial<KeyboardEventInit> = {}): KeyboardEvent {
  return new KeyboardEvent("keydown", { key: name, bubbles: true, ...more });
}

/** A canvas that hears nothing: happy-dom has none. */
export const paper = new Proxy({} as CanvasRenderingContext2D, {
  get: (_, name) => (name === "measureText" ? () => ({ width: 40 }) : () => {}),
  set: () => true,
});
