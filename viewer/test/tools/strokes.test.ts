import { beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../../src/api/http";
import { NotTaken } from "../../src/reading/untaken";
import { brushSize, cursor, messages } from "../../src/state";
import { currentTool } from "../../src/tools/current";
import { measured, measureOnly } from "../../src/tools/line";
import { localOf } from "../../src/tools/local";
import { Sheet } from "../../src/tools/paint";
import { strokeSize } from "../../src/tools/sizes";
import { back } from "../../src/tools/steps";
import type { PointerAt, Stage } from "../../src/tools/tool";
import {
  at,
  choose,
  drawing,
  fakeReading,
  key,
  later,
  liver,
  local,
  open,
  paper,
  plane,
  rowsOf,
  settled,
  stageOf,
} from "./fake";

const INFO = plane([64, 64]);
const STAGE = stageOf(INFO, 10);

function draw(points: [number, number][], more: Partial<PointerAt> = {}, stage: Stage = STAGE) {
  const tool = currentTool();
  tool.down(at(stage, ...points[0]!, more), stage);
  for (const point of points.slice(1)) tool.move(at(stage, ...point, more), stage);
  tool.draw(paper, stage);
  tool.up(at(stage, ...points[points.length - 1]!, more), stage);
}

beforeEach(() => {
  measureOnly.value = false;
  strokeSize.value = 2;
  brushSize.value = 2;
});

describe("a scribble", () => {
  beforeEach(() => choose("scribble"));
  it("is what is inside, in mm", async () => {
    const reading = open(INFO);
    draw([
      [10, 10],
      [15, 10],
      [20, 10],
      [20, 18],
    ]);
    await settled();
    const points = [
      [10, 10],
      [20, 10],
      [20, 18],
    ];
    expect(reading.prompts).toEqual([{ object: 1, slice: 3, scribbles: [{ points, inside: true, width_mm: 2 }] }]);
  });
  it("is drawn as the hand goes, and thinned once it is done", () => {
    open(INFO);
    let lines = 0;
    const counted = new Proxy(paper, {
      get: (on, name) => (name === "lineTo" ? () => (lines += 1) : Reflect.get(on, name)),
    });
    const tool = currentTool();
    tool.down(at(STAGE, 10, 10), STAGE);
    for (let x = 11; x <= 20; x += 1) tool.move(at(STAGE, x, 10), STAGE);
    tool.draw(counted, STAGE);
    expect(lines).toBe(10);
    tool.cancel();
  });
  it("with Alt is outside, in pixels where there are no mm; one point is a dot", async () => {
    const reading = open(INFO);
    reading.put(1, 3, drawing(10, 10, "##"));
    draw([[10, 10]], { alt: true }, stageOf(INFO, 10, "k", 3, false));
    await settled();
    expect(reading.prompts[0]!.scribbles).toEqual([{ points: [[10, 10]], inside: false, width_px: 2 }]);
  });
});

describe("a loop", () => {
  const square: [number, number][] = [
    [10, 10],
    [20, 10],
    [20, 20],
    [10, 20],
  ];
  it("of the lasso is sent as it was drawn, cut to the slice", async () => {
    choose("lasso");
    const reading = open(INFO);
    draw([...square, [-9, 12]]);
    await settled();
    expect(reading.prompts).toEqual([{ object: 1, slice: 3, lasso: [...square, [-0.5, 12]] }]);
  });
  it("that encloses nothing is none", async () => {
    choose("lasso");
    const reading = open(INFO);
    draw([
      [10, 10],
      [20, 10],
    ]);
    await settled();
    expect(reading.prompts).toEqual([]);
    expect(messages.value).toHaveLength(1);
  });

  function corners(points: [number, number][]) {
    const tool = currentTool();
    for (const point of points) {
      tool.down(at(STAGE, ...point), STAGE);
      tool.up(at(STAGE, ...point), STAGE);
    }
    return tool;
  }
  it("of corners closes by Enter; Backspace takes one back", async () => {
    choose("polygon");
    const reading = open(INFO);
    const tool = corners([...square, [40, 40]]);
    expect(tool.busy?.()).toBe(true);
    expect(tool.key(key("Backspace"))).toBe(true);
    expect(tool.key(key("Enter"))).toBe(true);
    await settled();
    expect(reading.prompts).toEqual([{ object: 1, slice: 3, lasso: square }]);
    expect(tool.busy?.()).toBe(false);
    expect(tool.key(key("Enter"))).toBe(false);
  });
  it("closes by a double click, and by its first corner", async () => {
    choose("polygon");
    const reading = open(INFO);
    corners([...square, square[3]!]);
    await settled();
    corners([...square, [10.3, 10.3]]);
    await settled();
    expect(reading.prompts.map((one) => one.lasso)).toEqual([square, square]);
  });
  it("of corners loses none but its own by a press that was none", async () => {
    choose("polygon");
    const reading = open(INFO);
    const tool = corners(square);
    // the first of two fingers
    tool.down(at(STAGE, 40, 40), STAGE);
    tool.drop!();
    expect(tool.key(key("Enter"))).toBe(true);
    await settled();
    expect(reading.prompts).toEqual([{ object: 1, slice: 3, lasso: square }]);
  });
  it("of corners on another slice begins anew", async () => {
    choose("polygon");
    const reading = open(INFO);
    corners(square);
    const other = stageOf(INFO, 10, "k", 4);
    currentTool().down(at(other, 30, 30), other);
    expect(currentTool().key(key("Enter"))).toBe(true);
    await settled();
    expect(reading.prompts).toEqual([]);
    currentTool().cancel();
  });
});

describe("a line", () => {
  beforeEach(() => choose("line"));
  const long: [[number, number], [number, number]] = [
    [10, 20],
    [40, 20],
  ];
  it("asks; a second one across it is the short axis", async () => {
    const reading = open(INFO);
    draw(long);
    await settled();
    draw([
      [25, 12],
      [25, 28],
    ]);
    await settled();
    const short = [
      [25, 12],
      [25, 28],
    ];
    expect(reading.prompts).toEqual([
      { object: 1, slice: 3, line: long },
      { object: 1, slice: 3, lines: [long, short] },
    ]);
  });
  it("across it that is longer in mm is the long axis then", async () => {
    const info = plane([64, 64], [3, 1]);
    const stage = stageOf(info, 5);
    const reading = open(info);
    draw(long, {}, stage);
    await settled();
    const across: [[number, number], [number, number]] = [
      [25, 12],
      [25, 28],
    ];
    draw(across, {}, stage);
    await settled();
    expect(reading.prompts[1]!.lines).toEqual([across, long]);
  });
  it("elsewhere begins anew", async () => {
    const reading = open(INFO);
    draw(long);
    await settled();
    draw([
      [10, 50],
      [40, 50],
    ]);
    await settled();
    expect(reading.prompts[1]!.line).toEqual([
      [10, 50],
      [40, 50],
    ]);
  });
  it("has ends that can be dragged", async () => {
    const reading = open(INFO);
    draw(long);
    await settled();
    draw([
      [40, 20],
      [44, 22],
    ]);
    await settled();
    expect(reading.prompts[1]!.line).toEqual(
      [
        [44, 22],
        [10, 20],
      ].toReversed(),
    );
  });
  it("may only measure, on any plane and in anybody's reading", async () => {
    measureOnly.value = true;
    const reading = open(INFO, fakeReading([], { mine: false }));
    const stage = stageOf(plane([9, 64], [5, 1]), 10, "j", 2);
    draw(
      [
        [10, 2],
        [13, 2],
      ],
      {},
      stage,
    );
    await settled();
    expect(reading.prompts).toEqual([]);
    expect(measured.value.map((one) => one.line)).toEqual([
      [
        [10, 2],
        [13, 2],
      ],
    ]);
    currentTool().draw(paper, stage);
    expect(currentTool().key(key("Delete"))).toBe(true);
    expect(measured.value).toEqual([]);
  });
});

describe("brush and eraser", () => {
  it("paint at once, and send when the hand lets go", async () => {
    choose("brush");
    const reading = open(INFO);
    const tool = currentTool();
    tool.down(at(STAGE, 10, 10), STAGE);
    expect(rowsOf(local()!.mask)).toEqual([".#.", "###", ".#."]);
    expect(local()).toMatchObject({ object: 1, slice: 3, axis: "k", colour: "#aa5500" });
    tool.move(at(STAGE, 12, 10), STAGE);
    tool.up(at(STAGE, 12, 10), STAGE);
    expect(reading.drawn).toEqual([]);
    await settled();
    expect(reading.drawn).toEqual([{ object: 1, slice: 3, mask: drawing(9, 9, ".###.", "#####", ".###.") }]);
    expect(local()).toBeUndefined();
  });
  it("go on from what is on screen, not from what the server has", async () => {
    choose("brush");
    const reading = open(INFO);
    brushSize.value = 0.5;
    draw([[10, 10]]);
    draw([[12, 10]]);
    await settled();
    expect(reading.drawn.map((one) => rowsOf(one.mask))).toEqual([["#"], ["#.#"]]);
    expect(local()).toBeUndefined();
  });
  it("keep what is not answered yet, of each slice and object for itself", async () => {
    choose("brush");
    const reading = open(INFO, fakeReading([liver(), liver({ id: 2, name: "spleen" })]));
    brushSize.value = 0.5;
    const other = stageOf(INFO, 10, "k", 4);
    const { promise, come } = later();
    reading.gate = promise;
    draw([[10, 10]]);
    draw([[30, 30]], {}, other);
    reading.active.value = 2;
    draw([[20, 20]]);
    expect([localOf("k", 3, 1)!.mask.x0, localOf("k", 4, 1)!.mask.x0, localOf("k", 3, 2)!.mask.x0]).toEqual([
      10, 30, 20,
    ]);
    reading.active.value = 1;
    draw([[12, 10]]);
    come();
    await settled();
    expect(reading.drawn.map((one) => [one.object, one.slice, rowsOf(one.mask)])).toEqual([
      [1, 3, ["#"]],
      [1, 4, ["#"]],
      [2, 3, ["#"]],
      [1, 3, ["#.#"]],
    ]);
    expect([localOf("k", 3, 1), localOf("k", 4, 1), localOf("k", 3, 2)]).toEqual([undefined, undefined, undefined]);
  });
  it("make a mask of what is painted when somebody looks, not with each move of the hand", () => {
    choose("brush");
    open(INFO);
    const made = vi.spyOn(Sheet.prototype, "mask");
    const tool = currentTool();
    tool.down(at(STAGE, 10, 10), STAGE);
    for (let x = 11; x < 30; x += 1) tool.move(at(STAGE, x, 10), STAGE);
    expect(rowsOf(local()!.mask)[1]).toBe("#".repeat(22));
    expect(local()!.mask).toBe(local()!.mask);
    expect(made).toHaveBeenCalledTimes(1);
    tool.cancel();
    made.mockRestore();
  });
  it("that erase nothing are no step, and make no object", async () => {
    choose("eraser");
    const reading = open(INFO, fakeReading([]));
    draw([[10, 10]]);
    await settled();
    expect([reading.drawn, reading.objects.value]).toEqual([[], []]);
    expect(local()).toBeUndefined();
  });
  it("are taken back before they are answered", async () => {
    choose("brush");
    const reading = open(INFO);
    reading.undoable.value = 1;
    brushSize.value = 0.5;
    const { promise, come } = later();
    reading.gate = promise;
    draw([[10, 10]]);
    draw([[12, 10]]);
    void back();
    expect(rowsOf(local()!.mask)).toEqual(["#"]);
    come();
    await settled();
    expect(reading.undone).toEqual(["undo"]);
  });
  it("of an empty reading make an object", async () => {
    choose("brush");
    const reading = open(INFO, fakeReading([]));
    brushSize.value = 0.5;
    draw([[10, 10]]);
    expect(local()!.object).toBeNull();
    draw([[12, 10]]);
    await settled();
    expect(reading.drawn.map((one) => [one.object, rowsOf(one.mask)])).toEqual([
      [1, ["#"]],
      [1, ["#.#"]],
    ]);
  });
  it("erase; the last pixel leaves an empty mask", async () => {
    choose("eraser");
    const reading = open(INFO);
    reading.put(1, 3, drawing(10, 10, "###"));
    brushSize.value = 0.5;
    draw([[11, 10]]);
    await settled();
    draw([
      [10, 10],
      [12, 10],
    ]);
    await settled();
    expect(reading.drawn[0]!.mask).toEqual(drawing(10, 10, "#.#"));
    expect(reading.drawn[1]!.mask.data).toHaveLength(0);
  });
  it("with Alt are each other", async () => {
    choose("brush");
    const reading = open(INFO);
    reading.put(1, 3, drawing(10, 10, "###"));
    brushSize.value = 0.5;
    draw([[12, 10]], { alt: true });
    await settled();
    expect(reading.drawn[0]!.mask).toEqual(drawing(10, 10, "##"));
  });
  it("that fail leave the mask as it was, with a message", async () => {
    choose("brush");
    const reading = open(INFO);
    reading.fails = new Error("no");
    draw([[12, 10]]);
    await settled();
    expect(local()).toBeUndefined();
    expect(messages.value).toHaveLength(1);
  });
  it("that the server could not take are not painted over what came since", async () => {
    choose("brush");
    const reading = open(INFO);
    brushSize.value = 0.5;
    const again = vi.fn();
    reading.fails = new NotTaken(new ApiError(503, "was not stored"), again);
    draw([[12, 10]]);
    await settled();
    reading.fails = null;
    const { run } = messages.value[0]!.action!;
    run();
    expect(rowsOf(local()!.mask)).toEqual(["#"]);
    await settled();
    expect(again).not.toHaveBeenCalled();
    expect(reading.drawn).toHaveLength(1);
    messages.value = [];
    // the slice has that stroke by now
    run();
    await settled();
    expect(reading.drawn).toHaveLength(1);
    expect(messages.value[0]!.text).toContain("another one by now");
  });
  it("forget a stroke by Escape", async () => {
    choose("brush");
    const reading = open(INFO);
    const tool = currentTool();
    tool.down(at(STAGE, 10, 10), STAGE);
    expect(tool.key(key("Escape"))).toBe(true);
    tool.up(at(STAGE, 10, 10), STAGE);
    await settled();
    expect(local()).toBeUndefined();
    expect(reading.drawn).toEqual([]);
  });
});

describe("a click on another plane", () => {
  it("moves the crosshair there", () => {
    choose("brush");
    open(INFO);
    const stage = stageOf(plane([9, 64], [5, 1]), 10, "j", 20);
    draw([[12.3, 4.6]], {}, stage);
    expect(cursor.value).toEqual([12, 20, 5]);
    expect(messages.value).toEqual([]);
  });
});
