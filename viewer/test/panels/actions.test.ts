import { beforeEach, describe, expect, it, vi } from "vitest";
import {
  cannotCopy,
  cannotFill,
  cannotPropagate,
  copy,
  fill,
  find,
  nextStructure,
  propagate,
  toLeastSure,
} from "../../src/panels/actions";
import { toSlice } from "../../src/panels/goto";
import { onKey } from "../../src/panels/keys";
import { unsafe } from "../../src/panels/lost";
import { bounded, reach, typed } from "../../src/panels/reach";
import { calledNow, takenHome } from "../../src/panels/taken";
import type { Scan } from "../../src/scan/scan";
import { activeAxis, cursor, layout, maskStyle, masksShown, messages, reading as open, scan } from "../../src/state";
import { grid } from "../scan/grid";
import { FakeReading, square, structure } from "./fake";

let reading: FakeReading;
beforeEach(() => {
  reading = new FakeReading();
  open.value = reading;
  scan.value = { geometry: grid({ shape: [20, 16, 16] }) } as Scan;
  cursor.value = [3, 4, 10];
  layout.value = "one";
  messages.value = [];
  takenHome.value = null;
  bounded.value = false;
});
const key = (letter: string, more: Partial<KeyboardEvent> = {}) =>
  onKey(new KeyboardEvent("keydown", { key: letter, code: `Key${letter.toUpperCase()}`, ...more }));

describe("what can be done with the active structure", () => {
  it("needs one that is drawn, not locked, and one's own", () => {
    expect(cannotPropagate(reading)).toBe("empty");
    reading.masks.put(1, 10);
    expect(cannotPropagate(reading)).toBeNull();
    reading.active.value = null;
    expect(cannotPropagate(reading)).toBe("nobody");
    reading.active.value = 1;
    reading.objects.value = [structure(1, "liver", { locked: true })];
    expect(cannotPropagate(reading)).toBe("locked");
    reading.mine = false;
    expect(cannotPropagate(reading)).toBe("looking");
  });
  it("is one propagation at a time", async () => {
    reading.masks.put(1, 10);
    await propagate(reading, 30);
    expect(reading.calls).toEqual([["propagate", 1, 30]]);
    expect(cannotPropagate(reading)).toBe("running");
    await propagate(reading);
    expect(reading.calls).toHaveLength(1);
    expect(messages.value.at(-1)!.text).toBe("It is being propagated already.");
  });
  it("is followed once what was asked is answered", async () => {
    reading.pending.value = 1;
    expect(cannotPropagate(reading)).toBeNull();
    const following = propagate(reading);
    await Promise.resolve();
    expect(reading.calls).toEqual([]);
    reading.masks.put(1, 10);
    reading.pending.value = 0;
    await following;
    expect(reading.calls).toEqual([["propagate", 1, undefined]]);
  });
  it("is followed though another became the active one meanwhile", async () => {
    reading.pending.value = 1;
    const following = propagate(reading);
    reading.active.value = 2;
    reading.masks.put(1, 10);
    reading.pending.value = 0;
    await following;
    expect(reading.calls).toEqual([["propagate", 1, undefined]]);
  });
  it("is not followed where the answer is that there is nothing, nor in another reading", async () => {
    reading.pending.value = 1;
    const following = propagate(reading);
    reading.pending.value = 0;
    await following;
    expect(messages.value.at(-1)!.text).toBe("Draw the structure on a slice first.");
    reading.pending.value = 1;
    const other = propagate(reading);
    reading.masks.put(1, 10);
    open.value = new FakeReading();
    await other;
    expect(reading.calls).toEqual([]);
  });
  it("is filled between slices that have others between them", async () => {
    reading.masks.put(1, 10);
    reading.masks.put(1, 11);
    expect(cannotFill(reading)).toBe("no-gap");
    reading.masks.put(1, 14);
    await fill(reading);
    expect(reading.calls).toEqual([["interpolate", 1]]);
  });
  it("is looked for by its name", async () => {
    await find(reading, { id: 1, name: "left kidney", colour: "#288c28", visible: true, locked: false });
    expect(reading.calls).toEqual([["text", 1, "left kidney"]]);
  });
  it("is copied to the next slice, which is shown then", async () => {
    reading.masks.put(1, 10, "refined", square(3, 5, 6));
    expect(cannotCopy(reading, 1)).toBeNull();
    await copy(reading, 1);
    expect(reading.calls).toEqual([["draw", 1, 11, square(3, 5, 6)]]);
    expect(cursor.value).toEqual([3, 4, 11]);
  });
  it("is not copied beyond the scan, nor from a slice without it", () => {
    expect(cannotCopy(reading, 1)).toBe("empty");
    reading.masks.put(1, 10);
    cursor.value = [0, 0, 19];
    expect(cannotCopy(reading, 1)).toBe("end");
  });
});

