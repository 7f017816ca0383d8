import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Me } from "../../src/api/types";
import { followIdle, idleFor } from "../../src/shell/idle";
import { locked, me } from "../../src/state";

let stop = () => {};

beforeEach(() => {
  vi.useFakeTimers();
  me.value = { name: "anna", locks_after: 60 } as Me;
  locked.value = false;
  stop = followIdle();
  window.dispatchEvent(new Event("pointerdown"));
});
afterEach(() => {
  stop();
  me.value = null;
  locked.value = false;
  vi.useRealTimers();
});

describe("a reader who does nothing", () => {
  it("is locked out after as long as the server says", () => {
    vi.advanceTimersByTime(55_000);
    expect(locked.value).toBe(false);
    vi.advanceTimersByTime(10_000);
    expect(locked.value).toBe(true);
  });

  it("is not, where a key or the wheel says otherwise", () => {
    for (const sign of ["keydown", "wheel", "pointermove"]) {
      vi.advanceTimersByTime(50_000);
      window.dispatchEvent(new Event(sign));
    }
    vi.advanceTimersByTime(50_000);
    expect(locked.value).toBe(false);
  });

  it("has all the time again once it is unlocked", () => {
    vi.advanceTimersByTime(70_000);
    locked.value = false;
    expect(idleFor()).toBe(0);
    vi.advanceTimersByTime(30_000);
    expect(locked.value).toBe(false);
  });

  it("is never locked out without a login", () => {
    me.value = { name: "local", locks_after: null } as Me;
    vi.advanceTimersByTime(10_000_000);
    expect(locked.value).toBe(false);
  });
});
