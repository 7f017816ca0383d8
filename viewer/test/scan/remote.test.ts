import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Axis } from "../../src/api/types";
import { RemoteScan, type Source } from "../../src/scan/remote";
import { grid } from "./grid";

const GEOMETRY = grid({ shape: [20, 2, 2], planes: grid({ shape: [20, 2, 2] }).planes });

/** A server that answers when it is told to. */
class Slow implements Source {
  asked: string[] = [];
  aborted: string[] = [];
  pieces: [number, number][] = [];
  problems: unknown[] = [];
  /** What is wrong passes. */
  passing = true;
  answers = new Map<string, (buffer: ArrayBuffer) => void>();
  refuse: ((error: Error) => void)[] = [];

  slice(axis: Axis, index: number, signal: AbortSignal): Promise<ArrayBuffer> {
    const key = `${axis}${index}`;
    this.asked.push(key);
    return new Promise((resolve, reject) => {
      this.answers.set(key, resolve);
      this.refuse.push(reject);
      signal.addEventListener("abort", () => {
        this.aborted.push(key);
        reject(signal.reason);
      });
    });
  }

  async piece(begin: number, end: number): Promise<ArrayBuffer> {
    this.pieces.push([begin, end]);
    return new ArrayBuffer(end - begin);
  }

  failed(error: unknown): boolean {
    this.problems.push(error);
    return this.passing;
  }

  async answer(key: string, values: number[] = [1, 2, 3, 4]): Promise<void> {
    this.answers.get(key)!(new Int16Array(values).buffer);
    await settled();
  }
}

function settled(): Promise<void> {
  return new Promise((go) => setTimeout(go));
}

describe("slices", () => {
  it("are asked for as they are looked at, the neighbours behind them", async () => {
    const server = new Slow();
    const scan = new RemoteScan("case", GEOMETRY, server);
    expect(scan.slice("k", 5)).toBeUndefined();
    await settled();
    expect(server.asked).toEqual(["k5", "k6", "k7"]);
    await server.answer("k5", [9, 8, 7, 6]);
    expect(scan.slice("k", 5)!.data[1]).toBe(8);
    expect(scan.version.value).toBe(1);
    expect(server.asked).toEqual(["k5", "k6", "k7", "k8"]);
  });

  it("that nobody looks at any more are given up", async () => {
    const server = new Slow();
    const scan = new RemoteScan("case", GEOMETRY, server);
    scan.slice("k", 5);
    await settled();
    scan.slice("k", 15);
    await settled();
    expect(server.aborted).toEqual(["k5", "k6", "k7"]);
    await settled();
    expect(server.asked.slice(3)).toEqual(["k15", "k16", "k17"]);
    expect(server.problems).toEqual([]);
  });

  it("ahead are those in the direction of the hand", async () => {
    const server = new Slow();
    const scan = new RemoteScan("case", GEOMETRY, server);
    for (const index of [10, 9]) {
      scan.slice("k", index);
      await settled();
    }
    await server.answer("k9");
    expect(server.asked).toContain("k8");
    expect(server.asked).not.toContain("k13");
  });

  it("of the wrong length are not shown", async () => {
    const server = new Slow();
    const scan = new RemoteScan("case", GEOMETRY, server);
    scan.slice("k", 5);
    await settled();
    await server.answer("k5", [1, 2]);
    expect(scan.slice("k", 5)).toBeUndefined();
    expect(String(server.problems[0])).toContain("another size");
  });

  it("beside the scan are nothing", async () => {
    const server = new Slow();
    const scan = new RemoteScan("case", GEOMETRY, server);
    expect(scan.slice("k", 20)).toBeUndefined();
    await settled();
    expect(server.asked).toEqual([]);
  });
});

describe("a slice that does not come", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("is told of once, and asked for again after a while", async () => {
    const server = new Slow();
    const scan = new RemoteScan("case", GEOMETRY, server);
    scan.slice("k", 5);
    await vi.advanceTimersByTimeAsync(1);
    server.refuse[0]!(new Error("broken"));
    await vi.advanceTimersByTimeAsync(1000);
    scan.slice("k", 5);
    await vi.advanceTimersByTimeAsync(1);
    expect(server.problems).toHaveLength(1);
    expect(server.asked.filter((key) => key === "k5")).toHaveLength(1);
    const before = scan.version.value;
    await vi.advanceTimersByTimeAsync(4000);
    expect(scan.version.value).toBe(before + 1);
    scan.slice("k", 5);
    await vi.advanceTimersByTimeAsync(1);
    expect(server.asked.filter((key) => key === "k5")).toHaveLength(2);
    server.passing = false;
    server.refuse.at(-1)!(new Error("broken"));
    await vi.advanceTimersByTimeAsync(60_000);
    scan.slice("k", 5);
    await vi.advanceTimersByTimeAsync(1);
    expect(server.asked.filter((key) => key === "k5")).toHaveLength(2);
  });
});

describe("the volume", () => {
  it("comes behind in pieces of whole planes, around what is looked at", async () => {
    const server = new Slow();
    const scan = new RemoteScan("case", grid({ shape: [3, 1024, 1024], axis: "k" }), server);
    await scan.bringAll();
    expect(server.pieces).toEqual([
      [0, 4194304],
      [4194304, 6291456],
    ]);
    expect(scan.loaded.value).toBe(1);
  });

  it("waits for slices that somebody looks at", async () => {
    const server = new Slow();
    const scan = new RemoteScan("case", GEOMETRY, server);
    scan.slice("k", 18);
    await settled();
    const all = scan.bringAll();
    await settled();
    expect(server.pieces).toEqual([]);
    for (const key of ["k18", "k19", "k17"]) await server.answer(key);
    await all;
    expect(server.pieces).toEqual([[0, 17 * 8]]);
  });

  it("is asked for more and more seldom where it fails, and no more where that stays so", async () => {
    vi.useFakeTimers();
    const server = new Slow();
    vi.spyOn(server, "piece").mockRejectedValue(new Error("busy"));
    const scan = new RemoteScan("case", GEOMETRY, server);
    const all = scan.bringAll();
    await vi.advanceTimersByTimeAsync(5 * 60_000);
    // after 4, 12, 28, 60 s, then every minute
    expect(server.problems).toHaveLength(9);
    server.passing = false;
    await vi.advanceTimersByTimeAsync(60_000);
    await all;
    expect(server.problems).toHaveLength(10);
    vi.useRealTimers();
  });

  it("ends with the scan", async () => {
    const server = new Slow();
    const scan = new RemoteScan("case", GEOMETRY, server);
    scan.close();
    await scan.bringAll();
    expect(server.pieces).toEqual([]);
    expect(scan.slice("k", 0)).toBeUndefined();
  });

  it("of a scan too large for the page is not asked for", async () => {
    const server = new Slow();
    const scan = new RemoteScan("case", GEOMETRY, server, 10);
    await scan.bringAll();
    expect(scan.whole).toBe(false);
    expect(server.pieces).toEqual([]);
  });
});
