import { describe, expect, it } from "vitest";
import type { JobInfo } from "../../src/api/types";
import { toldOf, whyStopped } from "../../src/panels/stopped";

const job = (more: Partial<JobInfo>): JobInfo => ({
  id: "j",
  object: 1,
  state: "running",
  done: 0,
  total: null,
  detail: null,
  ...more,
});

describe("a propagation in words", () => {
  it("says how far it is, and how it ended", () => {
    expect(toldOf(job({ state: "queued" }))).toBe("waits for its turn");
    expect(toldOf(job({}))).toBe("begins");
    expect(toldOf(job({ done: 3, total: 40 }))).toBe("3 of at most 40 slices");
    expect(toldOf(job({ state: "done", done: 40, total: 40 }))).toBe("Done.");
    expect(toldOf(job({ state: "stopped", done: 40, total: 40 }))).toMatch(/^Stopped/);
    expect(toldOf(job({ state: "failed", detail: "Out of memory." }))).toContain("Out of memory.");
  });
  it("says why it went no further, in the order of slices; slices count from 1", () => {
    const [low, high] = whyStopped({ 58: "vanished", 29: "stopped agreeing", 41: "met" }, 120);
    expect(low).toMatch(/^It ended at slice 30: .*something else/);
    expect(high).toBe("It ended at slice 59: nothing more was found there.");
  });
  it("knows the ends of the scan, which lie beyond its slices", () => {
    expect(whyStopped({ "-1": "end of scan", 120: "end of scan" }, 120)).toEqual([
      "It reached the end of the scan, slice 1.",
      "It reached the end of the scan, slice 120.",
    ]);
  });
  it("says nothing where the server does not tell, or in words that are not known", () => {
    expect(whyStopped(null, 120)).toEqual([]);
    expect(whyStopped({ 3: "something new" }, 120)).toEqual([]);
  });
});
