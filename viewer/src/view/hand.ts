// What pointer and wheel do on a plane. The left button, a finger and a pen are the tool's; the others look around.

import type { Axis } from "../api/types";
import { voxelAt } from "../scan/scan";
import { activeAxis, tool, window_ } from "../state";
import { type Chosen, currentTool } from "../tools/current";
import type { PointerAt } from "../tools/tool";
import type { Frame } from "./frame";
import { cameras, enlarge, moving, pointer, scroll, showWindow, toVoxel } from "./looking";

type Drag =
  | { kind: "tool"; id: number; tool: Chosen }
  | { kind: "pan" | "window" | "crosshair"; id: number }
  | { kind: "pinch" };

interface Finger {
  x: number;
  y: number;
}

/** Pixels that a touchpad moves for a slice; a wheel's notch is one, however long. */
const PAD_SLICE = 24;
const NOTCH = 50;

export class Hand {
  #drag: Drag | null = null;
  #last: Finger = { x: 0, y: 0 };
  readonly #fingers = new Map<number, Finger>();
  #wheeled = 0;
  /** Clicks in a row that no tool took. */
  #free = 0;
  readonly #ended = new AbortController();

  constructor(
    private readonly host: HTMLElement,
    private readonly axis: Axis,
    private readonly frame: () => Frame | null,
  ) {
    const { signal } = this.#ended;
    host.addEventListener("pointerdown", (event) => this.#down(event), { signal });
    host.addEventListener("pointermove", (event) => this.#move(event), { signal });
    host.addEventListener("pointerup", (event) => this.#up(event), { signal });
    host.addEventListener("pointercancel", (event) => this.#lost(event), { signal });
    host.addEventListener("lostpointercapture", (event) => this.#lost(event), { signal });
    host.addEventListener("pointerleave", () => this.#leave(), { signal });
    host.addEventListener("dblclick", () => this.#twice(), { signal });
    // a middle button that scrolls the page by itself
    host.addEventListener("mousedown", (event) => event.button === 1 && event.preventDefault(), { signal });
    host.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
    host.addEventListener("wheel", (event) => this.#wheel(event), { signal, passive: false });
  }

  close(): void {
    this.#forget();
    this.#ended.abort();
    pointer.value = null;
  }

  #at(event: MouseEvent & { pointerType?: string }, frame: Frame): PointerAt {
    const box = this.host.getBoundingClientRect();
    const [screenX, screenY] = [event.clientX - box.left, event.clientY - box.top];
    const [x, y] = frame.fromScreen(screenX, screenY);
    const kind = event.pointerType === "touch" || event.pointerType === "pen" ? event.pointerType : "mouse";
    const { altKey: alt, shiftKey: shift } = event;
    const ctrl = event.ctrlKey || event.metaKey;
    return {
      axis: this.axis,
      slice: frame.slice,
      x,
      y,
      screenX,
      screenY,
      button: event.button,
      alt,
      shift,
      ctrl,
      kind,
    };
  }

  #down(event: PointerEvent): void {
    const frame = this.frame();
    if (!frame) return;
    const at = this.#at(event, frame);
    activeAxis.value = this.axis;
    const drag = this.#drag;
    // a palm lies beside the pen, and often before it
    const isByFingers = drag?.kind === "pinch" || (drag !== null && this.#fingers.has(drag.id));
    if (event.pointerType === "pen" && isByFingers) {
      this.#forget();
      this.#fingers.clear();
    }
    if (event.pointerType === "touch") {
      if (drag && !isByFingers) return;
      this.#fingers.set(event.pointerId, { x: at.screenX, y: at.screenY });
      if (this.#fingers.size === 2) {
        // the first finger was not a stroke after all
        this.#forget();
        this.#drag = { kind: "pinch" };
      }
      if (this.#fingers.size > 1) return;
    }
    if (this.#drag) return;
    this.host.setPointerCapture(event.pointerId);
    this.#last = { x: at.screenX, y: at.screenY };
    this.#drag = this.#begin(event, at, frame);
    this.#free = this.#drag.kind === "tool" ? 0 : this.#free + 1;
    if (this.#drag.kind === "crosshair") this.#toCrosshair(at);
    this.#point(at, frame);
  }

  #begin(event: PointerEvent, at: PointerAt, frame: Frame): Drag {
    const id = event.pointerId;
    if (event.button === 2) return { kind: "window", id };
    if (event.button !== 0 || moving.peek()) return { kind: "pan", id };
    const chosen = tool.peek();
    if (chosen === "pan" || chosen === "window") return { kind: at.shift ? "crosshair" : chosen, id };
    const one = currentTool();
    if (!at.shift && one.down(at, frame)) return { kind: "tool", id, tool: one };
    return { kind: "crosshair", id };
  }

  #move(event: PointerEvent): void {
    const frame = this.frame();
    if (!frame) return;
    const at = this.#at(event, frame);
    const drag = this.#drag;
    if (drag?.kind === "pinch") {
      this.#pinch(event, at, frame);
      return;
    }
    this.#point(at, frame);
    if (!drag) {
      if (event.pointerType !== "touch") currentTool().hover(at, frame);
      return;
    }
    if (drag.id !== event.pointerId) return;
    if (drag.kind === "tool") {
      // between two frames a hand draws more than one point
      const parts = event.getCoalescedEvents?.() ?? [];
      for (const part of parts.length ? parts : [event]) drag.tool.move(this.#at(part, frame), frame);
      return;
    }
    const [byX, byY] = [at.screenX - this.#last.x, at.screenY - this.#last.y];
    this.#last = { x: at.screenX, y: at.screenY };
    if (drag.kind === "pan") cameras[this.axis].value = frame.moved(byX, byY);
    else if (drag.kind === "window") this.#drawWindow(byX, byY, frame);
    else this.#toCrosshair(at);
  }

  #up(event: PointerEvent): void {
    const frame = this.frame();
    this.#fingers.delete(event.pointerId);
    const drag = this.#drag;
    if (drag?.kind === "pinch") {
      // the finger that stays draws nothing
      if (this.#fingers.size === 0) this.#drag = null;
      return;
    }
    if (!drag || drag.id !== event.pointerId) return;
    this.#drag = null;
    if (drag.kind !== "tool") return;
    if (frame) drag.tool.up(this.#at(event, frame), frame);
    else drag.tool.drop();
  }

  #lost(event: PointerEvent): void {
    this.#fingers.delete(event.pointerId);
    if (this.#drag?.kind === "pinch") {
      if (this.#fingers.size === 0) this.#drag = null;
    } else if (this.#drag?.id === event.pointerId) this.#forget();
  }

  #forget(): void {
    if (this.#drag?.kind === "tool") this.#drag.tool.drop();
    this.#drag = null;
  }

  #leave(): void {
    if (this.#drag) return;
    pointer.value = null;
    const frame = this.frame();
    if (frame) currentTool().hover(null, frame);
  }

  /** A double click makes the plane large, where no tool took the clicks. */
  #twice(): void {
    if (this.#free >= 2 && !currentTool().busy?.()) enlarge(this.axis);
    this.#free = 0;
  }

  #point(at: PointerAt, frame: Frame): void {
    pointer.value = { axis: this.axis, x: at.screenX, y: at.screenY };
    const kind = this.#drag?.kind ?? (moving.peek() ? "pan" : tool.peek() === "window" ? "window" : null);
    const shown = { pan: "grab", window: "ns-resize", crosshair: "crosshair", pinch: "grab" };
    const cursor = kind && kind !== "tool" ? shown[kind] : tool.peek() === "pan" ? "grab" : currentTool().cursor(at);
    if (this.host.style.cursor !== cursor) this.host.style.cursor = cursor;
    if (!this.#drag && !frame) this.host.style.cursor = "";
  }

  #toCrosshair(at: PointerAt): void {
    toVoxel(voxelAt(this.axis, at.slice, at.x, at.y));
  }

  /** To the right wider, downwards a higher level: darker. A drag across the plane is three times the width. */
  #drawWindow(byX: number, byY: number, frame: Frame): void {
    const { low, high } = window_.peek();
    const step = (Math.max(high - low, 1e-9) * 3) / Math.max(frame.width, 300);
    showWindow((low + high) / 2 + byY * step, high - low + byX * step);
  }

  #pinch(event: PointerEvent, at: PointerAt, frame: Frame): void {
    const [one, two] = [...this.#fingers];
    if (!one || !two || !this.#fingers.has(event.pointerId)) return;
    const [a, b] = [one[1], two[1]];
    const before = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) };
    const finger = this.#fingers.get(event.pointerId)!;
    finger.x = at.screenX;
    finger.y = at.screenY;
    const after = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) };
    cameras[this.axis].value = frame.moved(after.x - before.x, after.y - before.y);
    const moved = this.frame();
    if (moved && before.apart > 0)
      cameras[this.axis].value = moved.zoomed(after.apart / before.apart, after.x, after.y);
  }

  #wheel(event: WheelEvent): void {
    event.preventDefault();
    const frame = this.frame();
    if (!frame) return;
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : event.deltaMode === 1 ? 33 : 400;
    const delta = event.deltaY * unit;
    if (event.ctrlKey || event.metaKey) {
      const at = this.#at(event, frame);
      const factor = Math.exp(-Math.max(-60, Math.min(60, delta)) / 240);
      cameras[this.axis].value = frame.zoomed(factor, at.screenX, at.screenY);
      return;
    }
    if (Math.abs(delta) >= NOTCH) {
      this.#wheeled = 0;
      scroll(this.axis, Math.sign(delta) * Math.max(1, Math.round(Math.abs(delta) / 150)));
      return;
    }
    this.#wheeled += delta;
    const slices = Math.trunc(this.#wheeled / PAD_SLICE);
    this.#wheeled -= slices * PAD_SLICE;
    if (slices) scroll(this.axis, slices);
  }
}
