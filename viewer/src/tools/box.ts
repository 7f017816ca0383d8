// Box and clicks: a drag draws a box, or moves what is there of one; a click is inside, with Alt (or a long touch) outside.

import { t } from "../i18n";
import { say } from "../state";
import { LONG_PRESS, Press, reachOf } from "./drag";
import {
  type Box,
  boxBetween,
  boxOfPixels,
  dragged,
  type Grip,
  gripAt,
  gripCursor,
  isOn,
  onto,
  type Point,
  WHOLE,
} from "./geometry";
import { touch } from "./local";
import * as pen from "./pen";
import { awake, knowsClicks, preview, stopPreview } from "./preview";
import { activeColour, ask, shapeOf, shownMask, standing } from "./steps";
import type { PointerAt, Stage, Tool } from "./tool";

interface Drag {
  press: Press;
  /** The box that is changed, and by which grip; null: a new one. */
  box: Box | null;
  grip: Grip;
  outside: boolean;
  timer: ReturnType<typeof setTimeout> | undefined;
}

export class BoxTool implements Tool {
  readonly id = "box";
  private drag: Drag | null = null;
  private over: Grip | null = null;
  private stage: Stage | null = null;

  cursor(): string {
    const box = this.stage && boxOn(this.stage);
    const grip = this.drag ? (this.drag.box ? this.drag.grip : null) : this.over;
    return box && grip && this.stage ? gripCursor(box, grip, this.stage) : "crosshair";
  }

  down(at: PointerAt, stage: Stage): boolean {
    this.cancel();
    this.stage = stage;
    const box = boxOn(stage);
    const grip = box && this.gripUnder(box, at, stage);
    this.drag = {
      press: new Press(at),
      box: grip ? box : null,
      grip: grip ?? WHOLE,
      outside: at.alt,
      timer: at.kind === "touch" ? setTimeout(() => this.turn(), LONG_PRESS) : undefined,
    };
    touch();
    return true;
  }

  move(at: PointerAt, stage: Stage): void {
    if (!this.drag) return;
    this.stage = stage;
    this.drag.press.move(at);
    if (this.drag.press.isDrag) {
      clearTimeout(this.drag.timer);
      this.foresee(stage, this.current(this.drag), []);
    }
    touch();
  }

  up(at: PointerAt, stage: Stage): void {
    const drag = this.drag;
    if (!drag) return;
    drag.press.move(at);
    const box = drag.press.isDrag ? this.current(drag) : null;
    this.end();
    // Alt that came during the press counts as well
    const inside = !(drag.outside || at.alt);
    const answer = box ? askForBox(stage, box, drag.box, drag.grip) : askForClick(stage, [at.x, at.y], inside);
    // what was foreseen stays until the answer is there, or the hand is at something else
    void answer.then(() => !this.drag && stopPreview());
  }

  hover(at: PointerAt | null, stage: Stage): void {
    this.stage = stage;
    const box = at && boxOn(stage);
    this.over = at && box ? this.gripUnder(box, at, stage) : null;
    awake.value ||= at !== null;
    if (!at || this.over || !knowsClicks()) stopPreview();
    else this.foresee(stage, box, [...standing(stage.axis, stage.slice).points, [at.x, at.y, at.alt ? 0 : 1]]);
  }

  cancel(): void {
    this.end();
    stopPreview();
  }

  private end(): void {
    if (this.drag) clearTimeout(this.drag.timer);
    this.drag = null;
    touch();
  }

  private foresee(stage: Stage, box: Box | null, points: [number, number, 0 | 1][]): void {
    preview({ axis: stage.axis, slice: stage.slice, box, points });
  }

  key(event: KeyboardEvent): boolean {
    if (event.key !== "Escape" || !this.drag) return false;
    this.cancel();
    return true;
  }

