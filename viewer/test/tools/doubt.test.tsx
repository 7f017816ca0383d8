import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../../src/api/http";
import type { PromptEntry } from "../../src/api/types";
import { cursor, messages, reading } from "../../src/state";
import { type Answer, advise } from "../../src/tools/advice";
import { candidates, isOf, search } from "../../src/tools/candidates";
import "../../src/tools/current";
import { Doubt } from "../../src/tools/doubt";
import { ask, firstAnswer } from "../../src/tools/steps";
import { cropRound, picture } from "../../src/tools/thumb";
import { choose, drawing, type Fake, fakeReading, local, open, pixelsOf, plane, settled } from "./fake";

const FULL = drawing(2, 2, "####", "####", "####", "####");
const answer = (change: Partial<Answer>): Answer => ({
  mask: FULL,
  status: "refined",
  predictedIou: 0.9,
  expectedDice: null,
  first: null,
  box: null,
  ...change,
});

const dice = (value: number, unfamiliar = false) => ({ value, low: value - 0.15, high: value + 0.08, unfamiliar });

describe("advice", () => {
  it("is none for an answer that fills its box", () => {
    expect(advise(answer({ box: [2, 2, 6, 6] }))).toEqual([]);
    expect(advise(answer({ box: [1.5, 1.5, 6.5, 6.5] }))).toEqual([]);
  });
  it("is about an answer that leaves its box", () => {
    expect(advise(answer({ box: [2, 2, 5, 6] }))).toEqual(["spills"]);
  });
  it("is about a box that is not filled, by its sides or by its area", () => {
    expect(advise(answer({ box: [2, 2, 14, 6] }))).toContain("unfilled");
    const cross = drawing(0, 0, "#.........", ...Array(8).fill(".........."), ".........#");
    expect(advise(answer({ mask: cross, box: [0, 0, 10, 10] }))).toEqual(["unfilled"]);
    // two pixels are no gap
    expect(advise(answer({ box: [0, 2, 6, 6] }))).toEqual([]);
  });
  it("is about a low guess of the network, and about answers that differ", () => {
    expect(advise(answer({ predictedIou: 0.69 }))).toEqual(["unsure"]);
    expect(advise(answer({ first: drawing(4, 4, "####", "####", "####", "####") }))).toEqual(["changed"]);
    expect(advise(answer({ first: FULL }))).toEqual([]);
  });
  it("is about a low expected Dice, and then not about what the network says of itself", () => {
    expect(advise(answer({ expectedDice: dice(0.69), predictedIou: 0.5 }))).toEqual(["uncertain"]);
    expect(advise(answer({ expectedDice: dice(0.6), predictedIou: 0.5 }))).toEqual(["wrong"]);
    expect(advise(answer({ expectedDice: dice(0.7), predictedIou: 0.5 }))).toEqual([]);
  });
  it("is about an empty mask", () => {
    expect(advise(answer({ mask: drawing(0, 0, "") }))).toEqual(["nothing"]);
  });
  it("is none about what a hand drew or a propagation found", () => {
    expect(advise(answer({ status: "drawn", predictedIou: 0.1 }))).toEqual([]);
    expect(advise(answer({ status: "propagated", predictedIou: 0.1 }))).toEqual([]);
  });
});

describe("small pictures", () => {
  const info = plane([8, 8], [2, 1]);
  it("show all of the masks, as wide as high in mm", () => {
    const [left, top, right, bottom] = cropRound(info, [drawing(2, 2, "##"), drawing(4, 5, "#")]);
    expect(right - left).toBeCloseTo(2 * (bottom - top));
    expect([left, top].every((edge) => edge <= 2)).toBe(true);
    expect(right).toBeGreaterThan(5);
    expect(bottom).toBeGreaterThan(6);
  });
  it("are windowed, upright, with the mask in its colour", () => {
    const turned = plane([8, 8], [1, 1], { transpose: false, flip_rows: false, flip_columns: true });
    const pixels = pixelsOf(8, 8, (x) => x * 10);
    const shown = picture(turned, pixels, { low: 0, high: 70 }, drawing(0, 0, "#"), "#ff0000", [0, 0, 8, 8], 8);
    // upright column 0 is stored column 7
    expect([...shown.slice(0, 4)]).toEqual([255, 255, 255, 255]);
    expect([...shown.slice(28, 32)]).toEqual([255, 0, 0, 255]);
  });
});

