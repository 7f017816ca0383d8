// What a tool is: it hears the pointer on a plane, shows what the hand does, and has steps taken.

import type { Axis } from "../api/types";

export type ToolId =
  | "box"
  | "scribble"
  | "lasso"
  | "polygon"
  | "line"
  | "brush"
  | "eraser"
  | "threshold"
  | "pan"
  | "window";

/** Where the pointer is on a plane. */
export interface PointerAt {
  axis: Axis;
  slice: number;
  /** Continuous position on the stored slice; the centre of column n is n, so columns run from -0.5 to columns - 0.5. */
  x: number;
  y: number;
  /** Position in CSS pixels of the plane. */
  screenX: number;
  screenY: number;
  button: number;
  alt: boolean;
  shift: boolean;
  ctrl: boolean;
  /** "keys": a pointer that the keyboard moves, from pixel to pixel. */
  kind: "mouse" | "pen" | "touch" | "keys";
}

/** A plane on screen, for tools that draw on it. */
export interface Stage {
  readonly axis: Axis;
  readonly slice: number;
  /** Stored position (pixel centres at integers) -> CSS pixels of the plane. */
  toScreen(x: number, y: number): [number, number];
  /** CSS pixels a stored pixel, across columns and rows. */
  readonly scale: [number, number];
  /** Pitch of the stored slice in mm, (x, y); null without millimetres. */
  readonly pitchMm: [number, number] | null;
}

export interface Tool {
  readonly id: ToolId;
  /** CSS cursor over a plane; `at` where the pointer is. */
  cursor(at: PointerAt | null): string;
  /** Pointer events of the left button (and of touch). `down` says whether the tool takes the drag. */
  down(at: PointerAt, stage: Stage): boolean;
  move(at: PointerAt, stage: Stage): void;
  up(at: PointerAt, stage: Stage): void;
  /** Moves without a button. */
  hover(at: PointerAt | null, stage: Stage): void;
  /** Escape, another tool: whatever was begun is forgotten. */
  cancel(): void;
  /** The press was none after all (a second finger came, or the pointer was lost): forgets that alone. Default: `cancel`. */
  drop?(): void;
  /** Something of several clicks is under way: a double click belongs to the tool. */
  busy?(): boolean;
  /** A key while this tool is chosen; true when it was meant for the tool. */
  key(event: KeyboardEvent): boolean;
  /** Painted over slice and masks, in CSS pixels of the plane. */
  draw(context: CanvasRenderingContext2D, stage: Stage): void;
}
