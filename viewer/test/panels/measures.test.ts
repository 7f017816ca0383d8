import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Measure } from "../../src/api/types";
import { followMeasures, measured, stale } from "../../src/panels/measures";
import { offline } from "../../src/state";
import { FakeReading } from "./fake";

const liver = (voxels: number): Measure => ({
  object: 1,
  name: "liver",
  voxels,
  volume_ml: voxels / 1000,
  diameter_mm: 10,
  slice: 3,
  mean: 50,
  std: 10,
  minimum: 0,
  maximum: 100,
  units: "HU",
});

describe("measurements", () => {
  let reading: FakeReading;
  let ask: ReturnType<typeof vi.fn<(session: string) => Promise<Measure[]>>>;
  let stop: () => void;
  beforeEach(() => {
    vi.useFakeTimers();
    reading = new FakeReading();
    reading.masks.put(1, 9);
    ask = vi.fn(async () => [liver(100)]);
    stop = followMeasures(reading, ask);
  });
  afterEach(() => {
    stop();
    vi.useRealTimers();
  });

  it("come some time after the last of several changes, once", async () => {
    for (let slice = 0; slice < 5; slice += 1) {
      reading.masks.put(1, slice);
      await vi.advanceTimersByTimeAsync(300);
    }
    expect(ask).not.toHaveBeenCalled();
    expect(stale.value).toBe(true);
    await vi.advanceTimersByTimeAsync(700);
    expect(ask).toHaveBeenCalledTimes(1);
    expect(measured.value.get(1)!.voxels).toBe(100);
    expect(stale.value).toBe(false);
  });
  it("come in between while masks keep coming, as in a propagation", async () => {
    for (let slice = 0; slice < 40; slice += 1) {
      reading.masks.put(1, slice);
      await vi.advanceTimersByTimeAsync(300);
    }
    expect(ask.mock.calls.length).toBeGreaterThanOrEqual(2);
    expect(ask.mock.calls.length).toBeLessThanOrEqual(3);
  });
  it("that were overtaken by a change are asked for again", async () => {
    let answer: (found: Measure[]) => void = () => {};
    ask.mockImplementationOnce(
      () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
    );
    await vi.advanceTimersByTimeAsync(700);
    reading.masks.put(1, 3);
    answer([liver(100)]);
    await vi.advanceTimersByTimeAsync(10);
    expect(stale.value).toBe(true);
    ask.mockResolvedValue([liver(116)]);
    await vi.advanceTimersByTimeAsync(700);
    expect(measured.value.get(1)!.voxels).toBe(116);
    expect(stale.value).toBe(false);
  });
  it("that the server refuses leave the former ones, marked, and are tried again", async () => {
    await vi.advanceTimersByTimeAsync(700);
    ask.mockRejectedValueOnce(new Error("busy"));
    reading.masks.put(1, 3);
    await vi.advanceTimersByTimeAsync(700);
    expect(measured.value.get(1)!.voxels).toBe(100);
    expect(stale.value).toBe(true);
    await vi.advanceTimersByTimeAsync(15_000);
    expect(stale.value).toBe(false);
  });
  it("are not asked for while nothing is drawn", async () => {
    stop();
    stop = followMeasures(new FakeReading(), ask);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(ask).not.toHaveBeenCalled();
    expect(stale.value).toBe(false);
  });
  it("wait for a server that is gone", async () => {
    offline.value = true;
    reading.masks.put(1, 3);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(ask).not.toHaveBeenCalled();
    offline.value = false;
    await vi.advanceTimersByTimeAsync(700);
    expect(ask).toHaveBeenCalledOnce();
    expect(stale.value).toBe(false);
  });
  it("are nobody's once the reading is left", async () => {
    await vi.advanceTimersByTimeAsync(700);
    stop();
    expect(measured.value.size).toBe(0);
    reading.masks.put(1, 3);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(ask).toHaveBeenCalledTimes(1);
  });
});
