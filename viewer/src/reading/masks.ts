// Masks in the page. A mask is kept as the rectangle that holds it, a byte a pixel.

import { batch, type ReadonlySignal, signal } from "@preact/signals";
import type { Axis, MaskStatus } from "../api/types";
import type { ExpectedDice, Frame } from "../api/wire";
import { IN_PLANE } from "../scan/scan";

/** Of a stored slice: pixels [x0, x1) x [y0, y1), row by row, 1 inside. Nothing beyond; never changed in place. */
export interface MaskSlice {
  readonly x0: number;
  readonly y0: number;
  readonly x1: number;
  readonly y1: number;
  readonly data: Uint8Array;
}

/** A mask as it stands, and what the server says of it. */
export interface MaskState {
  readonly mask: MaskSlice;
  readonly revision: number;
  readonly status: MaskStatus;
  /** What the network says of its own answer. Not calibrated. */
  readonly predictedIou: number | null;
  /** Of a propagated slice, 0 to 1. */
  readonly confidence: number | null;
  readonly expectedDice: ExpectedDice | null;
  /** One click is all that was asked: it can mean many things. */
  readonly ambiguous: boolean;
}

/** All masks of a reading. */
export interface Masks {
  /** The axis that slices are counted along. */
  readonly axis: Axis;
  /** Goes up with each change of any mask: read it to be drawn again. */
  readonly version: ReadonlySignal<number>;
  /** Revision of the session that changed a mask last. */
  readonly changed: number;
  get(object: number, slice: number): MaskState | undefined;
  /** Slices on which an object has a mask, ascending. */
  slices(object: number): readonly number[];
  /** What an object covers on any slice of any axis. */
  cut(object: number, axis: Axis, index: number): MaskSlice | undefined;
}

/** Cuts that are kept: twenty objects on two planes, and some slices back. */
const KEPT_CUTS = 400;
export const NOTHING: MaskSlice = { x0: 0, y0: 0, x1: 0, y1: 0, data: new Uint8Array(0) };

/** Of one object. */
interface Stack {
  masks: Map<number, MaskState>;
  /** ascending; null while it is to be made */
  order: number[] | null;
  /** in that order; null while it is to be made */
  sorted: readonly MaskSlice[] | null;
  version: number;
}

/** Masks up to a revision of a session: frames come in, each is painted on the mask it was made for. */
export class MaskStore implements Masks {
  readonly version = signal(0);
  /** That all masks here are of. */
  revision = 0;
  changed = 0;
  private stacks = new Map<number, Stack>();
  /** Revision of the last frame about each, also where the mask is gone: what comes late is left out. */
  private latest = new Map<string, number>();
  private cuts = new Map<string, { version: number; mask: MaskSlice | undefined }>();
  /** Never goes back, so that no cut of before `forget` is taken for one of now. */
  private changes = 0;

  constructor(readonly axis: Axis) {}

  get(object: number, slice: number): MaskState | undefined {
    return this.stacks.get(object)?.masks.get(slice);
  }

  slices(object: number): readonly number[] {
    const stack = this.stacks.get(object);
    if (stack === undefined) return [];
    stack.order ??= [...stack.masks.keys()].sort((a, b) => a - b);
    return stack.order;
  }

  /** Objects that have masks. */
  objects(): number[] {
    return [...this.stacks.keys()].filter((object) => this.stacks.get(object)!.masks.size > 0);
  }

  /** Begin anew, from revision 0. */
  forget(): void {
    this.revision = 0;
    this.changed = 0;
    this.stacks.clear();
    this.latest.clear();
    this.cuts.clear();
  }

  /**
   * Paint everything that changed up to `revision`; false where a frame was cut against another mask than the one that is
   * here: everything has to be asked for then.
   */
  apply(frames: readonly Frame[], revision: number): boolean {
    let whole = true;
    // each of them, also after one that could not be
    for (const frame of frames) whole = this.paint(frame) && whole;
    if (whole) this.revision = Math.max(this.revision, revision);
    if (frames.length > 0)
      batch(() => {
        this.version.value += 1;
      });
    return whole;
  }

  private paint(frame: Frame): boolean {
    const key = `${frame.object}/${frame.slice}`;
    const latest = this.latest.get(key) ?? -1;
    if (frame.revision <= latest) return true;
    if (frame.base !== 0 && frame.base !== latest) return false;
    this.latest.set(key, frame.revision);
    this.changed = Math.max(this.changed, frame.revision);
    const stack = this.stackOf(frame.object);
    this.changes += 1;
    stack.version = this.changes;
    stack.sorted = null;
    if (frame.status === "removed") {
      stack.masks.delete(frame.slice);
      stack.order = null;
      return true;
    }
    const before = stack.masks.get(frame.slice);
    if (before === undefined) stack.order = null;
    stack.masks.set(frame.slice, {
      mask: painted(frame.base === 0 ? undefined : before?.mask, frame),
      revision: frame.revision,
      status: frame.status,
      predictedIou: frame.predictedIou,
      confidence: frame.confidence,
      expectedDice: frame.expectedDice,
      ambiguous: frame.ambiguous,
    });
    return true;
  }

  private stackOf(object: number): Stack {
    let stack = this.stacks.get(object);
    if (stack === undefined) {
      stack = { masks: new Map(), order: null, sorted: null, version: 0 };
      this.stacks.set(object, stack);
    }
    return stack;
  }

