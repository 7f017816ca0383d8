// A range of values: what of it lies in a region is painted, before one's eyes, and stays when it is applied. A range
// may also bound every mask from then on.

import { effect, signal, untracked } from "@preact/signals";
import type { Axis } from "../api/types";
import { t } from "../i18n";
import { type MaskSlice, tightened } from "../reading/masks";
import type { Pixels } from "../scan/scan";
import { brushSize, reading, say, scan, window_ } from "../state";
import { pitchOf } from "./brush";
import { Press } from "./drag";
import { type Box, boxBetween, boxOfPixels, type Point } from "./geometry";
import { Overlay, touch } from "./local";
import { isIn, Sheet } from "./paint";
import * as pen from "./pen";
import { activeColour, drawMask, heard, shapeOf, shownMask } from "./steps";
import type { PointerAt, Stage, Tool } from "./tool";

export type Range = readonly [number, number];
export type Manner = "add" | "replace" | "remove";

/** Where values are looked for, and of which object: in a box, or in what was brushed over. */
interface Region {
  readonly axis: Axis;
  readonly slice: number;
  /** null: of the next one that is made */
  readonly object: number | null;
  readonly area: MaskSlice;
}
export const region = signal<Region | null>(null);
/** What would be drawn. */
const shown = new Overlay();
export const regionBy = signal<"box" | "brush">("box");
export const range = signal<Range | null>(null);
/** The ends of the slider. */
export const ends = signal<Range>([0, 1]);
export const manner = signal<Manner>("add");

const BINS = 256;

/** Values of the pixels of an area. */
export function valuesIn(pixels: Pixels, area: MaskSlice): Float64Array {
  const found: number[] = [];
  eachPixel(area, (x, y) => found.push(pixels.data[y * pixels.columns + x]!));
  return Float64Array.from(found);
}

function eachPixel(area: MaskSlice, hear: (x: number, y: number, at: number) => void): void {
  const wide = area.x1 - area.x0;
  for (let at = 0; at < area.data.length; at += 1) {
    if (area.data[at]) hear(area.x0 + (at % wide), area.y0 + Math.floor(at / wide), at);
  }
}

/** The value that tells two kinds of pixels apart best (Otsu): the first of the brighter ones. */
export function between(values: Float64Array): number {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (!(high > low)) return low;
  const counts = new Float64Array(BINS);
  const bin = (value: number) => Math.min(Math.floor(((value - low) / (high - low)) * BINS), BINS - 1);
  for (const value of values) counts[bin(value)]! += 1;
  const all = counts.reduce((sum, number, at) => sum + number * at, 0);
  let [best, cut, below, belowSum] = [-1, 1, 0, 0];
  for (let at = 1; at < BINS; at += 1) {
    below += counts[at - 1]!;
    belowSum += counts[at - 1]! * (at - 1);
    const above = values.length - below;
    if (below === 0 || above === 0) continue;
    const apart = below * above * (belowSum / below - (all - belowSum) / above) ** 2;
    // of a valley without pixels the middle would do as well; its upper end is the first of the brighter ones
    if (apart >= best) [best, cut] = [apart, at];
  }
  let least = high;
  for (const value of values) if (bin(value) >= cut) least = Math.min(least, value);
  return least;
}

/** The range of what lies in the middle of an area: the brighter or the darker of two kinds. */
export function guess(pixels: Pixels, area: MaskSlice): Range {
  const values = valuesIn(pixels, area);
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  const cut = between(values);
  const middle: Point = [(area.x0 + area.x1 - 1) / 2, (area.y0 + area.y1 - 1) / 2];
  let [bright, seen] = [0, 0];
  eachPixel(area, (x, y) => {
    const near =
      Math.abs(x - middle[0]) * 6 <= Math.max(area.x1 - area.x0, 6) &&
      Math.abs(y - middle[1]) * 6 <= Math.max(area.y1 - area.y0, 6);
    if (!near) return;
    seen += 1;
    if (pixels.data[y * pixels.columns + x]! >= cut) bright += 1;
  });
  if (2 * bright >= seen) return [cut, high];
  let below = low;
  for (const value of values) if (value < cut) below = Math.max(below, value);
  return [low, below];
}

