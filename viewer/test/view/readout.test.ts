import { signal } from "@preact/signals";
import { describe, expect, it } from "vitest";
import { speak } from "../../src/i18n";
import type { Scan } from "../../src/scan/scan";
import { boundText, placeAt, planeText, positionText, sliceText, valueText } from "../../src/view/readout";
import { grid } from "../scan/grid";

const AFFINE = [
  [-1, 0, 0, 10],
  [0, 1, 0, -20],
  [0, 0, 2.5, 0],
  [0, 0, 0, 1],
];

function scan(value: Scan["value"], change: Parameters<typeof grid>[0] = {}): Scan {
  const geometry = grid(change);
  return {
    caseId: "c",
    geometry,
    loaded: signal(1),
    version: signal(0),
    slice: () => undefined,
    value,
    close: () => {},
  };
}

describe("a place", () => {
  it("is the pixel under the pointer, and the exact position between centres", () => {
    expect(placeAt(grid(), "k", 2, 1.4, 2.6)).toEqual({ voxel: [1, 3, 2], exact: [1.4, 2.6, 2] });
    expect(placeAt(grid(), "j", 2, 4.4, 0.2)).toEqual({ voxel: [4, 2, 0], exact: [4.4, 2, 0.2] });
  });

  it("beside the slice is none", () => {
    expect(placeAt(grid(), "k", 2, -0.6, 0)).toBeNull();
    expect(placeAt(grid(), "k", 2, 0, 3.6)).toBeNull();
  });

  it("is told in LPS, with the letter of its side", () => {
    expect(positionText(grid({ affine: AFFINE }), [15, 4, 2])).toBe("R 5.0  A 16.0  S 5.0 mm");
    expect(positionText(grid({ affine: AFFINE }), [10, 20, 0])).toBe("L 0.0  P 0.0  S 0.0 mm");
    expect(positionText(grid({ calibrated: false }), [1, 2, 3])).toBe("");
  });
});

describe("a value", () => {
  it("has its units where they are known", () => {
    expect(
      valueText(
        scan(() => -57),
        [0, 0, 0],
      ),
    ).toBe("-57 HU");
    expect(
      valueText(
        scan(() => 812, { modality: "MR", units: null }),
        [0, 0, 0],
      ),
    ).toBe("812");
    expect(
      valueText(
        scan(() => 812, { modality: "CT", units: "US" }),
        [0, 0, 0],
      ),
    ).toBe("812");
    expect(
      valueText(
        scan(() => 2.123456, { modality: "PT", units: "g/ml" }),
        [0, 0, 0],
      ),
    ).toBe("2.123 g/ml");
  });

  it("in colour is three, and that has not come none", () => {
    expect(
      valueText(
        scan(() => [1, 20, 255]),
        [0, 0, 0],
      ),
    ).toBe("RGB 1 20 255");
    expect(
      valueText(
        scan(() => undefined),
        [0, 0, 0],
      ),
    ).toBe("");
  });
});

it("a window is told as finely as it can be seen", () => {
  expect(boundText(-6.265, 554.2)).toBe("-6");
  expect(boundText(40, 80)).toBe("40");
  expect(boundText(0.51234, 0.4)).toBe("0.512");
});

it("slices are counted from 1 for people", () => {
  expect(sliceText(grid(), "k", [0, 0, 2])).toBe("3 / 3");
});

it("planes have names in the reader's language", () => {
  expect(planeText(grid(), "j")).toBe("Coronal");
  expect(planeText(grid({ shape: [1, 4, 5], calibrated: false, axcodes: null }), "k")).toBe("Picture");
  speak("ko");
  expect(planeText(grid(), "k")).toBe("축상면");
  speak("en");
});
