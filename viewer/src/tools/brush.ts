// Brush and eraser: the mask is exactly what is painted. It is on screen at once, and sent when the hand lets go.

import type { Axis } from "../api/types";
import type { MaskSlice } from "../reading/masks";
import { brushSize } from "../state";
import type { Point } from "./geometry";
import { type LocalMask, Overlay, touch } from "./local";
import { Sheet } from "./paint";
import * as pen from "./pen";
import { activeColour, activeNumber, drawMask, shapeOf, shownMask } from "./steps";
import type { PointerAt, Stage, Tool } from "./tool";

export class BrushTool implements Tool {
  private sheet: Sheet | null = null;
  private first: PointerAt | null = null;
  private last: Point = [0, 0];
  private over: PointerAt | null = null;
  /** Nothing was there to be erased. */
  private wasEmpty = false;
  private readonly painted = new Overlay();

  constructor(readonly id: "brush" | "eraser") {}

  cursor(at: PointerAt | null): string {
    return at?.kind === "touch" ? "crosshair" : "none";
  }

  down(at: PointerAt, stage: Stage): boolean {
    const shape = shapeOf(stage.axis);
    if (!shape) return false;
    const before = shownMask(stage.slice);
    this.wasEmpty = !before?.data.length;
    this.sheet = new Sheet(shape, before);
    this.first = at;
    this.last = [at.x, at.y];
    this.paint(at, stage);
    return true;
  }

  move(at: PointerAt, stage: Stage): void {
    this.over = at;
    if (this.sheet) this.paint(at, stage);
    else touch();
  }

  up(at: PointerAt, stage: Stage): void {
    if (!this.sheet || !this.first) return;
    this.paint(at, stage);
    const mask = this.sheet.mask();
    const { slice } = this.first;
    this.cancel();
    // an eraser that found nothing has changed nothing
    if (mask.data.length > 0 || !this.wasEmpty) void drawMask(slice, mask);
  }

  hover(at: PointerAt | null): void {
    this.over = at;
    touch();
  }

  cancel(): void {
    this.painted.show(null);
    this.sheet = null;
    this.first = null;
    touch();
  }

  key(event: KeyboardEvent): boolean {
    if (event.key !== "Escape" || !this.sheet) return false;
    this.cancel();
    return true;
  }

  draw(context: CanvasRenderingContext2D, stage: Stage): void {
    if (!this.over || this.over.axis !== stage.axis || this.over.kind === "touch") return;
    const at = stage.toScreen(this.over.x, this.over.y);
    pen.ring(context, at, pen.screenSize(stage, brushSize.peek()) / 2);
  }

  private paint(at: PointerAt, stage: Stage): void {
    if (!this.sheet || !this.first) return;
    // Alt turns the brush into the eraser, and back
    const value = (this.id === "brush") === !this.first.alt ? 1 : 0;
    this.sheet.stroke(this.last, [at.x, at.y], brushSize.peek(), pitchOf(stage), value);
    this.last = [at.x, at.y];
    this.painted.show(asPainted(this.sheet, stage.axis, this.first.slice));
    touch();
  }
}

/** A hand moves more often than a screen shows: the mask is made of the sheet when somebody paints it. */
function asPainted(sheet: Sheet, axis: Axis, slice: number): LocalMask {
  let made: MaskSlice | null = null;
  return {
    axis,
    slice,
    object: activeNumber(),
    colour: activeColour(),
    get mask() {
      made ??= sheet.mask();
      return made;
    },
  };
}

/** mm of a pixel; where there are none, its smaller side on screen is 1. */
export function pitchOf(stage: Stage): Point {
  return stage.pitchMm ?? [1, 1];
}
