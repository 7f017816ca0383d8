import { describe, expect, it, vi } from "vitest";
import { ApiError } from "../../src/api/http";
import { openReading } from "../../src/reading/open";
import { frame, joined } from "../api/frames";
import { type Answer, type Call, frames, json, refusal } from "../api/server";
import { asked, BOX, EMPTY, LIVER, mask, opened, servedSession, session } from "./served";
import { fromRle } from "./unrle";

const here = servedSession();

describe("a reading", () => {
  it("has what the session has: its objects, its masks, what was asked", async () => {
    here.now = session({ revision: 7, undo: 2, model: "litemedsam", knows_clicks: false });
    here.changes = () => frames(mask({ revision: 7, status: "refined" }), 7);
    here.steps = (call) =>
      call.path === "/sessions/s1/prompts"
        ? json({ axis: "k", prompts: [{ label: "liver", slice: 4, box: BOX.box }] })
        : undefined;
    const reading = await opened(here);
    expect([reading.active.value, reading.undoable.value, reading.model.knowsClicks]).toEqual([1, 2, false]);
    expect(reading.masks.get(1, 4)!.mask.data).toEqual(Uint8Array.of(1, 1, 1, 1));
    await vi.waitFor(() => expect(reading.asked.value).toEqual([{ object: 1, slice: 4, entry: BOX }]));
  });

  it("sends a step with the revision that it knows, and paints the answer", async () => {
    const reading = await opened(here);
    here.steps = (call) => (call.method === "POST" ? frames(mask({ revision: 2 }), 2) : undefined);
    here.now = session({ revision: 2, undo: 1 });
    const prompted = reading.prompt(BOX);
    // within the call, before the page draws anything
    const [step] = here.calls.filter((call) => call.method === "POST" && call.path.endsWith("/prompts"));
    const result = await prompted;
    expect(result.status).toBe("first");
    expect([step!.query.get("since"), step!.json]).toEqual(["1", BOX]);
    expect(reading.asked.value).toEqual([{ object: 1, slice: 4, entry: BOX }]);
    expect([reading.undoable.value, reading.pending.value]).toEqual([1, 0]);
  });

  it("takes steps one after the other, and goes on after one that was refused", async () => {
    const reading = await opened(here);
    const under: number[] = [];
    let running = 0;
    let revision = 1;
    const taken = async (call: Call): Promise<Answer> => {
      running += 1;
      under.push(running);
      await new Promise((resolve) => setTimeout(resolve, 5));
      running -= 1;
      if ((call.json as typeof BOX).slice === 5) return refusal(422, "`box` is inverted.");
      revision += 1;
      return frames(mask({ revision, base: revision === 2 ? 0 : revision - 1 }), revision);
    };
    here.steps = (call) => (call.method === "POST" ? taken(call) : undefined);
    const told = await Promise.allSettled([
      reading.prompt(BOX),
      reading.prompt({ ...BOX, slice: 5 }),
      reading.prompt({ ...BOX, box: [0, 0, 4, 4] }),
    ]);
    expect(told.map((one) => one.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(under).toEqual([1, 1, 1]);
    const sent = here.calls.filter((call) => call.method === "POST" && call.path.endsWith("/prompts"));
    expect(sent.map((call) => call.query.get("since"))).toEqual(["1", "2", "2"]);
    // what was refused is not among what was asked
    expect(reading.asked.value.map((one) => one.slice)).toEqual([4]);
    expect(reading.pending.value).toBe(0);
  });

  it("puts a refined answer in the place of the first one when it is told of it", async () => {
    const reading = await opened(here);
    here.steps = (call) => (call.method === "POST" ? frames(mask({ revision: 2 }), 2) : undefined);
    await reading.prompt(BOX);
    here.changes = (since) => {
      expect(since).toBe(2);
      return frames(mask({ revision: 3, base: 2, status: "refined", rectangle: [2, 2, 3, 3] }, [0]), 3);
    };
    here.stream.say({ kind: "refined", revision: 3, object: 1, slice: 4, status: "refined" });
    await vi.waitFor(() => expect(reading.masks.get(1, 4)!.status).toBe("refined"));
    expect(reading.masks.get(1, 4)!.mask.data).toEqual(Uint8Array.of(1, 1, 1, 0));
  });

  it("does not ask for what it has: an event about its own step is no news", async () => {
    const reading = await opened(here);
    here.steps = (call) => (call.method === "POST" ? frames(mask({ revision: 2 }), 2) : undefined);
    await reading.prompt(BOX);
    const before = asked(here, "/sessions/s1/changes").length;
    here.stream.say({ kind: "mask", revision: 2, object: 1, slice: 4, status: "first" });
    here.stream.say({ kind: "progress", revision: 2, slice: 9, state: "embedded" });
    await vi.waitFor(() => expect([...reading.embedded.value]).toEqual([4, 9]));
    expect(asked(here, "/sessions/s1/changes").length).toBe(before);
  });

  it("does not ask for what a step on its way brings", async () => {
    const reading = await opened(here);
    let come = (): void => {};
    const gate = new Promise<void>((resolve) => {
      come = resolve;
    });
    here.steps = (call) => (call.method === "POST" ? gate.then(() => frames(mask({ revision: 2 }), 2)) : undefined);
    const before = asked(here, "/sessions/s1/changes").length;
    const step = reading.prompt(BOX);
    here.stream.say({ kind: "mask", revision: 2, object: 1, slice: 4, status: "first" });
    here.stream.say({ kind: "progress", revision: 2, slice: 9, state: "embedded" });
    await vi.waitFor(() => expect(reading.embedded.value.has(9)).toBe(true));
    come();
    await step;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(asked(here, "/sessions/s1/changes").length).toBe(before);
  });

  it("asks for everything where a frame goes on another mask than the one that is here", async () => {
    const reading = await opened(here);
    here.steps = (call) => (call.method === "POST" ? frames(mask({ revision: 9, base: 8 }), 9) : undefined);
    here.changes = (since) => frames(since === 0 ? mask({ revision: 9 }, [0, 1, 1, 1]) : EMPTY, 9);
    await reading.prompt(BOX);
    expect(reading.masks.get(1, 4)!.mask.data).toEqual(Uint8Array.of(0, 1, 1, 1));
    expect(asked(here, "/sessions/s1/changes").at(-1)!.query.get("since")).toBe("0");
  });

  it("does not repeat a step whose answer was lost: what came of it is among the changes", async () => {
    const reading = await opened(here);
    here.steps = (call) => (call.method === "POST" && call.path.endsWith("/prompts") ? "lost on the way" : undefined);
    here.now = session({ revision: 2, undo: 1 });
    here.changes = () => frames(mask({ revision: 2 }), 2);
    const result = await reading.prompt(BOX);
    expect(result.status).toBe("first");
    expect(here.calls.filter((call) => call.method === "POST" && call.path.endsWith("/prompts")).length).toBe(1);
  });

  it("raises where a lost step was not taken, whatever else has changed", async () => {
    const reading = await opened(here);
    here.steps = (call) => (call.method === "POST" && call.path.endsWith("/prompts") ? "lost on the way" : undefined);
    here.now = session({ revision: 2 });
    here.changes = () => frames(mask({ revision: 2, slice: 9, status: "propagated" }), 2);
    const failed = await reading.prompt(BOX).catch((error: unknown) => error);
    expect((failed as ApiError).status).toBe(0);
    expect(reading.masks.get(1, 9)!.status).toBe("propagated");
    expect(reading.asked.value).toEqual([]);
  });

  it("counts what can be undone at once", async () => {
    const reading = await opened(here);
    here.steps = (call) =>
      call.method === "POST" && call.path.endsWith("/prompts") ? frames(mask({ revision: 2 }), 2) : undefined;
    here.now = session({ revision: 2, undo: 1 });
    await reading.prompt(BOX);
    here.steps = (call) =>
      call.path.endsWith("/undo")
        ? frames(mask({ revision: 3, status: "removed", rectangle: [0, 0, 0, 0] }, []), 3)
        : undefined;
    here.now = session({ revision: 3, undo: 0, redo: 1 });
    await reading.undo();
    expect([reading.undoable.value, reading.redoable.value]).toEqual([0, 1]);
    expect(reading.masks.get(1, 4)).toBeUndefined();
    expect(reading.asked.value).toEqual([]);
  });

  it("asks once how the session is after a step, also where that changed objects", async () => {
    const reading = await opened(here);
    here.steps = (call) => (call.path.endsWith("/undo") ? frames(mask({ revision: 2 }), 2, 2) : undefined);
    here.now = session({ revision: 2, redo: 1, objects: [LIVER, { ...LIVER, id: 2, name: "spleen" }] });
    const before = here.calls.length;
    await reading.undo();
    await vi.waitFor(() => expect(asked(here, "/sessions/s1/prompts").length).toBe(1));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(here.calls.slice(before).map((call) => call.path)).toEqual([
      "/sessions/s1/undo",
      "/sessions/s1",
      "/sessions/s1/prompts",
    ]);
    expect(reading.objects.value.length).toBe(2);
  });

  it("removes an object as a step, and has it again when that is undone", async () => {
    const spleen = { ...LIVER, id: 2, name: "spleen" };
    here.now = session({ revision: 3, objects: [LIVER, spleen] });
    here.changes = () => frames(mask({ revision: 3 }), 3);
    const reading = await opened(here);
    expect(reading.masks.slices(1)).toEqual([4]);
    const removed = mask({ revision: 4, status: "removed", rectangle: [0, 0, 0, 0] }, []);
    here.steps = (call) => (call.path === "/sessions/s1/objects/1" ? frames(removed, 4, 4) : undefined);
    here.now = session({ revision: 4, undo: 1, objects: [spleen] });
    await reading.removeObject(1);
    expect(asked(here, "/sessions/s1/objects/1")[0]).toMatchObject({ method: "DELETE" });
    expect([reading.objects.value, reading.active.value, reading.masks.slices(1)]).toEqual([[spleen], 2, []]);
    here.steps = (call) => (call.path.endsWith("/undo") ? frames(mask({ revision: 5 }), 5, 5) : undefined);
    here.now = session({ revision: 5, redo: 1, objects: [LIVER, spleen] });
    await reading.undo();
    await vi.waitFor(() => expect(reading.objects.value).toEqual([LIVER, spleen]));
    expect(reading.masks.slices(1)).toEqual([4]);
  });

  it("sends a drawn mask as run lengths of its slice", async () => {
    const reading = await opened(here);
    here.steps = (call) => (call.method === "POST" ? frames(mask({ revision: 2, status: "drawn" }), 2) : undefined);
    const brush = { x0: 1, y0: 2, x1: 3, y1: 3, data: Uint8Array.of(1, 1) };
    expect((await reading.draw(1, 4, brush)).status).toBe("drawn");
    const sent = here.calls.findLast((call) => call.path.endsWith("/prompts") && call.method === "POST")!.json as {
      drawn: { size: [number, number]; counts: string };
    };
    expect(sent.drawn.size).toEqual([8, 8]);
    expect(fromRle(sent.drawn)).toEqual(brush);
  });

  it("shows a propagation as it comes, with how sure it is, the least sure slice first", async () => {
    const reading = await opened(here);
    const job = { id: "j1", object: 1, state: "queued", done: 0, total: null, detail: null };
    here.steps = (call) => (call.path.endsWith("/propagate") ? json(job, 202) : undefined);
    await reading.propagate(1, 30);
    expect(asked(here, "/sessions/s1/propagate")[0]!.json).toEqual({ object: 1, max_mm: 30 });
    here.stream.say({
      kind: "job",
      revision: 1,
      job: "j1",
      object: 1,
      state: "running",
      done: 1,
      total: 5,
      detail: null,
    });
    await vi.waitFor(() => expect(reading.jobs.value[0]!.total).toBe(5));
    const slices: [number, number][] = [
      [5, 0.9],
      [6, 0.4],
      [7, 0.7],
    ];
    const told = slices.map(([slice, confidence]) =>
      frame({ slice, confidence, revision: 2, status: "propagated", rectangle: [1, 1, 2, 2] }, [1]),
    );
    here.changes = () => frames(joined(...told), 4);
    here.stream.say({ kind: "mask", revision: 4, object: 1, slice: 7, status: "propagated" });
    await vi.waitFor(() => expect(reading.masks.slices(1)).toEqual([5, 6, 7]));
    expect(slices.map(([slice]) => reading.masks.get(1, slice)!.confidence)).toEqual([0.9, 0.4, 0.7]);
    here.now = session({ revision: 5, undo: 1, jobs: [{ ...job, state: "done", done: 5, total: 5 } as never] });
    here.stream.say({ kind: "job", revision: 5, job: "j1", object: 1, state: "done", done: 5, total: 5, detail: null });
    await vi.waitFor(() => expect(reading.undoable.value).toBe(1));
    expect(reading.jobs.value[0]!.state).toBe("done");
  });

  it("says which slice is on screen at once, and then the last one only", async () => {
    const reading = await opened(here);
    here.steps = (call) => (call.path.endsWith("/view") ? json({ slice: 0 }, 202) : undefined);
    for (const slice of [1, 2, 3, 4]) reading.look(slice);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(asked(here, "/sessions/s1/view").map((call) => (call.json as { slice: number }).slice)).toEqual([1, 4]);
  });

  it("of another reader is looked at and not changed", async () => {
    here.now = session({ mine: false });
    const reading = await openReading("c1", { session: "s1" });
    here.open.push(reading);
    expect(((await reading.prompt(BOX).catch((error: unknown) => error)) as ApiError).status).toBe(403);
    reading.look(3);
    expect(here.calls.filter((call) => call.method !== "GET")).toEqual([]);
  });

  it("that is closed is looked at, and not listened to", async () => {
    here.now = session({ closed: "2026-11-29T15:00:00Z" });
    here.changes = () => frames(mask({ revision: 7 }), 7);
    const reading = await openReading("c1", { session: "s1" });
    here.open.push(reading);
    expect([reading.mine, reading.masks.slices(1), asked(here, "/sessions/s1/events")]).toEqual([false, [4], []]);
    await expect(reading.undo()).rejects.toMatchObject({ status: 403 });
  });

  it("that is closed in another tab while it is listened to says so, and is left alone", async () => {
    const reading = await opened(here);
    here.now = session({ closed: "2026-11-29T15:00:00Z" });
    here.stream.say({ kind: "resync", revision: 1 });
    await vi.waitFor(() => expect(reading.over.value?.status).toBe(404));
    const before = here.calls.length;
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(here.calls.slice(before)).toEqual([]);
    await expect(reading.prompt(BOX)).rejects.toMatchObject({ status: 404 });
  });

  it("that was closed elsewhere says so", async () => {
    here.steps = (call) => (call.path.endsWith("/events") ? refusal(404, "There is no such session.") : undefined);
    const reading = await openReading("c1");
    here.open.push(reading);
    await vi.waitFor(() => expect(reading.over.value?.status).toBe(404));
    await expect(reading.prompt(BOX)).rejects.toBeInstanceOf(ApiError);
  });
});

describe("candidates", () => {
  it("are of no step, and none where the server has none", async () => {
    const reading = await opened(here);
    const three = [0, 1, 2].map((number) =>
      frame({ slice: 4, rectangle: [number, 0, number + 1, 1], status: "candidate", revision: 0 }, [1]),
    );
    here.steps = (call) => (call.path.endsWith("/candidates") ? frames(joined(...three), 1) : undefined);
    expect((await reading.candidates(1, 4)).map((one) => one.mask.x0)).toEqual([0, 1, 2]);
    expect(reading.masks.get(1, 4)).toBeUndefined();
    here.steps = () => undefined;
    expect(await reading.candidates(1, 4)).toEqual([]);
  });
});
