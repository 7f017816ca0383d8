import { beforeEach, describe, expect, it } from "vitest";
import { Cutout, changed, type Painting } from "../../src/view/cutout";
import { canvasOf } from "./canvas";

const PLANE = { width: 1000, height: 800, ratio: 1 };
const calls: string[] = [];
let canvas: HTMLCanvasElement;
let cutout: Cutout;

/** A square of 20 pixels. */
function square(name: string, left: number, top: number, version = 0): Painting {
  const area = { left, top, right: left + 20, bottom: top + 20 };
  return { name, of: [version], area, paint: () => void calls.push(`paint ${name}`) };
}

beforeEach(() => {
  calls.length = 0;
  canvas = canvasOf(calls);
  cutout = new Cutout(canvas);
});

const painted = (): string[] => calls.splice(0).filter((one) => /^(paint|clearRect)/.test(one));

describe("a cutout", () => {
  it("is a canvas that holds what is shown, and is not there while nothing is", () => {
    expect(canvas.style.visibility).toBe("hidden");
    cutout.show([square("a", 100, 70)], PLANE);
    expect([canvas.style.left, canvas.style.top, canvas.width, canvas.height]).toEqual(["64px", "64px", 64, 64]);
    expect(canvas.style.visibility).toBe("");
    cutout.show([], PLANE);
    expect(canvas.style.visibility).toBe("hidden");
  });

  it("has the device's pixels, and none beyond the plane", () => {
    cutout.show([square("a", 990, 790)], { ...PLANE, ratio: 2 });
    expect([canvas.style.left, canvas.width, canvas.style.width]).toEqual(["960px", 80, "40px"]);
    cutout.show([square("a", 1001, 790)], PLANE);
    expect(canvas.style.visibility).toBe("hidden");
  });

  it("paints again what changed, and what lies there, alone", () => {
    cutout.show([square("a", 10, 10), square("b", 15, 15), square("c", 60, 10)], PLANE);
    expect(painted()).toEqual(["clearRect 10 10 70 25", "paint a", "paint b", "paint c"]);
    cutout.show([square("a", 10, 10), square("b", 15, 15, 1), square("c", 60, 10)], PLANE);
    expect(painted()).toEqual(["clearRect 15 15 20 20", "paint a", "paint b"]);
  });

  it("paints nothing while nothing changes", () => {
    cutout.show([square("a", 10, 10)], PLANE);
    painted();
    cutout.show([square("a", 10, 10)], PLANE);
    expect(painted()).toEqual([]);
  });

  it("is another canvas once it is too small, or much too large", () => {
    cutout.show([square("a", 10, 10)], PLANE);
    cutout.show([square("a", 10, 10), square("b", 500, 300)], PLANE);
    expect([canvas.width, canvas.height]).toEqual([576, 320]);
    cutout.show([square("a", 10, 10)], PLANE);
    expect([canvas.width, canvas.height]).toEqual([64, 64]);
    expect(painted().at(-1)).toBe("paint a");
  });
});

describe("what changed", () => {
  const [a, b] = [square("a", 0, 0), square("b", 50, 0)];

  it("is where it was, and where it is", () => {
    expect(changed([a, b], [a, square("b", 80, 0, 1)])).toEqual({ left: 50, top: 0, right: 100, bottom: 20 });
    expect(changed([a, b], [b])).toEqual(a.area);
    expect(changed([a, b], [a, b])).toBeNull();
  });

  it("is all of it where another is on top", () => {
    expect(changed([a, b], [b, a])).toEqual({ left: 0, top: 0, right: 70, bottom: 20 });
  });
});
