// A session of a server that is not there, for tests of readings: what it is, what it answers, and what it was asked.

import { afterEach, beforeEach, expect, vi } from "vitest";
import type { SessionInfo } from "../../src/api/types";
import { type OpenOptions, openReading } from "../../src/reading/open";
import type { Reading } from "../../src/reading/reading";
import { locked, me, offline } from "../../src/state";
import { frame, type Told } from "../api/frames";
import { type Answer, type Call, frames, json, refusal, serve } from "../api/server";

export const BOX = { object: 1, slice: 4, box: [1, 1, 3, 3] as [number, number, number, number] };
export const EMPTY = new ArrayBuffer(0);
export const LIVER = { id: 1, name: "liver", colour: "#288c28", visible: true, locked: false };

export function session(more: Partial<SessionInfo> = {}): SessionInfo {
  return {
    id: "s1",
    case: "c1",
    revision: 1,
    axis: "k",
    geometry: { shape: [20, 8, 8], affine: [], calibrated: true },
    slices: 20,
    objects: [LIVER],
    jobs: [],
    undo: 0,
    redo: 0,
    view: null,
    notes: [],
    mine: true,
    ...more,
  };
}

/** A mask of the object 1 on slice 4. */
export function mask(told: Partial<Told> = {}, pixels: number[] = [1, 1, 1, 1]): ArrayBuffer {
  return frame({ slice: 4, rectangle: [1, 1, 3, 3], status: "first", ...told }, pixels).buffer;
}

/** The server's end of a stream of events. */
class Stream {
  private end!: ReadableStreamDefaultController<Uint8Array>;
  readonly body = new ReadableStream<Uint8Array>({
    start: (end) => {
      this.end = end;
    },
  });

  say(event: object): void {
    this.end.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(event)}\n\n`));
  }

  open(): Response {
    this.end.enqueue(new TextEncoder().encode("retry: 1000\n\n"));
    return new Response(this.body, { headers: { "Content-Type": "text/event-stream" } });
  }
}

export interface Here {
  /** What `GET /sessions/s1` answers. */
  now: SessionInfo;
  stream: Stream;
  /** Answers before all others. */
  steps: (call: Call) => Answer | Promise<Answer> | undefined;
  changes: (since: number) => Answer;
  calls: Call[];
  /** Readings to leave in the end. */
  open: Reading[];
}

/** Has each test of a file begin with a session as `session` has it. */
export function servedSession(): Here {
  const here = {} as Here;
  beforeEach(() => {
    me.value = { name: "anna", role: "reader", way: "local", csrf: null, locks_after: null, ends_at: null };
    locked.value = false;
    offline.value = false;
    here.now = session();
    here.stream = new Stream();
    here.open = [];
    here.steps = () => undefined;
    here.changes = (since) => frames(EMPTY, Math.max(since, here.now.revision));
    here.calls = serve((call) => {
      const answer = here.steps(call);
      if (answer !== undefined) return answer;
      if (call.path === "/sessions" && call.method === "POST") return json(here.now, 201);
      if (call.path === "/sessions/s1/changes") return here.changes(Number(call.query.get("since")));
      if (call.path === "/sessions/s1/events") return here.stream.open();
      if (call.path === "/sessions/s1/prompts") return json({ axis: "k", prompts: [] });
      if (call.path === "/sessions/s1") return json(here.now);
      return refusal(404, call.path);
    });
  });
  afterEach(() => {
    for (const one of here.open) void one.leave();
    offline.value = false;
    vi.unstubAllGlobals();
  });
  return here;
}

/** A reading of it that is listening. */
export async function opened(here: Here, options: OpenOptions = {}): Promise<Reading> {
  const reading = await openReading("c1", options);
  here.open.push(reading);
  await vi.waitFor(() => expect(reading.connected.value).toBe(true));
  return reading;
}

export function asked(here: Here, path: string): Call[] {
  return here.calls.filter((call) => call.path === path);
}

/** Whether a call is a prompt. */
export function isPrompt(call: Call): boolean {
  return call.method === "POST" && call.path.endsWith("/prompts");
}
