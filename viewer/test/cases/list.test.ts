import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { CaseQuery } from "../../src/api/cases";
import { ApiError } from "../../src/api/http";
import type { CaseInfo, Me } from "../../src/api/types";
import { locked, me, offline, route } from "../../src/state";

const PATIENT = { name: "Doe^Jane" } as CaseInfo["patient"];
let there: string[] = [];
const listCases = vi.fn(async (query: CaseQuery, after: string | null, signal: AbortSignal) => {
  signal.throwIfAborted();
  const fits = there.filter((id) => id.includes(query.q ?? ""));
  const from = after === null ? 0 : fits.indexOf(after) + 1;
  const ids = fits.slice(from, from + (query.limit ?? 0));
  const cases = ids.map((id) => ({ id, name: id, patient: query.patients ? PATIENT : null }) as CaseInfo);
  return { cases, next: ids.length < (query.limit ?? 0) ? null : ids[ids.length - 1]! };
});
vi.mock("../../src/api/cases", async (original) => ({
  ...(await original<typeof import("../../src/api/cases")>()),
  listCases: (query: CaseQuery, after: string | null, signal: AbortSignal) => listCases(query, after, signal),
}));

const { cases, followCases, forgetAll, more, problem, search, showMore } = await import("../../src/cases/list");
const { followIdle } = await import("../../src/shell/idle");

let stop = () => {};
let stopIdle = () => {};
const ids = () => cases.value?.map((one) => one.id);
const asked = () => listCases.mock.calls.map(([query]) => query.patients);

beforeEach(async () => {
  vi.useFakeTimers();
  vi.clearAllMocks();
  there = ["a", "b"];
  route.value = { page: "cases" };
  me.value = { name: "anna" } as Me;
  search.value = "";
  stopIdle = followIdle();
  stop = followCases();
  await vi.advanceTimersByTimeAsync(300);
});
afterEach(() => {
  stop();
  forgetAll();
  stopIdle();
  me.value = null;
  offline.value = false;
  locked.value = false;
  vi.useRealTimers();
});

describe("the list of cases", () => {
  it("is asked for at once, with whose they are", () => {
    expect(ids()).toEqual(["a", "b"]);
    expect(cases.value![0]!.patient).toBe(PATIENT);
    expect(asked()).toEqual([true]);
  });

  it("is looked at again; whose they are is asked for once", async () => {
    await vi.advanceTimersByTimeAsync(8000);
    expect(asked()).toEqual([true, false]);
    expect(cases.value![0]!.patient).toBe(PATIENT);
    there = ["c", "a", "b"];
    await vi.advanceTimersByTimeAsync(8000);
    expect(ids()).toEqual(["c", "a", "b"]);
    expect(asked()).toEqual([true, false, false, true]);
  });

  it("asks for nothing while the reader is away, so that the login locks", async () => {
    await vi.advanceTimersByTimeAsync(64_000);
    const before = listCases.mock.calls.length;
    await vi.advanceTimersByTimeAsync(600_000);
    expect(listCases.mock.calls.length).toBe(before);
    window.dispatchEvent(new Event("pointermove"));
    await vi.advanceTimersByTimeAsync(8000);
    expect(listCases.mock.calls.length).toBe(before + 1);
  });

  it("asks for nothing while the server is gone, the login locked, or a scan open", async () => {
    offline.value = true;
    await vi.advanceTimersByTimeAsync(8000);
    offline.value = false;
    locked.value = true;
    await vi.advanceTimersByTimeAsync(8000);
    locked.value = false;
    route.value = { page: "case", id: "a" };
    await vi.advanceTimersByTimeAsync(8000);
    expect(listCases).toHaveBeenCalledOnce();
  });

  it("is searched once typing pauses", async () => {
    search.value = "b";
    await vi.advanceTimersByTimeAsync(100);
    search.value = "bb";
    search.value = "b";
    await vi.advanceTimersByTimeAsync(300);
    expect(listCases).toHaveBeenCalledTimes(2);
    expect(ids()).toEqual(["b"]);
  });

  it("comes in pages", async () => {
    there = Array.from({ length: 130 }, (_, number) => `case-${number}`);
    search.value = "case";
    await vi.advanceTimersByTimeAsync(300);
    expect([cases.value!.length, more.value]).toEqual([60, true]);
    await showMore();
    await showMore();
    expect(ids()).toEqual(there);
    expect(more.value).toBe(false);
  });

  it("is forgotten with what was known of patients, when another reader comes", async () => {
    search.value = "a";
    forgetAll();
    expect([cases.value, search.value]).toEqual([null, ""]);
    await vi.advanceTimersByTimeAsync(300);
    expect(asked()).toEqual([true, true]);
  });

  it("stays when the server is gone, and says what else went wrong", async () => {
    listCases.mockRejectedValueOnce(new ApiError(0, ""));
    search.value = "a";
    await vi.advanceTimersByTimeAsync(300);
    expect(ids()).toEqual(["a", "b"]);
    expect(problem.value).toBeNull();
    listCases.mockRejectedValueOnce(new ApiError(503, "full"));
    search.value = "b";
    await vi.advanceTimersByTimeAsync(300);
    expect(problem.value).toContain("full");
  });
});
