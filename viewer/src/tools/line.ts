// A line from edge to edge (RECIST): the long diameter asks for a mask, a second one across it is the short one. It may
// also only measure.

import { signal } from "@preact/signals";
import type { Axis } from "../api/types";
import { Press, reachOf } from "./drag";
import { cross, distance, onto, type Point } from "./geometry";
import { touch } from "./local";
import * as pen from "./pen";
import { activeColour, ask, shapeOf, standing } from "./steps";
import type { PointerAt, Stage, Tool } from "./tool";

type Line = readonly [Point, Point];

/** Lines only measure, and ask for nothing. */
export const measureOnly = signal(false);
/** What was measured: it is in the page alone, until the case is left. */
export const measured = signal<readonly { axis: Axis; slice: number; line: Line }[]>([]);

interface Drag {
  press: Press;
  /** Which lines stay as they are, and the end that does not move; null: a new line. */
  held: { others: Line[]; fixed: Point } | null;
}

export class LineTool implements Tool {
  readonly id = "line";
  private drag: Drag | null = null;
  private over = false;

  cursor(): string {
    return this.over ? "move" : "crosshair";
  }

  down(at: PointerAt, stage: Stage): boolean {
    this.drag = { press: new Press(at), held: measureOnly.peek() ? null : this.heldAt(at, stage) };
    touch();
    return true;
  }

  move(at: PointerAt): void {
    this.drag?.press.move(at);
    touch();
  }

  up(at: PointerAt, stage: Stage): void {
    const drag = this.drag;
    if (!drag) return;
    drag.press.move(at);
    const line = this.line(drag);
    this.cancel();
    if (!drag.press.isDrag || !line || distance(...line, null) === 0) return;
    if (measureOnly.peek()) {
      measured.value = [...measured.peek(), { axis: stage.axis, slice: stage.slice, line }];
      return;
    }
    const others = drag.held ? drag.held.others : linesOn(stage).filter((one) => cross(one, line));
    const asked = others.length === 1 ? [others[0]!, line] : [line];
    const sent = asked
      .toSorted((a, b) => distance(...b, stage.pitchMm) - distance(...a, stage.pitchMm))
      .map((one) => one.map((end) => [...end]) as [[number, number], [number, number]]);
    void ask(stage.slice, sent.length === 1 ? { line: sent[0]! } : { lines: sent });
  }

  hover(at: PointerAt | null, stage: Stage): void {
    this.over = at !== null && !measureOnly.peek() && this.heldAt(at, stage) !== null;
  }

  cancel(): void {
    this.drag = null;
    touch();
  }

  key(event: KeyboardEvent): boolean {
    if (event.key === "Escape" && this.drag) this.cancel();
    else if (["Backspace", "Delete"].includes(event.key) && measured.peek().length > 0) {
      measured.value = measured.peek().slice(0, -1);
      touch();
    } else return false;
    return true;
  }

  draw(context: CanvasRenderingContext2D, stage: Stage): void {
    const here = this.drag?.press.first.axis === stage.axis && this.drag.press.first.slice === stage.slice;
    const line = here && this.drag ? this.line(this.drag) : null;
    for (const one of linesOn(stage)) {
      for (const end of one) pen.square(context, stage.toScreen(end[0], end[1]), activeColour());
    }
    if (line && this.drag?.press.isDrag) ruler(context, stage, line, activeColour());
  }

  /** The line as it is under the hand. */
  private line(drag: Drag): Line | null {
    const { first, last } = drag.press;
    const shape = shapeOf(first.axis);
    if (!shape) return null;
    return [drag.held?.fixed ?? onto([first.x, first.y], shape), onto([last.x, last.y], shape)];
  }

  private heldAt(at: PointerAt, stage: Stage): Drag["held"] {
    const lines = linesOn(stage);
    for (const line of lines) {
      for (const end of [0, 1] as const) {
        const [u, v] = stage.toScreen(line[end][0], line[end][1]);
        if (Math.hypot(at.screenX - u, at.screenY - v) > reachOf(at)) continue;
        return { others: lines.filter((one) => one !== line), fixed: line[1 - end]! };
      }
    }
    return null;
  }
}

/** The lines that the active object was asked by on a slice. */
export function linesOn(stage: Stage): Line[] {
  const outline = standing(stage.axis, stage.slice).outline;
  return outline?.lines ?? (outline?.line ? [outline.line] : []);
}

/** A line with its length. */
export function ruler(context: CanvasRenderingContext2D, stage: Stage, line: Line, colour: string): void {
  pen.way(context, stage, line, colour);
  const length = `${pen.short(distance(...line, stage.pitchMm))} ${pen.unit(stage)}`;
  const [u, v] = stage.toScreen(line[1][0], line[1][1]);
  pen.words(context, length, [u + 8, v - pen.LABEL_HEIGHT - 4]);
}
