import { afterEach, describe, expect, it, vi } from "vitest";
import { rangeOf } from "../../src/annotate/chart";
import { HomeBar } from "../../src/annotate/home-bar";
import { totals } from "../../src/annotate/numbers";
import { project, taskAbout } from "../../src/annotate/project";
import { dissentOf, inOrder, mayReview } from "../../src/annotate/review";
import { ReviewPage } from "../../src/annotate/review-page";
import { StatisticsPage } from "../../src/annotate/statistics-page";
import type { Disagreement, EffortLine, ModelLine, Statistics } from "../../src/api/annotate";
import { me } from "../../src/state";
import { json, serve } from "../api/server";
import { act, button, mount } from "../panels/mount";
import { aProject, aTask } from "./project";

function line(key: string, more: Partial<EffortLine> = {}): EffortLine {
  return {
    key,
    masks: 10,
    untouched: 4,
    clicks: 30,
    boxes: 10,
    strokes: 0,
    seconds: 360,
    masks_per_hour: 100,
    clicks_per_mask: 3,
    ...more,
  };
}

const NUMBERS: Statistics = {
  masks: 20,
  untouched: 8,
  readers: [line("Anna"), line("Ben", { seconds: 0, masks_per_hour: null })],
  structures: [line("kidney_right", { masks: 20 })],
  rounds: [
    { ...line("1", { clicks_per_mask: 4.25 }), promoted: null, dice_before: null, dice_after: null },
    { ...line("2", { clicks_per_mask: 2.5 }), promoted: true, dice_before: 0.8, dice_after: 0.85 },
    { ...line("now"), promoted: false, dice_before: 0.85, dice_after: 0.84 },
  ],
  stages: [line("1")],
  agreement: [{ structure: "liver", readers: ["Anna", "Ben"], dice: 0.913, scans: 2 }],
  gold: [{ reader: "Anna", tasks: 3, dice: 0.94 }],
  verdicts: { good: 9, wrong: 1, low: 0.596, high: 0.982 },
};
const MODELS: ModelLine[] = [
  {
    round: null,
    kind: "started",
    at: "2026-01-01T08:00:00Z",
    weights: null,
    active: false,
    dice_before: null,
    dice_after: null,
    why: null,
  },
  {
    round: 1,
    kind: "promoted",
    at: "2026-01-02T08:00:00Z",
    weights: "ab",
    active: true,
    dice_before: 0.8,
    dice_after: 0.85,
    why: null,
  },
];

afterEach(() => {
  vi.unstubAllGlobals();
  project.value = null;
  me.value = null;
});

it("masks an hour are those of time that is known", () => {
  expect(totals(NUMBERS)).toEqual({ masks: 20, clicks: 3, perHour: 100 });
  expect(totals({ ...NUMBERS, readers: [] })).toEqual({ masks: 0, clicks: null, perHour: null });
});

it("an axis has room around its points, and is never without a height", () => {
  expect(rangeOf([0, 10], undefined)).toEqual([0, 11.5]);
  expect(rangeOf([0.8, 0.9], undefined)[0]).toBeCloseTo(0.785);
  expect(rangeOf([3, 4], 0)).toEqual([0, 4.15]);
  const [low, high] = rangeOf([0], undefined);
  expect(high).toBeGreaterThan(low);
});

describe("the page of numbers", () => {
  it("has tables, charts, and a way back for administrators alone", async () => {
    serve((call) => json(call.path === "/annotate/statistics" ? NUMBERS : MODELS));
    me.value = { name: "Ada", role: "administrator", way: "login", csrf: null, locks_after: null, ends_at: null };
    const root = await mount(<StatisticsPage />);
    await vi.waitFor(() => expect(root.querySelectorAll("svg[role=img]")).toHaveLength(2));
    expect(root.querySelector("svg")!.getAttribute("aria-label")).toMatch(/1: 4.3; 2: 2.5; now: 3.0/);
    expect(root.textContent).toContain("kidney right");
    expect(root.textContent).toContain(
      "9 of 10 audited masks were good: 90%, and with 95 % confidence between 60% and 98%.",
    );
    expect(button(root, "Back to this one")).toBeTruthy();
    await act(() => {
      me.value = { ...me.value!, role: "reviewer" };
    });
    expect(() => button(root, "Back to this one")).toThrow();
  });
});

