// What a session tells while it works: server-sent events, across lost connections.
//
// Read by `fetch`, not by `EventSource`: it says with which status a stream was refused, and takes a header of the
// revision that is known. A browser has six connections to a server without HTTP/2, and a stream takes one: a tab that
// nobody looks at lets go of its own, and catches up when it is looked at again. Where something in between holds
// streams back, `changes` is asked with a wait instead.

import { type ReadonlySignal, signal } from "@preact/signals";
import { locked, me, offline } from "../state";
import { ApiError, addressOf, heed, lost, refused } from "./http";
import type { EventInfo } from "./types";
import { pause, until } from "./wait";

/** ms without a byte: the server says something every 15 s. */
const SILENT = 45_000;
/** ms until the first bytes, which come at once where nothing holds them back. */
const FIRST = 8000;
/** ms before another try. */
const WAITS = [200, 1000, 2000, 4000, 8000];
/** ms that a hidden tab keeps its stream. */
const HIDDEN = 5000;
/** Streams that were held back, in a row, after which `changes` is asked instead; and asks before a stream is tried. */
const HELD = 2;
/** ms after which a stream that ends was one: a server that is ending takes them and lets them go. */
const LASTED = 5000;
const ASKS = 20;

export interface Listener {
  /** The revision that is known. */
  since(): number;
  event(event: EventInfo): void;
  /** Events may have been missed: everything is to be asked for. */
  resync(): void;
  /** Ask for changes and wait for some; raises as `request`. */
  poll(signal: AbortSignal): Promise<void>;
  /** The session is no more, or no longer the reader's to see. */
  ended(error: ApiError): void;
}

/** Listen to a session until `stop` says otherwise. Returns whether it is heard. */
export function listen(session: string, listener: Listener, stop: AbortSignal): ReadonlySignal<boolean> {
  const connected = signal(false);
  void new Stream(session, listener, stop, (value) => {
    connected.value = value;
  }).run();
  return connected;
}

class Stream {
  private held = 0;
  private tries = 0;
  private before = false;

  constructor(
    private readonly session: string,
    private readonly listener: Listener,
    private readonly signal: AbortSignal,
    private readonly connected: (value: boolean) => void,
  ) {}

  async run(): Promise<void> {
    while (!this.signal.aborted) {
      const began = performance.now();
      try {
        await until(() => !document.hidden && !locked.value && me.value !== null, this.signal);
        await (this.held < HELD ? this.once() : this.polled());
      } catch (error) {
        if (this.signal.aborted) break;
        if (error instanceof ApiError && [403, 404, 409].includes(error.status)) {
          this.connected(false);
          this.listener.ended(error);
          return;
        }
      }
      this.connected(false);
      this.tries = performance.now() - began > LASTED ? 1 : this.tries + 1;
      const wait = WAITS[Math.min(this.tries - 1, WAITS.length - 1)] ?? WAITS[0]!;
      await pause(wait, this.signal).catch(() => {});
      await until(() => !offline.value, this.signal).catch(() => {});
    }
    this.connected(false);
  }

  /** One connection, until it ends. */
  private async once(): Promise<void> {
    const stop = new AbortController();
    const forward = (): void => stop.abort();
    this.signal.addEventListener("abort", forward);
    const unhidden = whileHidden(HIDDEN, forward);
    // what holds a stream back may hold its head back, too
    const first = setTimeout(() => {
      this.held += 1;
      stop.abort();
    }, FIRST);
    try {
      const came = (): void => clearTimeout(first);
      const response = await this.open(stop, came);
      await this.read(response, stop, came);
    } finally {
      clearTimeout(first);
      unhidden();
      this.signal.removeEventListener("abort", forward);
      stop.abort();
    }
  }

  private async open(stop: AbortController, came: () => void): Promise<Response> {
    const headers = { Accept: "text/event-stream", "Last-Event-ID": String(this.listener.since()) };
    let response: Response;
    try {
      response = await fetch(addressOf(`/sessions/${this.session}/events`), { headers, signal: stop.signal });
    } catch (error) {
      if (!stop.signal.aborted) lost();
      throw error;
    }
    // nothing will ever be told: it is closed
    if (response.status === 204) throw new ApiError(404, "the session was closed");
    if (response.ok) return response;
    came();
    const failure = await refused(response);
    if (failure.status === 429) await pause((failure.retryAfter ?? 2) * 1000, this.signal);
    await heed(failure);
    throw failure;
  }

  private async read(response: Response, stop: AbortController, came: () => void): Promise<void> {
    const reader = response.body!.getReader();
    const decoder = new TextDecoder();
    const lines = new Lines();
    stop.signal.addEventListener("abort", () => void reader.cancel().catch(() => {}));
    for (let said = false; ; said = true) {
      const timer = said ? setTimeout(() => stop.abort(), SILENT) : undefined;
      try {
        const { done, value } = await reader.read();
        stop.signal.throwIfAborted();
        came();
        if (done) return;
        if (!said) this.begun();
        for (const event of lines.feed(decoder.decode(value, { stream: true }))) {
          if (event.kind === "resync") this.listener.resync();
          else this.listener.event(event);
        }
      } finally {
        clearTimeout(timer);
      }
    }
  }

  private begun(): void {
    this.held = 0;
    this.connected(true);
    // what was missed comes by `Last-Event-ID`; where the server began anew its events did, too
    if (this.before) this.listener.resync();
    this.before = true;
  }

  private async polled(): Promise<void> {
    for (let asked = 0; asked < ASKS && !document.hidden; asked += 1) {
      await this.listener.poll(this.signal);
      this.connected(true);
    }
    this.held = HELD - 1;
  }
}

/** Lines of a stream of events. Source: the event stream format of the HTML standard (9.2.6). */
export class Lines {
  private rest = "";
  private data: string[] = [];

  /** The events that a piece of text completes; what is of a later version is left out. */
  feed(text: string): EventInfo[] {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    const found: EventInfo[] = [];
    for (const line of lines) {
      if (line === "") {
        const event = parsed(this.data.join("\n"));
        this.data = [];
        if (event !== null) found.push(event);
      } else if (line.startsWith("data:")) {
        this.data.push(line.slice(5).replace(/^ /, ""));
      }
    }
    return found;
  }
}

function parsed(text: string): EventInfo | null {
  if (text === "") return null;
  try {
    const told = JSON.parse(text) as EventInfo;
    return typeof told.kind === "string" && Number.isSafeInteger(told.revision) ? told : null;
  } catch {
    return null;
  }
}

/** Call `then` once the tab was hidden for so long; returns what ends that. */
function whileHidden(ms: number, then: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const look = (): void => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(then, ms);
  };
  document.addEventListener("visibilitychange", look);
  return () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
  };
}