/** What of an area has values in a range, both ends in. */
export function pixelsIn(pixels: Pixels, area: MaskSlice, [low, high]: Range): MaskSlice {
  const data = new Uint8Array(area.data.length);
  eachPixel(area, (x, y, at) => {
    const value = pixels.data[y * pixels.columns + x]!;
    data[at] = value >= low && value <= high ? 1 : 0;
  });
  return tightened({ x0: area.x0, y0: area.y0, x1: area.x1, y1: area.y1, data });
}

/** A mask with what was found added to it, taken from it, or put in its place. */
export function joined(shape: readonly [number, number], old: MaskSlice | undefined, found: MaskSlice, how: Manner) {
  if (how === "replace" || !old) return how === "remove" ? new Sheet(shape).mask() : found;
  const sheet = new Sheet(shape, old);
  if (how === "add") sheet.add(found);
  else
    eachPixel(found, (x, y) => {
      sheet.data[y * shape[1] + x] = 0;
    });
  return sheet.mask();
}

/** All pixels that a box touches. */
export function boxArea(box: Box): MaskSlice {
  const [x0, y0, x1, y1] = [Math.floor(box[0]), Math.floor(box[1]), Math.ceil(box[2]), Math.ceil(box[3])];
  return { x0, y0, x1, y1, data: new Uint8Array((x1 - x0) * (y1 - y0)).fill(1) };
}

/** The values that a range is chosen from while there is no region: those of the window. */
export function restRange(): Range {
  const { low, high } = window_.value;
  return range.value ?? [low, high];
}

/** Grey values of a slice; says what is wrong where there are none. */
function pixelsOf(axis: Axis, slice: number): Pixels | null {
  const pixels = scan.peek()?.slice(axis, slice);
  if (!pixels) say({ kind: "info", text: t("tools.notLoaded"), seconds: 5 });
  else if (pixels.channels === 3) say({ kind: "info", text: t("tools.noColour"), seconds: 8 });
  return pixels && pixels.channels === 1 ? pixels : null;
}

/** The mask with what was found, from the mask as it is now. */
function result(): MaskSlice | null {
  const place = region.peek();
  const now = range.peek();
  const shape = place && shapeOf(place.axis);
  const pixels = place && pixelsOf(place.axis, place.slice);
  if (!place || !now || !shape || !pixels) return null;
  return joined(shape, shownMask(place.slice), pixelsIn(pixels, place.area, now), manner.peek());
}

function show(): void {
  const place = region.peek();
  const mask = result();
  if (!place || !mask) return;
  const { axis, slice, object } = place;
  shown.show({ axis, slice, object, colour: activeColour(), mask, tried: true });
  touch();
}

// it goes on from the mask as it is now, and is of nobody else
effect(() => {
  const place = region.value;
  const open = reading.value;
  if (!place || !open) return;
  const active = open.active.value;
  open.masks.version.value;
  untracked(() => {
    if (place.object === active) show();
    else if (place.object === null) region.value = { ...place, object: active };
    else forget();
  });
});

export function setRange(next: Range): void {
  range.value = next[0] <= next[1] ? next : [next[1], next[0]];
  show();
}

export function setManner(next: Manner): void {
  manner.value = next;
  show();
}

/** What is on screen becomes the mask. */
export function apply(): void {
  const place = region.peek();
  const mask = result();
  if (!place || !mask) return;
  const drawn = drawMask(place.slice, mask);
  forget();
  void drawn;
}

export function forget(): void {
  region.value = null;
  shown.show(null);
  touch();
}

/** Bound every mask of the reading from now on, or no longer. */
export async function keep(next: Range | null): Promise<void> {
  const open = reading.peek();
  if (open) await heard(open.keepRange(next));
}

