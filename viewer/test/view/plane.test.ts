import { signal } from "@preact/signals";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { ObjectInfo } from "../../src/api/types";
import { MaskStore } from "../../src/reading/masks";
import type { Asked, Reading } from "../../src/reading/reading";
import type { Scan } from "../../src/scan/scan";
import { cursor, reading, window_ } from "../../src/state";
import { touch } from "../../src/tools/local";
import { type Canvases, Plane } from "../../src/view/plane";
import { grid } from "../scan/grid";
import { canvasOf, contextOf } from "./canvas";

const calls = { slice: [] as string[], masks: [] as string[], hand: [] as string[] };
const BOX: Asked = { object: 1, slice: 0, entry: { object: 1, slice: 0, box: [10, 10, 20, 20] } };
const asked = signal<readonly Asked[]>([]);
/** What is called when the page is on another screen. */
const screens: (() => void)[] = [];
let plane: Plane;
let canvases: Canvases;
let masks: MaskStore;

/** A square of the object on the lowest slice. */
function answer(object: number, edges: readonly [number, number, number, number], revision: number): void {
  const pixels = new Uint8Array((edges[2] - edges[0]) * (edges[3] - edges[1])).fill(1);
  const said = {
    status: "refined",
    predictedIou: null,
    confidence: null,
    expectedDice: null,
    ambiguous: false,
  } as const;
  const on = { axis: "k", rows: 100, columns: 100 } as const;
  masks.apply([{ ...said, ...on, object, slice: 0, revision, base: 0, rectangle: edges, pixels }], revision);
}

function frame(): Promise<void> {
  return new Promise((go) => requestAnimationFrame(() => setTimeout(go)));
}

beforeEach(async () => {
  vi.stubGlobal(
    "Path2D",
    class {
      moveTo(): void {}
      lineTo(): void {}
      closePath(): void {}
      addPath(): void {}
    },
  );
  vi.stubGlobal("DOMMatrix", class {});
  screens.length = 0;
  vi.stubGlobal("matchMedia", () => ({ addEventListener: (_: string, change: () => void) => screens.push(change) }));
  vi.stubGlobal(
    "ResizeObserver",
    class {
      constructor(private readonly changed: () => void) {}
      observe(): void {
        this.changed();
      }
      disconnect(): void {}
    },
  );
  vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockImplementation(() => contextOf([]) as never);
  masks = new MaskStore("k");
  const objects = [1, 2].map((id) => ({ id, name: `one ${id}`, colour: "#ff0000", visible: true })) as ObjectInfo[];
  const mine = { axis: "k", masks, objects: signal(objects), active: signal(1), asked, mine: true };
  asked.value = [BOX];
  reading.value = mine as unknown as Reading;
  cursor.value = [0, 0, 0];
  window_.value = { name: "auto", low: 0, high: 1 };
  const geometry = grid({ shape: [3, 100, 100] });
  const pixels = { rows: 100, columns: 100, channels: 1, data: new Int16Array(10_000) } as const;
  const host = document.createElement("div");
  Object.defineProperties(host, { clientWidth: { value: 400 }, clientHeight: { value: 400 } });
  const scan = { caseId: "case", geometry, version: signal(0), slice: () => pixels } as unknown as Scan;
  canvases = { slice: canvasOf(calls.slice), masks: canvasOf(calls.masks), hand: canvasOf(calls.hand) };
  plane = new Plane(scan, "k", host, canvases);
  answer(1, [10, 10, 20, 20], 1);
  answer(2, [70, 70, 90, 90], 2);
  await frame();
});
afterEach(() => {
  plane.close();
  reading.value = null;
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

it("a mask that changes is painted, and neither the slice nor the other masks again", async () => {
  const fills = (): number => calls.masks.splice(0).filter((one) => one.startsWith("fill {}")).length;
  expect(calls.slice.splice(0).filter((one) => one.startsWith("drawImage"))).toHaveLength(1);
  expect(fills()).toBe(2);
  answer(1, [10, 10, 20, 25], 3);
  await frame();
  expect(calls.slice).toEqual([]);
  expect(fills()).toBe(1);
  window_.value = { name: "own", low: 0, high: 2 };
  await frame();
  expect(calls.slice.some((one) => one.startsWith("drawImage"))).toBe(true);
  expect(fills()).toBe(0);
});

it("a screen with other pixels has the picture painted in these", async () => {
  expect(canvases.slice.width).toBe(400);
  const ratio = vi.spyOn(window, "devicePixelRatio", "get").mockReturnValue(2);
  screens.at(-1)!();
  await frame();
  expect(canvases.slice.width).toBe(800);
  ratio.mockReturnValue(1);
  screens.at(-1)!();
  await frame();
  expect([canvases.slice.width, screens.length]).toEqual([400, 3]);
});

it("what the hand drew is painted when it is another, and on no more than it covers", async () => {
  const paints = (): string[] => calls.hand.splice(0).filter((one) => /^(stroke|fill)/.test(one));
  expect(paints().length).toBeGreaterThan(0);
  touch();
  asked.value = [{ ...BOX }];
  await frame();
  expect(paints()).toEqual([]);
  expect(canvases.hand.width * canvases.hand.height).toBeLessThan(400 * 400 * 0.25);
  asked.value = [];
  await frame();
  expect(canvases.hand.style.visibility).toBe("hidden");
});