describe("what is said of the answer on screen", () => {
  let root: HTMLElement;
  beforeEach(() => {
    choose("box");
    candidates.value = null;
    root = document.createElement("div");
    document.body.append(root);
    vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockReturnValue(null);
  });
  afterEach(() => {
    render(null, root);
    root.remove();
    vi.restoreAllMocks();
  });

  /** An answer that may be refined. */
  async function firstly(this: Fake, { object, slice }: PromptEntry) {
    this.put(object, slice, FULL, "first");
    return { status: "first", predictedIou: 0.9 } as const;
  }

  async function shown(change: Parameters<typeof fakeReading>[1] = {}) {
    const reading = open(
      plane([12, 12]),
      fakeReading(undefined, change),
      pixelsOf(12, 12, (x) => x),
    );
    cursor.value = [0, 0, 3];
    await ask(3, { box: [2, 2, 11, 11] });
    reading.put(1, 3, FULL);
    await act(() => render(<Doubt />, root));
    return reading;
  }

  it("names the guess of the network as such, and what to do next", async () => {
    await shown();
    expect(root.textContent).toContain("0.90");
    expect(root.textContent).toContain("not calibrated");
    expect(root.textContent).toContain("does not fill your box");
  });
  it("is what Dice is expected, where the server tells it, with a hint below 0.7", async () => {
    const reading = await shown();
    expect(root.textContent).not.toContain("Dice");
    const told = async (value: number, unfamiliar = false) => {
      await act(() => reading.put(1, 3, FULL, "refined", { expectedDice: dice(value, unfamiliar) }));
      return root.textContent;
    };
    expect(await told(0.86)).toContain("Expected Diceestimated by a model, not measured0.86(0.71 to 0.94)");
    expect(root.textContent).not.toContain("Probably wrong");
    expect(root.textContent).not.toContain("kind of scan");
    expect(await told(0.5)).toContain("Probably wrong: look");
    expect(await told(0.9, true)).toContain("This kind of scan was not among those the model was measured on");
  });
  it("is that one click can mean many things, where the server says so", async () => {
    const reading = await shown();
    await act(() => reading.put(1, 3, drawing(2, 2, "#########"), "refined", { ambiguous: true }));
    expect(root.textContent).not.toContain("One click can mean");
    const full = drawing(2, 2, ...Array(9).fill("#########"));
    await act(() => reading.put(1, 3, full, "refined", { ambiguous: true }));
    expect(root.textContent).toContain("One click can mean a part or the whole");
    await act(() => reading.put(1, 3, full));
    expect(root.textContent).not.toContain("One click can mean");
  });
  it("is nothing on another slice", async () => {
    await shown();
    await act(() => {
      cursor.value = [0, 0, 4];
    });
    expect(root.textContent).not.toContain("0.90");
  });
  it("brings other answers when there is doubt, chosen by a click or a number", async () => {
    vi.useFakeTimers();
    const others = [drawing(2, 2, "##"), drawing(2, 2, "###")].map((mask) => ({ mask, predictedIou: 0.8 }));
    const reading = await shown({ others });
    await act(async () => {
      await vi.advanceTimersByTimeAsync(800);
    });
    vi.useRealTimers();
    const buttons = [...root.querySelectorAll<HTMLButtonElement>(".tools-candidate")];
    expect(buttons).toHaveLength(2);
    await act(() => {
      buttons[1]!.dispatchEvent(new FocusEvent("focus"));
    });
    expect(local()!.mask).toEqual(others[1]!.mask);
    const typed = new KeyboardEvent("keydown", { key: "2", bubbles: true, cancelable: true });
    await act(() => {
      buttons[0]!.dispatchEvent(typed);
    });
    expect(typed.defaultPrevented).toBe(true);
    await settled();
    expect(reading.drawn[0]!.mask).toEqual(others[1]!.mask);
  });
  it("has no answers of another session, whatever its numbers are", async () => {
    const others = [drawing(2, 2, "##"), drawing(2, 2, "###")].map((mask) => ({ mask, predictedIou: 0.8 }));
    await shown({ others, prompt: firstly });
    const first = { session: "s", object: 1, slice: 3, revision: 0 };
    await search(first, false);
    expect(isOf(first, candidates.value)).toBe(true);
    expect(isOf({ ...first, session: "t" }, candidates.value)).toBe(false);
    expect(firstAnswer(reading.value!, 1, 3)).toEqual(FULL);
    open(plane([12, 12]));
    expect(candidates.value).toBeNull();
    expect(firstAnswer(reading.value!, 1, 3)).toBeNull();
  });
  it("says what went wrong with other answers, not that they would hardly differ", async () => {
    const fail = async () => {
      throw new ApiError(500, "no");
    };
    await shown({ candidates: fail });
    const place = { session: "s", object: 1, slice: 3, revision: 0 };
    await search(place, true);
    expect([candidates.value, messages.value]).toEqual([null, []]);
    await search(place, false);
    expect(candidates.value).toBeNull();
    expect(messages.value).toHaveLength(1);
    expect(root.textContent).not.toContain("hardly differ");
  });
  it("takes what is looked at off the picture with the answers", async () => {
    const reading = await shown();
    const others = [drawing(2, 2, "##"), drawing(2, 2, "###")].map((mask) => ({ mask, predictedIou: 0.8 }));
    await act(() => {
      candidates.value = { session: "s", object: 1, slice: 3, revision: 0, found: others };
    });
    await act(() => {
      root.querySelector(".tools-candidate")!.dispatchEvent(new FocusEvent("focus"));
    });
    expect(local()!.mask).toEqual(others[0]!.mask);
    await act(() => reading.put(1, 3, FULL));
    expect(local()).toBeUndefined();
  });
  it("says when other answers hardly differ", async () => {
    vi.useFakeTimers();
    await shown();
    await act(async () => {
      await vi.advanceTimersByTimeAsync(800);
    });
    vi.useRealTimers();
    expect(root.querySelectorAll(".tools-candidate")).toHaveLength(0);
    expect(root.textContent).toContain("hardly differ");
  });
});
