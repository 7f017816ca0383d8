// A plane on screen: a canvas for the slice, one above for the masks, and one for what moves with the hand. Each is left
// as it is while nothing on it changes.

import { computed, type ReadonlySignal, signal } from "@preact/signals";
import type { Axis } from "../api/types";
import { axisNumber, onSlice, type Pixels, type Scan } from "../scan/scan";
import { crosshairShown, cursor, layout, tool, window_ } from "../state";
import { currentTool } from "../tools/current";
import { touched } from "../tools/local";
import { Cutout, type Size, same } from "./cutout";
import { Frame, roundLength } from "./frame";
import { Layer } from "./layer";
import { cameras, smooth } from "./looking";
import { masksOn } from "./masks";
import { NAME_FONT } from "./names";
import { recorded } from "./recorded";
import { SlicePicture } from "./shades";

/** From the lowest to the highest. */
export interface Canvases {
  readonly slice: HTMLCanvasElement;
  readonly masks: HTMLCanvasElement;
  readonly hand: HTMLCanvasElement;
}

/** More pixels than that cost more than they show. */
const MOST_RATIO = 2;
/** ms that the slice before stays in place of one that is on its way */
const PATIENCE = 150;
/** Of the plane's width, the scale bar at most. */
const BAR = 0.22;

const planes = new Map<Axis, Plane>();

/** The plane along an axis as it is on screen now; null: it is not. */
export function stageOf(axis: Axis): Frame | null {
  return planes.get(axis)?.frame.peek() ?? null;
}

