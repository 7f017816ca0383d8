import { describe, expect, it } from "vitest";
import type { ApiError } from "../../src/api/http";
import { openReading } from "../../src/reading/open";
import { type Answer, type Call, json, refusal } from "../api/server";
import { LIVER, servedSession, session } from "./served";

const here = servedSession();

/** The session s0 that is open and is closed then, with what `told` says of it; `begins` answers to what begins. */
function oneIsOpen(told: object, begins: (call: Call) => Answer = () => json(here.now, 201)): void {
  here.steps = (call) => {
    if (call.path === "/sessions/s0") {
      return call.method === "GET" ? json(session(told)) : new Response(null, { status: 204 });
    }
    if (call.path !== "/sessions") return undefined;
    return call.method === "GET" ? json([{ id: "s0", case: "c1", axis: "k", closed: null }]) : begins(call);
  };
}

describe("a reading along another axis", () => {
  it("takes the place of the one that is open, and begins from its masks with its objects as they were", async () => {
    const spleen = { id: 2, name: "spleen", colour: "#ff0000", visible: false, locked: true };
    const gone: string[] = [];
    here.steps = (call) => {
      if (call.path === "/sessions" && call.method === "GET") {
        return json([{ id: "s0", case: "c1", axis: "k", closed: null }]);
      }
      if (call.path === "/sessions/s0" && call.method === "DELETE") {
        gone.push("s0");
        return new Response(null, { status: 204 });
      }
      if (call.path === "/sessions/s0") return json(session({ id: "s0", objects: [LIVER, spleen] }));
      if (call.path === "/sessions/s1/objects") return json({ ...spleen, visible: true, locked: false }, 201);
      if (call.path === "/sessions/s1/objects/2") return json(spleen);
      return undefined;
    };
    here.now = session({ axis: "j", geometry: { shape: [20, 8, 9], affine: [], calibrated: true } });
    const reading = await openReading("c1", { axis: "j" });
    here.open.push(reading);
    expect(gone).toEqual(["s0"]);
    const begun = here.calls.filter((call) => call.path === "/sessions" && call.method === "POST");
    expect(begun.map((call) => call.json)).toEqual([{ case: "c1", axis: "j", start: { session: "s0" } }]);
    expect(reading.objects.value).toEqual([LIVER, spleen]);
    const changed = here.calls.filter((call) => call.method === "PATCH").map((call) => [call.path, call.json]);
    expect(changed).toEqual([["/sessions/s1/objects/2", { visible: false, locked: true }]]);
  });

  it("that is open along it already is gone on with", async () => {
    here.steps = (call) =>
      call.path === "/sessions" && call.method === "GET"
        ? json([{ id: "s1", case: "c1", axis: "k", closed: null }])
        : undefined;
    here.open.push(await openReading("c1", { axis: "k" }));
    expect(here.calls.filter((call) => call.method !== "GET").map((call) => call.json)).toEqual([
      { case: "c1", axis: "k" },
    ]);
  });

  it("that cannot be begun leaves the reader with one along the former axis", async () => {
    const begun: unknown[] = [];
    here.steps = (call) => {
      if (call.path === "/sessions" && call.method === "GET") {
        return json([{ id: "s0", case: "c1", axis: "k", closed: null }]);
      }
      if (call.path === "/sessions/s0")
        return call.method === "GET" ? json(session()) : new Response(null, { status: 204 });
      if (call.path !== "/sessions") return undefined;
      begun.push(call.json);
      return begun.length === 1 ? refusal(422, "no") : json(here.now, 201);
    };
    await expect(openReading("c1", { axis: "j" })).rejects.toMatchObject({ status: 422 });
    expect(begun[1]).toEqual({ case: "c1", axis: "k", start: { session: "s0" } });
  });

  it("leaves an open session alone where nobody said otherwise", async () => {
    here.steps = (call) => (call.path === "/sessions" ? refusal(409, "of another model") : undefined);
    expect(((await openReading("c1").catch((error: unknown) => error)) as ApiError).status).toBe(409);
    expect(here.calls.map((call) => call.method)).toEqual(["POST"]);
  });

  it("has values and objects as the server says: what it carries over is not asked for again", async () => {
    oneIsOpen({ id: "s0", keep_range: [-100, 200], objects: [{ ...LIVER, visible: false, locked: true }] });
    // changed in another tab by then
    here.now = session({ axis: "j", keep_range: [-100, 300], objects: [{ ...LIVER, visible: false }] });
    const reading = await openReading("c1", { axis: "j" });
    here.open.push(reading);
    expect(reading.keptRange.value).toEqual([-100, 300]);
    expect(reading.objects.value).toEqual([{ ...LIVER, visible: false }]);
    const sent = here.calls.filter((call) => call.method !== "GET").map((call) => `${call.method} ${call.path}`);
    expect(sent).toEqual(["DELETE /sessions/s0", "POST /sessions"]);
  });

  it("that is begun is not begun once more when an object cannot be made", async () => {
    const begun: unknown[] = [];
    oneIsOpen({ id: "s0", objects: [LIVER, { ...LIVER, id: 2, name: "spleen" }] }, (call) => {
      begun.push(call.json);
      return json(here.now, 201);
    });
    const steps = here.steps;
    here.steps = (call) => (call.path.endsWith("/objects") ? refusal(422, "no") : steps(call));
    await expect(openReading("c1", { axis: "j" })).rejects.toMatchObject({ status: 422 });
    expect(begun.length).toBe(1);
  });
});

