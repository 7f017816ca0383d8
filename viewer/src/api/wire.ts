// Masks on the wire: frames, each the changed rectangle of a slice. docs/server.md ("Wire") has them byte by byte.

import { AXES, type Axis, type MaskStatus } from "./types";

export const MEDIA_TYPE = "application/vnd.medsam.frames";
const PREFIX = 16;
const MAGIC = 0x4d41534d; // "MSAM", little-endian
const VERSION = 1;
const RUNS = 1;
/** What is believed: a head of so many bytes, a slice of so many pixels. */
const MAX_HEAD = 2 ** 16;
const MAX_PIXELS = 2 ** 28;

/** What is expected of an answer to a box alone: an estimate by a model, not a measurement. */
export interface ExpectedDice {
  readonly value: number;
  /** Eight in ten such answers lie between these. */
  readonly low: number;
  readonly high: number;
  /** The picture is unlike all that this was learnt from. */
  readonly unfamiliar: boolean;
}

export interface Frame {
  readonly object: number;
  readonly axis: Axis;
  readonly slice: number;
  readonly rows: number;
  readonly columns: number;
  /** [x0, y0, x1, y1], half-open: what changed. */
  readonly rectangle: readonly [number, number, number, number];
  /** Of the rectangle, row by row, 1 inside. */
  readonly pixels: Uint8Array;
  /** The revision of this mask that the rectangle goes on; 0: beyond it everything is outside. */
  readonly base: number;
  readonly revision: number;
  readonly status: MaskStatus;
  readonly predictedIou: number | null;
  /** Of a propagated slice, 0 to 1. */
  readonly confidence: number | null;
  readonly expectedDice: ExpectedDice | null;
  /** One click is all that was asked: it can mean many things. */
  readonly ambiguous: boolean;
}

/** A body that cannot be read. */
export class WireError extends Error {
  override readonly name = "WireError";
}

/** The frames of a body. Raises WireError for what is damaged, cut short or of a later version. */
export function readFrames(body: ArrayBuffer): Frame[] {
  const view = new DataView(body);
  const frames: Frame[] = [];
  let at = 0;
  while (at < body.byteLength) {
    if (body.byteLength - at < PREFIX) throw new WireError("ends in a prefix");
    if (view.getUint32(at, true) !== MAGIC) throw new WireError("no frame");
    if (view.getUint16(at + 4, true) > VERSION) throw new WireError("a later version");
    const runs = view.getUint8(at + 6);
    const head = view.getUint32(at + 8, true);
    const length = view.getUint32(at + 12, true);
    const start = at + PREFIX;
    const end = start + head + length;
    if (head > MAX_HEAD || end > body.byteLength) throw new WireError("cut short");
    if (runs > RUNS) throw new WireError("an encoding that is not known");
    const told = headOf(new Uint8Array(body, start, head));
    const payload = new Uint8Array(body, start + head, length);
    frames.push({ ...told, pixels: (runs ? fromRuns : fromBits)(payload, areaOf(told.rectangle)) });
    at = end;
  }
  return frames;
}

function headOf(bytes: Uint8Array): Omit<Frame, "pixels"> {
  let told: Record<string, unknown>;
  try {
    told = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as Record<string, unknown>;
  } catch {
    throw new WireError("a head that is no JSON");
  }
  const [rows, columns] = numbers(told.shape, 2) as [number, number];
  const rectangle = numbers(told.rectangle, 4) as [number, number, number, number];
  const [x0, y0, x1, y1] = rectangle;
  const inside = x0 >= 0 && x0 <= x1 && x1 <= columns && y0 >= 0 && y0 <= y1 && y1 <= rows;
  if (!inside || rows * columns > MAX_PIXELS) throw new WireError("a rectangle beyond its slice");
  const [object, slice, base, revision] = numbers([told.object, told.slice, told.base, told.revision], 4);
  if (!AXES.includes(told.axis as Axis) || typeof told.status !== "string") throw new WireError("axis or status");
  return {
    object: object!,
    axis: told.axis as Axis,
    slice: slice!,
    rows,
    columns,
    rectangle,
    base: base!,
    revision: revision!,
    // one that is not known is shown like any other
    status: told.status as MaskStatus,
    predictedIou: numberOrNull(told.predicted_iou),
    confidence: numberOrNull(told.confidence),
    expectedDice: expectedOf(told),
    ambiguous: told.ambiguous === true,
  };
}

function expectedOf(told: Record<string, unknown>): ExpectedDice | null {
  const [value, low, high] = [told.expected_dice, told.expected_dice_low, told.expected_dice_high].map(numberOrNull);
  if (value == null || low == null || high == null) return null;
  return { value, low, high, unfamiliar: told.unfamiliar === true };
}

function numbers(value: unknown, count: number): number[] {
  if (!Array.isArray(value) || value.length !== count || !value.every((one) => Number.isSafeInteger(one))) {
    throw new WireError("numbers");
  }
  return value as number[];
}

function numberOrNull(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

export function areaOf([x0, y0, x1, y1]: readonly [number, number, number, number]): number {
  return (x1 - x0) * (y1 - y0);
}

/** One bit a pixel, the highest of a byte first, no gaps between rows. */
function fromBits(payload: Uint8Array, count: number): Uint8Array {
  if (payload.length !== Math.ceil(count / 8)) throw new WireError("bits");
  const pixels = new Uint8Array(count);
  for (let byte = 0; byte < payload.length; byte += 1) {
    const bits = payload[byte]!;
    if (bits === 0) continue;
    const end = Math.min(byte * 8 + 8, count);
    for (let at = byte * 8; at < end; at += 1) pixels[at] = (bits >> (7 - (at & 7))) & 1;
  }
  return pixels;
}

/** How many are outside, then inside, then outside ..., 32 bits each. */
function fromRuns(payload: Uint8Array, count: number): Uint8Array {
  if (payload.length % 4 !== 0) throw new WireError("run lengths");
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const runs = payload.length / 4;
  // together they are the rectangle: seen before memory is taken
  let sum = 0;
  for (let run = 0; run < runs; run += 1) sum += view.getUint32(run * 4, true);
  if (sum !== count) throw new WireError("run lengths");
  const pixels = new Uint8Array(count);
  let at = 0;
  for (let run = 0; run < runs; run += 1) {
    const length = view.getUint32(run * 4, true);
    if (run % 2 === 1) pixels.fill(1, at, at + length);
    at += length;
  }
  return pixels;
}
