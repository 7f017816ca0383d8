import { describe, expect, it, vi } from "vitest";
import type { ApiError } from "../../src/api/http";
import { openReading } from "../../src/reading/open";
import { NotTaken } from "../../src/reading/untaken";
import { offline } from "../../src/state";
import { type Answer, frames, json, refusal } from "../api/server";
import { asked, BOX, EMPTY, isPrompt, LIVER, mask, opened, servedSession, session } from "./served";

const here = servedSession();

async function failureOf(step: Promise<unknown>): Promise<ApiError> {
  return (await step.then(
    () => null,
    (error: unknown) => error,
  )) as ApiError;
}

describe("a step that was not answered", () => {
  it.each([
    ["whose answer was lost", () => "lost"],
    ["that was not stored", () => refusal(503, "It was not stored.")],
    ["that met a defect", () => refusal(500, "A defect.")],
    ["that a proxy answered", () => new Response("<html>", { status: 502 })],
  ])("%s is looked for, and can be taken once more where it is not there", async (_, answer: () => Answer) => {
    const reading = await opened(here);
    here.steps = (call) => (isPrompt(call) ? answer() : undefined);
    const failure = (await failureOf(reading.prompt(BOX))) as NotTaken;
    expect(failure).toBeInstanceOf(NotTaken);
    here.steps = (call) => (isPrompt(call) ? frames(mask({ revision: 2 }), 2) : undefined);
    await failure.again!();
    expect(reading.masks.get(1, 4)!.status).toBe("first");
    expect(here.calls.filter(isPrompt).length).toBe(2);
  });

  it("is the answer where it was taken all the same", async () => {
    const reading = await opened(here);
    here.steps = (call) => (isPrompt(call) ? refusal(500, "A defect.") : undefined);
    here.now = session({ revision: 2, undo: 1 });
    here.changes = () => frames(mask({ revision: 2 }), 2);
    expect((await reading.prompt(BOX)).status).toBe("first");
  });

  it("is found among as many as can be taken back, too", async () => {
    here.now = session({ undo: 1000 });
    const reading = await opened(here);
    here.steps = (call) => (isPrompt(call) ? "lost" : undefined);
    here.now = session({ revision: 2, undo: 1000 });
    here.changes = () => frames(mask({ revision: 2 }), 2);
    expect((await reading.prompt(BOX)).status).toBe("first");
    here.changes = () => frames(EMPTY, 2);
    expect(await failureOf(reading.prompt(BOX))).toBeInstanceOf(NotTaken);
  });

  it("is not taken for a propagation that ended meanwhile", async () => {
    const reading = await opened(here);
    here.steps = (call) => (isPrompt(call) ? "lost" : undefined);
    here.now = session({ revision: 3, undo: 1 });
    here.changes = () => frames(mask({ revision: 3, slice: 9, status: "propagated" }), 3);
    expect(await failureOf(reading.prompt(BOX))).toBeInstanceOf(NotTaken);
  });

  it("because there are too many at once can be taken once more, and one that is refused cannot", async () => {
    const reading = await opened(here);
    const asked = async (answer: () => Answer): Promise<ApiError> => {
      here.steps = (call) => (isPrompt(call) ? answer() : undefined);
      vi.useFakeTimers();
      const failed = failureOf(reading.prompt(BOX));
      await vi.advanceTimersByTimeAsync(10_000);
      vi.useRealTimers();
      return failed;
    };
    expect(await asked(() => refusal(429, "", { "Retry-After": "0" }))).toBeInstanceOf(NotTaken);
    expect(await asked(() => refusal(429, "This session has too many steps."))).not.toBeInstanceOf(NotTaken);
    expect(await asked(() => refusal(422, "`box` is inverted."))).not.toBeInstanceOf(NotTaken);
  });

  it("waits for a server that is gone, and those behind it wait, too", async () => {
    const reading = await opened(here);
    let there = false;
    const gone = ["/sessions/s1", "/sessions/s1/prompts", "/health/live"];
    here.steps = (call) => (!there && gone.includes(call.path) ? "gone" : undefined);
    vi.useFakeTimers();
    const failed = failureOf(reading.prompt(BOX));
    const behind = reading.prompt({ ...BOX, slice: 5 });
    await vi.advanceTimersByTimeAsync(20_000);
    expect([offline.value, reading.pending.value, here.calls.filter(isPrompt).length]).toEqual([true, 2, 1]);
    there = true;
    here.steps = (call) => (isPrompt(call) ? frames(mask({ revision: 2, slice: 5 }), 2) : undefined);
    await vi.advanceTimersByTimeAsync(10_000);
    vi.useRealTimers();
    expect(await failed).toBeInstanceOf(NotTaken);
    expect((await behind).status).toBe("first");
  });
});

describe("a change that is not answered", () => {
  it("ends when the reading is left, and holds no step back for ever", async () => {
    const reading = await opened(here);
    here.steps = (call) => (call.path === "/sessions/s1/objects" ? new Promise(() => {}) : undefined);
    const adding = failureOf(reading.addObject("spleen"));
    expect(reading.pending.value).toBe(1);
    vi.useFakeTimers();
    void reading.leave();
    await vi.advanceTimersByTimeAsync(61_000);
    vi.useRealTimers();
    expect(await adding).toBeInstanceOf(NotTaken);
    expect(await failureOf(reading.prompt(BOX))).toBeInstanceOf(NotTaken);
  });

  it("has a limit of time", async () => {
    const limits = vi.spyOn(AbortSignal, "timeout");
    const reading = await opened(here);
    here.steps = (call) => (call.path === "/sessions/s1/objects" ? json(LIVER, 201) : undefined);
    limits.mockClear();
    await reading.addObject("liver");
    expect(limits.mock.calls).toEqual([[30_000]]);
    // first answers are refined before a lock, which takes as long as a step may
    here.steps = (call) => (call.path === "/sessions/s1/objects/1" ? json(LIVER) : undefined);
    await reading.changeObject(1, { locked: true });
    expect(limits).toHaveBeenLastCalledWith(120_000);
    limits.mockRestore();
  });
});

