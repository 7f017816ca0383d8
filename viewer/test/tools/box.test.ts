import { beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../../src/api/http";
import { NotTaken } from "../../src/reading/untaken";
import { cursor, masksShown, messages } from "../../src/state";
import { currentTool } from "../../src/tools/current";
import { LONG_PRESS, pressed } from "../../src/tools/drag";
import { makeObject, sent, standing } from "../../src/tools/steps";
import {
  at,
  choose,
  drawing,
  fakeReading,
  later,
  liver,
  local,
  open,
  paper,
  plane,
  settled,
  stageOf,
  UPRIGHT,
} from "./fake";

const INFO = plane([64, 64]);
const STAGE = stageOf(INFO);

function drag(from: [number, number], to: [number, number], stage = STAGE, more = {}) {
  const tool = currentTool();
  tool.down(at(stage, ...from, more), stage);
  tool.move(at(stage, (from[0] + to[0]) / 2, (from[1] + to[1]) / 2, more), stage);
  tool.move(at(stage, ...to, more), stage);
  tool.up(at(stage, ...to, more), stage);
}

beforeEach(() => choose("box"));

describe("a drag", () => {
  it("asks for a box of the active object on that slice", async () => {
    const reading = open(INFO);
    drag([9.5, 19.5], [29.5, 39.5]);
    await settled();
    expect(reading.prompts).toEqual([{ object: 1, slice: 3, box: [10, 20, 30, 40] }]);
  });
  it("says the same stored box however the slice is turned, with pixels that are not square", async () => {
    for (const transpose of [false, true]) {
      for (const flip of [false, true]) {
        const info = plane([40, 64], [2.5, 0.7], { transpose, flip_rows: flip, flip_columns: !flip });
        const reading = open(info);
        drag([9.5, 4.5], [29.5, 20.5], stageOf(info, 3));
        await settled();
        expect(reading.prompts).toEqual([{ object: 1, slice: 3, box: [10, 5, 30, 21] }]);
      }
    }
  });
  it("takes the crosshair to its middle, on the same slice", async () => {
    open(INFO);
    drag([9.5, 19.5], [29.5, 39.5]);
    expect(cursor.value).toEqual([20, 30, 3]);
    await settled();
  });
  it("is sent within the event that ends it, before anything is drawn anew", async () => {
    const seen: unknown[] = [];
    const prompt = async () => {
      seen.push(cursor.value, sent.value, masksShown.value);
      return { status: "first", predictedIou: 0.9 } as const;
    };
    open(INFO, fakeReading(undefined, { prompt }));
    cursor.value = [1, 2, 3];
    masksShown.value = false;
    drag([9.5, 19.5], [29.5, 39.5]);
    expect(seen).toEqual([[1, 2, 3], [], false]);
    expect([cursor.value, masksShown.value]).toEqual([[20, 30, 3], true]);
    await settled();
  });
  it("stays on screen until the answer is there", async () => {
    open(INFO);
    drag([10, 10], [30, 30]);
    expect(sent.value.map((one) => one.wish.box)).toEqual([[10.5, 10.5, 30.5, 30.5]]);
    await settled();
    expect(sent.value).toEqual([]);
  });
  it("is on the screen of its own reading alone", async () => {
    const { promise, come } = later();
    const before = open(INFO);
    before.gate = promise;
    drag([10, 10], [30, 30]);
    open(INFO);
    expect(standing("k", 3).outline).toBeNull();
    come();
    await settled();
    expect(before.prompts).toHaveLength(1);
  });
  it("has handles for its own object alone", async () => {
    const reading = open(INFO, fakeReading([liver(), liver({ id: 2, name: "spleen" })]));
    drag([10, 10], [30, 30]);
    expect(standing("k", 3).outline?.box).toBeDefined();
    reading.active.value = 2;
    expect(standing("k", 3).outline).toBeNull();
    await settled();
  });
  it("has the mask of the box before fade until then, also where it is refused", async () => {
    const reading = open(INFO);
    reading.put(1, 3, drawing(12, 12, "##"));
    drag([10, 10], [30, 30]);
    expect(local()).toMatchObject({ object: 1, slice: 3, mask: drawing(12, 12, "##"), faded: true });
    await vi.waitFor(() => expect(local()).toBeUndefined());
    reading.fails = new ApiError(422, "The box is not good.");
    drag([10, 10], [30, 30]);
    await vi.waitFor(() => expect(local()).toBeUndefined());
  });
  it("that is refused goes away with a message", async () => {
    const reading = open(INFO);
    reading.fails = new ApiError(422, "The box is not good.");
    drag([10, 10], [30, 30]);
    await settled();
    expect(sent.value).toEqual([]);
    expect(messages.value[0]).toMatchObject({ kind: "error" });
    expect(messages.value[0]!.text).toContain("The box is not good.");
  });
  it("of an empty reading makes an object first, and only one for two quick steps", async () => {
    const reading = open(INFO, fakeReading([]));
    drag([10, 10], [30, 30]);
    drag([12, 12], [32, 32]);
    await settled();
    expect(reading.objects.value.map((one) => one.name)).toEqual(["structure 1"]);
    expect(reading.active.value).toBe(1);
    expect(reading.prompts.map((one) => one.object)).toEqual([1, 1]);
  });
  it("has the object of an empty reading made while it is drawn, one of each reading", async () => {
    const { promise, come } = later();
    const [before, now] = [fakeReading([]), fakeReading([])];
    before.gate = promise;
    open(INFO, before);
    drag([10, 10], [30, 30]);
    open(INFO, now);
    const tool = currentTool();
    tool.down(at(STAGE, 10, 10), STAGE);
    await settled();
    expect(now.objects.value.map((one) => one.name)).toEqual(["structure 1"]);
    tool.move(at(STAGE, 30, 30), STAGE);
    tool.up(at(STAGE, 30, 30), STAGE);
    await settled();
    expect([before.prompts.length, now.prompts.length]).toEqual([0, 1]);
    come();
    await settled();
    expect([before.prompts.length, now.prompts.length]).toEqual([1, 1]);
  });
  it("is of the object that is being made, not of the one before", async () => {
    const reading = open(INFO);
    const { promise, come } = later();
    reading.gate = promise;
    const made = makeObject(reading, "spleen");
    drag([10, 10], [30, 30]);
    come();
    await made;
    await settled();
    expect(reading.prompts.map((one) => one.object)).toEqual([2]);
  });
  it("keeps the slice as long as it lasts", () => {
    open(INFO);
    const tool = currentTool();
    tool.down(at(STAGE, 10, 10), STAGE);
    expect(pressed.value).toBe(true);
    // a palm on the same plane
    expect(tool.down(at(STAGE, 50, 50), STAGE)).toBe(false);
    tool.up(at(STAGE, 30, 30), STAGE);
    expect(pressed.value).toBe(false);
  });
  it("that the server could not take now is sent again at the press of a button", async () => {
    const reading = open(INFO);
    reading.fails = new NotTaken(new ApiError(503, "was not stored"), async () => {});
    drag([9.5, 9.5], [29.5, 29.5]);
    await settled();
    reading.fails = null;
    messages.value[0]!.action!.run();
    expect(sent.value).toHaveLength(1);
    await settled();
    expect(reading.prompts).toEqual([{ object: 1, slice: 3, box: [10, 10, 30, 30] }]);
  });
  it("of a hidden object shows it", async () => {
    const reading = open(INFO, fakeReading([liver({ visible: false })]));
    drag([10, 10], [30, 30]);
    await settled();
    expect(reading.objects.value[0]!.visible).toBe(true);
  });
  it("whose slice is left meanwhile is forgotten", async () => {
    const reading = open(INFO);
    const other = stageOf(INFO, 4, "k", 4);
    const tool = currentTool();
    tool.down(at(STAGE, 10, 10), STAGE);
    tool.move(at(STAGE, 30, 30), STAGE);
    tool.move(at(other, 31, 31), other);
    tool.up(at(other, 31, 31), other);
    await settled();
    expect(reading.prompts).toEqual([]);
  });
  it("is forgotten by Escape", async () => {
    const reading = open(INFO);
    const tool = currentTool();
    tool.down(at(STAGE, 10, 10), STAGE);
    tool.move(at(STAGE, 30, 30), STAGE);
    expect(tool.key(new KeyboardEvent("keydown", { key: "Escape" }))).toBe(true);
    tool.up(at(STAGE, 30, 30), STAGE);
    await settled();
    expect(reading.prompts).toEqual([]);
  });
});

describe("a press that hardly moves", () => {
  it("is a click inside; with Alt outside", async () => {
    const reading = open(INFO);
    drag([20, 20], [20.9, 20]);
    await settled();
    drag([25, 21], [25, 21], STAGE, { alt: true });
    await settled();
    expect(reading.prompts).toEqual([
      { object: 1, slice: 3, points: [[20.9, 20, 1]] },
      { object: 1, slice: 3, points: [[25, 21, 0]] },
    ]);
  });
  it("is a drag once it went further than a hand trembles, also when it comes back", async () => {
    const reading = open(INFO);
    const tool = currentTool();
    tool.down(at(STAGE, 20, 20), STAGE);
    tool.move(at(STAGE, 26, 26), STAGE);
    tool.up(at(STAGE, 20.5, 20.5), STAGE);
    await settled();
    expect(reading.prompts[0]!.box).toEqual([20.25, 20.25, 21.25, 21.25]);
  });
  it("outside, where nothing says what is meant, asks for that first", async () => {
    const reading = open(INFO);
    drag([20, 20], [20, 20], STAGE, { alt: true });
    await settled();
    expect(reading.prompts).toEqual([]);
    expect(messages.value).toHaveLength(1);
  });
  it("outside, on a mask that is there, needs nothing else", async () => {
    const reading = open(INFO);
    reading.put(1, 3, drawing(18, 18, "####"), "propagated");
    drag([20, 20], [20, 20], STAGE, { alt: true });
    await settled();
    expect(reading.prompts).toHaveLength(1);
  });
  it("beside the picture means nothing", async () => {
    const reading = open(INFO);
    drag([-3, 20], [-3, 20]);
    await settled();
    expect(reading.prompts).toEqual([]);
    expect(messages.value).toEqual([]);
  });
  it("of a finger that stays is outside; a finger trembles more", async () => {
    vi.useFakeTimers();
    const reading = open(INFO);
    reading.put(1, 3, drawing(18, 18, "####"));
    const tool = currentTool();
    const touch = { kind: "touch" } as const;
    tool.down(at(STAGE, 20, 20, touch), STAGE);
    tool.move(at(STAGE, 22, 20, touch), STAGE);
    vi.advanceTimersByTime(LONG_PRESS + 1);
    tool.up(at(STAGE, 22, 20, touch), STAGE);
    vi.useRealTimers();
    await settled();
    expect(reading.prompts[0]!.points).toEqual([[22, 20, 0]]);
  });
});

describe("the box that is there", () => {
  it("answers again when a corner is dragged, and keeps what corrected it", async () => {
    const reading = open(INFO);
    drag([9.5, 9.5], [29.5, 29.5]);
    await settled();
    drag([20, 20], [20, 20]);
    await settled();
    // the corner at edge (30, 30) is at pixel (29.5, 29.5)
    drag([29.5, 29.5], [34.5, 32.5]);
    await settled();
    expect(reading.prompts[2]).toEqual({ object: 1, slice: 3, box: [10, 10, 35, 33], points: [[20, 20, 1]] });
  });
  it("answers again when an edge is dragged", async () => {
    const reading = open(INFO);
    drag([9.5, 9.5], [29.5, 29.5]);
    await settled();
    drag([9.5, 15], [6.5, 18]);
    await settled();
    expect(reading.prompts[1]!.box).toEqual([7, 10, 30, 30]);
  });
  it("moves by its label, and begins anew there", async () => {
    const reading = open(INFO);
    drag([9.5, 9.5], [29.5, 29.5]);
    await settled();
    drag([20, 20], [20, 20]);
    await settled();
    // the label is above the left edge
    const [left, top] = STAGE.toScreen(9.5, 9.5);
    const tool = currentTool();
    const grab = { ...at(STAGE, 11, 6), screenX: left + 5, screenY: top - 10 };
    tool.down(grab, STAGE);
    tool.up({ ...grab, x: 14, y: 5, screenX: left + 17, screenY: top - 14 }, STAGE);
    await settled();
    expect(reading.prompts[2]).toEqual({ object: 1, slice: 3, box: [13, 9, 33, 29] });
  });
  it("is not in the way of a new one that begins within, or of a click", async () => {
    const reading = open(INFO);
    drag([9.5, 9.5], [39.5, 39.5]);
    await settled();
    drag([15, 15], [25, 25]);
    await settled();
    expect(reading.prompts[1]!.box).toEqual([15.5, 15.5, 25.5, 25.5]);
  });
  it("shows which way it goes", async () => {
    open(INFO);
    drag([9.5, 9.5], [29.5, 29.5]);
    await settled();
    const tool = currentTool();
    tool.hover(at(STAGE, 29.5, 29.5), STAGE);
    expect(tool.cursor(at(STAGE, 29.5, 29.5))).toBe("nwse-resize");
    tool.hover(at(STAGE, 20, 20), STAGE);
    expect(tool.cursor(at(STAGE, 20, 20))).toBe("crosshair");
    tool.draw(paper, STAGE);
  });
});

describe("where no step may be taken", () => {
  it("of a locked object, says so and unlocks it", async () => {
    const reading = open(INFO, fakeReading([liver({ locked: true })]));
    drag([10, 10], [30, 30]);
    await settled();
    expect(reading.prompts).toEqual([]);
    expect(messages.value[0]!.text).toContain("liver");
    messages.value[0]!.action!.run();
    await settled();
    expect(reading.objects.value[0]!.locked).toBe(false);
  });
  it("on another plane, a drag says so", async () => {
    const reading = open(INFO);
    drag([10, 2], [30, 6], stageOf(plane([9, 64], [5, 1], UPRIGHT), 4, "j", 20));
    await settled();
    expect(reading.prompts).toEqual([]);
    expect(messages.value).toHaveLength(1);
  });
  it("in somebody else's reading, says so", async () => {
    const reading = open(INFO, fakeReading([liver()], { mine: false }));
    drag([10, 10], [30, 30]);
    await settled();
    expect(reading.prompts).toEqual([]);
    expect(messages.value).toHaveLength(1);
  });
});
