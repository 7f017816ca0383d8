import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { followAttention } from "../../src/annotate/attention";
import { onAuditKey } from "../../src/annotate/audit";
import { kept } from "../../src/annotate/kept";
import { followWork, openedTask } from "../../src/annotate/opening";
import {
  absent,
  difficulty,
  doing,
  gone,
  looked,
  opened,
  proposed,
  seconds,
  stopAfter,
  task,
} from "../../src/annotate/task";
import { handInNow } from "../../src/annotate/task-bar";
import { handIn, lookAfter, putBack, send, skip, takeNext } from "../../src/annotate/work";
import type { Scan } from "../../src/scan/scan";
import { followAddress, go } from "../../src/shell/routing";
import { cursor, locked, messages, reading, route, scan } from "../../src/state";
import { type Answer, type Call, json, refusal, serve } from "../api/server";
import { FakeReading, square } from "../panels/fake";
import { grid } from "../scan/grid";
import { aProject, aTask } from "./project";

const stops: (() => void)[] = [];
const texts = () => messages.value.map((one) => one.text);

/** A server with tasks one after the other. */
function served(next: readonly (string | null)[], more: (call: Call) => Answer | null = () => null): Call[] {
  const left = [...next];
  return serve((call) => {
    const own = more(call);
    if (own !== null) return own;
    if (call.path === "/annotate/next") {
      const id = left.shift() ?? null;
      return id === null ? new Response(null, { status: 204 }) : json(aTask({ id }));
    }
    if (call.path.endsWith("/open"))
      return json({ session: "session", task: aTask({ id: call.path.split("/")[3]! }), unseen: { liver: [3] } });
    if (call.path.endsWith("/submit"))
      return json({ task: aTask({ state: "submitted" }), masks: 3, untouched: 1, clicks: 2, dice: null });
    if (call.path === "/version") return json({ version: 1, project: true });
    return json(call.path === "/annotate" ? aProject() : {});
  });
}

async function atTask(id = "t1"): Promise<FakeReading> {
  go({ page: "task", id });
  await openedTask(id);
  const of = new FakeReading();
  reading.value = of;
  return of;
}

beforeEach(() => {
  sessionStorage.clear();
  location.hash = "#/";
  route.value = { page: "cases" };
  stops.push(followAddress(), followWork());
});
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
  reading.value = null;
  opened.value = null;
  messages.value = [];
  stopAfter.value = false;
  gone.value = null;
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe("the next task", () => {
  it("is opened by its address", async () => {
    served(["t1"]);
    await takeNext();
    expect(location.hash).toBe("#/task/t1");
    expect(route.value).toEqual({ page: "task", id: "t1" });
  });

  it("leads nobody away who went elsewhere meanwhile", async () => {
    served(["t2"]);
    go({ page: "task", id: "t1" });
    const coming = takeNext();
    go({ page: "review" });
    await coming;
    expect(route.value).toEqual({ page: "review" });
  });

  it("is said to be none where nothing is left", async () => {
    served([null]);
    go({ page: "task", id: "t0" });
    await takeNext();
    expect(texts()[0]).toMatch(/no task left/);
    expect(route.value).toEqual({ page: "cases" });
  });
});

describe("handing in", () => {
  it("says what it cost, and goes on with the next one", async () => {
    const calls = served(["t2"]);
    await atTask();
    seconds.value = 41.6;
    difficulty.value = "hard";
    await send(["liver"]);
    await vi.waitFor(() => expect(location.hash).toBe("#/task/t2"));
    const sent = calls.find((call) => call.path.endsWith("/t1/submit"))!;
    expect(sent.json).toEqual({ session: "session", seconds: 42, difficulty: "hard", absent: ["liver"], note: null });
    expect(texts()).toContain("Handed in: 3 masks. 1 as they were proposed.");
    expect(kept("t1").seconds).toBe(0);
  });

  it("says the Dice of scans whose reference is known", async () => {
    const told = { task: aTask(), masks: 1, untouched: 0, clicks: 2, dice: { kidney_right: 0.9312 } };
    served(["t2"], (call) => (call.path.endsWith("/submit") ? json(told) : null));
    await atTask();
    await send();
    expect(texts()).toContain("Handed in: 1 mask. Dice with the reference: kidney right 0.931.");
  });

  it("stops where the reader said so, once", async () => {
    const calls = served(["t2"]);
    await atTask();
    stopAfter.value = true;
    await send();
    expect(route.value).toEqual({ page: "cases" });
    expect(stopAfter.value).toBe(false);
    expect(calls.some((call) => call.path === "/annotate/next")).toBe(false);
  });

  it("waits for a propagation", async () => {
    const calls = served([]);
    const of = await atTask();
    of.jobs.value = [{ id: "j", object: 1, state: "running", done: 1, total: 9, detail: null }];
    await handIn(false);
    expect(calls.some((call) => call.path.endsWith("/submit"))).toBe(false);
    expect(texts()[0]).toMatch(/propagation/);
  });

  it("of an audit is a verdict: good as it is, wrong where it was changed", async () => {
    const calls = served(["t2"], (call) =>
      call.path === "/annotate/tasks/t1/open"
        ? json({ session: "session", task: aTask({ kind: "audit", structures: ["liver"] }), unseen: { liver: [3] } })
        : null,
    );
    const of = new FakeReading();
    of.masks.put(1, 3);
    go({ page: "task", id: "t1" });
    await openedTask("t1");
    reading.value = of;
    expect(handInNow()).toBe(true);
    expect(texts().at(-1)).toMatch(/good \(A\) or wrong/);
    of.masks.put(1, 3, "refined", square(2));
    expect(onAuditKey("a")).toBe(true);
    of.masks.put(1, 3);
    expect(calls.some((call) => call.path.endsWith("/submit"))).toBe(false);
    expect(onAuditKey("a")).toBe(true);
    await vi.waitFor(() => expect(location.hash).toBe("#/task/t2"));
    expect(calls.find((call) => call.path.endsWith("/submit"))!.json).toMatchObject({ verdict: "good", absent: [] });
    expect(texts().at(-1)).toBe("ct_1: the mask is good.");
  });

  it("keeps everything where it was refused, and says when the task is another's", async () => {
    const refused = (call: Call) =>
      call.path.endsWith("/submit")
        ? refusal(409, "This task is no longer yours.")
        : call.method === "GET" && call.path === "/annotate/tasks/t1"
          ? json(aTask({ state: "open", mine: false }))
          : null;
    served([], refused);
    await atTask();
    seconds.value = 10;
    await send();
    await vi.waitFor(() => expect(gone.value).toBe("open"));
    expect(task.value?.id).toBe("t1");
    expect(kept("t1").seconds).toBe(10);
    expect(doing.value).toBeNull();
    expect(texts()[0]).toMatch(/no longer yours/);
  });
});

