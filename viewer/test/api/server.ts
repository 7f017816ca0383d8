// A server that is not there: answers to `fetch`, for tests.

import { vi } from "vitest";

export interface Call {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: Headers;
  json: unknown;
}

/** What a call is answered with; a string: the connection breaks with it. */
export type Answer = Response | string;

/** Answer all requests; returns the calls as they come. */
export function serve(answer: (call: Call, number: number) => Answer | Promise<Answer>): Call[] {
  const calls: Call[] = [];
  vi.stubGlobal("fetch", async (address: string, init: RequestInit = {}) => {
    const url = new URL(address, "http://server.test");
    const call: Call = {
      method: init.method ?? "GET",
      path: url.pathname.replace("/api/v1", ""),
      query: url.searchParams,
      headers: new Headers(init.headers),
      json: typeof init.body === "string" ? JSON.parse(init.body) : undefined,
    };
    init.signal?.throwIfAborted();
    calls.push(call);
    const answered = await Promise.race([
      answer(call, calls.length),
      new Promise<never>((_, reject) => {
        init.signal?.addEventListener("abort", () => reject(init.signal?.reason));
      }),
    ]);
    if (typeof answered === "string") throw new TypeError(answered);
    return answered;
  });
  return calls;
}

export function json(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers });
}

export function refusal(status: number, detail = "", headers: Record<string, string> = {}): Response {
  return json({ detail, parameters: [], error: "" }, status, headers);
}

/** An answer to a step, or to `changes`. */
export function frames(body: ArrayBuffer, revision: number, objects = 0): Response {
  return new Response(body, {
    headers: { "X-Medsam-Revision": String(revision), "X-Medsam-Objects": String(objects) },
  });
}
