// A press of a pointer: a click or a drag, and how long it lasted.

import { signal } from "@preact/signals";
import type { PointerAt } from "./tool";

/** A tool has a press: until it lets go the slice stays, and no other pointer is heard. */
export const pressed = signal(false);

/** CSS pixels that a hand trembles by. */
const TREMBLE = 4;
const FINGER = 10;
/** ms of a touch that means the other button. */
export const LONG_PRESS = 500;

export class Press {
  last: PointerAt;
  private far = false;

  constructor(readonly first: PointerAt) {
    this.last = first;
  }

  /** Heard with each move. Once it was far away it is a drag, also when it comes back. */
  move(at: PointerAt): void {
    this.last = at;
    if (this.first.kind === "keys") {
      this.far ||= at.x !== this.first.x || at.y !== this.first.y;
      return;
    }
    const way = Math.hypot(at.screenX - this.first.screenX, at.screenY - this.first.screenY);
    this.far ||= way > (this.first.kind === "touch" ? FINGER : TREMBLE);
  }

  get isDrag(): boolean {
    return this.far;
  }
}

/** CSS pixels within which a pointer has a thing. */
export function reachOf(at: PointerAt): number {
  return at.kind === "touch" ? 16 : 6;
}
