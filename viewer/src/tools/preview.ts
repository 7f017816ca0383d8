// What the model would answer, while the hand still moves: its decoder runs in the page on the embedding of the slice. A
// help for the eye; the answer itself is the server's, which looks closer.

import { computed, effect, signal } from "@preact/signals";
import { decoder as fetchDecoder, embedding as fetchEmbedding, modelInfo } from "../api/model";
import type { Axis, ModelInfo } from "../api/types";
import type { Reading } from "../reading/reading";
import { remember, remembered } from "../remembered";
import { axisNumber } from "../scan/scan";
import { cursor, reading, scan } from "../state";
import { type Answer, type Decoder, type Order, startDecoder } from "./decoder";
import type { Box } from "./geometry";
import { boxToInput, type InputFrame, logitToStored, pointToInput } from "./input";
import { touch } from "./local";
import type { Stage } from "./tool";

/** ms: a preview that comes later than that is behind the hand. */
const SLOW = 250;
/** Decodes by which it is known how fast this device is now. */
const ENOUGH = 5;
/** ms that a slice is looked at before its embedding is fetched. */
const REST = 200;
const KEPT = "medsam.preview";

/** What is asked for. Points: x, y, 1 inside or 0 outside. */
export interface Question {
  readonly axis: Axis;
  readonly slice: number;
  readonly box: Box | null;
  readonly points: readonly (readonly [number, number, 0 | 1])[];
}

export const wanted = signal(remembered(KEPT) !== "off");
/** Whether previews can come on the slice on screen, or why not. */
export const state = signal<"none" | "loading" | "ready" | "slow">("none");
/** The outline on screen: lines on the stored slice. */
export const outline = signal<{ axis: Axis; slice: number; lines: Float32Array } | null>(null);

export function want(on: boolean): void {
  remember(KEPT, on ? "on" : "off");
  wanted.value = on;
  times = [];
  // who switches it on again tries again
  if (state.peek() === "slow") state.value = known ? "ready" : "none";
  if (!on) stopPreview();
}

/** What the server has told of an embedding. */
interface Known {
  name: string;
  frame: InputFrame;
}

let model: ModelInfo | null = null;
let thread: Promise<Decoder | null> | null = null;
let known: Known | null = null;
/** Of the embeddings that the decoder has. */
let held: readonly Known[] = [];
let asked: Question | null = null;
let running = false;
let times: number[] = [];
let isFirst = true;
/** Goes up when what is thought about is over. */
let stopped = 0;
/** Somebody draws: before that, nothing is fetched for it. */
export const awake = signal(false);

/** Whether the model of the reading answers a click without a box. */
export function knowsClicks(): boolean {
  return reading.peek()?.model.knowsClicks === true;
}

/** Have the outline of an answer drawn; the newest question wins, and one at a time is thought about. */
export function preview(question: Question): void {
  asked = question;
  awake.value = true;
  if (!running && wanted.peek() && state.peek() === "ready") void run();
}

/** What was asked is over: no outline, also not of what is being thought about. */
export function stopPreview(): void {
  stopped += 1;
  asked = null;
  if (!outline.peek()) return;
  outline.value = null;
  touch();
}

async function run(): Promise<void> {
  running = true;
  try {
    for (let question = asked; question; question = asked) {
      asked = null;
      const answer = await decode(question);
      // let go of meanwhile, or elsewhere by now
      if (!answer || !isShown(question)) continue;
      outline.value = { axis: question.axis, slice: question.slice, lines: answer };
      touch();
    }
  } finally {
    running = false;
  }
}

function isShown(question: Question): boolean {
  const open = reading.peek();
  return open !== null && open.axis === question.axis && cursor.peek()[axisNumber(open.axis)] === question.slice;
}

async function decode(question: Question): Promise<Float32Array | null> {
  const open = reading.peek();
  const begun = stopped;
  if (!open || known?.name !== nameOf(open, question.slice) || !thread) return null;
  const frame = known.frame;
  const on = await thread;
  if (!on) return null;
  const answer = await on.tell(orderOf(question, known.name, frame));
  if (answer.kind !== "outline") return null;
  note(answer.ms);
  return begun === stopped ? onSlice(answer, frame) : null;
}

/** A question as the decoder takes it (`models/export.py`). */
export function orderOf(question: Question, name: string, frame: InputFrame): Order & { kind: "decode" } {
  const places = question.points.map(([x, y]) => pointToInput(frame, [x, y]));
  const labels: number[] = question.points.map((point) => point[2]);
  if (question.box) {
    places.push(...boxToInput(frame, question.box));
    labels.push(2, 3);
  } else {
    // points without a box end with padding, as in training
    places.push([0, 0]);
    labels.push(-1);
  }
  return {
    kind: "decode",
    name,
    coordinates: Float32Array.from(places.flat()),
    labels,
    ambiguous: !question.box && question.points.length === 1,
    covered: [frame.resized[1] / frame.size, frame.resized[0] / frame.size],
  };
}

