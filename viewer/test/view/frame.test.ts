import { describe, expect, it } from "vitest";
import { FITTED, roundLength } from "../../src/view/frame";
import { scaleText } from "../../src/view/plane";
import { frame, plane } from "./place";

const FLAGS = [false, true];
const VIEWS = FLAGS.flatMap((transpose) =>
  FLAGS.flatMap((flip_rows) => FLAGS.map((flip_columns) => ({ transpose, flip_rows, flip_columns }))),
);

describe("a slice on screen", () => {
  it("is fitted in its true shape: 40 rows of 2 mm are as high as 80 columns of 1 mm are wide", () => {
    const { scale, perMm } = frame();
    expect(perMm).toBeCloseTo((200 / 80) * 0.97);
    expect(scale[1]).toBeCloseTo(2 * scale[0]);
  });

  it("has its middle in the middle", () => {
    for (const view of VIEWS) {
      const [x, y] = frame(plane({ view })).toScreen(39.5, 19.5);
      expect(x).toBeCloseTo(100);
      expect(y).toBeCloseTo(100);
    }
  });

  it("is upright: the first pixel lies where the view puts it", () => {
    const corner = (view: (typeof VIEWS)[0]) =>
      frame(plane({ view }))
        .toScreen(0, 0)
        .map((value) => value > 100);
    expect(corner({ transpose: false, flip_rows: false, flip_columns: false })).toEqual([false, false]);
    expect(corner({ transpose: false, flip_rows: true, flip_columns: false })).toEqual([false, true]);
    expect(corner({ transpose: true, flip_rows: false, flip_columns: true })).toEqual([true, false]);
  });

  it("leads back from the screen to the same position, through any camera and view", () => {
    for (const view of VIEWS) {
      const shown = frame(plane({ view }), { zoom: 3.7, u: 11, v: -4 });
      const [x, y] = shown.fromScreen(...shown.toScreen(12.25, 31));
      expect(x).toBeCloseTo(12.25);
      expect(y).toBeCloseTo(31);
    }
  });

  it("is drawn where positions say: the canvas's matrix takes edges to the screen", () => {
    for (const view of VIEWS) {
      const shown = frame(plane({ view }), { zoom: 2, u: 3, v: 5 });
      const [a, b, c, d, e, f] = shown.matrix();
      const [x, y] = shown.toScreen(7, 9);
      expect(a * 7.5 + c * 9.5 + e).toBeCloseTo(x);
      expect(b * 7.5 + d * 9.5 + f).toBeCloseTo(y);
    }
  });

  it("says its pitch where there are millimetres", () => {
    expect(frame().pitchMm).toEqual([1, 2]);
    expect(frame(plane(), FITTED, false).pitchMm).toBeNull();
  });
});

describe("a camera", () => {
  it("zooms at a position, which stays where it is", () => {
    const shown = frame(plane(), { zoom: 1.5, u: 2, v: 3 });
    const at = shown.fromScreen(30, 170);
    const closer = frame(plane(), shown.zoomed(2, 30, 170));
    const [x, y] = closer.toScreen(...at);
    expect(closer.perMm).toBeCloseTo(2 * shown.perMm);
    expect([x, y].map((value) => Math.round(value * 1e6) / 1e6)).toEqual([30, 170]);
  });

  it("moves with the hand", () => {
    const shown = frame(plane(), { zoom: 4, u: 0, v: 0 });
    const [x, y] = frame(plane(), shown.moved(12, -7)).toScreen(39.5, 19.5);
    expect(x).toBeCloseTo(112);
    expect(y).toBeCloseTo(93);
  });

  it("cannot lose the picture", () => {
    const shown = frame();
    expect(shown.moved(1e6, -1e6)).toEqual({ zoom: 1, u: -40, v: 40 });
    expect(shown.zoomed(1e-9, 0, 0).zoom).toBe(0.4);
    expect(frame(plane(), shown.zoomed(1e9, 100, 100)).scale[1]).toBeCloseTo(96);
  });
});

describe("a scale bar", () => {
  it("is 1, 2 or 5 times a power of ten", () => {
    expect([0.7, 1, 3, 4.99, 5, 49, 120].map(roundLength)).toEqual([0.5, 1, 2, 2, 5, 20, 100]);
    expect(roundLength(0.03)).toBeCloseTo(0.02);
  });

  it("says its unit", () => {
    expect([50, 10, 5, 0.5].map((length) => scaleText(length, true))).toEqual(["5 cm", "1 cm", "5 mm", "0.5 mm"]);
    expect(scaleText(0.002, true)).toBe("2 µm");
    expect(scaleText(50, false)).toBe("50 px");
  });
});
