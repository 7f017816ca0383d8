import { beforeEach, describe, expect, it } from "vitest";
import { brushSize, cursor, messages, tool } from "../../src/state";
import { currentTool } from "../../src/tools/current";
import { pressed } from "../../src/tools/drag";
import { keyPointer } from "../../src/tools/keypointer";
import { onKey, TOOL_KEYS } from "../../src/tools/keys";
import { standing } from "../../src/tools/steps";
import { at, choose, fakeReading, key, later, open, paper, plane, settled, stageOf } from "./fake";

const INFO = plane([64, 64]);
const STAGE = stageOf(INFO);

function type(...names: string[]): boolean[] {
  return names.map((name) => onKey(key(name.replace("Shift+", ""), { shiftKey: name.startsWith("Shift+") })));
}

function put(stage = STAGE): void {
  currentTool().draw(paper, stage);
  cursor.value = [10, 20, 3];
}

beforeEach(() => {
  choose("box");
  document.body.innerHTML = "";
});

describe("letters", () => {
  it("choose tools, also on a Korean keyboard", () => {
    open(INFO);
    for (const [letter, id] of Object.entries(TOOL_KEYS)) {
      expect(type(letter)).toEqual([true]);
      expect(tool.value).toBe(id);
    }
    expect(onKey(key("ㅠ", { code: "KeyB" }))).toBe(true);
    expect(tool.value).toBe("box");
  });
  it("are no tools with Ctrl", () => {
    open(INFO);
    expect(onKey(key("s", { ctrlKey: true }))).toBe(false);
    expect(tool.value).toBe("box");
  });
  it("[ and ] change the size of a pen, and are no keys of a box", () => {
    open(INFO);
    expect(type("]")).toEqual([false]);
    choose("brush");
    brushSize.value = 5;
    expect(type("]", "]", "[")).toEqual([true, true, true]);
    expect(brushSize.value).toBe(6);
  });
});

describe("undo and redo", () => {
  it("go back and forth where there is something", async () => {
    const reading = open(INFO);
    onKey(key("z", { ctrlKey: true }));
    await settled();
    expect(reading.undone).toEqual([]);
    expect(messages.value).toHaveLength(1);
    reading.undoable.value = 2;
    (reading.redoable as { value: number }).value = 1;
    expect(onKey(key("z", { ctrlKey: true }))).toBe(true);
    onKey(key("y", { ctrlKey: true }));
    onKey(key("Z", { ctrlKey: true, shiftKey: true }));
    await settled();
    expect(reading.undone).toEqual(["undo", "redo", "redo"]);
  });
  it("of a key that is held wait for the answer before", async () => {
    const reading = open(INFO);
    reading.undoable.value = 9;
    const held = () => onKey(key("z", { ctrlKey: true, repeat: true }));
    expect([onKey(key("z", { ctrlKey: true })), held(), held()]).toEqual([true, true, true]);
    await settled();
    expect(reading.undone).toEqual(["undo"]);
    held();
    await settled();
    expect(reading.undone).toEqual(["undo", "undo"]);
  });
});

describe("while a step is taken back", () => {
  it("what was asked by it has no handles, and nobody can take hold of them", async () => {
    const reading = open(INFO);
    reading.undoable.value = 1;
    await reading.prompt({ object: 1, slice: 3, box: [10, 10, 30, 30] });
    expect(standing("k", 3).outline?.box).toEqual([10, 10, 30, 30]);
    onKey(key("z", { ctrlKey: true }));
    expect(standing("k", 3).outline).toBeNull();
    await settled();
    // the fake takes nothing back
    expect(standing("k", 3).outline?.box).toEqual([10, 10, 30, 30]);
  });
});

describe("what is taken back in a reading that was left", () => {
  it("hides no marks of another one", async () => {
    const { promise, come } = later();
    const before = open(INFO);
    before.undoable.value = 1;
    before.gate = promise;
    onKey(key("z", { ctrlKey: true }));
    const reading = open(INFO);
    await reading.prompt({ object: 1, slice: 3, box: [10, 10, 30, 30] });
    expect(standing("k", 3).outline?.box).toEqual([10, 10, 30, 30]);
    come();
    await settled();
  });
});