/** Lines of the logits -> lines of the stored slice. */
export function onSlice(answer: Answer & { kind: "outline" }, frame: InputFrame): Float32Array {
  const out = new Float32Array(answer.lines.length);
  for (let at = 0; at < out.length; at += 2) {
    const [x, y] = logitToStored(frame, answer.side, answer.lines[at]!, answer.lines[at + 1]!);
    out[at] = x;
    out[at + 1] = y;
  }
  return out;
}

/** How long a decode took; devices that are too slow are left alone. The first of all also makes ready: it says nothing. */
export function note(ms: number): void {
  if (isFirst) {
    isFirst = false;
    return;
  }
  times = [...times, ms].slice(-ENOUGH);
  if (times.length === ENOUGH && times.toSorted((a, b) => a - b)[ENOUGH >> 1]! > SLOW) {
    state.value = "slow";
    stopPreview();
  }
}

export function drawPreview(context: CanvasRenderingContext2D, stage: Stage): void {
  const now = outline.value;
  if (!now || now.axis !== stage.axis || now.slice !== stage.slice) return;
  context.beginPath();
  for (let at = 0; at < now.lines.length; at += 4) {
    context.moveTo(...stage.toScreen(now.lines[at]!, now.lines[at + 1]!));
    context.lineTo(...stage.toScreen(now.lines[at + 2]!, now.lines[at + 3]!));
  }
  context.lineCap = "round";
  context.lineWidth = 3;
  context.strokeStyle = "rgba(0, 0, 0, 0.55)";
  context.stroke();
  context.lineWidth = 1.2;
  context.strokeStyle = "#fff";
  context.stroke();
}

// -- what it is decoded from -----------------------------------------------------------------------------------------

function nameOf(open: Reading, slice: number): string {
  return `${open.id} ${slice}`;
}

/** The model's decoder on its thread; null where the server has none. Fetched once. */
async function begin(): Promise<Decoder | null> {
  model = await modelInfo();
  const graph = model?.decoder ? await fetchDecoder(model.decoder) : null;
  if (!graph) return null;
  const on = startDecoder();
  const answer = await on.tell({ kind: "decoder", graph }, [graph]);
  if (answer.kind === "ready") return on;
  on.close();
  return null;
}

async function fetchSlice(open: Reading, slice: number, signal: AbortSignal): Promise<void> {
  const plane = scan.peek()?.geometry.planes[open.axis];
  if (!plane) return;
  const name = nameOf(open, slice);
  const there = held.find((one) => one.name === name);
  if (there) {
    known = there;
    state.value = "ready";
    return;
  }
  state.value = "loading";
  thread ??= begin().catch(() => null);
  const on = await thread;
  if (!on) {
    // it may be made while we draw: ask again with another slice
    thread = null;
    state.value = "none";
    return;
  }
  const got = await fetchEmbedding(open.id, slice, signal);
  if (!got || signal.aborted) return;
  const shape = got.meta.shape as [number, number, number];
  const { resized, input_size } = got.meta as { resized: [number, number]; input_size: number };
  const answer = await on.tell({ kind: "embedding", name, data: got.data, shape }, [got.data]);
  const kept = answer.kind === "ready" ? answer.kept : [];
  const now: Known = { name, frame: { plane, resized, size: input_size } };
  held = [...held.filter((one) => one.name !== name), now].filter((one) => kept.includes(one.name));
  if (signal.aborted) return;
  known = now;
  state.value = "ready";
}

/** The slice that previews are to come on; null: none. */
const target = computed(() => {
  const open = reading.value;
  if (!open?.mine || !wanted.value || !awake.value || state.value === "slow") return null;
  const slice = cursor.value[axisNumber(open.axis)];
  return open.embedded.value.has(slice) ? slice : null;
});

/** Follows the slice on screen, until the function that is given back is called. */
export function followSlices(): () => void {
  return effect(() => {
    const slice = target.value;
    const open = reading.value;
    if (slice === null || !open || known?.name === nameOf(open, slice)) return;
    const ended = new AbortController();
    const timer = setTimeout(() => {
      // no preview is no fault: the answer comes from the server
      fetchSlice(open, slice, ended.signal).catch(() => {
        if (!ended.signal.aborted) state.value = "none";
      });
    }, REST);
    return () => {
      clearTimeout(timer);
      ended.abort();
    };
  });
}
