// What is painted, painted again when something that it was made of has changed: at most once a frame, and not at all
// while nothing changes.

import { effect } from "@preact/signals";

const stale = new Set<Layer>();
let asked = 0;

function paintAll(): void {
  asked = 0;
  const now = [...stale];
  stale.clear();
  for (const layer of now) {
    try {
      layer.paint();
    } catch (error) {
      // of one drawing; the others are painted all the same
      reportError(error);
    }
  }
}

/** A drawing. The signals that it reads while it draws are those that it follows. */
export class Layer {
  #unfollow: (() => void) | null = null;
  #closed = false;

  constructor(private readonly draw: () => void) {}

  /** Have it painted in the next frame. */
  touch(): void {
    if (this.#closed) return;
    stale.add(this);
    if (!asked) asked = requestAnimationFrame(paintAll);
  }

  paint(): void {
    if (this.#closed) return;
    this.#unfollow?.();
    let drawn = false;
    this.#unfollow = effect(() => {
      if (drawn) return this.touch();
      drawn = true;
      this.draw();
    });
  }

  close(): void {
    this.#closed = true;
    this.#unfollow?.();
    stale.delete(this);
  }
}