it("a task that went elsewhere is said to be, whatever may be seen of it", async () => {
  const told: [Answer, typeof gone.value][] = [
    [refusal(404, "There is no such task."), "taken"],
    [json(aTask({ state: "submitted", mine: false })), "done"],
    [json(aTask({ session: "another" })), "done"],
    [json(aTask()), null],
  ];
  for (const [answer, what] of told) {
    served([], (call) => (call.method === "GET" && call.path === "/annotate/tasks/t1" ? answer : null));
    await atTask();
    await lookAfter();
    expect(gone.value).toBe(what);
  }
});

it("a task that asks for slices shows one of them, wherever its scan was looked at before", async () => {
  served([], (call) =>
    call.path === "/annotate/tasks/t1/open"
      ? json({ session: "session", task: aTask({ slices: [3, 9] }), unseen: { liver: [9] } })
      : null,
  );
  scan.value = { geometry: grid({ shape: [20, 16, 16] }) } as Scan;
  cursor.value = [0, 0, 5];
  await atTask();
  expect(cursor.value[2]).toBe(9);
  reading.value = null;
  cursor.value = [0, 0, 3];
  await atTask();
  expect(cursor.value[2]).toBe(3);
  scan.value = null;
});

describe("what is not done", () => {
  it("is skipped with a reason, and the next one comes", async () => {
    const calls = served(["t2"]);
    await atTask();
    await skip("image quality");
    expect(calls.find((call) => call.path.endsWith("/skip"))!.json).toEqual({ why: "image quality", seconds: 0 });
    await vi.waitFor(() => expect(location.hash).toBe("#/task/t2"));
  });

  it("is put back, and home it is", async () => {
    const calls = served([]);
    await atTask();
    await putBack();
    expect(calls.some((call) => call.path === "/annotate/tasks/t1/leave")).toBe(true);
    expect(route.value).toEqual({ page: "cases" });
  });
});

describe("a reload", () => {
  it("goes on with what was said, and asks the server which masks are a model's", async () => {
    served([]);
    const of = await atTask();
    reading.value = null;
    of.masks.put(1, 3);
    of.masks.put(1, 4);
    reading.value = of;
    expect([...proposed.value.keys()]).toEqual(["1/3"]);
    seconds.value = 30;
    looked.value = new Set(["liver"]);
    absent.value = new Set(["kidney_right"]);
    difficulty.value = "easy";
    opened.value = null;
    reading.value = null;
    seconds.value = 0;
    await atTask();
    expect([seconds.value, [...looked.value], [...absent.value], difficulty.value]).toEqual([
      30,
      ["liver"],
      ["kidney_right"],
      "easy",
    ]);
  });

  it("of another task begins anew", async () => {
    served([]);
    await atTask();
    seconds.value = 30;
    reading.value = null;
    await atTask("t2");
    expect(seconds.value).toBe(0);
  });
});

describe("attention", () => {
  it("is counted for half a minute after a sign of a hand, and told", async () => {
    vi.useFakeTimers();
    const calls = served([]);
    await atTask();
    const idle = await import("../../src/shell/idle");
    stops.push(idle.followIdle(), followAttention());
    window.dispatchEvent(new Event("pointermove"));
    await vi.advanceTimersByTimeAsync(20_000);
    expect(seconds.value).toBeCloseTo(20, 0);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(seconds.value).toBeLessThan(31);
    expect(calls.some((call) => call.path.endsWith("/alive"))).toBe(false);
    window.dispatchEvent(new Event("keydown"));
    await vi.advanceTimersByTimeAsync(2000);
    expect(calls.filter((call) => call.path.endsWith("/alive"))).toHaveLength(1);
    locked.value = true;
    const before = seconds.value;
    await vi.advanceTimersByTimeAsync(5000);
    expect(seconds.value).toBe(before);
    locked.value = false;
  });
});
