// Masks over a slice. Colour alone says nothing: the active object has a thick whole line and its name, each other one
// a dash of its own and its number.

import type { ObjectInfo } from "../api/types";
import { comparison } from "../panels/comparison";
import type { MaskSlice, Masks } from "../reading/masks";
import type { Reading } from "../reading/reading";
import { maskOpacity, maskStyle, masksShown, reading } from "../state";
import { local } from "../tools/local";
import { difference, paintDifference } from "./difference";
import type { Frame } from "./frame";
import { pathOnScreen } from "./paths";

type Context = CanvasRenderingContext2D;

const DASHES: readonly (readonly number[])[] = [
  [7, 3],
  [2, 3],
  [9, 3, 2, 3],
  [4, 4],
  [12, 4],
  [7, 3, 2, 3, 2, 3],
];
const HALO = "rgb(0 0 0 / 60%)";
/** CSS pixels of a mask on screen from which on it has a number. */
const NAMED_FROM = 10;

/** Cuts across the reading's slices are made anew after a change alone. */
class Cuts {
  #version = -1;
  readonly #cuts = new Map<string, MaskSlice | undefined>();

  on(masks: Masks, object: number, frame: Frame): MaskSlice | undefined {
    const version = masks.version.value;
    if (frame.axis === masks.axis) return masks.get(object, frame.slice)?.mask;
    if (version !== this.#version || this.#cuts.size > 200) this.#cuts.clear();
    this.#version = version;
    const key = `${object} ${frame.axis}${frame.slice}`;
    if (!this.#cuts.has(key)) this.#cuts.set(key, masks.cut(object, frame.axis, frame.slice));
    return this.#cuts.get(key);
  }
}
const cuts = new WeakMap<Masks, Cuts>();

/** What an object covers on a slice of any axis; undefined: nothing. */
export function maskOn(masks: Masks, object: number, frame: Frame): MaskSlice | undefined {
  let known = cuts.get(masks);
  if (!known) {
    known = new Cuts();
    cuts.set(masks, known);
  }
  const mask = known.on(masks, object, frame);
  return mask && mask.x1 > mask.x0 && mask.y1 > mask.y0 ? mask : undefined;
}

interface Painted {
  object: ObjectInfo | null;
  colour: string;
  mask: MaskSlice;
  active: boolean;
  /** What was asked for before: another answer is on its way. */
  faded: boolean;
}

const FADED = 0.4;

/** What there is to paint on a slice: large ones below, so that a tumour shows in its organ; the active object last. */
function paintedOn(of: Reading, frame: Frame): Painted[] {
  const painted = local.value;
  const here = painted && painted.axis === frame.axis && painted.slice === frame.slice ? painted : null;
  const active = of.active.value;
  const found: Painted[] = [];
  for (const object of of.objects.value) {
    const own = here?.object === object.id ? here : null;
    const mask = own ? own.mask : object.visible ? maskOn(of.masks, object.id, frame) : undefined;
    if (!mask || mask.x1 <= mask.x0) continue;
    const colour = own?.colour ?? object.colour;
    found.push({ object, colour, mask, active: object.id === active, faded: own?.faded === true });
  }
  found.sort((a, b) => Number(a.active) - Number(b.active) || sizeOf(b.mask) - sizeOf(a.mask));
  if (here && here.object === null && here.mask.x1 > here.mask.x0) {
    found.push({ object: null, colour: here.colour, mask: here.mask, active: true, faded: here.faded === true });
  }
  return found;
}

function sizeOf(mask: MaskSlice): number {
  return (mask.x1 - mask.x0) * (mask.y1 - mask.y0);
}

/** All masks of the reading on a slice. context: CSS pixels of the plane. */
export function paintMasks(context: Context, frame: Frame): void {
  const of = reading.value;
  if (!of || !masksShown.value) return;
  const compared = comparison.value;
  const filled = maskStyle.value === "fill";
  for (const one of paintedOn(of, frame)) {
    if (compared && one.object && (compared.object === null || compared.object === one.object.id)) continue;
    const path = pathOnScreen(one.mask, frame);
    const strength = one.faded ? FADED : 1;
    if (filled) {
      context.globalAlpha = maskOpacity.value * strength;
      context.fillStyle = one.colour;
      context.fill(path, "evenodd");
    }
    context.globalAlpha = strength;
    strokeOutline(context, path, one);
    context.globalAlpha = 1;
    if (one.object) nameIt(context, frame, one.mask, one.object, one.active);
  }
  if (!compared) return;
  for (const object of of.objects.value) {
    if (!object.visible || (compared.object !== null && compared.object !== object.id)) continue;
    const mine = maskOn(of.masks, object.id, frame);
    const theirs = maskOn(compared.reference, object.id, frame);
    if (mine || theirs) paintDifference(context, difference(mine, theirs), frame);
    const named = mine ?? theirs;
    if (named) nameIt(context, frame, named, object, object.id === of.active.value);
  }
}

function strokeOutline(context: Context, path: Path2D, { object, colour, active }: Painted): void {
  context.lineJoin = "round";
  context.setLineDash([]);
  context.lineWidth = active ? 3.5 : 2.5;
  context.strokeStyle = HALO;
  context.stroke(path);
  context.lineWidth = active ? 2 : 1.25;
  context.strokeStyle = colour;
  if (!active && object) context.setLineDash([...DASHES[object.id % DASHES.length]!]);
  context.stroke(path);
  context.setLineDash([]);
}

/** The number of an object below its mask; of the active one its name, too. */
function nameIt(context: Context, frame: Frame, mask: MaskSlice, object: ObjectInfo, active: boolean): void {
  const [ax, ay] = frame.toScreen(mask.x0 - 0.5, mask.y0 - 0.5);
  const [bx, by] = frame.toScreen(mask.x1 - 0.5, mask.y1 - 0.5);
  if (!active && Math.max(Math.abs(ax - bx), Math.abs(ay - by)) < NAMED_FROM) return;
  const text = active ? `${object.id} ${object.name}` : String(object.id);
  context.font = "600 11px system-ui, sans-serif";
  const width = Math.ceil(context.measureText(text).width) + 8;
  const x = Math.round(Math.max(Math.min((ax + bx - width) / 2, frame.width - width - 2), 2));
  const y = Math.round(Math.min(Math.max(ay, by) + 4, frame.height - 17));
  context.fillStyle = "rgb(0 0 0 / 75%)";
  context.fillRect(x, y, width, 15);
  context.fillStyle = object.colour;
  context.fillRect(x, y, 3, 15);
  context.fillStyle = "#fff";
  context.textBaseline = "middle";
  context.textAlign = "left";
  context.fillText(text, x + 5, y + 8);
}
