import { describe, expect, it } from "vitest";
import type { PromptEntry } from "../../src/api/types";
import { fromFile, startsAnew, withEntry } from "../../src/reading/asked";
import type { Asked } from "../../src/reading/reading";

const BOX: PromptEntry = { object: 1, slice: 4, box: [1, 2, 8, 9] };
const CLICK: PromptEntry = { object: 1, slice: 4, points: [[3, 3, 1]] };
const STROKE: PromptEntry = { object: 1, slice: 4, scribbles: [{ points: [[5, 5]], inside: false }] };

function put(...entries: PromptEntry[]): PromptEntry[] {
  return entries.reduce<Asked[]>((asked, entry) => withEntry(asked, entry), []).map((one) => one.entry);
}

describe("what was asked", () => {
  it("of a slice begins anew with a box, and grows with clicks and strokes", () => {
    expect(put(BOX, CLICK, STROKE)).toEqual([{ ...BOX, ...CLICK, ...STROKE }]);
    expect(put(BOX, CLICK, { ...BOX, box: [0, 0, 2, 2] })).toEqual([{ ...BOX, box: [0, 0, 2, 2] }]);
    const drawn = { object: 1, slice: 4, drawn: { size: [2, 2] as [number, number], counts: "4" } };
    expect(put(BOX, CLICK, drawn)).toEqual([drawn]);
    expect([startsAnew(BOX), startsAnew(CLICK), startsAnew(drawn)]).toEqual([true, false, true]);
  });

  it("has a click after a stroke in a further entry, as a prompts file has it", () => {
    const second: PromptEntry = { ...CLICK, points: [[7, 7, 0]] };
    expect(put(CLICK, STROKE, second)).toEqual([{ ...CLICK, ...STROKE }, second]);
  });

  it("of other slices and objects stays", () => {
    const other = { ...BOX, slice: 5 };
    const organ = { ...BOX, object: 2 };
    expect(put(other, organ, BOX)).toEqual([other, organ, BOX]);
  });

  it("is read from a prompts file, whose entries have the names of objects", () => {
    const objects = [
      { id: 1, name: "liver", colour: "#288c28", visible: true, locked: false },
      { id: 3, name: "spleen", colour: "#288c28", visible: true, locked: false },
    ];
    const told = {
      axis: "k",
      prompts: [
        { label: "spleen", slice: 41, box: [1, 2, 3, 4] },
        { label: "gone", slice: 41, box: [1, 2, 3, 4] },
      ],
    };
    expect(fromFile(told, objects)).toEqual([
      { object: 3, slice: 41, entry: { object: 3, slice: 41, box: [1, 2, 3, 4] } },
    ]);
    expect(fromFile({ axis: "k", prompts: [] }, objects)).toEqual([]);
  });
});