  cut(object: number, axis: Axis, index: number): MaskSlice | undefined {
    const stack = this.stacks.get(object);
    if (stack === undefined) return undefined;
    if (axis === this.axis) return stack.masks.get(index)?.mask;
    const key = `${object}/${axis}/${index}`;
    const kept = this.cuts.get(key);
    if (kept?.version === stack.version) return kept.mask;
    const order = this.slices(object);
    stack.sorted ??= order.map((slice) => stack.masks.get(slice)!.mask);
    const mask = across(this.axis, axis, index, order, stack.sorted);
    // the oldest first: a map keeps the order in which things came
    this.cuts.delete(key);
    this.cuts.set(key, { version: stack.version, mask });
    if (this.cuts.size > KEPT_CUTS) this.cuts.delete(this.cuts.keys().next().value!);
    return mask;
  }
}

/** The mask once a frame is painted on it, in the smallest rectangle. */
function painted(before: MaskSlice | undefined, frame: Frame): MaskSlice {
  const [x0, y0, x1, y1] = frame.rectangle;
  const own: MaskSlice = { x0, y0, x1, y1, data: frame.pixels };
  if (before === undefined || before.data.length === 0) return tightened(own);
  if (own.data.length === 0) return before;
  const both = {
    x0: Math.min(before.x0, x0),
    y0: Math.min(before.y0, y0),
    x1: Math.max(before.x1, x1),
    y1: Math.max(before.y1, y1),
  };
  const data = new Uint8Array((both.x1 - both.x0) * (both.y1 - both.y0));
  copy(before, both, data);
  copy(own, both, data);
  return tightened({ ...both, data });
}

type Rectangle = Omit<MaskSlice, "data">;

/** Rows of a mask into those of a rectangle that holds it. */
function copy(from: MaskSlice, to: Rectangle, data: Uint8Array): void {
  const width = from.x1 - from.x0;
  const stride = to.x1 - to.x0;
  for (let y = from.y0; y < from.y1; y += 1) {
    const start = (y - from.y0) * width;
    data.set(from.data.subarray(start, start + width), (y - to.y0) * stride + from.x0 - to.x0);
  }
}

/** The same mask in the smallest rectangle that holds it. */
export function tightened(mask: MaskSlice): MaskSlice {
  const width = mask.x1 - mask.x0;
  const height = mask.y1 - mask.y0;
  let left = width;
  let right = 0;
  let top = height;
  let bottom = 0;
  for (let y = 0; y < height; y += 1) {
    const row = mask.data.subarray(y * width, (y + 1) * width);
    const first = row.indexOf(1);
    if (first < 0) continue;
    left = Math.min(left, first);
    right = Math.max(right, row.lastIndexOf(1) + 1);
    top = Math.min(top, y);
    bottom = y + 1;
  }
  if (bottom === 0) return NOTHING;
  if (left === 0 && right === width && top === 0 && bottom === height) return mask;
  const small = { x0: mask.x0 + left, y0: mask.y0 + top, x1: mask.x0 + right, y1: mask.y0 + bottom };
  const data = new Uint8Array((right - left) * (bottom - top));
  for (let y = top; y < bottom; y += 1) {
    data.set(mask.data.subarray(y * width + left, y * width + right), (y - top) * (right - left));
  }
  return { ...small, data };
}

/** A slice along another axis: of each stored slice one row or one column. order: numbers of `masks`, ascending. */
function across(
  own: Axis,
  axis: Axis,
  index: number,
  order: readonly number[],
  masks: readonly MaskSlice[],
): MaskSlice | undefined {
  // rows of the stored slices are counted along `axis`, or their columns are
  const byRow = IN_PLANE[own][1] === axis;
  let [low, high] = [Number.MAX_SAFE_INTEGER, 0];
  const hit: number[] = [];
  for (let at = 0; at < masks.length; at += 1) {
    const mask = masks[at]!;
    if (byRow ? index < mask.y0 || index >= mask.y1 : index < mask.x0 || index >= mask.x1) continue;
    hit.push(at);
    low = Math.min(low, byRow ? mask.x0 : mask.y0);
    high = Math.max(high, byRow ? mask.x1 : mask.y1);
  }
  if (hit.length === 0) return undefined;
  const first = order[hit[0]!]!;
  const count = order[hit[hit.length - 1]!]! - first + 1;
  const length = high - low;
  // stored slices are rows of the cut, or its columns
  const asRows = IN_PLANE[axis][1] === own;
  const [perSlice, perStep] = asRows ? [length, 1] : [1, count];
  const data = new Uint8Array(count * length);
  for (const at of hit) {
    const line = (order[at]! - first) * perSlice;
    copyLine(masks[at]!, byRow, index, data, line - low * perStep, perStep);
  }
  return asRows
    ? { x0: low, y0: first, x1: high, y1: first + count, data }
    : { x0: first, y0: low, x1: first + count, y1: high, data };
}

/** A row, or a column, of a mask into `data`: its pixel number n to `origin + n * perStep`. */
function copyLine(
  mask: MaskSlice,
  byRow: boolean,
  index: number,
  data: Uint8Array,
  origin: number,
  perStep: number,
): void {
  const from = mask.data;
  const width = mask.x1 - mask.x0;
  const step = byRow ? 1 : width;
  const begin = byRow ? mask.x0 : mask.y0;
  const count = byRow ? width : mask.y1 - mask.y0;
  let at = byRow ? (index - mask.y0) * width : index - mask.x0;
  let to = origin + begin * perStep;
  for (let n = 0; n < count; n += 1) {
    data[to] = from[at]!;
    at += step;
    to += perStep;
  }
}
