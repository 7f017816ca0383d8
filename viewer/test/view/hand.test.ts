import { signal } from "@preact/signals";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Scan } from "../../src/scan/scan";
import { cursor, layout, scan, tool, window_ } from "../../src/state";
import type { Chosen } from "../../src/tools/current";
import { pressed } from "../../src/tools/drag";
import type { PointerAt } from "../../src/tools/tool";
import { FITTED, type Frame } from "../../src/view/frame";
import { Hand } from "../../src/view/hand";
import { cameras, moving, pointer, scroll } from "../../src/view/looking";
import { grid } from "../scan/grid";
import { frame, plane } from "./place";

const heard: [string, PointerAt | null][] = [];
let takes = true;
const spy: Chosen = {
  id: "box",
  cursor: () => "cell",
  down: (at) => {
    heard.push(["down", at]);
    return takes;
  },
  move: (at) => void heard.push(["move", at]),
  up: (at) => void heard.push(["up", at]),
  hover: (at) => void heard.push(["hover", at]),
  cancel: () => void heard.push(["cancel", null]),
  // as of a tool that knows no better
  drop: () => spy.cancel(),
  key: () => false,
  draw: () => {},
};
vi.mock("../../src/tools/current", () => ({ currentTool: () => spy }));

let host: HTMLElement;
let hand: Hand;
const now = (): Frame => frame(plane({ count: 9 }), cameras.k.value);

beforeEach(() => {
  heard.length = 0;
  takes = true;
  cameras.k.value = FITTED;
  tool.value = "box";
  layout.value = "four";
  moving.value = false;
  window_.value = { name: "auto", low: 0, high: 100 };
  cursor.value = [0, 0, 2];
  const geometry = grid({ shape: [9, 40, 80], axcodes: "LPI", windows: [{ name: "auto", low: 0, high: 100 }] });
  scan.value = { geometry, version: signal(0), loaded: signal(1) } as unknown as Scan;
  host = document.createElement("div");
  host.setPointerCapture = () => {};
  document.body.append(host);
  hand = new Hand(host, "k", now);
});
afterEach(() => {
  hand.close();
  host.remove();
});

function point(type: string, x: number, y: number, more: PointerEventInit = {}): void {
  host.dispatchEvent(new PointerEvent(type, { clientX: x, clientY: y, pointerId: 1, bubbles: true, ...more }));
}
const names = (): string[] => heard.map(([name]) => name);

describe("the left button", () => {
  it("is the tool's, at positions of the stored slice", () => {
    point("pointerdown", 100, 100);
    point("pointermove", 120, 100);
    point("pointerup", 120, 100);
    expect(names()).toEqual(["down", "move", "up"]);
    const [, at] = heard[0]!;
    expect([at!.x, at!.y, at!.slice, at!.kind]).toEqual([39.5, 19.5, 2, "mouse"]);
    expect(heard[2]![1]!.x).toBeCloseTo(39.5 + 20 / now().scale[0]);
  });

  it("with Shift puts the crosshair, whatever the tool", () => {
    point("pointerdown", 100, 100, { shiftKey: true });
    expect(names()).toEqual([]);
    expect(cursor.value).toEqual([40, 20, 2]);
  });

  it("puts the crosshair where the tool does not take it", () => {
    takes = false;
    point("pointerdown", 100, 100);
    point("pointermove", 0, 100);
    point("pointerup", 0, 100);
    expect(cursor.value).toEqual([0, 20, 2]);
  });

  it("moves the picture while Space is held", () => {
    moving.value = true;
    point("pointerdown", 100, 100);
    point("pointermove", 110, 95);
    expect(names()).toEqual([]);
    const [x, y] = now().toScreen(39.5, 19.5);
    expect([Math.round(x), Math.round(y)]).toEqual([110, 95]);
  });
});

describe("a tool", () => {
  it("hears of a pointer without a button, and of its leaving", () => {
    point("pointermove", 50, 60);
    point("pointerleave", 0, 0);
    expect(names()).toEqual(["hover", "hover"]);
    expect(heard[1]![1]).toBeNull();
    expect(pointer.value).toBeNull();
  });

  it("forgets its drag when the pointer is lost", () => {
    point("pointerdown", 50, 60);
    point("pointercancel", 50, 60);
    point("pointerup", 50, 60);
    expect(names()).toEqual(["down", "cancel"]);
  });

  it("is asked for the cursor", () => {
    point("pointermove", 50, 60);
    expect(host.style.cursor).toBe("cell");
  });
});

describe("a press of a tool", () => {
  afterEach(() => {
    pressed.value = false;
  });
  it("holds the slice", () => {
    pressed.value = true;
    scroll("k", 3);
    expect(cursor.value).toEqual([0, 0, 2]);
    pressed.value = false;
    scroll("k", 3);
    expect(cursor.value[2]).not.toBe(2);
  });
});

