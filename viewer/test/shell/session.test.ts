import { signal } from "@preact/signals";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../../src/api/http";
import type { Axis, CaseInfo, Geometry, Me, ObjectInfo } from "../../src/api/types";
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

const GRID = {
  shape: [20, 30, 40],
  axis: "k",
  windows: [{ name: "lung", low: -1350, high: 150 }],
} as unknown as Geometry;
const INFO = { id: "a", name: "ct" } as CaseInfo;

function aScan(): Scan {
  return { caseId: "a", geometry: GRID, close: vi.fn() } as unknown as Scan;
}

function aReading(axis: Axis = "k", drawn: number[] = []): Reading {
  return {
    id: `session-${axis}`,
    axis,
    mine: true,
    objects: signal([{ id: 1, name: "liver" }] as ObjectInfo[]),
    active: signal<number | null>(null),
    masks: { slices: () => drawn },
    pending: signal(0),
    leave: vi.fn(),
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
vi.mock("../../src/reading/open", () => ({ openReading: (id: string, given: object) => openReading(id, given) }));

const { alongAxis, followRoute, leaveCase, openAgain, openCaseById, opening } = await import("../../src/shell/session");

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
    expect(opening.value).toMatchObject({ status: 409 });
    openAgain(true);
    await vi.waitFor(() => expect(reading.value).not.toBeNull());
    expect(openReading.mock.calls[1]![1]).toMatchObject({ anew: true });
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

  it("that the server refuses keeps the reading, and says so", async () => {
    await openCaseById("a");
    const before = reading.value!;
    openReading.mockRejectedValueOnce(new ApiError(503, "busy"));
    await alongAxis("j");
    expect(reading.value).toBe(before);
    expect(before.leave).not.toHaveBeenCalled();
    expect(messages.value.length).toBe(1);
  });

  it("is not begun for the same axis", async () => {
    await openCaseById("a");
    await alongAxis("k");
    expect(openReading).toHaveBeenCalledOnce();
  });
});
