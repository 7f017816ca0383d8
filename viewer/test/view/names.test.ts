import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { reading as open } from "../../src/state";
import { handles } from "../../src/tools/geometry";
import { grips, nameOf } from "../../src/view/names";
import { FakeReading, structure } from "../panels/fake";
import { frame } from "./place";

const LUNG = structure(1, "lung_left");
/** 6 CSS pixels a letter. */
const name = (on: readonly [number, number, number, number], active = true) => {
  const [left, top, right, bottom] = on;
  return nameOf(frame(), { left, top, right, bottom }, grips(frame()), LUNG, active, (text) => 6 * text.length);
};

let reading: FakeReading;
beforeEach(() => {
  reading = new FakeReading();
  open.value = reading;
});
afterEach(() => {
  open.value = null;
});

describe("the name of a structure", () => {
  it("is as the list of structures has it, below the mask; of one that is not active it is a number", () => {
    expect(name([50, 40, 150, 100])).toEqual({
      text: "1 lung left",
      colour: LUNG.colour,
      area: { left: 63, top: 104, right: 137, bottom: 119 },
    });
    expect(name([50, 40, 150, 100], false)!.text).toBe("1");
    expect(name([50, 40, 58, 48], false)).toBeNull();
  });

  it("stays on the plane", () => {
    expect(name([0, 100, 10, 198])!.area).toEqual({ left: 2, top: 183, right: 76, bottom: 198 });
  });

  it("lies on no handle of the box", () => {
    reading.asks(1, 2, { box: [20, 10, 60, 30] });
    const at = handles([20, 10, 60, 30], frame()).map((one) => one.at);
    const [left, top] = [Math.min(...at.map(([x]) => x)), Math.min(...at.map(([, y]) => y))];
    const [right, bottom] = [Math.max(...at.map(([x]) => x)), Math.max(...at.map(([, y]) => y))];
    const { area } = name([left + 3, top + 3, right - 3, bottom - 3])!;
    expect(area.top).toBe(Math.round(bottom + 9));
  });
});
