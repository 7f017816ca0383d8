import { signal } from "@preact/signals";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Reading } from "../../src/reading/reading";
import { reading } from "../../src/state";

const version = vi.fn(async () => ({ version: 1, ready: true }));
vi.mock("../../src/api/account", async (original) => ({
  ...(await original<typeof import("../../src/api/account")>()),
  version: () => version(),
}));
const { busy, followWaiting, warming } = await import("../../src/shell/busy");

const pending = signal(0);
let stop = () => {};

beforeEach(() => {
  vi.useFakeTimers();
  vi.clearAllMocks();
  pending.value = 0;
  reading.value = { pending, leave: () => {} } as unknown as Reading;
  stop = followWaiting();
});
afterEach(() => {
  stop();
  reading.value = null;
  vi.useRealTimers();
});

describe("a step that is on its way", () => {
  it("is shown after a moment, and no longer than it lasts", async () => {
    pending.value = 1;
    await vi.advanceTimersByTimeAsync(250);
    expect(busy.value).toBe(false);
    await vi.advanceTimersByTimeAsync(100);
    expect(busy.value).toBe(true);
    pending.value = 0;
    expect(busy.value).toBe(false);
  });

  it("that is quick is not shown", async () => {
    for (let step = 0; step < 5; step += 1) {
      pending.value = 1;
      await vi.advanceTimersByTimeAsync(200);
      pending.value = 0;
      await vi.advanceTimersByTimeAsync(200);
      expect(busy.value).toBe(false);
    }
    expect(version).not.toHaveBeenCalled();
  });

  it("says that the model is being made ready, as long as it is", async () => {
    version.mockResolvedValue({ version: 1, ready: false });
    pending.value = 1;
    await vi.advanceTimersByTimeAsync(1600);
    expect(warming.value).toBe(true);
    version.mockResolvedValue({ version: 1, ready: true });
    await vi.advanceTimersByTimeAsync(1600);
    expect(warming.value).toBe(false);
    expect(busy.value).toBe(true);
  });

  it("says so no longer than it waits", async () => {
    version.mockResolvedValue({ version: 1, ready: false });
    pending.value = 1;
    await vi.advanceTimersByTimeAsync(1600);
    pending.value = 0;
    expect(warming.value).toBe(false);
    await vi.advanceTimersByTimeAsync(5000);
    expect(warming.value).toBe(false);
    expect(version.mock.calls.length).toBeLessThanOrEqual(2);
  });
});