export class ThresholdTool implements Tool {
  readonly id = "threshold";
  private press: Press | null = null;
  private sheet: Sheet | null = null;
  private last: Point = [0, 0];
  private over: PointerAt | null = null;

  cursor(): string {
    return "crosshair";
  }

  down(at: PointerAt, stage: Stage): boolean {
    const shape = shapeOf(stage.axis);
    if (!shape || !pixelsOf(stage.axis, stage.slice)) return false;
    forget();
    this.press = new Press(at);
    this.sheet = regionBy.peek() === "brush" ? new Sheet(shape) : null;
    this.last = [at.x, at.y];
    this.move(at, stage);
    return true;
  }

  move(at: PointerAt, stage: Stage): void {
    this.over = at;
    this.press?.move(at);
    this.sheet?.stroke(this.last, [at.x, at.y], brushSize.peek(), pitchOf(stage), 1);
    this.last = [at.x, at.y];
    touch();
  }

  up(at: PointerAt, stage: Stage): void {
    this.move(at, stage);
    const box = this.box();
    const area = this.sheet ? this.sheet.mask() : box && this.press?.isDrag ? boxArea(box) : null;
    const slice = this.press?.first.slice;
    this.press = null;
    this.sheet = null;
    const pixels = pixelsOf(stage.axis, stage.slice);
    if (!area || area.data.length === 0 || !pixels || slice !== stage.slice) return;
    const values = valuesIn(pixels, area);
    ends.value = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    range.value = guess(pixels, area);
    region.value = { axis: stage.axis, slice, object: reading.peek()?.active.peek() ?? null, area };
  }

  hover(at: PointerAt | null): void {
    this.over = at;
    if (regionBy.peek() === "brush") touch();
  }

  cancel(): void {
    this.press = null;
    this.sheet = null;
    forget();
  }

  key(event: KeyboardEvent): boolean {
    const open = region.peek() !== null;
    if (event.key === "Enter" && open) apply();
    else if (event.key === "Escape" && (open || this.press)) this.cancel();
    else return false;
    return true;
  }

  draw(context: CanvasRenderingContext2D, stage: Stage): void {
    const here = this.press?.first.axis === stage.axis && this.press.first.slice === stage.slice;
    const box = here && !this.sheet && this.press?.isDrag ? this.box() : null;
    if (box) pen.box(context, stage, box, "#ffd166", [5, 5]);
    const place = region.value;
    if (place?.axis === stage.axis && place.slice === stage.slice && regionBy.value === "box") {
      const { x0, y0, x1, y1 } = place.area;
      pen.box(context, stage, [x0, y0, x1, y1], "#ffd166", [5, 5]);
    }
    if (here && this.sheet) this.drawBrushed(context, stage, this.sheet.mask());
    if (regionBy.value === "brush" && this.over?.axis === stage.axis) {
      const at = stage.toScreen(this.over.x, this.over.y);
      pen.ring(context, at, pen.screenSize(stage, brushSize.value) / 2);
    }
  }

  private drawBrushed(context: CanvasRenderingContext2D, stage: Stage, area: MaskSlice): void {
    context.save();
    context.globalAlpha = 0.3;
    context.fillStyle = "#ffd166";
    for (let y = area.y0; y < area.y1; y += 1) {
      for (let x = area.x0; x < area.x1; x += 1) {
        if (!isIn(area, x, y)) continue;
        const [a, b] = [stage.toScreen(x - 0.5, y - 0.5), stage.toScreen(x + 0.5, y + 0.5)];
        context.fillRect(Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.abs(b[0] - a[0]), Math.abs(b[1] - a[1]));
      }
    }
    context.restore();
  }

  private box(): Box | null {
    const shape = this.press && shapeOf(this.press.first.axis);
    if (!this.press || !shape) return null;
    const { first, last } = this.press;
    const around = first.kind === "keys" ? boxOfPixels : boxBetween;
    return around([first.x, first.y], [last.x, last.y], shape);
  }
}
