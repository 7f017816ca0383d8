import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { isProposal, masksOn } from "../../src/annotate/proposals";
import { accept, answered, askedSlices, openParts, partsOf } from "../../src/annotate/structures";
import { absent, looked, opened, proposed } from "../../src/annotate/task";
import type { TaskInfo } from "../../src/api/annotate";
import type { Scan } from "../../src/scan/scan";
import { cursor, messages, reading, route, scan } from "../../src/state";
import { FakeReading, square, structure } from "../panels/fake";
import { grid } from "../scan/grid";
import { aTask } from "./project";

function open(more: Partial<TaskInfo> = {}): [TaskInfo, FakeReading] {
  const now = aTask(more);
  const of = new FakeReading();
  route.value = { page: "task", id: now.id };
  opened.value = now;
  reading.value = of;
  return [now, of];
}
/** A model's masks, as the server says when a task is opened. */
const are = (of: FakeReading, unseen: Record<string, number[]>) => {
  proposed.value = masksOn(of, new Map(Object.entries(unseen)));
};
const states = (now: TaskInfo, of: FakeReading) => partsOf(now, of).map((part) => part.state);

beforeEach(() => {
  looked.value = new Set();
  absent.value = new Set();
  proposed.value = new Map();
  cursor.value = [0, 0, 0];
  scan.value = { geometry: grid({ shape: [20, 16, 16] }) } as Scan;
});
afterEach(() => {
  scan.value = null;
  reading.value = null;
  opened.value = null;
  route.value = { page: "cases" };
  messages.value = [];
});

describe("the structures of a task", () => {
  it("are drawn once they have a mask, by names however they are written", () => {
    const [now, of] = open();
    expect(states(now, of)).toEqual(["empty", "empty"]);
    of.masks.put(2, 7);
    expect(states(now, of)).toEqual(["empty", "drawn"]);
    expect(openParts(now, of).map((part) => part.name)).toEqual(["liver"]);
  });

  it("are those of the slices that are asked for", () => {
    const [now, of] = open({ slices: [3, 9] });
    of.masks.put(1, 7);
    expect(states(now, of)).toEqual(["empty", "empty"]);
    of.masks.put(1, 9);
    expect(states(now, of)).toEqual(["drawn", "empty"]);
  });

  it("have no object where it was deleted", () => {
    const [now, of] = open();
    of.objects.value = [structure(1, "liver")];
    expect(partsOf(now, of)[1]).toMatchObject({ object: null, state: "empty" });
  });

  it("are proposed until somebody changes or accepts them", () => {
    const [now, of] = open();
    of.masks.put(1, 4);
    of.masks.put(2, 4);
    are(of, { liver: [4], kidney_right: [4] });
    expect(states(now, of)).toEqual(["proposed", "proposed"]);
    expect(isProposal(of, of.objects.value[0]!, 4)).toBe(true);
    looked.value = new Set(["kidney_right"]);
    expect(states(now, of)).toEqual(["proposed", "drawn"]);
    of.masks.put(1, 4, "refined", square(3));
    expect(states(now, of)).toEqual(["drawn", "drawn"]);
    // as undo brings it back
    of.masks.put(1, 4);
    expect(states(now, of)).toEqual(["proposed", "drawn"]);
  });

  it("are nobody's proposals but those that the server says: others were drawn by somebody before", () => {
    const [now, of] = open({ proposals: 2 });
    of.masks.put(1, 4);
    of.masks.put(2, 4);
    are(of, { kidney_right: [4, 9] });
    expect(states(now, of)).toEqual(["drawn", "proposed"]);
  });
});

describe("accepting", () => {
  it("goes on to the next structure, and shows where it is", () => {
    const [now, of] = open();
    of.masks.put(1, 4);
    of.masks.put(2, 11);
    are(of, { liver: [4], kidney_right: [11] });
    accept(now, of);
    expect([...looked.value]).toEqual(["liver"]);
    expect(of.active.value).toBe(2);
    expect(cursor.value[2]).toBe(11);
    accept(now, of);
    expect(openParts(now, of)).toEqual([]);
    expect(messages.value.at(-1)!.text).toMatch(/All proposals/);
  });

  it("says so where there is nothing to accept", () => {
    const [now, of] = open();
    accept(now, of);
    expect(looked.value.size).toBe(0);
    expect(of.active.value).toBe(1);
    expect(messages.value[0]!.text).toMatch(/Nothing is proposed/);
  });
});

it("what was answered before handing in is kept", () => {
  const [now, of] = open();
  answered(openParts(now, of));
  expect([...absent.value]).toEqual(["liver", "kidney_right"]);
  expect(partsOf(now, of).every((part) => part.absent)).toBe(true);
  of.masks.put(1, 3);
  expect(partsOf(now, of)[0]!.absent).toBe(false);
});

describe("slices that are asked for", () => {
  it("are none where the whole scan is", () => {
    expect(askedSlices(...open())).toBeNull();
  });

  it("come one after the other, those without a mask first", () => {
    const [now, of] = open({ slices: [12, 3, 7] });
    cursor.value = [0, 0, 5];
    expect(askedSlices(now, of)).toEqual({ slices: [3, 7, 12], done: 0, next: 7 });
    of.masks.put(1, 7);
    expect(askedSlices(now, of)).toMatchObject({ done: 1, next: 12 });
    of.masks.put(2, 12);
    expect(askedSlices(now, of)).toMatchObject({ done: 2, next: 3 });
    of.masks.put(2, 3);
    expect(askedSlices(now, of)).toMatchObject({ done: 3, next: 7 });
  });
});
