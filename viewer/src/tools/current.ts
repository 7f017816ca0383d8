// The tool that is chosen: planes send it what the pointer does.

import { effect } from "@preact/signals";
import { voxelAt } from "../scan/scan";
import { cursor, reading, scan, tool } from "../state";
import { BoxTool } from "./box";
import { BrushTool } from "./brush";
import { candidates } from "./candidates";
import { Press, pressed } from "./drag";
import { isOn, type Point } from "./geometry";
import { forgetStages, keyPointer, keyPosition, leaveKeys, remember } from "./keypointer";
import { LineTool, measured, measureOnly } from "./line";
import { clearLocal, touch } from "./local";
import { LassoTool, PolygonTool } from "./loop";
import { drawMarks } from "./marks";
import { passive } from "./passive";
import * as pen from "./pen";
import { drawPreview } from "./preview";
import { ScribbleTool } from "./scribble";
import { prepare, type Refusal, refusal, refuse, sent, shapeOf } from "./steps";
import { range, ThresholdTool } from "./threshold";
import type { PointerAt, Stage, Tool, ToolId } from "./tool";

/** Whose press nearly always becomes a step. */
const MAKERS: readonly ToolId[] = ["box", "scribble", "lasso", "line", "brush"];

export const boxTool = new BoxTool();
export const thresholdTool = new ThresholdTool();

/**
 * A tool of steps where steps may be taken. Elsewhere (another plane, somebody else's reading, a locked object) a click
 * moves the crosshair, and a drag says what to do instead.
 */
class Guarded implements Tool {
  private refused: { press: Press; why: Refusal } | null = null;
  /** The slice that was pressed on; null once nothing is. */
  private on: number | null = null;

  constructor(
    private readonly inner: Tool,
    private readonly takesSteps = () => true,
  ) {}

  get id(): ToolId {
    return this.inner.id;
  }

  cursor(at: PointerAt | null): string {
    return at && this.why(at) ? "crosshair" : this.inner.cursor(at);
  }

  down(at: PointerAt, stage: Stage): boolean {
    if (at.kind !== "keys") leaveKeys(this);
    // the palm beside a pen
    if (pressed.peek()) return false;
    const why = this.why(at);
    this.refused = why && { press: new Press(at), why };
    this.on = stage.slice;
    if (why) return true;
    pressed.value = this.inner.down(at, stage);
    if (pressed.peek() && MAKERS.includes(this.id) && this.takesSteps()) prepare();
    return pressed.peek();
  }

  move(at: PointerAt, stage: Stage): void {
    if (this.isLeft(stage)) return;
    if (this.refused) this.refused.press.move(at);
    else this.inner.move(at, stage);
  }

  up(at: PointerAt, stage: Stage): void {
    if (this.isLeft(stage)) return;
    this.on = null;
    pressed.value = false;
    if (!this.refused) {
      this.inner.up(at, stage);
      return;
    }
    const { press, why } = this.refused;
    this.refused = null;
    press.move(at);
    if (press.isDrag || why === "locked" || at.kind === "keys") refuse(why, at.axis);
    else lookAt(at);
  }

  hover(at: PointerAt | null, stage: Stage): void {
    this.inner.hover(at && this.why(at) ? null : at, stage);
  }

  cancel(): void {
    this.end();
    this.inner.cancel();
  }

  drop(): void {
    this.end();
    if (this.inner.drop) this.inner.drop();
    else this.inner.cancel();
  }

  private end(): void {
    this.refused = null;
    // that of another tool goes on
    if (this.on !== null) pressed.value = false;
    this.on = null;
  }

  busy(): boolean {
    return this.inner.busy?.() ?? false;
  }

  key(event: KeyboardEvent): boolean {
    const isMeant = this.inner.key(event);
    if (isMeant && event.key === "Escape") this.end();
    return isMeant;
  }

  draw(context: CanvasRenderingContext2D, stage: Stage): void {
    remember(stage);
    drawMarks(context, stage, this.inner === boxTool && boxTool.changes(stage));
    this.inner.draw(context, stage);
    drawPreview(context, stage);
    if (keyPointer.value?.axis === stage.axis) pen.keyCursor(context, stage, keyPosition(stage.axis));
  }

  /** What was begun on a slice that is not on screen any more is forgotten. */
  private isLeft(stage: Stage): boolean {
    if (this.on === stage.slice) return false;
    if (this.on !== null) this.cancel();
    return true;
  }

  private why(at: PointerAt): Refusal | null {
    if (!this.takesSteps()) return scan.peek() ? null : "closed";
    return refusal(at.axis);
  }
}

function lookAt(at: PointerAt): void {
  const shape = shapeOf(at.axis);
  const pixel: Point = [Math.round(at.x), Math.round(at.y)];
  if (!pressed.peek() && shape && isOn(pixel, shape)) cursor.value = voxelAt(at.axis, at.slice, pixel[0], pixel[1]);
}

const TOOLS: Record<ToolId, Guarded> = {
  box: new Guarded(boxTool),
  scribble: new Guarded(new ScribbleTool()),
  lasso: new Guarded(new LassoTool()),
  polygon: new Guarded(new PolygonTool()),
  line: new Guarded(new LineTool(), () => !measureOnly.peek()),
  brush: new Guarded(new BrushTool("brush")),
  eraser: new Guarded(new BrushTool("eraser")),
  threshold: new Guarded(thresholdTool),
  pan: new Guarded(passive("pan"), () => false),
  window: new Guarded(passive("window"), () => false),
};

/** What a press that was none is told of, whatever the tool does then. */
export type Chosen = Tool & Required<Pick<Tool, "drop">>;

/** The chosen tool. Reads the signal: whoever renders by it is rendered again when another is chosen. */
export function currentTool(): Chosen {
  return TOOLS[tool.value];
}

// another tool, or another reading: what was begun is forgotten
let before: Tool = TOOLS[tool.peek()];
effect(() => {
  const now = TOOLS[tool.value];
  if (before !== now) before.cancel();
  before = now;
  touch();
});
effect(() => {
  reading.value;
  for (const one of Object.values(TOOLS)) one.cancel();
  clearLocal();
  // they go on, and have nothing to show here
  sent.value = [];
  candidates.value = null;
});
effect(() => {
  scan.value;
  measured.value = [];
  range.value = null;
  keyPointer.value = null;
  forgetStages();
});