  draw(context: CanvasRenderingContext2D, stage: Stage): void {
    const drag = this.drag;
    const here = drag && drag.press.first.axis === stage.axis && drag.press.first.slice === stage.slice;
    if (here && drag.press.isDrag) {
      const box = this.current(drag);
      if (!box) return;
      pen.box(context, stage, box, activeColour());
      if (drag.box) pen.boxHandles(context, stage, box, activeColour());
      pen.words(context, pen.boxText(stage, box), pen.labelPlace(stage, box));
      return;
    }
    const box = boxOn(stage);
    if (box) {
      pen.boxHandles(context, stage, box, activeColour());
      pen.words(context, pen.boxText(stage, box), pen.labelPlace(stage, box));
    }
    if (here && isOn([drag.press.last.x, drag.press.last.y], shapeOf(stage.axis) ?? [0, 0])) {
      pen.click(context, stage, [drag.press.last.x, drag.press.last.y], !drag.outside);
    }
  }

  /** Whether the box that stands on a slice is being changed: it is drawn where the hand is, not where it was. */
  changes(stage: Stage): boolean {
    const first = this.drag?.press.first;
    return !!this.drag?.box && this.drag.press.isDrag && first?.axis === stage.axis && first.slice === stage.slice;
  }

  private turn(): void {
    if (!this.drag || this.drag.press.isDrag) return;
    this.drag.outside = true;
    navigator.vibrate?.(15);
    touch();
  }

  private current(drag: Drag): Box | null {
    const { first, last } = drag.press;
    const shape = shapeOf(first.axis);
    if (!shape) return null;
    if (drag.box) return dragged(drag.box, drag.grip, last.x - first.x, last.y - first.y, shape);
    const between = first.kind === "keys" ? boxOfPixels : boxBetween;
    return between([first.x, first.y], [last.x, last.y], shape);
  }

  private gripUnder(box: Box, at: PointerAt, stage: Stage): Grip | null {
    if (at.kind === "keys") return null;
    const screen: Point = [at.screenX, at.screenY];
    const [left, top] = pen.labelPlace(stage, box);
    const wide = pen.labelWidth(pen.boxText(stage, box));
    const onLabel =
      screen[0] >= left && screen[0] <= left + wide && screen[1] >= top && screen[1] <= top + pen.LABEL_HEIGHT;
    return gripAt(box, stage, screen, reachOf(at)) ?? (onLabel ? WHOLE : null);
  }
}

/** The box of the active object on a slice, if that is what it was asked by. */
export function boxOn(stage: Stage): Box | null {
  return standing(stage.axis, stage.slice).outline?.box ?? null;
}

function askForBox(stage: Stage, box: Box, old: Box | null, grip: Grip): Promise<unknown> {
  const wish: Parameters<typeof ask>[1] = { box: [...box] };
  const resized = old !== null && (grip.x !== 0 || grip.y !== 0);
  if (resized) {
    // corrections stay with the box that they were made in; a box that went elsewhere begins anew
    const { points, scribbles } = standing(stage.axis, stage.slice);
    if (points.length > 0) wish.points = points;
    if (scribbles.length > 0) wish.scribbles = scribbles;
  }
  return ask(stage.slice, wish);
}

async function askForClick(stage: Stage, at: Point, inside: boolean): Promise<unknown> {
  const shape = shapeOf(stage.axis);
  // beside the picture nothing is meant
  if (!shape || !isOn(at, shape)) return null;
  if (!inside && isFirst(stage)) return say({ kind: "info", text: t("tools.insideFirst"), seconds: 8 });
  const [x, y] = onto(at, shape);
  return ask(stage.slice, { points: [[x, y, inside ? 1 : 0]] });
}

/** Whether nothing says so far what is meant on a slice. */
export function isFirst(stage: Stage): boolean {
  const { outline, points, scribbles } = standing(stage.axis, stage.slice);
  return outline === null && points.length === 0 && scribbles.length === 0 && !shownMask(stage.slice)?.data.length;
}
