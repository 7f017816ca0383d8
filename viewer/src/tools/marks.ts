// What was asked of the active object on a slice, and what was measured there: drawn whatever the tool is.

import { masksShown, tool } from "../state";
import type { Box } from "./geometry";
import { linesOn, measured, ruler } from "./line";
import * as pen from "./pen";
import { activeColour, standing } from "./steps";
import type { Stage } from "./tool";

/** `boxMoves`: the hand has the box, which is drawn where it is then. */
export function drawMarks(context: CanvasRenderingContext2D, stage: Stage, boxMoves: boolean): void {
  for (const { axis, slice, line } of measured.value) {
    if (axis === stage.axis && slice === stage.slice) ruler(context, stage, line, "#ffd166");
  }
  if (!masksShown.value) return;
  const { outline, points, scribbles } = standing(stage.axis, stage.slice);
  const colour = activeColour();
  if (outline?.box && !boxMoves) pen.box(context, stage, outline.box, colour, tool.value === "box" ? [] : [5, 5]);
  if (outline?.ellipse) pen.box(context, stage, outline.ellipse as Box, colour, [2, 5]);
  if (outline?.lasso) pen.way(context, stage, outline.lasso, colour, true, [5, 5]);
  for (const line of linesOn(stage)) ruler(context, stage, line, colour);
  for (const one of scribbles) pen.stroke(context, stage, one, one.inside ? colour : "#b3261e");
  for (const [x, y, inside] of points) pen.click(context, stage, [x, y], inside === 1);
}
