// Masks over a slice. Colour alone says nothing: the active object has a thick whole line and its name, each other one
// a dash of its own and its number; what a model proposes is dotted, and its name asks.

import { isProposal } from "../annotate/proposals";
import type { ObjectInfo } from "../api/types";
import { comparison } from "../panels/comparison";
import type { MaskSlice, Masks } from "../reading/masks";
import type { Reading } from "../reading/reading";
import { maskOpacity, maskStyle, masksShown, reading } from "../state";
import { localOf } from "../tools/local";
import { type Area, type Painting, union } from "./cutout";
import { difference, paintDifference } from "./difference";
import type { Frame } from "./frame";
import { grips, type Name, nameOf, paintName } from "./names";
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
/** Of what is proposed: dots. */
const DOTS = [0.1, 5];
const HALO = "rgb(0 0 0 / 60%)";
/** CSS pixels that lines reach beyond a mask, at most. */
const WIDEST = 3;

/** What an object covers on a slice of any axis; undefined: nothing. */
export function maskOn(masks: Masks, object: number, frame: Frame): MaskSlice | undefined {
  masks.version.value;
  const mask = masks.cut(object, frame.axis, frame.slice);
  return mask && mask.x1 > mask.x0 && mask.y1 > mask.y0 ? mask : undefined;
}

interface Painted {
  object: ObjectInfo | null;
  colour: string;
  mask: MaskSlice;
  active: boolean;
  /** What was asked for before: another answer is on its way. */
  faded: boolean;
  /** As a model proposes it, and nobody has looked at it. */
  proposed: boolean;
}

const FADED = 0.4;

/** What there is to paint on a slice: large ones below, so that a tumour shows in its organ; the active object last. */
function paintedOn(of: Reading, frame: Frame): Painted[] {
  const active = of.active.value;
  const found: Painted[] = [];
  for (const object of of.objects.value) {
    const own = localOf(frame.axis, frame.slice, object.id);
    const mask = own ? own.mask : object.visible ? maskOn(of.masks, object.id, frame) : undefined;
    if (!mask || mask.x1 <= mask.x0) continue;
    const colour = own?.colour ?? object.colour;
    const proposed = !own && isProposal(of, object, frame.axis === of.axis ? frame.slice : null);
    found.push({ object, colour, mask, active: object.id === active, faded: own?.faded === true, proposed });
  }
  found.sort((a, b) => Number(a.active) - Number(b.active) || sizeOf(b.mask) - sizeOf(a.mask));
  const here = localOf(frame.axis, frame.slice, null);
  if (here && here.mask.x1 > here.mask.x0) {
    found.push({
      object: null,
      colour: here.colour,
      mask: here.mask,
      active: true,
      faded: here.faded === true,
      proposed: false,
    });
  }
  return found;
}

function sizeOf(mask: MaskSlice): number {
  return (mask.x1 - mask.x0) * (mask.y1 - mask.y0);
}

/** All masks of the reading on a slice, the last on top. widthOf: CSS pixels of a name. */
export function masksOn(frame: Frame, widthOf: (text: string) => number): Painting[] {
  const of = reading.value;
  if (!of || !masksShown.value) return [];
  const compared = comparison.value?.session === of.id ? comparison.value : null;
  const isCompared = (id: number): boolean => compared !== null && (compared.object === null || compared.object === id);
  const taken = grips(frame);
  const paintings = paintedOn(of, frame)
    .filter(({ object }) => !object || !isCompared(object.id))
    .map((one) => maskPainting(one, frame, taken, widthOf));
  if (!compared) return paintings;
  for (const object of of.objects.value) {
    if (!object.visible || !isCompared(object.id)) continue;
    const mine = localOf(frame.axis, frame.slice, object.id)?.mask ?? maskOn(of.masks, object.id, frame);
    const theirs = maskOn(compared.reference, object.id, frame);
    const named = mine ?? theirs;
    if (!named) continue;
    const name = nameOf(frame, onScreen(frame, named), taken, object, object.id === of.active.value, widthOf);
    const masks = [mine, theirs].filter((mask) => mask !== undefined);
    paintings.push({
      name: String(object.id),
      of: [frame, "difference", mine, theirs, ...wordsOf(name)],
      area: around(frame, masks, name),
      paint: (context) => {
        paintDifference(context, difference(mine, theirs), frame);
        if (name) paintName(context, name);
      },
    });
  }
  return paintings;
}

function maskPainting(one: Painted, frame: Frame, taken: readonly Area[], widthOf: (text: string) => number): Painting {
  const { object, mask, colour, active, faded, proposed } = one;
  const [style, opacity] = [maskStyle.value, maskOpacity.value];
  const called = object && (proposed ? { ...object, name: `${object.name} ?` } : object);
  const name = called && nameOf(frame, onScreen(frame, mask), taken, called, active, widthOf);
  return {
    name: object ? String(object.id) : "new",
    of: [frame, style, opacity, mask, colour, active, faded, proposed, ...wordsOf(name)],
    area: around(frame, [mask], name),
    paint: (context) => {
      const path = pathOnScreen(mask, frame);
      const strength = faded ? FADED : 1;
      if (style === "fill") {
        context.globalAlpha = opacity * (proposed ? FADED : strength);
        context.fillStyle = colour;
        context.fill(path, "evenodd");
      }
      context.globalAlpha = strength;
      strokeOutline(context, path, one);
      context.globalAlpha = 1;
      if (name) paintName(context, name);
    },
  };
}

/** What masks, their outlines and a name cover on screen. */
function around(frame: Frame, masks: readonly MaskSlice[], name: Name | null): Area {
  const areas = masks.map((mask) => {
    const { left, top, right, bottom } = onScreen(frame, mask);
    return { left: left - WIDEST, top: top - WIDEST, right: right + WIDEST, bottom: bottom + WIDEST };
  });
  if (name) areas.push(name.area);
  return union(areas)!;
}

function onScreen(frame: Frame, mask: MaskSlice): Area {
  const [ax, ay] = frame.toScreen(mask.x0 - 0.5, mask.y0 - 0.5);
  const [bx, by] = frame.toScreen(mask.x1 - 0.5, mask.y1 - 0.5);
  return { left: Math.min(ax, bx), top: Math.min(ay, by), right: Math.max(ax, bx), bottom: Math.max(ay, by) };
}

function wordsOf(name: Name | null): readonly unknown[] {
  return name ? [name.text, name.colour, name.area.left, name.area.top] : [];
}

function strokeOutline(context: Context, path: Path2D, { object, colour, active, proposed }: Painted): void {
  context.lineJoin = "round";
  context.setLineDash(proposed ? DOTS : []);
  context.lineCap = proposed ? "round" : "butt";
  context.lineWidth = active ? 3.5 : 2.5;
  context.strokeStyle = HALO;
  context.stroke(path);
  context.lineWidth = active ? 2 : 1.25;
  context.strokeStyle = colour;
  if (!proposed && !active && object) context.setLineDash([...DASHES[object.id % DASHES.length]!]);
  context.stroke(path);
  context.setLineDash([]);
  context.lineCap = "butt";
}
