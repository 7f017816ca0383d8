import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

// vitest empties what is imported as CSS
const tokens = readFileSync(`${import.meta.dirname}/../../src/style/tokens.css`, "utf8");

/** Colours of a theme by name: those of :root, with those of the light theme over them. */
function coloursOf(theme: "dark" | "light"): Record<string, string> {
  const blocks = [...tokens.matchAll(/:root(\[data-theme="light"\])?\s*\{([^}]*)\}/g)];
  const taken = blocks.filter(([, light]) => theme === "light" || light === undefined);
  const lines = taken.flatMap(([, , inside]) => [...inside!.matchAll(/--([\w-]+):\s*(#[0-9a-f]{3,6})\b/g)]);
  return Object.fromEntries(lines.map(([, name, colour]) => [name!, colour!]));
}

/** WCAG 2: relative luminance of #rgb or #rrggbb. */
function luminance(colour: string): number {
  const hex = colour.length === 4 ? [...colour.slice(1)].map((one) => one + one).join("") : colour.slice(1);
  const [red, green, blue] = [0, 2, 4].map((at) => {
    const share = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: string, other: string): number {
  const [dark, bright] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number];
  return (bright + 0.05) / (dark + 0.05);
}

const GROUNDS = ["ground", "surface", "surface-2"];
const TEXT = ["ink", "ink-2", "accent", "warn", "bad", "good"].flatMap((text) =>
  GROUNDS.map((on) => [text, on] as const),
);
const PAIRS: readonly (readonly [string, string, number])[] = [
  ...TEXT.map(([text, on]) => [text, on, 4.5] as const),
  ["ink", "surface-3", 4.5],
  ["ink-2", "surface-3", 4.5],
  ["accent", "accent-soft", 4.5],
  ["accent-ink", "accent", 4.5],
  ["accent-ink", "accent-hover", 4.5],
  ...["line-strong", "focus"].flatMap((line) => GROUNDS.map((on) => [line, on, 3] as const)),
];

describe("contrast", () => {
  it("of black on white is 21 : 1, of grey #777 on white 4.48 : 1", () => {
    expect(contrast("#000", "#fff")).toBeCloseTo(21);
    expect(contrast("#777", "#fff")).toBeCloseTo(4.48, 2);
  });

  for (const theme of ["dark", "light"] as const) {
    it.each(PAIRS)(`in the ${theme} theme of %s on %s is at least %d : 1`, (text, on, least) => {
      const colours = coloursOf(theme);
      expect(contrast(colours[text]!, colours[on]!)).toBeGreaterThanOrEqual(least);
    });
  }
});
