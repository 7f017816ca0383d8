import { describe, expect, it } from "vitest";
import { activeSlices, leastSure, nextLeastSure, slicesOf } from "../../src/panels/slices";
import { FakeReading } from "./fake";

function propagated(): FakeReading {
  const reading = new FakeReading();
  for (const slice of [4, 5, 7, 8]) reading.masks.put(1, slice, "propagated");
  reading.masks.put(1, 6);
  reading.asks(1, 6);
  reading.sure(1, { 4: 0.3, 5: 0.8, 7: 0.6, 8: 0.3 });
  return reading;
}

describe("slices of a structure", () => {
  it("say how they came to be", () => {
    const reading = propagated();
    reading.masks.put(1, 10, "drawn");
    expect(slicesOf(reading, 1)).toEqual([
      { slice: 4, kind: "propagated", confidence: 0.3 },
      { slice: 5, kind: "propagated", confidence: 0.8 },
      { slice: 6, kind: "prompted", confidence: null },
      { slice: 7, kind: "propagated", confidence: 0.6 },
      { slice: 8, kind: "propagated", confidence: 0.3 },
      { slice: 10, kind: "drawn", confidence: null },
    ]);
    expect(slicesOf(reading, 2)).toEqual([]);
  });
  it("are ranked by doubt, the lower slice first where it is the same", () => {
    expect(leastSure(slicesOf(propagated(), 1)).map((one) => one.slice)).toEqual([4, 8, 7, 5]);
  });
  it("that were fixed are no longer in doubt", () => {
    const reading = propagated();
    reading.masks.put(1, 4, "refined");
    reading.asks(1, 4, { points: [[2, 2, 1]] });
    expect(leastSure(slicesOf(reading, 1)).map((one) => one.slice)).toEqual([8, 7, 5]);
    reading.masks.put(1, 8, "drawn");
    reading.asks(1, 8, { drawn: { size: [4, 4], counts: "" } });
    expect(leastSure(slicesOf(reading, 1)).map((one) => one.slice)).toEqual([7, 5]);
  });
  it("that undo brought back are as they were", () => {
    const reading = propagated();
    reading.masks.put(1, 4, "restored");
    expect(slicesOf(reading, 1)[0]).toEqual({ slice: 4, kind: "propagated", confidence: 0.3 });
  });
});

describe("slices of the active structure", () => {
  it("are made once a change, and are those of another once it is active", () => {
    const reading = propagated();
    const found = activeSlices(reading);
    expect(activeSlices(reading)).toBe(found);
    reading.masks.put(1, 9, "propagated");
    expect(activeSlices(reading).slices.map((one) => one.slice)).toEqual([4, 5, 6, 7, 8, 9]);
    reading.active.value = 2;
    expect(activeSlices(reading)).toEqual({ slices: [], leastSure: [] });
  });
});

describe("jumping to the least sure", () => {
  it("goes to the worst first, then to the next, and around", () => {
    const order = leastSure(slicesOf(propagated(), 1));
    const visited = [];
    let now: number | null = null;
    for (let jump = 0; jump < 5; jump += 1) {
      now = nextLeastSure(order, now)!.slice;
      visited.push(now);
    }
    expect(visited).toEqual([4, 8, 7, 5, 4]);
  });
  it("begins with the worst from any other slice", () => {
    const order = leastSure(slicesOf(propagated(), 1));
    expect(nextLeastSure(order, null)!.slice).toBe(4);
    expect(nextLeastSure(order, 6)!.slice).toBe(4);
  });
  it("goes nowhere without a propagated slice", () => {
    expect(nextLeastSure([], null)).toBeUndefined();
  });
});
