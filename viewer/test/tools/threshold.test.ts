import { beforeEach, describe, expect, it } from "vitest";
import { brushSize, messages } from "../../src/state";
import { tryOn } from "../../src/tools/candidates";
import { currentTool } from "../../src/tools/current";
import {
  apply,
  between,
  boxArea,
  ends,
  guess,
  joined,
  keep,
  manner,
  pixelsIn,
  range,
  region,
  regionBy,
  setManner,
  setRange,
} from "../../src/tools/threshold";
import {
  at,
  choose,
  drawing,
  fakeReading,
  key,
  liver,
  local,
  open,
  paper,
  pixelsOf,
  plane,
  rowsOf,
  settled,
  stageOf,
} from "./fake";

const INFO = plane([12, 12]);
const STAGE = stageOf(INFO, 10);
/** A bright square of 4 x 4 (100, its first pixel 90) on a dark ground (0 to 11). */
const PIXELS = pixelsOf(12, 12, (x, y) => (x >= 4 && x < 8 && y >= 4 && y < 8 ? (x + y === 8 ? 90 : 100) : x));

function drag(from: [number, number], to: [number, number]) {
  const tool = currentTool();
  tool.down(at(STAGE, ...from), STAGE);
  tool.move(at(STAGE, ...to), STAGE);
  tool.draw(paper, STAGE);
  tool.up(at(STAGE, ...to), STAGE);
  tool.draw(paper, STAGE);
}

beforeEach(() => {
  choose("box");
  choose("threshold");
  manner.value = "add";
  regionBy.value = "box";
});

describe("values", () => {
  it("fall into two kinds where they differ most", () => {
    expect(between(Float64Array.from([0, 1, 2, 1, 50, 51, 49]))).toBe(49);
    expect(between(Float64Array.from([7, 7]))).toBe(7);
  });
  it("of the middle are what is meant: bright on dark, dark on bright", () => {
    expect(guess(PIXELS, boxArea([2, 2, 10, 10]))).toEqual([90, 100]);
    const dark = pixelsOf(12, 12, (x, y) => 100 - PIXELS.data[y * 12 + x]!);
    expect(guess(dark, boxArea([2, 2, 10, 10]))).toEqual([0, 10]);
  });
  it("within a range count with both ends, in the region alone", () => {
    expect(pixelsIn(PIXELS, boxArea([3, 3, 6.5, 6]), [90, 100])).toEqual(drawing(4, 4, "###", "###"));
    expect(rowsOf(pixelsIn(PIXELS, boxArea([3, 3, 9, 9]), [91, 100]))[0]).toBe(".###");
  });
  it("that were found are added, removed, or all there is", () => {
    const old = drawing(0, 0, "##");
    const found = drawing(1, 0, "##");
    expect(joined([4, 4], old, found, "add")).toEqual(drawing(0, 0, "###"));
    expect(joined([4, 4], old, found, "remove")).toEqual(drawing(0, 0, "#"));
    expect(joined([4, 4], old, found, "replace")).toEqual(found);
    expect(joined([4, 4], undefined, found, "add")).toEqual(found);
    expect(joined([4, 4], undefined, found, "remove").data).toHaveLength(0);
  });
});

