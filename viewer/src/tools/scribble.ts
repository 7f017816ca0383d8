// A stroke: all pixels under it are inside, or with Alt outside.

import type { Stroke } from "../api/types";
import { t } from "../i18n";
import { say } from "../state";
import { isFirst } from "./box";
import { onto, type Point, simplified } from "./geometry";
import { touch } from "./local";
import * as pen from "./pen";
import { strokeSize } from "./sizes";
import { activeColour, ask, shapeOf } from "./steps";
import type { PointerAt, Stage, Tool } from "./tool";

export class ScribbleTool implements Tool {
  readonly id = "scribble";
  private points: Point[] = [];
  private first: PointerAt | null = null;
  private over: PointerAt | null = null;

  cursor(): string {
    return "crosshair";
  }

  down(at: PointerAt): boolean {
    this.first = at;
    this.points = [[at.x, at.y]];
    touch();
    return true;
  }

  move(at: PointerAt): void {
    if (!this.first) return;
    const last = this.points[this.points.length - 1]!;
    if (last[0] !== at.x || last[1] !== at.y) this.points.push([at.x, at.y]);
    this.over = at;
    touch();
  }

  up(at: PointerAt, stage: Stage): void {
    this.move(at);
    const stroke = this.stroke(stage, simplified(this.points, 0.5 / Math.max(...stage.scale)));
    const outside = this.first !== null && !stroke?.inside;
    this.cancel();
    if (!stroke) return;
    if (outside && isFirst(stage)) {
      say({ kind: "info", text: t("tools.insideFirst"), seconds: 8 });
      return;
    }
    void ask(stage.slice, { scribbles: [stroke] });
  }

  hover(at: PointerAt | null): void {
    this.over = at;
    touch();
  }

  cancel(): void {
    this.first = null;
    this.points = [];
    touch();
  }

  key(event: KeyboardEvent): boolean {
    if (event.key !== "Escape" || !this.first) return false;
    this.cancel();
    return true;
  }

  draw(context: CanvasRenderingContext2D, stage: Stage): void {
    if (this.first?.axis === stage.axis && this.first.slice === stage.slice) {
      const stroke = this.stroke(stage, this.points);
      if (stroke) pen.stroke(context, stage, stroke, stroke.inside ? activeColour() : "#b3261e");
    }
    if (this.over?.axis === stage.axis && this.over.kind !== "touch") {
      const at = stage.toScreen(this.over.x, this.over.y);
      pen.ring(context, at, pen.screenSize(stage, strokeSize.peek()) / 2);
    }
  }

  /** The stroke so far, on the slice. It is sent without points that say nothing, and drawn with them. */
  private stroke(stage: Stage, way: readonly Point[]): Stroke | null {
    const shape = shapeOf(stage.axis);
    if (!shape || !this.first || way.length === 0) return null;
    const points = way.map((point) => onto(point, shape) as [number, number]);
    const width = stage.pitchMm ? { width_mm: strokeSize.peek() } : { width_px: strokeSize.peek() };
    return { points, inside: !this.first.alt, ...width };
  }
}