describe("the project above the cases", () => {
  it("is not there where none is served", async () => {
    expect((await mount(<HomeBar />)).textContent).toBe("");
  });

  it("offers the next task, or the one at hand", async () => {
    project.value = aProject();
    const root = await mount(<HomeBar />);
    expect(button(root, "Next task").disabled).toBe(false);
    expect(root.textContent).not.toContain("Review");
    await act(() => {
      project.value = aProject({
        me: { task: "t1", case: "c1", done: 0, today: 2, masks: 17, gold: 0.91 },
        reviewer: true,
      });
    });
    expect(button(root, "Go on with my task")).toBeTruthy();
    expect(root.querySelector("a[href='#/review']")!.textContent).toContain("2");
    expect(root.textContent).toContain("0.91");
    expect(root.textContent).toContain("2 (17 masks)");
    expect([taskAbout("c1"), taskAbout("c2")]).toEqual(["t1", null]);
    await act(() => {
      project.value = aProject({ counts: { ...aProject().counts, open: 3, mine: 0 } });
    });
    expect(button(root, "Next task").disabled).toBe(true);
    expect(root.textContent).toContain("Tasks that wait for somebody else: 3.");
    await act(() => {
      project.value = aProject({ counts: { ...aProject().counts, open: 0, mine: 0, second: 2 } });
    });
    expect(root.textContent).toContain("Second readings that wait for another reader: 2.");
  });
});

describe("review", () => {
  const differs = { task: "b", second: "c", structure: "liver", dice: 0.6 } as Disagreement;

  it("begins where readers differ, then where the least is expected", () => {
    const tasks = [
      aTask({ id: "a", expected_dice: 0.9 }),
      aTask({ id: "b", expected_dice: 0.95 }),
      aTask({ id: "d" }),
      aTask({ id: "e", expected_dice: 0.5 }),
    ];
    expect(inOrder(tasks, [differs]).map((one) => one.id)).toEqual(["b", "e", "a", "d"]);
    expect(dissentOf(aTask({ id: "c" }), [differs])).toBe(0.6);
    expect(dissentOf(aTask({ id: "a" }), [differs])).toBeNull();
  });

  it("shows what was skipped, and why, and opens it again; audits are verdicts themselves", async () => {
    const left = aTask({ id: "s", scan: "ct_9", state: "skipped", mine: false, why: "image quality: motion" });
    const calls = serve((call) => {
      if (call.path === "/annotate/tasks") {
        const handed = [aTask({ id: "a", kind: "audit", scan: "ct_8", state: "submitted" })];
        return json({ tasks: call.query.get("state") === "skipped" ? [left] : handed, next: null });
      }
      return json(call.path === "/annotate/disagreements" ? [] : {});
    });
    const root = await mount(<ReviewPage />);
    await vi.waitFor(() => expect(root.textContent).toContain("Skipped: 1"));
    expect(root.textContent).toContain("Nothing waits for review.");
    expect(root.textContent).toContain("The image quality is too poor: motion");
    await act(() => button(root, "Open ct_9 again").click());
    await vi.waitFor(() => expect(calls.some((call) => call.path === "/annotate/tasks/s/reopen")).toBe(true));
  });

  it("is for reviewers, of others' work that was handed in", () => {
    me.value = { name: "Rita", role: "reviewer", way: "login", csrf: null, locks_after: null, ends_at: null };
    expect(mayReview(aTask({ state: "submitted", mine: false }))).toBe(true);
    expect(mayReview(aTask({ state: "submitted", mine: true }))).toBe(false);
    expect(mayReview(aTask({ state: "approved", mine: false }))).toBe(false);
    me.value = { ...me.value, role: "reader" };
    expect(mayReview(aTask({ state: "submitted", mine: false }))).toBe(false);
  });
});
