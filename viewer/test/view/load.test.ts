import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Scan } from "../../src/scan/scan";
import { messages } from "../../src/state";
import { openScan } from "../../src/view/load";
import { grid } from "../scan/grid";

const GEOMETRY = grid({ shape: [20, 2, 2] });
const VOLUME = Int16Array.from({ length: 80 }, (_, n) => n).buffer;

interface Asked {
  path: string;
  range: string | null;
  ifRange: string | null;
}
let asked: Asked[];
let tag: string;
let waits: number;
let scan: Scan | null = null;

/** A server with one scan, which it reads while it is asked `waits` times. */
function answer(path: string, headers: Headers): Response {
  const range = headers.get("Range");
  const ifRange = headers.get("If-Range");
  asked.push({ path, range, ifRange });
  if (path.endsWith("/open")) {
    waits -= 1;
    return waits < 0 ? Response.json(GEOMETRY) : Response.json({ state: "loading" }, { status: 202 });
  }
  if (path.endsWith("/volume")) {
    const [, begin, end] = /bytes=(\d+)-(\d+)/.exec(range!)!;
    if (ifRange && ifRange !== tag) return new Response(VOLUME, { status: 200, headers: { ETag: tag } });
    return new Response(VOLUME.slice(Number(begin), Number(end) + 1), { status: 206, headers: { ETag: tag } });
  }
  return new Response(VOLUME.slice(8, 16));
}

beforeEach(() => {
  asked = [];
  tag = '"one"';
  waits = 0;
  messages.value = [];
  vi.useFakeTimers();
  vi.stubGlobal("fetch", async (address: string, init: RequestInit) => answer(address, new Headers(init.headers)));
});
afterEach(() => {
  scan?.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function opened(): Promise<Scan> {
  const promise = openScan("c1");
  await vi.advanceTimersByTimeAsync(200);
  scan = await promise;
  return scan;
}

describe("a scan that is opened", () => {
  it("is waited for while the server reads it", async () => {
    waits = 2;
    const promise = openScan("c1");
    await vi.advanceTimersByTimeAsync(10_000);
    scan = await promise;
    expect(asked.filter(({ path }) => path === "/api/v1/cases/c1/open")).toHaveLength(3);
    expect(scan.geometry.shape).toEqual([20, 2, 2]);
  });

  it("shows the slice that is looked at before the volume is here", async () => {
    const open = await opened();
    open.slice("k", 1);
    await vi.advanceTimersByTimeAsync(1);
    expect([...(open.slice("k", 1)!.data as Int16Array)]).toEqual([4, 5, 6, 7]);
    expect(asked.some(({ path }) => path === "/api/v1/cases/c1/slices/k/1")).toBe(true);
    expect(asked.some(({ path }) => path.endsWith("/volume"))).toBe(false);
  });

  it("comes as a whole behind, each piece of the same volume", async () => {
    const open = await opened();
    await vi.advanceTimersByTimeAsync(400);
    expect(open.loaded.value).toBe(1);
    expect(open.value([1, 1, 19])).toBe(79);
    const pieces = asked.filter(({ path }) => path.endsWith("/volume"));
    expect(pieces[0]).toEqual({ path: "/api/v1/cases/c1/volume", range: "bytes=0-159", ifRange: null });
  });

  it("of which the files change meanwhile is not mixed with another one: the reader is told what to do", async () => {
    const open = await opened();
    // planes around 10 come by themselves, so the volume takes two pieces
    open.slice("k", 10);
    await vi.advanceTimersByTimeAsync(1);
    vi.stubGlobal("fetch", async (address: string, init: RequestInit) => {
      const given = answer(address, new Headers(init.headers));
      if (address.endsWith("/volume")) tag = '"two"';
      return given;
    });
    await vi.advanceTimersByTimeAsync(600);
    expect(asked.at(-1)!.ifRange).toBe('"one"');
    expect(open.loaded.value).toBeLessThan(1);
    expect(messages.value.map(({ text }) => text)).toEqual([
      "The files of this scan have changed on the server. Load the page again to see them.",
    ]);
    expect(messages.value[0]!.action!.text).toBe("Load again");
  });

  it("whose volume is refused is not asked for it again and again", async () => {
    await opened();
    const refuse = (status: number) => async (path: string) => {
      asked.push({ path, range: null, ifRange: null });
      return Response.json({ detail: "This file ends too early." }, { status });
    };
    vi.stubGlobal("fetch", refuse(422));
    await vi.advanceTimersByTimeAsync(120_000);
    expect(asked.filter(({ path }) => path.endsWith("/volume"))).toHaveLength(1);
    expect(messages.value.map(({ text }) => text)).toEqual(["This file ends too early."]);
  });
});
