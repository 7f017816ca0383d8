// A reader who does nothing for as long as the server allows has the picture hidden, and the password is asked for. The
// server counts for itself what it is asked; this is for a page that asks nothing.

import { locked, me } from "../state";

const LOOK_MS = 5000;
const SIGNS = ["pointerdown", "pointermove", "wheel", "keydown", "touchstart"] as const;

let last = Date.now();

/** Milliseconds since a hand was last on mouse, keys or screen. */
export function idleFor(): number {
  return Date.now() - last;
}

export function followIdle(): () => void {
  const sign = () => {
    if (!locked.value) last = Date.now();
  };
  for (const name of SIGNS) window.addEventListener(name, sign, { passive: true, capture: true });
  const timer = setInterval(() => {
    const after = me.value?.locks_after ?? null;
    if (after !== null && idleFor() >= after * 1000) locked.value = true;
  }, LOOK_MS);
  const unlocked = locked.subscribe((is) => {
    if (!is) last = Date.now();
  });
  return () => {
    clearInterval(timer);
    unlocked();
    for (const name of SIGNS) window.removeEventListener(name, sign, { capture: true });
  };
}
