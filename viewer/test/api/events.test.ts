import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Lines, type Listener, listen } from "../../src/api/events";
import type { ApiError } from "../../src/api/http";
import type { EventInfo } from "../../src/api/types";
import { locked, me, offline } from "../../src/state";
import { type Call, json, refusal, serve } from "./server";

describe("a stream of events", () => {
  it("is read in whatever pieces it comes", () => {
    const text =
      ': alive\n\nid: 7\ndata: {"revision":7,"kind":"mask"}\n\nid: 8\r\ndata:{"revision":8,\r\ndata: "kind":"job"}\r\n\r\n';
    const whole = new Lines().feed(text);
    expect(whole.map((event) => [event.kind, event.revision])).toEqual([
      ["mask", 7],
      ["job", 8],
    ]);
    const lines = new Lines();
    expect([...text].flatMap((letter) => lines.feed(letter))).toEqual(whole);
  });

  it("may say what is of a later version, which is left out", () => {
    expect(new Lines().feed('data: nonsense\n\ndata: {"revision":"x","kind":"mask"}\n\nevent: other\n\n')).toEqual([]);
  });
});

/** A stream that ends when it is told to. */
function stream(...texts: string[]): { response: Response; end: () => void } {
  let end = (): void => {};
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const text of ["retry: 1000\n\n", ...texts]) controller.enqueue(new TextEncoder().encode(text));
      end = () => controller.close();
    },
  });
  return { response: new Response(body), end };
}

class Heard implements Listener {
  revision = 3;
  events: EventInfo[] = [];
  resyncs = 0;
  polls = 0;
  over: ApiError | null = null;
  since(): number {
    return this.revision;
  }
  event(event: EventInfo): void {
    this.events.push(event);
    this.revision = event.revision;
  }
  resync(): void {
    this.resyncs += 1;
  }
  async poll(): Promise<void> {
    this.polls += 1;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  ended(error: ApiError): void {
    this.over = error;
  }
}

let stop: AbortController;
let calls: Call[];

beforeEach(() => {
  vi.useFakeTimers();
  stop = new AbortController();
  me.value = { name: "anna", role: "reader", way: "local", csrf: null, locks_after: null, ends_at: null };
  locked.value = false;
});
afterEach(async () => {
  stop.abort();
  offline.value = false;
  await vi.advanceTimersByTimeAsync(60_000);
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("who listens", () => {
  it("goes on with the revision that is known after a connection was lost", async () => {
    const streams = [stream('data: {"revision":5,"kind":"mask"}\n\n'), stream()];
    calls = serve((_, number) => streams[number - 1]?.response ?? refusal(503));
    const heard = new Heard();
    const connected = listen("s", heard, stop.signal);
    await vi.advanceTimersByTimeAsync(10);
    expect([connected.value, heard.events.length]).toEqual([true, 1]);
    streams[0]!.end();
    await vi.advanceTimersByTimeAsync(10);
    expect(connected.value).toBe(false);
    await vi.advanceTimersByTimeAsync(1000);
    expect([connected.value, heard.resyncs]).toEqual([true, 1]);
    expect(calls.map((call) => call.headers.get("Last-Event-ID"))).toEqual(["3", "5"]);
  });

  it("is told to ask for everything where events were missed", async () => {
    calls = serve(() => stream('data: {"revision":9,"kind":"resync"}\n\n').response);
    const heard = new Heard();
    listen("s", heard, stop.signal);
    await vi.advanceTimersByTimeAsync(10);
    expect([heard.resyncs, heard.events]).toEqual([1, []]);
  });

  it("tries again more and more seldom, and not while the server is known to be gone", async () => {
    let there = false;
    calls = serve((call) => {
      if (!there) return "gone";
      return call.path === "/health/live" ? json({}) : stream().response;
    });
    const connected = listen("s", new Heard(), stop.signal);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(calls.filter((call) => call.path.endsWith("/events")).length).toBeLessThan(4);
    there = true;
    await vi.advanceTimersByTimeAsync(15_000);
    expect(connected.value).toBe(true);
  });

  it("comes back more and more seldom where streams end as they begin", async () => {
    calls = serve(() => {
      const one = stream();
      one.end();
      return one.response;
    });
    listen("s", new Heard(), stop.signal);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(calls.length).toBeGreaterThan(5);
    expect(calls.length).toBeLessThan(15);
  });

  it("hears that the session is no more", async () => {
    calls = serve(() => refusal(404, "There is no such session."));
    const heard = new Heard();
    listen("s", heard, stop.signal);
    await vi.advanceTimersByTimeAsync(60_000);
    expect([heard.over?.status, calls.length]).toEqual([404, 1]);
    calls = serve(() => new Response(null, { status: 204 }));
    const other = new Heard();
    listen("s", other, stop.signal);
    await vi.advanceTimersByTimeAsync(60_000);
    expect([other.over?.status, calls.length]).toEqual([404, 1]);
  });

  it("waits while the login is locked", async () => {
    locked.value = true;
    calls = serve(() => stream().response);
    const connected = listen("s", new Heard(), stop.signal);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(calls.length).toBe(0);
    locked.value = false;
    await vi.advanceTimersByTimeAsync(1000);
    expect(connected.value).toBe(true);
  });

  it("asks for changes where something in between holds streams back", async () => {
    calls = serve(() => new Response(new ReadableStream<Uint8Array>()));
    const heard = new Heard();
    const connected = listen("s", heard, stop.signal);
    await vi.advanceTimersByTimeAsync(25_000);
    expect(heard.polls).toBeGreaterThan(1);
    expect(connected.value).toBe(true);
  });

  it("asks for changes where something in between holds back the head of a stream, too", async () => {
    calls = serve(() => new Promise(() => {}));
    const heard = new Heard();
    const connected = listen("s", heard, stop.signal);
    await vi.advanceTimersByTimeAsync(25_000);
    expect([heard.polls > 1, connected.value, offline.value]).toEqual([true, true, false]);
  });

  it("lets go of its connection in a tab that is hidden for long, and takes it again", async () => {
    calls = serve(() => stream().response);
    let hidden = false;
    vi.spyOn(document, "hidden", "get").mockImplementation(() => hidden);
    const turn = (to: boolean): void => {
      hidden = to;
      document.dispatchEvent(new Event("visibilitychange"));
    };
    const heard = new Heard();
    const connected = listen("s", heard, stop.signal);
    await vi.advanceTimersByTimeAsync(10);
    turn(true);
    await vi.advanceTimersByTimeAsync(60_000);
    expect([connected.value, calls.length]).toEqual([false, 1]);
    turn(false);
    await vi.advanceTimersByTimeAsync(5000);
    expect([connected.value, calls.length, heard.resyncs]).toEqual([true, 2, 1]);
    vi.restoreAllMocks();
  });
});
