import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { comparison } from "../../src/panels/comparison";
import { cursor, masksShown, reading as open } from "../../src/state";
import { clearLocal, Overlay } from "../../src/tools/local";
import { masksOn } from "../../src/view/masks";
import { FakeMasks, FakeReading, square } from "../panels/fake";
import { frame } from "./place";

/** On every slice the same, which is enough here. */
class Cut extends FakeMasks {
  override cut(object: number) {
    return this.get(object, 2)?.mask;
  }
}

let reading: FakeReading;
const masks = new Cut();
const theirs = new Cut();
const names = () => masksOn(frame(), (text) => 6 * text.length).map((one) => one.name);

beforeEach(() => {
  reading = Object.assign(new FakeReading(), { masks });
  masks.put(1, 2, "refined", square(10));
  masks.put(2, 2, "refined", square(20));
  theirs.put(1, 2, "refined", square(12));
  open.value = reading;
  cursor.value = [0, 0, 2];
});
afterEach(() => {
  open.value = null;
  comparison.value = null;
  clearLocal();
  masksShown.value = true;
});

describe("masks on a slice", () => {
  it("are the small ones above the large ones, and the active one above all", () => {
    expect(names()).toEqual(["2", "1"]);
    reading.active.value = 2;
    expect(names()).toEqual(["1", "2"]);
    masksShown.value = false;
    expect(names()).toEqual([]);
  });

  it("are compared with those of their own session alone", () => {
    comparison.value = { session: "another", reference: theirs, title: "", object: null };
    const of = masksOn(frame(), () => 9).map((one) => one.of);
    expect(of.flat()).not.toContain("difference");
    comparison.value = { session: reading.id, reference: theirs, title: "", object: 1 };
    expect(masksOn(frame(), () => 9).map((one) => one.of.includes("difference"))).toEqual([false, true]);
  });

  it("are what the hand has of them, also while they are compared", () => {
    const mask = square(7);
    new Overlay().show({ axis: "k", slice: 2, object: 1, colour: "#fff", mask });
    expect(masksOn(frame(), () => 9).some((one) => one.of.includes(mask))).toBe(true);
    comparison.value = { session: reading.id, reference: theirs, title: "", object: null };
    expect(masksOn(frame(), () => 9).some((one) => one.of.includes(mask))).toBe(true);
  });
});