describe("the pointer of the keyboard", () => {
  it("draws a box from pixel to pixel, both in", async () => {
    const reading = open(INFO);
    put();
    expect(type("k")).toEqual([true]);
    expect(type("Enter", ...Array(5).fill("ArrowRight"), ...Array(3).fill("ArrowDown"), "Enter")).not.toContain(false);
    await settled();
    // the crosshair is in the middle of the box then
    expect(cursor.value).toEqual([13, 22, 3]);
    expect(reading.prompts).toEqual([{ object: 1, slice: 3, box: [10, 20, 16, 24] }]);
  });
  it("goes the way of the arrow on screen, however the slice is stored", async () => {
    const info = plane([64, 48], [1, 2], { transpose: true, flip_rows: true, flip_columns: false });
    open(info);
    const stage = stageOf(info);
    put(stage);
    type("k");
    const [u, v] = stage.toScreen(10, 20);
    type("ArrowRight");
    const [x, y] = [cursor.value[0], cursor.value[1]];
    expect(stage.toScreen(x, y)[0]).toBeGreaterThan(u);
    expect(stage.toScreen(x, y)[1]).toBe(v);
    type("ArrowLeft", "Shift+ArrowUp");
    expect(stage.toScreen(cursor.value[0], cursor.value[1])[0]).toBe(u);
    expect(cursor.value[0]).toBe(20);
  });
  it("stays on the slice", () => {
    open(INFO);
    put();
    type("k", "Shift+ArrowLeft", "Shift+ArrowLeft", "Shift+ArrowUp", "Shift+ArrowUp", "Shift+ArrowUp");
    expect(cursor.value).toEqual([0, 0, 3]);
  });
  it("clicks by Space, and outside by Shift and Space", async () => {
    const reading = open(INFO);
    put();
    type("k", " ");
    await settled();
    type("ArrowRight", "Shift+ ");
    await settled();
    expect(reading.prompts.map((one) => one.points)).toEqual([[[10, 20, 1]], [[11, 20, 0]]]);
  });
  it("paints, and makes corners", async () => {
    const reading = open(INFO);
    choose("polygon");
    put();
    type("k", " ", "Shift+ArrowRight", " ", "Shift+ArrowDown", " ", "Enter");
    await settled();
    expect(reading.prompts[0]!.lasso).toEqual([
      [10, 20],
      [20, 20],
      [20, 30],
    ]);
  });
  it("begins with Enter on a plane that has the focus", () => {
    open(INFO);
    put();
    document.body.innerHTML = '<p></p><div data-plane="k" tabindex="0"></div>';
    const answers: boolean[] = [];
    for (const element of document.body.children) {
      element.addEventListener("keydown", (event) => answers.push(onKey(event as KeyboardEvent)));
      element.dispatchEvent(key("Enter"));
    }
    expect(answers).toEqual([false, true]);
    expect(keyPointer.value).toEqual({ axis: "k", pressed: false });
    type("Escape");
    expect(keyPointer.value).toBeNull();
    expect(type("ArrowUp")).toEqual([false]);
  });
  it("goes away when the mouse takes over, with what it has begun", async () => {
    const reading = open(INFO);
    put();
    type("k", "Enter", "ArrowRight");
    expect(currentTool().down(at(STAGE, 5, 5), STAGE)).toBe(true);
    expect(keyPointer.value).toBeNull();
    currentTool().up(at(STAGE, 5, 5), STAGE);
    type("k", "Enter", "ArrowRight", "k");
    expect(pressed.value).toBe(false);
    type("k", "Enter", "ArrowRight", "Escape");
    expect(pressed.value).toBe(false);
    await settled();
    expect(reading.prompts.map((one) => one.points)).toEqual([[[5, 5, 1]]]);
  });
  it("says where no step may be taken", async () => {
    const reading = open(INFO, fakeReading(undefined, { mine: false }));
    put();
    type("k", " ");
    await settled();
    expect(reading.prompts).toEqual([]);
    expect(messages.value).toHaveLength(1);
  });
});
