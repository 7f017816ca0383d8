import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { login, whoAmI } from "../../src/api/account";
import { ApiError, ask, explain, request, setCsrf } from "../../src/api/http";
import { speak } from "../../src/i18n";
import { locked, me, offline } from "../../src/state";
import { json, refusal, serve } from "./server";

const ANNA = { name: "anna", role: "reader", way: "login", csrf: "c1", locks_after: 900, ends_at: null };

beforeEach(() => {
  vi.useFakeTimers();
  setCsrf(null);
  me.value = null;
  locked.value = false;
  offline.value = false;
  speak("en");
});
afterEach(async () => {
  // who looks out for a server that is gone sees that nobody misses it
  offline.value = false;
  await vi.advanceTimersByTimeAsync(10_000);
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** What becomes of it, while all waiting is skipped. */
async function outcome<T>(asked: Promise<T>): Promise<T | ApiError> {
  const settled = asked.catch((error: unknown) => error as ApiError);
  await vi.advanceTimersByTimeAsync(100_000);
  return settled;
}

describe("what is asked", () => {
  it("goes below /api/v1, with a token where it changes something", async () => {
    const calls = serve(() => json({}));
    setCsrf("token");
    await outcome(ask("/cases", { query: { q: "ä b", after: null, mine: true } }));
    await outcome(ask("/login", { method: "POST", json: { name: "x" } }));
    expect(calls[0]!.path).toBe("/cases");
    expect([...calls[0]!.query]).toEqual([
      ["q", "ä b"],
      ["mine", "true"],
    ]);
    expect(calls[0]!.headers.get("X-Medsam-Csrf")).toBeNull();
    expect(calls[1]!.headers.get("X-Medsam-Csrf")).toBe("token");
    expect(calls[1]!.json).toEqual({ name: "x" });
  });

  it("is tried four times where it only reads, and once where it is a step", async () => {
    const calls = serve(() => "no connection");
    const failed = await outcome(request("/cases"));
    expect((failed as ApiError).status).toBe(0);
    expect(calls.filter((call) => call.path === "/cases").length).toBe(4);
    calls.length = 0;
    await outcome(request("/sessions/s/prompts", { method: "POST" }));
    expect(calls.filter((call) => call.path.endsWith("/prompts")).length).toBe(1);
  });

  it("is tried again where a server says later: what reads by 503, and any by 429", async () => {
    const calls = serve((_, number) => (number < 3 ? refusal(503, "starting") : json([])));
    expect(await outcome(ask("/cases"))).toEqual([]);
    expect(calls.length).toBe(3);
    const later = refusal(429, "", { "Retry-After": "0" });
    const once = serve((call, number) =>
      call.path === "/a" ? refusal(503, "starting") : number < 3 ? later.clone() : json(1),
    );
    expect(((await outcome(ask("/a", { method: "POST" }))) as ApiError).status).toBe(503);
    expect(await outcome(ask("/b", { method: "POST" }))).toBe(1);
    expect(once.length).toBe(3);
  });

  it("is not tried again where a limit is not one of time, and says which", async () => {
    const calls = serve(() => refusal(429, "This session has too many steps."));
    const failed = await outcome(ask("/a", { method: "POST" }));
    expect([calls.length, explain(failed)]).toEqual([1, expect.stringContaining("This session has too many steps.")]);
  });

  it("does not wait for ever where it says for how long", async () => {
    const calls = serve((call) => (call.path === "/health/live" ? "gone" : new Promise(() => {})));
    const failed = (await outcome(ask("/cases", { timeout: 30 }))) as ApiError;
    expect([failed.status, offline.value, calls.filter((call) => call.path === "/cases").length]).toEqual([0, true, 1]);
  });

  it("waits as long as Retry-After says", async () => {
    const calls = serve((_, number) => (number === 1 ? refusal(429, "", { "Retry-After": "7" }) : json(1)));
    const asked = ask("/cases");
    await vi.advanceTimersByTimeAsync(6900);
    expect(calls.length).toBe(1);
    await vi.advanceTimersByTimeAsync(200);
    expect([await asked, calls.length]).toEqual([1, 2]);
  });

  it("ends where its signal says so, while waiting too", async () => {
    const calls = serve(() => refusal(503, "starting"));
    const stop = new AbortController();
    const asked = ask("/cases", { signal: stop.signal }).catch((error: unknown) => error as Error);
    await vi.advanceTimersByTimeAsync(100);
    stop.abort();
    expect(((await asked) as Error).name).toBe("AbortError");
    expect(calls.length).toBe(1);
  });

  it("says what the server said", async () => {
    serve(() => json({ detail: "`box` is inverted.", parameters: ["box"], error: "PromptError" }, 422));
    const failed = (await outcome(ask("/x", { method: "POST" }))) as ApiError;
    expect([failed.status, failed.detail, failed.parameters]).toEqual([422, "`box` is inverted.", ["box"]]);
    expect(explain(failed)).toBe("box is inverted.");
    serve(() => refusal(503, "Too many scans."));
    expect(((await outcome(ask("/x", { method: "POST" }))) as ApiError).status).toBe(503);
    expect(offline.value).toBe(false);
  });
});

describe("who is here", () => {
  it("is forgotten by 401", async () => {
    me.value = ANNA as typeof me.value;
    serve(() => refusal(401, "Log in."));
    await outcome(ask("/cases"));
    expect(me.value).toBeNull();
  });

  it("is locked by 423, but not by the 423 of a structure", async () => {
    serve((call) => (call.path === "/me" ? json(ANNA) : refusal(423, "'liver' is locked. Unlock it first.")));
    const failed = await outcome(ask("/sessions/s/prompts", { method: "POST" }));
    expect(locked.value).toBe(false);
    expect(explain(failed)).toContain("structure is locked");
    serve(() => refusal(423, "Locked after a while without use: give the password to /unlock."));
    const stop = new AbortController();
    const waiting = outcome(ask("/cases", { signal: stop.signal }));
    await vi.advanceTimersByTimeAsync(10);
    expect(locked.value).toBe(true);
    stop.abort();
    await waiting;
  });

  it("is asked for once after the 423 of a structure, and no more after that of /me itself", async () => {
    const calls = serve((call) => (call.path === "/me" ? json(ANNA) : refusal(423, "'liver' is locked.")));
    await outcome(ask("/sessions/s/prompts", { method: "POST" }));
    expect(calls.filter((call) => call.path === "/me").length).toBe(1);
    const atDoor = serve(() => refusal(423, "Locked."));
    await outcome(ask("/me"));
    expect([locked.value, atDoor.length]).toEqual([true, 1]);
  });

  it("who gives the password again goes on: what the locked login was refused is sent once more", async () => {
    let shut = true;
    const calls = serve((call) => (shut ? refusal(423, "Locked.") : json(call.path === "/me" ? ANNA : 1)));
    const asked = outcome(ask("/sessions/s/prompts", { method: "POST" }));
    await vi.advanceTimersByTimeAsync(60_000);
    expect([locked.value, calls.filter((call) => call.path.endsWith("/prompts")).length]).toEqual([true, 1]);
    shut = false;
    locked.value = false;
    expect(await asked).toBe(1);
    expect(calls.filter((call) => call.path.endsWith("/prompts")).length).toBe(2);
  });

  it("behind a page that locked itself stays locked when a structure is refused", async () => {
    locked.value = true;
    serve((call) => (call.path === "/me" ? json(ANNA) : refusal(423, "'liver' is locked. Unlock it first.")));
    await outcome(ask("/sessions/s/prompts", { method: "POST" }));
    expect(locked.value).toBe(true);
  });

  it("is asked for at the start: nobody, somebody, and one who is locked", async () => {
    serve(() => refusal(401));
    expect(await outcome(whoAmI())).toBeNull();
    serve(() => refusal(423));
    expect(await outcome(whoAmI())).toBeNull();
    expect(locked.value).toBe(true);
    serve(() => json(ANNA));
    expect(await outcome(whoAmI())).toEqual(ANNA);
    expect([me.value?.name, locked.value]).toEqual(["anna", false]);
  });

  it("keeps the message of a wrong password", async () => {
    serve(() => refusal(401, "The name or the password is wrong."));
    expect(explain(await outcome(login("anna", "no")))).toBe("The name or the password is wrong. Try again.");
  });

  it("who logged in anew in another tab goes on with its token", async () => {
    setCsrf("old");
    const calls = serve((call) => {
      if (call.path === "/me") return json({ ...ANNA, csrf: "new" });
      return call.headers.get("X-Medsam-Csrf") === "new" ? json(1) : refusal(403, "no token");
    });
    expect(await outcome(ask("/x", { method: "POST" }))).toBe(1);
    expect(calls.map((call) => call.path)).toEqual(["/x", "/me", "/x"]);
  });

  it("who may not is told so, once", async () => {
    setCsrf("c1");
    const calls = serve((call) => (call.path === "/me" ? json(ANNA) : refusal(403, "no")));
    expect(((await outcome(ask("/x", { method: "POST" }))) as ApiError).status).toBe(403);
    expect(calls.filter((call) => call.path === "/x").length).toBe(1);
  });
});

describe("a server that is gone", () => {
  it("is said to be, and is found when it is back without anybody's doing", async () => {
    let there = false;
    serve((call) => (there && call.path === "/health/live" ? json({}) : "no connection"));
    await outcome(request("/x", { method: "POST" }));
    expect(offline.value).toBe(true);
    there = true;
    await vi.advanceTimersByTimeAsync(5000);
    expect(offline.value).toBe(false);
  });
});

describe("a proxy before a server that is gone", () => {
  it("is no server: its page says nothing of what was asked", async () => {
    serve(() => new Response("<html>", { status: 502 }));
    expect(((await outcome(ask("/x", { method: "POST" }))) as ApiError).status).toBe(0);
    expect(offline.value).toBe(true);
  });
});

describe("messages", () => {
  it("of what is not allowed say what is instead", () => {
    expect(explain(new ApiError(403, "no"))).toContain("may look at this");
    expect(explain(new ApiError(403, "no", ["format"]))).toContain("names the patient");
  });

  it("are in Korean, too", () => {
    speak("ko");
    expect(explain(new ApiError(0, "x"))).toMatch(/서버/);
    expect(explain(new ApiError(507, "x"))).toMatch(/디스크/);
  });
});
