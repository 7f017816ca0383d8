import { signal } from "@preact/signals";
import { h, render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../../src/api/http";
import type { Axis, CaseInfo, Geometry, JobInfo, Me, ObjectInfo } from "../../src/api/types";
import type { Reading } from "../../src/reading/reading";
import type { Scan } from "../../src/scan/scan";
import {
  activeAxis,
  cursor,
  layout,
  me,
  messages,
  offline,
  openCase,
  reading,
  route,
  scan,
  window_,
} from "../../src/state";
import { json, refusal, serve } from "../api/server";

const GRID = {
  shape: [20, 30, 40],
  axis: "k",
  windows: [{ name: "lung", low: -1350, high: 150 }],
} as unknown as Geometry;
const INFO = { id: "a", name: "ct" } as CaseInfo;

function aScan(): Scan {
  return { caseId: "a", geometry: GRID, close: vi.fn() } as unknown as Scan;
}

function aReading(axis: Axis = "k", drawn: number[] = [], more: Partial<Reading> = {}): Reading {
  return {
    id: `session-${axis}`,
    axis,
    mine: true,
    objects: signal([{ id: 1, name: "liver" }] as ObjectInfo[]),
    active: signal<number | null>(null),
    masks: { slices: () => drawn },
    pending: signal(0),
    undoable: signal(0),
    jobs: signal<JobInfo[]>([]),
    settled: vi.fn(async () => {}),
    leave: vi.fn(async () => {}),
    ...more,
  } as unknown as Reading;
}

const getCase = vi.fn(async (_id: string) => INFO);
const openScan = vi.fn(async (_id: string, _stop?: AbortSignal) => aScan());
const openReading = vi.fn(async (_id: string, _options?: object) => aReading());
vi.mock("../../src/api/cases", async (original) => ({
  ...(await original<typeof import("../../src/api/cases")>()),
  getCase: (id: string) => getCase(id),
}));
vi.mock("../../src/view/load", () => ({ openScan: (id: string, stop: AbortSignal) => openScan(id, stop) }));
vi.mock("../../src/reading/open", async (original) => ({
  ...(await original<typeof import("../../src/reading/open")>()),
  openReading: (id: string, given: object) => openReading(id, given),
}));

const { alongAxis, beforeLogout, followRoute, leaveCase, openAgain, openCaseById, opening, turning } = await import(
  "../../src/shell/session"
);
const { NoneOpen } = await import("../../src/reading/open");
const { Asking } = await import("../../src/shell/asking");

beforeEach(() => {
  vi.clearAllMocks();
  sessionStorage.clear();
});
afterEach(() => {
  leaveCase();
  me.value = null;
  route.value = { page: "cases" };
  messages.value = [];
});

describe("opening a case", () => {
  it("shows the middle through the first window, along the axis that is worked on", async () => {
    await openCaseById("a");
    expect(openCase.value).toBe(INFO);
    expect(cursor.value).toEqual([20, 15, 10]);
    expect(window_.value.name).toBe("lung");
    expect(activeAxis.value).toBe("k");
    expect(opening.value).toBeNull();
  });

  it("shows what was drawn", async () => {
    openReading.mockResolvedValueOnce(aReading("k", [3, 4, 5]));
    await openCaseById("a");
    expect(cursor.value).toEqual([20, 15, 4]);
  });

  it("goes on where it was", async () => {
    await openCaseById("a");
    cursor.value = [1, 2, 3];
    window_.value = { name: "bone", low: 0, high: 1000 };
    layout.value = "four";
    reading.value!.active.value = 1;
    leaveCase();
    cursor.value = [0, 0, 0];
    layout.value = "one";
    await openCaseById("a");
    expect(cursor.value).toEqual([1, 2, 3]);
    expect(window_.value.name).toBe("bone");
    expect(layout.value).toBe("four");
    expect(reading.value!.active.value).toBe(1);
  });

  it("goes on with another structure than that of its number in another session", async () => {
    await openCaseById("a");
    reading.value!.active.value = 1;
    leaveCase();
    openReading.mockResolvedValueOnce(aReading("k", [], { id: "another" } as Partial<Reading>));
    await openCaseById("a");
    expect(reading.value!.active.value).toBeNull();
  });

  it("shows the scan as soon as it is there, and goes to what was drawn once its masks are", async () => {
    vi.useFakeTimers();
    let come = (_: Reading) => {};
    openReading.mockReturnValueOnce(
      new Promise((resolve) => {
        come = resolve;
      }),
    );
    const opened = openCaseById("a");
    await vi.advanceTimersByTimeAsync(400);
    expect([scan.value === null, reading.value, cursor.value]).toEqual([false, null, [20, 15, 10]]);
    come(aReading("k", [3, 4, 5]));
    await opened;
    vi.useRealTimers();
    expect([reading.value === null, cursor.value]).toEqual([false, [20, 15, 4]]);
  });

  it("leaves the reader where they look by the time that its masks come", async () => {
    vi.useFakeTimers();
    openReading.mockReturnValueOnce(new Promise((resolve) => setTimeout(() => resolve(aReading("k", [3])), 1000)));
    const opened = openCaseById("a");
    await vi.advanceTimersByTimeAsync(400);
    cursor.value = [1, 2, 3];
    await vi.advanceTimersByTimeAsync(1000);
    await opened;
    vi.useRealTimers();
    expect(cursor.value).toEqual([1, 2, 3]);
  });

  it("that fails behind its scan takes the scan along", async () => {
    vi.useFakeTimers();
    openReading.mockReturnValueOnce(
      new Promise((_, reject) => setTimeout(() => reject(new ApiError(503, "busy")), 1000)),
    );
    const opened = openCaseById("a");
    await vi.advanceTimersByTimeAsync(400);
    const around = scan.value!;
    await vi.advanceTimersByTimeAsync(1000);
    await opened;
    vi.useRealTimers();
    expect([scan.value, openCase.value, opening.value?.status]).toEqual([null, null, 503]);
    expect(around.close).toHaveBeenCalled();
  });

  it("leaves the one that was open", async () => {
    await openCaseById("a");
    const [before, around] = [reading.value!, scan.value!];
    await openCaseById("b");
    expect(before.leave).toHaveBeenCalledOnce();
    expect(around.close).toHaveBeenCalledOnce();
  });

  it("that is left before it is there comes to nothing, and what comes late is closed", async () => {
    const late = aScan();
    let come = (_: Scan) => {};
    openScan.mockReturnValueOnce(
      new Promise((resolve) => {
        come = resolve;
      }),
    );
    const opened = openCaseById("a");
    leaveCase();
    expect(openScan.mock.calls[0]![1]!.aborted).toBe(true);
    come(late);
    await opened;
    expect(scan.value).toBeNull();
    expect(late.close).toHaveBeenCalledOnce();
    expect(opening.value).toBeNull();
  });

  it("that cannot be read says why, in the server's words, and closes the rest", async () => {
    const begun = aReading();
    openReading.mockResolvedValueOnce(begun);
    openScan.mockRejectedValueOnce(new ApiError(422, "`ct` is damaged. Export it again."));
    await openCaseById("a");
    expect(opening.value).toMatchObject({ id: "a", problem: "ct is damaged. Export it again." });
    expect(reading.value).toBeNull();
    expect(begun.leave).toHaveBeenCalledOnce();
  });

  it("whose reading cannot be gone on with is begun anew when the reader says so", async () => {
    route.value = { page: "case", id: "a" };
    openReading.mockRejectedValueOnce(new ApiError(409, "of another model"));
    await openCaseById("a");
    expect(opening.value).toMatchObject({ status: 409, problem: expect.stringContaining("begin anew") });
    openAgain({ anew: true });
    await vi.waitFor(() => expect(reading.value).not.toBeNull());
    expect(openReading.mock.calls[1]![1]).toMatchObject({ anew: true });
  });

  it("that is a task of somebody else's by now is said to be, and not offered to be begun anew", async () => {
    me.value = { name: "Anna", role: "reader", way: "login", csrf: null, locks_after: null, ends_at: null };
    const answers = { 409: "or done.", 404: "There is no such task." };
    for (const [status, detail] of Object.entries(answers)) {
      serve((call) => (call.path.endsWith("/open") ? refusal(Number(status), detail) : json({})));
      const stop = followRoute();
      route.value = { page: "task", id: "t1" };
      await vi.waitFor(() => expect(opening.value).toMatchObject({ taken: true }));
      expect(opening.value!.problem).toContain("somebody else has it by now");
      stop();
      route.value = { page: "cases" };
      leaveCase();
    }
    vi.unstubAllGlobals();
  });

  it("whose reading was closed when a new one could not be begun begins from it, whenever it is tried again", async () => {
    route.value = { page: "case", id: "a" };
    openReading.mockRejectedValueOnce(new NoneOpen(new ApiError(503, "busy"), "old"));
    await openCaseById("a", { anew: true });
    openReading.mockRejectedValueOnce(new ApiError(503, "busy"));
    openAgain();
    await vi.waitFor(() => expect(opening.value?.problem).not.toBeNull());
    openAgain();
    await vi.waitFor(() => expect(reading.value).not.toBeNull());
    expect(openReading.mock.calls.slice(1).map((call) => call[1])).toEqual([
      expect.objectContaining({ from: "old" }),
      expect.objectContaining({ from: "old" }),
    ]);
  });

  it("comes by itself once a server that was gone is back", async () => {
    const stop = followRoute();
    me.value = { name: "anna" } as Me;
    openScan.mockImplementationOnce(async () => {
      offline.value = true;
      throw new ApiError(0, "");
    });
    route.value = { page: "case", id: "a" };
    await vi.waitFor(() => expect(opening.value?.status).toBe(0));
    offline.value = false;
    await vi.waitFor(() => expect(reading.value).not.toBeNull());
    stop();
  });

  it("goes on as it was when the same reader gives the password again", async () => {
    const stop = followRoute();
    me.value = { name: "anna" } as Me;
    route.value = { page: "case", id: "a" };
    await vi.waitFor(() => expect(reading.value).not.toBeNull());
    const before = reading.value;
    me.value = { name: "anna" } as Me;
    expect(reading.value).toBe(before);
    me.value = null;
    expect(reading.value).toBeNull();
    stop();
  });
});

describe("the address", () => {
  it("opens its case once somebody is there, and leaves it when it says otherwise", async () => {
    const stop = followRoute();
    route.value = { page: "case", id: "a", session: "s" };
    expect(openScan).not.toHaveBeenCalled();
    me.value = { name: "anna" } as Me;
    await vi.waitFor(() => expect(reading.value).not.toBeNull());
    expect(openReading.mock.calls[0]![1]).toMatchObject({ session: "s" });
    const begun = reading.value!;
    route.value = { page: "cases" };
    expect(begun.leave).toHaveBeenCalledOnce();
    expect(openCase.value).toBeNull();
    stop();
  });
});

describe("another axis", () => {
  it("begins a reading from the masks of the one that was there", async () => {
    await openCaseById("a");
    const before = reading.value!;
    before.active.value = 1;
    openReading.mockResolvedValueOnce(aReading("j"));
    await alongAxis("j");
    expect(openReading).toHaveBeenLastCalledWith("a", { axis: "j", start: { session: "session-k" } });
    expect(reading.value!.axis).toBe("j");
    expect(reading.value!.active.value).toBe(1);
    expect(activeAxis.value).toBe("j");
    expect(before.leave).toHaveBeenCalledOnce();
  });

  it("waits until all steps are answered, and listens no more before the reading is closed", async () => {
    const order: string[] = [];
    const old = aReading("k", [], {
      settled: async () => void order.push("settled"),
      leave: async () => void order.push("left"),
    });
    openReading.mockResolvedValueOnce(old);
    await openCaseById("a");
    openReading.mockImplementationOnce(async () => {
      order.push(`opened, turning ${turning.value}`);
      return aReading("j");
    });
    await alongAxis("j");
    expect(order).toEqual(["settled", "left", "opened, turning true"]);
    expect(turning.value).toBe(false);
  });

  it("is about the same structure, whichever number it has there, and says that no step can be undone", async () => {
    openReading.mockResolvedValueOnce(aReading("k", [], { undoable: signal(3) }));
    await openCaseById("a");
    reading.value!.active.value = 1;
    const named = (id: number, name: string) => ({ id, name }) as ObjectInfo;
    const objects = signal([named(1, "spleen"), named(2, "liver")]);
    openReading.mockResolvedValueOnce(aReading("j", [], { objects }));
    await alongAxis("j");
    expect(reading.value!.active.value).toBe(2);
    expect(messages.value.map((one) => one.text)).toEqual([expect.stringContaining("cannot be undone")]);
  });

  it("that the server refuses goes on with what the server has, and says so", async () => {
    await openCaseById("a");
    const before = reading.value!;
    const again = aReading("k");
    openReading.mockRejectedValueOnce(new ApiError(503, "busy")).mockResolvedValueOnce(again);
    await alongAxis("j");
    expect(openReading).toHaveBeenLastCalledWith("a", { from: before.id });
    expect(reading.value).toBe(again);
    expect(messages.value.length).toBe(1);
  });

  it("after which nothing comes begins from the masks of the reading that was closed, whenever that is", async () => {
    route.value = { page: "case", id: "a" };
    await openCaseById("a");
    const gone = new ApiError(0, "");
    openReading.mockRejectedValueOnce(gone).mockRejectedValueOnce(gone).mockRejectedValueOnce(gone);
    await alongAxis("j");
    expect([reading.value, opening.value?.status]).toEqual([null, 0]);
    openAgain();
    await vi.waitFor(() => expect(reading.value).not.toBeNull());
    expect(openReading.mock.lastCall![1]).toMatchObject({ from: "session-k" });
  });

  it("does not take the place of a case that was opened meanwhile", async () => {
    await openCaseById("a");
    const late = aReading("j");
    openReading.mockImplementationOnce(async () => {
      await openCaseById("a");
      return late;
    });
    await alongAxis("j");
    expect(reading.value!.axis).toBe("k");
    expect(late.leave).toHaveBeenCalled();
  });

  it("ends a propagation only if the reader agrees", async () => {
    const root = document.body.appendChild(document.createElement("div"));
    act(() => render(h(Asking, {}), root));
    openReading.mockResolvedValueOnce(aReading("k", [], { jobs: signal([{ id: "j", state: "running" } as JobInfo]) }));
    await openCaseById("a");
    const press = (name: string) => {
      const buttons = [...root.querySelectorAll("button")];
      act(() => buttons.find((one) => one.textContent === name)!.click());
    };
    const first = alongAxis("j");
    await vi.waitFor(() => expect(root.textContent).toContain("being followed"));
    press("Cancel");
    await first;
    expect(reading.value!.axis).toBe("k");
    openReading.mockResolvedValueOnce(aReading("j"));
    const second = alongAxis("j");
    await vi.waitFor(() => expect(root.textContent).toContain("being followed"));
    press("Change the plane");
    await second;
    expect(reading.value!.axis).toBe("j");
    act(() => render(null, root));
  });

  it("is not begun for the same axis", async () => {
    await openCaseById("a");
    await alongAxis("k");
    expect(openReading).toHaveBeenCalledOnce();
  });
});

describe("before the login ends", () => {
  it("steps on their way arrive, unless the server is gone", async () => {
    openReading.mockResolvedValueOnce(aReading("k", [], { pending: signal(1) }));
    await openCaseById("a");
    await beforeLogout();
    expect(reading.value!.settled).toHaveBeenCalledOnce();
    offline.value = true;
    await beforeLogout();
    offline.value = false;
    expect(reading.value!.settled).toHaveBeenCalledOnce();
  });
});