export class Plane {
  /** Null until the plane has a size. */
  readonly frame: ReadonlySignal<Frame | null>;
  /** The slice is on its way, and the place is empty. */
  readonly waiting = signal(false);
  readonly #size = signal<Size>({ width: 0, height: 0, ratio: 1 });
  readonly #picture = new SlicePicture();
  /** What the slice on its canvas was painted from. */
  #painted: readonly unknown[] = [];
  readonly #masks: Cutout;
  readonly #hand: Cutout;
  readonly #below: Layer;
  readonly #above: Layer;
  readonly #observer: ResizeObserver;
  readonly #ended = new AbortController();
  #missingSince = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly scan: Scan,
    readonly axis: Axis,
    host: HTMLElement,
    private readonly canvases: Canvases,
  ) {
    this.#masks = new Cutout(canvases.masks);
    this.#hand = new Cutout(canvases.hand);
    const slice = computed(() => cursor.value[axisNumber(axis)]);
    const { planes: all, calibrated } = scan.geometry;
    this.frame = computed(() => {
      const { width, height } = this.#size.value;
      if (width < 8 || height < 8) return null;
      return new Frame(axis, slice.value, all[axis], calibrated, width, height, cameras[axis].value);
    });
    this.#below = new Layer(() => this.#drawBelow());
    this.#above = new Layer(() => this.#drawAbove());
    const measure = (): void => {
      const ratio = Math.min(window.devicePixelRatio || 1, MOST_RATIO);
      this.#size.value = { width: host.clientWidth, height: host.clientHeight, ratio };
    };
    this.#observer = new ResizeObserver(measure);
    this.#observer.observe(host);
    this.#followRatio(measure);
    this.#below.touch();
    this.#above.touch();
    planes.set(axis, this);
  }

  /** On another screen the same size may have other pixels. */
  #followRatio(changed: () => void): void {
    const query = matchMedia(`(resolution: ${window.devicePixelRatio || 1}dppx)`);
    const change = (): void => {
      changed();
      this.#followRatio(changed);
    };
    query.addEventListener("change", change, { once: true, signal: this.#ended.signal });
  }

  close(): void {
    this.#ended.abort();
    this.#observer.disconnect();
    this.#below.close();
    this.#above.close();
    clearTimeout(this.#timer);
    if (planes.get(this.axis) === this) planes.delete(this.axis);
  }

  #drawBelow(): void {
    const frame = this.frame.value;
    if (!frame) return;
    const pixels = this.scan.slice(this.axis, frame.slice);
    if (!pixels) {
      // followed only while something is missing: later pieces of the volume change nothing here
      this.scan.version.value;
      this.#missingSince ||= performance.now();
      const patience = this.#missingSince + PATIENCE - performance.now();
      if (patience > 0) {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#below.touch(), patience + 1);
        return;
      }
    } else this.#missingSince = 0;
    this.#showSlice(frame, pixels);
    const widthOf = (text: string): number => {
      this.#masks.context.font = NAME_FONT;
      return this.#masks.context.measureText(text).width;
    };
    this.#masks.show(pixels ? masksOn(frame, widthOf) : [], this.#size.value);
    const waits = !pixels;
    // what is drawn here must not change what it reads
    if (this.waiting.peek() !== waits) queueMicrotask(() => (this.waiting.value = waits));
  }

  #showSlice(frame: Frame, pixels: Pixels | undefined): void {
    const from = [frame, pixels?.data, window_.value, smooth.value];
    if (same(this.#painted, from)) return;
    this.#painted = from;
    const { width, height, ratio } = this.#size.value;
    const canvas = this.canvases.slice;
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== across || canvas.height !== down) {
      canvas.width = across;
      canvas.height = down;
    }
    const context = canvas.getContext("2d", { alpha: false })!;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, frame.width, frame.height);
    if (!pixels) return;
    context.save();
    context.transform(...frame.matrix());
    context.imageSmoothingEnabled = smooth.value;
    context.imageSmoothingQuality = Math.min(...frame.scale) < 0.6 ? "high" : "low";
    context.drawImage(this.#picture.show(pixels, window_.value), 0, 0);
    context.restore();
    drawScale(context, frame);
  }

  #drawAbove(): void {
    const frame = this.frame.value;
    if (!frame) return;
    touched.value;
    tool.value;
    const { context } = this.#hand;
    const crossed = crosshairShown.value && layout.value === "four";
    const paintings = [
      crossed ? recorded("crosshair", (on) => this.#drawCrosshair(on, frame), context, frame) : null,
      recorded("tool", (on) => currentTool().draw(on, frame), context, frame),
    ];
    this.#hand.show(
      paintings.filter((one) => one !== null),
      this.#size.value,
    );
  }

  #drawCrosshair(context: CanvasRenderingContext2D, frame: Frame): void {
    const [x, y] = frame.toScreen(...onSlice(this.axis, cursor.value));
    const gap = 10;
    context.lineWidth = 1;
    for (const [colour, offset] of [
      ["rgb(0 0 0 / 50%)", 1],
      ["rgb(130 210 255 / 75%)", 0],
    ] as const) {
      context.beginPath();
      const [column, row] = [Math.round(x) + 0.5 + offset, Math.round(y) + 0.5 + offset];
      context.moveTo(0, row);
      context.lineTo(x - gap, row);
      context.moveTo(x + gap, row);
      context.lineTo(frame.width, row);
      context.moveTo(column, 0);
      context.lineTo(column, y - gap);
      context.moveTo(column, y + gap);
      context.lineTo(column, frame.height);
      context.strokeStyle = colour;
      context.stroke();
    }
  }
}

/** How long so much is on screen, at the lower right. */
function drawScale(context: CanvasRenderingContext2D, frame: Frame): void {
  const length = roundLength((frame.width * BAR) / frame.perMm);
  const pixels = length * frame.perMm;
  const text = scaleText(length, frame.pitchMm !== null);
  const [right, y] = [frame.width - 12.5, frame.height - 10.5];
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "alphabetic";
  context.lineJoin = "round";
  for (const [colour, width] of [
    ["rgb(0 0 0 / 80%)", 3],
    ["#fff", 1],
  ] as const) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(right - pixels, y - 5);
    context.lineTo(right - pixels, y);
    context.lineTo(right, y);
    context.lineTo(right, y - 5);
    context.stroke();
    if (width > 1) context.strokeText(text, right - pixels / 2, y - 7);
  }
  context.fillStyle = "#fff";
  context.fillText(text, right - pixels / 2, y - 7);
}

/** "5 cm", "20 mm", "50 px". */
export function scaleText(length: number, calibrated: boolean): string {
  if (!calibrated) return `${Number(length.toPrecision(3))} px`;
  if (length >= 10) return `${Number((length / 10).toPrecision(3))} cm`;
  if (length >= 0.01) return `${Number(length.toPrecision(3))} mm`;
  return `${Number((length * 1000).toPrecision(3))} µm`;
}