describe("keys", () => {
  it("N takes the next structure, from the last one the first", () => {
    expect(key("n")).toBe(true);
    expect(reading.active.value).toBe(2);
    nextStructure(reading);
    expect(reading.active.value).toBe(1);
  });
  it("H and O change how masks are shown", () => {
    masksShown.value = true;
    maskStyle.value = "fill";
    key("h");
    key("o");
    expect([masksShown.value, maskStyle.value]).toEqual([false, "outline"]);
  });
  it("G propagates as far as was chosen", async () => {
    reading.masks.put(1, 10);
    bounded.value = true;
    typed.value = "25";
    key("g");
    await vi.waitFor(() => expect(reading.calls).toEqual([["propagate", 1, 25]]));
  });
  it("a slice beyond the ends of the scan is its last", () => {
    toSlice(reading, 25);
    expect(cursor.value).toEqual([3, 4, 19]);
  });
  it("X shows the least sure slice on the plane of the reading", () => {
    for (const slice of [11, 12]) reading.masks.put(1, slice, "propagated");
    reading.sure(1, { 11: 0.7, 12: 0.2 });
    activeAxis.value = "i";
    layout.value = "volume";
    key("x");
    expect([cursor.value, activeAxis.value, layout.value]).toEqual([[3, 4, 12], "k", "one"]);
    key("x");
    expect(cursor.value[2]).toBe(11);
    cursor.value = [3, 4, 5];
    key("x");
    expect(cursor.value[2]).toBe(12);
    cursor.value = [3, 4, 11];
    key("x");
    expect(cursor.value[2]).toBe(12);
  });
  it("X says what to do where nothing is propagated", () => {
    toLeastSure();
    expect(messages.value.at(-1)!.text).toMatch(/press G/);
  });
  it("are those of the keyboard's place where it writes no Latin letters", () => {
    expect(key("ㅜ", { code: "KeyN" })).toBe(true);
    expect(reading.active.value).toBe(2);
  });
  it("with a modifier, or without a reading, are others'", () => {
    expect(key("n", { ctrlKey: true })).toBe(false);
    open.value = null;
    expect(key("n")).toBe(false);
  });
});

describe("how far a propagation goes", () => {
  it("is the whole volume, or a distance", () => {
    expect(reach.value).toBeNull();
    bounded.value = true;
    for (const [text, mm] of [
      ["12,5", 12.5],
      ["40", 40],
      ["-3", null],
      ["far", null],
      ["", null],
    ] as const) {
      typed.value = text;
      expect(reach.value).toBe(mm);
    }
  });
});

describe("what is not safe yet", () => {
  it("are steps without an answer, then what goes on, then what is in no file", () => {
    expect(unsafe.value).toBeNull();
    reading.masks.put(1, 10);
    expect(unsafe.value).toBe("not-home");
    takenHome.value = { session: "session", revision: 1, called: calledNow(reading) };
    expect(unsafe.value).toBeNull();
    reading.masks.put(1, 11);
    expect(unsafe.value).toBe("not-home");
    reading.jobs.value = [{ id: "j", object: 1, state: "running", done: 1, total: 9, detail: null }];
    expect(unsafe.value).toBe("running");
    reading.pending.value = 1;
    expect(unsafe.value).toBe("sending");
  });
  it("is nothing of a reading that is only looked at", () => {
    reading.masks.put(1, 10);
    reading.mine = false;
    open.value = null;
    open.value = reading;
    expect(unsafe.value).toBeNull();
  });
});
