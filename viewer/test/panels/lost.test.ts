import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { guardLeaving, mayLeave, sending, unsafe } from "../../src/panels/lost";
import { offline, reading, scan, tool } from "../../src/state";
import { currentTool } from "../../src/tools/current";
import { measured } from "../../src/tools/line";
import { Overlay } from "../../src/tools/local";
import { sent } from "../../src/tools/steps";
import { region } from "../../src/tools/threshold";
import { at, fakeScan, plane, stageOf } from "../tools/fake";
import { FakeReading, square } from "./fake";

const INFO = plane([20, 30]);
let open: FakeReading;
let stop: () => void;

/** Whether the browser asks before the page goes. */
function asks(): boolean {
  return !window.dispatchEvent(new Event("beforeunload", { cancelable: true }));
}

beforeEach(() => {
  open = new FakeReading();
  scan.value = fakeScan(INFO);
  reading.value = open;
  stop = guardLeaving();
});
afterEach(() => {
  stop();
  measured.value = [];
  region.value = null;
  sent.value = [];
  tool.value = "box";
  offline.value = false;
  reading.value = null;
  scan.value = null;
});

describe("what a case is left with", () => {
  it("costs nothing where all is on the server", () => {
    expect([mayLeave(), asks()]).toEqual([true, false]);
  });

  it("goes on behind where the server is there: leaving the page is asked about, leaving the case is not", () => {
    open.pending.value = 1;
    expect([sending.value, unsafe.value, asks(), mayLeave()]).toEqual([true, "sending", true, true]);
    open.pending.value = 0;
    sent.value = [{ axis: "k", slice: 1, object: null, wish: {}, over: new Overlay() }];
    expect([sending.value, asks()]).toEqual([true, true]);
  });

  it("is asked about where steps cannot arrive", () => {
    open.pending.value = 1;
    offline.value = true;
    expect(mayLeave()).toBeInstanceOf(Promise);
  });

  it("is asked about while lines are measured, a range is not applied, a polygon is open", () => {
    measured.value = [
      {
        axis: "k",
        slice: 1,
        line: [
          [0, 0],
          [1, 1],
        ],
      },
    ];
    expect([asks(), mayLeave()]).toEqual([true, expect.any(Promise)]);
    measured.value = [];
    region.value = { axis: "k", slice: 1, object: 1, area: square(2) };
    expect([asks(), mayLeave()]).toEqual([true, expect.any(Promise)]);
    region.value = null;
    tool.value = "polygon";
    const stage = stageOf(INFO);
    currentTool().down(at(stage, 3, 3), stage);
    expect([asks(), mayLeave()]).toEqual([true, expect.any(Promise)]);
    currentTool().cancel();
    expect([asks(), mayLeave()]).toEqual([false, true]);
  });
});