describe("a reading that takes another one's place", () => {
  it("says from which it begins where nothing could be begun", async () => {
    oneIsOpen({ id: "s0" }, () => refusal(422, "no"));
    await expect(openReading("c1", { anew: true })).rejects.toMatchObject({ status: 422, from: "s0" });
  });

  it("is begun to the end although the case is left meanwhile", async () => {
    const stop = new AbortController();
    const begun: unknown[] = [];
    oneIsOpen({ id: "s0" }, (call) => {
      begun.push(call.json);
      return json(here.now, 201);
    });
    const steps = here.steps;
    here.steps = (call) => {
      if (call.method === "DELETE") stop.abort();
      return steps(call);
    };
    await expect(openReading("c1", { anew: true, signal: stop.signal })).rejects.toMatchObject({ name: "AbortError" });
    expect(begun).toEqual([{ case: "c1", start: { session: "s0" } }]);
  });
});

describe("a case whose reading was closed", () => {
  function closed(lines: object[]): void {
    here.steps = (call) => (call.path === "/sessions" && call.method === "GET" ? json(lines) : undefined);
  }
  function begun(): unknown[] {
    return here.calls.filter((call) => call.path === "/sessions" && call.method === "POST").map((call) => call.json);
  }

  it("begins from its masks, along its axis, with those objects that have none yet", async () => {
    const spleen = { ...LIVER, id: 2, name: "spleen" };
    closed([{ id: "s0", case: "c1", axis: "j", closed: "2026-11-29T15:00:00Z" }]);
    const steps = here.steps;
    here.steps = (call) => {
      if (call.path === "/sessions/s0") return json(session({ id: "s0", objects: [LIVER, spleen] }));
      return call.path === "/sessions/s1/objects" ? json(spleen, 201) : steps(call);
    };
    const reading = await openReading("c1", { from: "s0" });
    here.open.push(reading);
    expect(begun()).toEqual([{ case: "c1", axis: "j", start: { session: "s0" } }]);
    expect(reading.objects.value).toEqual([LIVER, spleen]);
    // it is shown and open, as any that is new
    expect(here.calls.filter((call) => call.method === "PATCH")).toEqual([]);
  });

  it("goes on with one that is open by then", async () => {
    closed([{ id: "s1", case: "c1", axis: "k", closed: null }]);
    here.open.push(await openReading("c1", { from: "s0" }));
    expect(begun()).toEqual([{ case: "c1" }]);
  });
});