describe("a pen", () => {
  const by = (type: string, pointerType: string, pointerId: number, x = 80) =>
    point(type, x, 100, { pointerType, pointerId });

  it("draws on with a palm beside it", () => {
    by("pointerdown", "pen", 1);
    by("pointerdown", "touch", 2);
    by("pointerdown", "touch", 3);
    by("pointermove", "pen", 1, 90);
    by("pointerup", "touch", 3);
    by("pointerup", "pen", 1, 90);
    expect(names()).toEqual(["down", "move", "up"]);
  });

  it("is what is meant where a palm came before", () => {
    by("pointerdown", "touch", 2);
    by("pointerdown", "pen", 1);
    by("pointermove", "touch", 2, 120);
    by("pointerup", "touch", 2);
    by("pointerup", "pen", 1);
    expect(names()).toEqual(["down", "cancel", "down", "up"]);
  });
});

describe("the right button", () => {
  it("drags the window: wider to the right, darker downwards", () => {
    point("pointerdown", 100, 100, { button: 2 });
    point("pointermove", 150, 120, { button: 2 });
    const { low, high, name } = window_.value;
    expect(high - low).toBeCloseTo(150);
    expect((low + high) / 2).toBeCloseTo(70);
    expect(name).toBe("own");
  });

  it("never makes a window without a width", () => {
    point("pointerdown", 100, 100, { button: 2 });
    point("pointermove", -1000, 100, { button: 2 });
    expect(window_.value.high - window_.value.low).toBeCloseTo(0.1);
  });
});

describe("the wheel", () => {
  const wheel = (deltaY: number, ctrlKey = false) => {
    const event = new WheelEvent("wheel", { deltaY, cancelable: true });
    // a browser's wheel event is a mouse event, happy-dom's is not
    for (const [name, value] of Object.entries({ clientX: 30, clientY: 170, ctrlKey })) {
      Object.defineProperty(event, name, { value });
    }
    host.dispatchEvent(event);
  };

  it("goes through the slices, a notch each", () => {
    wheel(100);
    expect(cursor.value[2]).toBe(3);
    wheel(-120);
    wheel(-120);
    expect(cursor.value[2]).toBe(1);
  });

  it("of a touchpad goes a slice for each bit of the way", () => {
    for (let n = 0; n < 12; n += 1) wheel(4);
    expect(cursor.value[2]).toBe(4);
  });

  it("stops at the last slice", () => {
    for (let n = 0; n < 20; n += 1) wheel(100);
    expect(cursor.value[2]).toBe(8);
  });

  it("zooms with Ctrl, at the pointer", () => {
    const at = now().fromScreen(30, 170);
    wheel(-120, true);
    const [x, y] = now().toScreen(...at);
    expect(cameras.k.value.zoom).toBeGreaterThan(1.2);
    expect([Math.round(x), Math.round(y)]).toEqual([30, 170]);
  });
});

describe("two fingers", () => {
  const touch = (type: string, id: number, x: number, y: number) =>
    point(type, x, y, { pointerId: id, pointerType: "touch" });

  it("take back the press of the first one alone, where the tool knows how", () => {
    vi.spyOn(spy, "drop").mockImplementationOnce(() => void heard.push(["drop", null]));
    touch("pointerdown", 1, 80, 100);
    touch("pointerdown", 2, 120, 100);
    expect(names()).toEqual(["down", "drop"]);
  });

  it("zoom and move, and what the first one began is forgotten", () => {
    touch("pointerdown", 1, 80, 100);
    touch("pointerdown", 2, 120, 100);
    expect(names()).toEqual(["down", "cancel"]);
    touch("pointermove", 1, 60, 100);
    touch("pointermove", 2, 140, 100);
    expect(cameras.k.value.zoom).toBeCloseTo(2);
    expect(now().toScreen(39.5, 19.5)[0]).toBeCloseTo(100);
    touch("pointerup", 2, 140, 100);
    touch("pointermove", 1, 20, 100);
    touch("pointerup", 1, 20, 100);
    expect(names()).toEqual(["down", "cancel"]);
    touch("pointerdown", 3, 80, 100);
    expect(names()).toEqual(["down", "cancel", "down"]);
  });
});

describe("a double click", () => {
  const twice = () => {
    for (let n = 0; n < 2; n += 1) {
      point("pointerdown", 100, 100);
      point("pointerup", 100, 100);
    }
    host.dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
  };

  it("makes the plane large, and shows all again", () => {
    takes = false;
    twice();
    expect(layout.value).toBe("one");
    twice();
    expect(layout.value).toBe("four");
  });

  it("is two clicks where the tool takes them", () => {
    twice();
    expect(layout.value).toBe("four");
  });
});