describe("a reading that is left", () => {
  it("has the steps that are under way answered, in the order in which they were taken", async () => {
    const reading = await opened(here);
    let revision = 1;
    here.steps = (call) => {
      if (!isPrompt(call)) return undefined;
      revision += 1;
      const answer = frames(mask({ revision, slice: (call.json as typeof BOX).slice }), revision);
      return new Promise((resolve) => setTimeout(() => resolve(answer), 5));
    };
    const steps = [4, 5, 6].map((slice) => reading.prompt({ ...BOX, slice }));
    await reading.leave();
    expect((await Promise.all(steps)).map((one) => one.status)).toEqual(["first", "first", "first"]);
    expect(here.calls.filter(isPrompt).length).toBe(3);
    expect(reading.connected.value).toBe(false);
  });

  it("takes the first step of an object that is being made", async () => {
    here.now = session({ objects: [] });
    const reading = await opened(here);
    here.steps = (call) => {
      if (call.path === "/sessions/s1/objects") return json(LIVER, 201);
      return isPrompt(call) ? frames(mask({ revision: 2 }), 2) : undefined;
    };
    const step = reading.addObject("liver").then((one) => reading.prompt({ ...BOX, object: one.id }));
    await reading.leave();
    expect((await step).status).toBe("first");
  });
});

describe("what was asked for before a step", () => {
  it("and is answered behind it is asked for again: it is older", async () => {
    const reading = await opened(here);
    const spleen = { ...LIVER, id: 2, name: "spleen" };
    const late: (() => void)[] = [];
    here.steps = (call) => {
      if (call.path === "/sessions/s1/objects") return json(spleen, 201);
      if (call.path !== "/sessions/s1" || late.length > 0) return undefined;
      const old = json(session());
      return new Promise((resolve) => late.push(() => resolve(old)));
    };
    here.stream.say({ kind: "objects", revision: 1 });
    await vi.waitFor(() => expect(late.length).toBe(1));
    await reading.addObject("spleen");
    here.now = session({ objects: [LIVER, spleen] });
    late[0]!();
    await vi.waitFor(() => expect(asked(here, "/sessions/s1").length).toBe(2));
    expect([reading.objects.value, reading.active.value]).toEqual([[LIVER, spleen], 2]);
  });

  it("is not what stands: a prompt that came meanwhile does", async () => {
    here.changes = () => frames(mask({ revision: 1 }), 1);
    const late: (() => void)[] = [];
    here.steps = (call) => {
      if (isPrompt(call)) return frames(mask({ revision: 2, base: 1 }), 2);
      if (call.path !== "/sessions/s1/prompts" || late.length > 0) return undefined;
      const old = json({ axis: "k", prompts: [] });
      return new Promise((resolve) => late.push(() => resolve(old)));
    };
    const reading = await opened(here);
    await vi.waitFor(() => expect(late.length).toBe(1));
    await reading.prompt(BOX);
    here.steps = (call) =>
      call.path === "/sessions/s1/prompts"
        ? json({ axis: "k", prompts: [{ label: "liver", slice: 4, box: BOX.box }] })
        : undefined;
    late[0]!();
    await vi.waitFor(() => expect(asked(here, "/sessions/s1/prompts").length).toBe(3));
    expect(reading.asked.value).toEqual([{ object: 1, slice: 4, entry: BOX }]);
  });
});

describe("an undo", () => {
  it("is over when it is answered: the marks of other slices need no further answer", async () => {
    const reading = await opened(here);
    here.steps = (call) => (isPrompt(call) ? frames(mask({ revision: 2 }), 2) : undefined);
    await reading.prompt(BOX);
    here.steps = (call) => {
      if (call.path.endsWith("/undo")) return frames(EMPTY, 3);
      return call.path === "/sessions/s1" ? new Promise(() => {}) : undefined;
    };
    await reading.undo();
    expect(reading.asked.value.length).toBe(1);
  });
});

describe("where events are held back", () => {
  it("what is asked for instead is painted, and not asked for twice", async () => {
    vi.useFakeTimers();
    const held = new Response(new ReadableStream<Uint8Array>());
    here.steps = (call) => {
      if (call.path.endsWith("/events")) return held.clone();
      if (call.path.endsWith("/changes") && call.query.has("wait")) {
        return call.query.get("since") === "1" ? frames(mask({ revision: 2 }), 2) : new Promise(() => {});
      }
      return undefined;
    };
    const reading = await openReading("c1");
    here.open.push(reading);
    await vi.advanceTimersByTimeAsync(25_000);
    vi.useRealTimers();
    expect(reading.masks.get(1, 4)!.status).toBe("first");
    expect(asked(here, "/sessions/s1/changes").filter((call) => !call.query.has("wait")).length).toBe(1);
  });
});
