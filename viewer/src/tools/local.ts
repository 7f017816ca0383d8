// What the hand is doing right now, for whoever paints planes.

import { signal } from "@preact/signals";
import type { Axis } from "../api/types";
import type { MaskSlice } from "../reading/masks";

/** Painted in place of the mask that the reading has of an object on a slice, until the server's takes its place. */
export interface LocalMask {
  readonly axis: Axis;
  readonly slice: number;
  /** null: of an object that is not made yet */
  readonly object: number | null;
  readonly colour: string;
  readonly mask: MaskSlice;
  /** What was asked for before: another answer is on its way. */
  readonly faded?: boolean;
  /** Looked at, and nobody's answer yet: nothing goes on from it. */
  readonly tried?: boolean;
}

/** Those on screen, the latest on top. */
const pile = signal<readonly Overlay[]>([]);

/** One local mask at a time. Each who shows one has an overlay, and takes away none but that. */
export class Overlay {
  private shown: LocalMask | null = null;

  get now(): LocalMask | null {
    return this.shown;
  }

  show(next: LocalMask | null): void {
    const before = pile.peek();
    this.shown = next;
    if (next === null) pile.value = before.filter((one) => one !== this);
    else pile.value = before.includes(this) ? [...before] : [...before, this];
  }
}

/** The uppermost of an object on a slice. */
export function localOf(axis: Axis, slice: number, object: number | null): LocalMask | undefined {
  return pile.value.findLast(({ now }) => isThere(now, axis, slice, object))?.now ?? undefined;
}

function isThere(now: LocalMask | null, axis: Axis, slice: number, object: number | null): boolean {
  return now?.axis === axis && now.slice === slice && now.object === object;
}

/** What was painted last of an object on a slice and is not answered yet. */
export function drawnOn(axis: Axis, slice: number, object: number | null): MaskSlice | undefined {
  const found = pile.peek().findLast(({ now }) => isThere(now, axis, slice, object) && !now!.faded && !now!.tried);
  return found?.now?.mask;
}

/** What was painted of an object that was not made yet is of this one. */
export function nameLocal(object: number, colour: string): void {
  for (const one of pile.peek()) {
    if (one.now?.object === null) one.show({ ...one.now, object, colour });
  }
}

export function clearLocal(): void {
  for (const one of pile.peek()) one.show(null);
}

/** Goes up when what tools draw over a plane has changed. */
export const touched = signal(0);

export function touch(): void {
  touched.value = touched.peek() + 1;
}
