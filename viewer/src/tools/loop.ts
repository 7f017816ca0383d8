// A loop round the object, by one drag (lasso) or corner after corner (polygon).

import { t } from "../i18n";
import { say } from "../state";
import { Press } from "./drag";
import { areaOf, onto, type Point, simplified } from "./geometry";
import { touch } from "./local";
import * as pen from "./pen";
import { activeColour, ask, shapeOf } from "./steps";
import type { PointerAt, Stage, Tool } from "./tool";

/** Square pixels: less encloses nothing. */
const LEAST_AREA = 1;
const DOUBLE_CLICK = 400;

function askForLoop(stage: Stage, corners: readonly Point[]): boolean {
  const shape = shapeOf(stage.axis);
  if (!shape) return false;
  const lasso = corners.map((corner) => onto(corner, shape) as [number, number]);
  if (lasso.length < 3 || areaOf(lasso) < LEAST_AREA) {
    say({ kind: "info", text: t("tools.loopTooSmall"), seconds: 6 });
    return false;
  }
  void ask(stage.slice, { lasso });
  return true;
}

export class LassoTool implements Tool {
  readonly id = "lasso";
  private points: Point[] = [];
  private press: Press | null = null;

  cursor(): string {
    return "crosshair";
  }

  down(at: PointerAt): boolean {
    this.press = new Press(at);
    this.points = [[at.x, at.y]];
    touch();
    return true;
  }

  move(at: PointerAt): void {
    if (!this.press) return;
    this.press.move(at);
    this.points.push([at.x, at.y]);
    touch();
  }

  up(at: PointerAt, stage: Stage): void {
    this.move(at);
    const points = this.points;
    this.cancel();
    if (points.length > 0) askForLoop(stage, simplified(points, 0.5 / Math.max(...stage.scale)));
  }

  hover(): void {}

  cancel(): void {
    this.press = null;
    this.points = [];
    touch();
  }

  key(event: KeyboardEvent): boolean {
    if (event.key !== "Escape" || !this.press) return false;
    this.cancel();
    return true;
  }

  draw(context: CanvasRenderingContext2D, stage: Stage): void {
    const first = this.press?.first;
    if (first?.axis !== stage.axis || first.slice !== stage.slice) return;
    pen.way(context, stage, this.points, activeColour());
    pen.way(context, stage, [this.points[this.points.length - 1]!, this.points[0]!], activeColour(), false, [3, 5]);
  }
}

export class PolygonTool implements Tool {
  readonly id = "polygon";
  private corners: Point[] = [];
  private stage: Stage | null = null;
  private over: Point | null = null;
  private last = { time: 0, x: 0, y: 0 };
  /** The press that is under way has set a corner. */
  private isSet = false;

  cursor(): string {
    return "crosshair";
  }

  busy(): boolean {
    return this.corners.length > 0;
  }

  down(at: PointerAt, stage: Stage): boolean {
    // corners of another slice are no corners of this loop
    if (this.stage && (this.stage.axis !== stage.axis || this.stage.slice !== stage.slice)) this.cancel();
    this.stage = stage;
    const near = (x: number, y: number, reach: number) => Math.hypot(at.screenX - x, at.screenY - y) <= reach;
    const reach = at.kind === "touch" ? 18 : 8;
    const twice = Date.now() - this.last.time < DOUBLE_CLICK && near(this.last.x, this.last.y, reach);
    this.last = { time: Date.now(), x: at.screenX, y: at.screenY };
    const first = this.corners[0];
    const closes = first && this.corners.length > 2 && near(...stage.toScreen(first[0], first[1]), reach);
    if (closes || (twice && this.corners.length > 2)) this.close();
    this.isSet = !closes && !twice;
    if (this.isSet) this.corners.push([at.x, at.y]);
    touch();
    return true;
  }

  move(at: PointerAt): void {
    this.over = [at.x, at.y];
    touch();
  }

  up(): void {}

  hover(at: PointerAt | null): void {
    this.over = at && [at.x, at.y];
    if (this.corners.length > 0) touch();
  }

  cancel(): void {
    this.corners = [];
    this.stage = null;
    touch();
  }

  drop(): void {
    if (this.isSet) this.corners.pop();
    this.last.time = 0;
    touch();
  }

  key(event: KeyboardEvent): boolean {
    if (this.corners.length === 0) return false;
    if (event.key === "Enter") this.close();
    else if (event.key === "Escape") this.cancel();
    else if (event.key === "Backspace" || event.key === "Delete") this.corners.pop();
    else return false;
    touch();
    return true;
  }

  draw(context: CanvasRenderingContext2D, stage: Stage): void {
    if (this.corners.length === 0 || this.stage?.axis !== stage.axis || this.stage.slice !== stage.slice) return;
    const ways = this.over ? [...this.corners, this.over] : this.corners;
    pen.way(context, stage, ways, activeColour());
    if (ways.length > 2) pen.way(context, stage, [ways[ways.length - 1]!, ways[0]!], activeColour(), false, [3, 5]);
    for (const [x, y] of this.corners) pen.square(context, stage.toScreen(x, y), activeColour());
  }

  private close(): void {
    const stage = this.stage;
    if (!stage || !askForLoop(stage, this.corners)) return;
    this.cancel();
    this.last.time = 0;
  }
}
