import { signal } from "@preact/signals";
import { beforeEach, expect, it } from "vitest";
import type { Scan } from "../../src/scan/scan";
import { activeAxis, cursor, scan, window_ } from "../../src/state";
import { onKey } from "../../src/view/keys";
import { cameras, moving, running, smooth } from "../../src/view/looking";
import { grid } from "../scan/grid";

function open(axcodes: string | null): void {
  const windows = [
    { name: "auto", low: -160, high: 240 },
    { name: "lung", low: -1350, high: 150 },
  ];
  const geometry = grid({ shape: [30, 4, 5], axcodes, calibrated: axcodes !== null, windows });
  scan.value = { geometry, version: signal(0), loaded: signal(1) } as unknown as Scan;
}

function press(key: string, more: KeyboardEventInit = {}): boolean {
  return onKey(new KeyboardEvent("keydown", { key, code: codeOf(key), ...more }));
}

function codeOf(key: string): string {
  if (/^\d$/.test(key)) return `Digit${key}`;
  return /^[a-z]$/i.test(key) ? `Key${key.toUpperCase()}` : key;
}

beforeEach(() => {
  open("LPI");
  cursor.value = [2, 2, 12];
  activeAxis.value = "k";
  running.value = false;
  moving.value = false;
});

it("arrows and pages go through the slices of the active plane, and stop at their ends", () => {
  expect(press("ArrowDown")).toBe(true);
  expect(cursor.value).toEqual([2, 2, 13]);
  press("PageUp");
  expect(cursor.value[2]).toBe(3);
  press("PageUp");
  expect(cursor.value[2]).toBe(0);
  press("End");
  expect(cursor.value[2]).toBe(29);
  activeAxis.value = "i";
  press("ArrowUp");
  expect(cursor.value[0]).toBe(1);
});

it("up is towards the head, however slices are stored", () => {
  open("LPS");
  press("ArrowUp");
  expect(cursor.value[2]).toBe(13);
  press("Home");
  expect(cursor.value[2]).toBe(29);
});

it("digits are windows; one that is not there is left to others", () => {
  expect(press("2")).toBe(true);
  expect(window_.value).toEqual({ name: "lung", low: -1350, high: 150 });
  expect(press("9")).toBe(false);
});

it("a Korean keyboard has the same keys", () => {
  expect(press("ㅊ", { code: "KeyC" })).toBe(true);
  expect(running.value).toBe(true);
});

it("F fits, I smooths", () => {
  cameras.k.value = { zoom: 3, u: 1, v: 1 };
  press("f");
  expect(cameras.k.value.zoom).toBe(1);
  const before = smooth.value;
  press("i");
  expect(smooth.value).toBe(!before);
});

it("Space moves the picture until it is let go", () => {
  expect(press(" ")).toBe(true);
  expect(moving.value).toBe(true);
  window.dispatchEvent(new KeyboardEvent("keyup", { key: " " }));
  expect(moving.value).toBe(false);
});

it("keys with Ctrl are not the picture's, and without a scan none is", () => {
  expect(press("f", { ctrlKey: true })).toBe(false);
  scan.value = null;
  expect(press("ArrowDown")).toBe(false);
});