describe("a drag", () => {
  it("shows what is found in the box, follows the slider, and draws when it is applied", async () => {
    const reading = open(INFO, fakeReading(), PIXELS);
    drag([1.5, 1.5], [9.5, 9.5]);
    expect(ends.value).toEqual([2, 100]);
    expect(range.value).toEqual([90, 100]);
    expect(local()!.mask).toEqual(drawing(4, 4, "####", "####", "####", "####"));
    setRange([95, 100]);
    expect(local()!.mask).toEqual(drawing(4, 4, ".###", "####", "####", "####"));
    expect(currentTool().key(key("Enter"))).toBe(true);
    await settled();
    expect(reading.drawn).toHaveLength(1);
    expect(reading.drawn[0]!.mask).toEqual(drawing(4, 4, ".###", "####", "####", "####"));
    expect(region.value).toBeNull();
    expect(local()).toBeUndefined();
  });
  it("adds to the mask that is there, or takes from it", () => {
    const reading = open(INFO, fakeReading(), PIXELS);
    reading.put(1, 3, drawing(4, 4, "#....#"));
    drag([1.5, 1.5], [9.5, 9.5]);
    expect(rowsOf(local()!.mask)[0]).toBe("####.#");
    setManner("remove");
    expect(local()!.mask).toEqual(drawing(9, 4, "#"));
  });
  it("is of the structure that it was made for, and forgotten with another one", async () => {
    const reading = open(INFO, fakeReading([liver(), liver({ id: 2, name: "spleen" })]), PIXELS);
    drag([1.5, 1.5], [9.5, 9.5]);
    reading.active.value = 2;
    expect([region.value, local()]).toEqual([null, undefined]);
    apply();
    await settled();
    expect(reading.drawn).toEqual([]);
  });
  it("goes on from the mask as it is when it is applied", async () => {
    const reading = open(INFO, fakeReading(), PIXELS);
    drag([1.5, 1.5], [9.5, 9.5]);
    reading.put(1, 3, drawing(4, 3, "####"));
    expect(rowsOf(local()!.mask)).toHaveLength(5);
    apply();
    await settled();
    expect(reading.drawn[0]!.mask).toEqual(drawing(4, 3, "####", "####", "####", "####", "####"));
  });
  it("is what is applied, also after another answer was looked at", async () => {
    const reading = open(INFO, fakeReading(), PIXELS);
    drag([1.5, 1.5], [9.5, 9.5]);
    const place = { session: "s", object: 1, slice: 3, revision: 1 };
    tryOn(place, { mask: drawing(0, 0, "#"), predictedIou: 0.5 });
    expect(local()!.mask).toEqual(drawing(0, 0, "#"));
    tryOn(place, null);
    expect(rowsOf(local()!.mask)).toHaveLength(4);
    tryOn(place, { mask: drawing(0, 0, "#"), predictedIou: 0.5 });
    apply();
    await settled();
    tryOn(place, null);
    expect(rowsOf(reading.drawn[0]!.mask)).toHaveLength(4);
  });
  it("is forgotten by Escape, and by another tool", () => {
    open(INFO, fakeReading(), PIXELS);
    drag([1.5, 1.5], [9.5, 9.5]);
    expect(currentTool().key(key("Escape"))).toBe(true);
    expect(local()).toBeUndefined();
    drag([1.5, 1.5], [9.5, 9.5]);
    choose("box");
    expect(local()).toBeUndefined();
    expect(region.value).toBeNull();
  });
  it("with a brush looks under the brush alone", () => {
    open(INFO, fakeReading(), PIXELS);
    regionBy.value = "brush";
    brushSize.value = 0.5;
    drag([2, 5], [9, 5]);
    expect(local()!.mask).toEqual(drawing(4, 5, "####"));
  });
});

describe("without grey values", () => {
  it("in colour, or while they are on their way, it says what to do", () => {
    open(INFO, fakeReading(), { ...PIXELS, channels: 3 });
    drag([1.5, 1.5], [9.5, 9.5]);
    expect(region.value).toBeNull();
    expect(messages.value).toHaveLength(1);
    open(INFO);
    drag([1.5, 1.5], [9.5, 9.5]);
    expect(messages.value).toHaveLength(1);
  });
});

describe("a range that is kept", () => {
  it("bounds masks from then on, until it is taken back", async () => {
    const reading = open(INFO, fakeReading(), PIXELS);
    await keep([-100, 300]);
    expect(reading.keptTo).toEqual([-100, 300]);
    await keep(null);
    expect(reading.keptTo).toBeNull();
  });
});
