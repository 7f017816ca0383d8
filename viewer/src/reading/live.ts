// A reading that is open: what it was told is kept here and brought up to date by every answer.
//
// Each step says which revision is known (`since`), so its answer brings everything that changed, also what a lost answer
// would have said. Steps and syncs have one queue: an answer never meets masks that are newer than its frames.

import { batch, computed, type ReadonlySignal, signal } from "@preact/signals";
import { listen } from "../api/events";
import { ApiError, type Ask, ask, bytesOf, isAbort, request } from "../api/http";
import type { Axis, EventInfo, JobInfo, ObjectInfo, PromptEntry, SessionInfo } from "../api/types";
import { MEDIA_TYPE, readFrames, WireError } from "../api/wire";
import { t } from "../i18n";
import { say } from "../state";
import { fromFile, withEntry } from "./asked";
import { type MaskSlice, MaskStore } from "./masks";
import { latest, Queue } from "./order";
import type { Asked, Candidate, Reading, StepResult } from "./reading";
import { toRle } from "./rle";

/** ms until a step counts as lost: the first prompt of a slice may wait for others' work. */
const STEP_TIMEOUT = 120_000;
/** ms between two words of which slice is on screen. */
const LOOK_EVERY = 120;
/** Seconds that the server holds an answer until something changes, where events do not come. */
const HELD_S = 20;
const ENDED = ["done", "stopped", "failed"];

interface How {
  by?: 1 | -1;
  method?: "POST" | "DELETE";
}

/** What an answer brought. */
interface Brought {
  revision: number;
  /** Whether anything is newer than what was known before. */
  news: boolean;
  /** Object and slice of each mask that came. */
  touched: ReadonlySet<string>;
}

export class LiveReading implements Reading {
  readonly id: string;
  readonly caseId: string;
  readonly axis: Axis;
  readonly slices: number;
  readonly mine: boolean;
  readonly notes: readonly string[];
  readonly model: Reading["model"];
  readonly masks: MaskStore;
  readonly objects = signal<readonly ObjectInfo[]>([]);
  readonly active = signal<number | null>(null);
  readonly asked = signal<readonly Asked[]>([]);
  readonly undoable = signal(0);
  readonly redoable = signal(0);
  readonly jobs = signal<readonly JobInfo[]>([]);
  readonly pending = signal(0);
  readonly embedded = signal<ReadonlySet<number>>(new Set());
  readonly keptRange = signal<readonly [number | null, number | null] | null>(null);
  readonly over = signal<ApiError | null>(null);
  readonly confidence: ReadonlySignal<ReadonlyMap<number, ReadonlyMap<number, number>>>;
  connected: ReadonlySignal<boolean> = signal(false);

  /** Nothing comes of it any more. */
  private readonly closed: boolean;
  private readonly rows: number;
  private readonly columns: number;
  private readonly path: string;
  private readonly queue = new Queue();
  private readonly left = new AbortController();
  /** Of `GET prompts`, of which some are not known here. */
  private stale = false;
  private looked: number | null = null;
  private lookTimer: ReturnType<typeof setTimeout> | undefined;
  private readonly refresh = latest(() => this.refreshed());
  private readonly reask = latest(() => this.reasked());
  /** The latest revision that an event was of. */
  private heardOf = 0;
  private readonly syncSoon = latest(() => this.queue.run(() => this.syncedIfNews()));

  constructor(told: SessionInfo) {
    this.id = told.id;
    this.caseId = told.case;
    this.axis = told.axis;
    this.slices = told.slices;
    this.closed = (told.closed ?? null) !== null;
    this.mine = told.mine && !this.closed;
    this.notes = told.notes;
    this.model = {
      name: told.model ?? null,
      licence: told.licence ?? null,
      knowsClicks: told.knows_clicks ?? null,
    };
    const [k, j, i] = told.geometry.shape;
    [this.rows, this.columns] = { k: [j, i], j: [k, i], i: [k, j] }[told.axis] as [number, number];
    this.path = `/sessions/${told.id}`;
    this.masks = new MaskStore(told.axis);
    this.learn(told);
    this.active.value = told.objects[0]?.id ?? null;
    this.confidence = computed(() => this.confidences());
  }

  /** Bring masks and prompts, and listen from then on. */
  async begin(abort?: AbortSignal): Promise<void> {
    await this.synced(abort);
    if (!this.closed) this.listen();
    // handles on what was asked may come a little later than the masks
    if (this.masks.objects().length > 0) void this.reask();
  }

  private listen(): void {
    this.connected = listen(
      this.id,
      {
        since: () => this.masks.revision,
        event: (event) => this.heard(event),
        resync: () => this.caughtUp(),
        poll: (stop) => this.polled(stop),
        ended: (error) => {
          this.over.value = error;
        },
      },
      this.left.signal,
    );
  }

  leave(): void {
    clearTimeout(this.lookTimer);
    this.left.abort();
  }

  async close(): Promise<void> {
    this.check();
    await this.queue.run(() => request(this.path, { method: "DELETE" }));
    this.leave();
  }

  // -- steps ---------------------------------------------------------------------------------------------------------

  async prompt(entry: PromptEntry): Promise<StepResult> {
    const brought = await this.step("/prompts", entry);
    if (brought.news) this.asked.value = withEntry(this.asked.value, entry);
    this.add(this.embedded, entry.slice);
    const state = this.masks.get(entry.object, entry.slice);
    return { status: state?.status ?? null, predictedIou: state?.predictedIou ?? null };
  }

  draw(object: number, slice: number, mask: MaskSlice): Promise<StepResult> {
    return this.prompt({ object, slice, drawn: toRle(mask, this.rows, this.columns) });
  }

  async undo(): Promise<void> {
    await this.walk("/undo", -1);
  }

  async redo(): Promise<void> {
    await this.walk("/redo", 1);
  }

  async reset(): Promise<void> {
    await this.walk("/reset", 1);
  }

  async interpolate(object: number): Promise<void> {
    await this.step("/interpolate", { object });
    await this.reask();
  }

  private async walk(path: string, by: 1 | -1): Promise<void> {
    const { news, touched } = await this.step(path, undefined, { by });
    if (!news) return;
    // what was asked there is taken back, or is again: no handles until it is known which
    this.asked.value = this.asked.value.filter((one) => !touched.has(placeOf(one)));
    // entries of a prompts file name objects, which may be others now
    await this.refresh();
    await this.reask();
  }

  /** Take a step. by: what it does to the number of steps that can be undone. */
  private async step(path: string, body?: unknown, how: How = {}): Promise<Brought> {
    this.check();
    this.pending.value += 1;
    try {
      return await this.queue.run(async () => {
        const since = this.masks.revision;
        const brought = await this.sent(path, body, since, how);
        if (brought.news) this.count(path, how.by ?? 1);
        return brought;
      });
    } finally {
      this.pending.value -= 1;
      void this.refresh();
    }
  }

  private async sent(path: string, body: unknown, since: number, { by = 1, method = "POST" }: How): Promise<Brought> {
    const options: Ask = {
      method,
      repeatable: false,
      query: { since },
      headers: { Accept: MEDIA_TYPE },
      signal: AbortSignal.any([this.left.signal, AbortSignal.timeout(STEP_TIMEOUT)]),
    };
    if (body !== undefined) options.json = body;
    try {
      return await this.take(await request(this.path + path, options), since);
    } catch (error) {
      const isLost = error instanceof ApiError && error.status === 0;
      if (this.left.signal.aborted || !(isLost || isTimeout(error))) throw error;
      const brought = await this.recovered(by).catch(() => null);
      if (brought !== null) return brought;
      throw isLost ? error : new ApiError(0, "no answer in time");
    }
  }

  /** What came of a step whose answer was lost; null where it was not taken. */
  private async recovered(by: number): Promise<Brought | null> {
    const told = await ask<SessionInfo>(this.path, { signal: this.left.signal });
    const taken = Math.sign(told.undo - this.undoable.value) === Math.sign(by);
    // what others did meanwhile is shown in any case
    const brought = await this.synced();
    return taken ? { ...brought, news: true } : null;
  }

  private count(path: string, by: number): void {
    batch(() => {
      this.undoable.value = Math.max(this.undoable.value + by, 0);
      if (path === "/undo") this.redoable.value += 1;
      else this.redoable.value = path === "/redo" ? Math.max(this.redoable.value - 1, 0) : 0;
    });
  }

  // -- objects, jobs, the rest -----------------------------------------------------------------------------------------

  async addObject(name: string, colour?: string): Promise<ObjectInfo> {
    const json = colour === undefined ? { name } : { name, colour };
    const one = await this.change<ObjectInfo>("/objects", { method: "POST", json });
    this.learnObject(one);
    this.active.value = one.id;
    return one;
  }

  async changeObject(
    id: number,
    change: Partial<Pick<ObjectInfo, "name" | "colour" | "visible" | "locked">>,
  ): Promise<ObjectInfo> {
    const one = await this.change<ObjectInfo>(`/objects/${id}`, { method: "PATCH", json: change, repeatable: true });
    this.learnObject(one);
    return one;
  }

  async removeObject(id: number): Promise<void> {
    await this.step(`/objects/${id}`, undefined, { method: "DELETE" });
    batch(() => {
      this.objects.value = this.objects.value.filter((one) => one.id !== id);
      this.asked.value = this.asked.value.filter((one) => one.object !== id);
      this.activate();
    });
  }

  async propagate(object: number, maxMm?: number): Promise<JobInfo> {
    const json = maxMm === undefined ? { object } : { object, max_mm: maxMm };
    const job = await this.change<JobInfo>("/propagate", { method: "POST", json });
    this.learnJob(job);
    return job;
  }

  async stop(job: string): Promise<void> {
    this.check();
    this.learnJob(await ask<JobInfo>(`${this.path}/jobs/${job}`, { method: "DELETE" }));
  }

  async candidates(object: number, slice: number): Promise<readonly Candidate[]> {
    await this.queue.idle();
    try {
      const answer = await request(`${this.path}/candidates`, { query: { object, slice }, signal: this.left.signal });
      const frames = readFrames(await bytesOf(answer, this.left.signal));
      return frames.map((frame) => {
        const [x0, y0, x1, y1] = frame.rectangle;
        return { mask: { x0, y0, x1, y1, data: frame.pixels }, predictedIou: frame.predictedIou };
      });
    } catch (error) {
      // a server without them, or nothing was asked there
      if (error instanceof ApiError && (error.status === 404 || error.status === 405)) return [];
      throw error;
    }
  }

  async keepRange(range: readonly [number | null, number | null] | null): Promise<void> {
    await this.change("", { method: "PATCH", json: { keep_range: range }, repeatable: true });
    this.keptRange.value = range;
  }

  private change<T>(path: string, options: Ask): Promise<T> {
    this.check();
    return this.queue.run(() => ask<T>(this.path + path, options));
  }

  look(slice: number): void {
    if (!this.mine || this.looked === slice || slice < 0 || slice >= this.slices) return;
    this.looked = slice;
    if (this.lookTimer !== undefined) return;
    // at once, and then what is on screen by then: a wheel that turns passes many
    const tell = (): void => {
      const told = this.looked;
      this.lookTimer = setTimeout(() => {
        this.lookTimer = undefined;
        if (this.looked !== told) tell();
      }, LOOK_EVERY);
      this.tellLook(told!);
    };
    tell();
  }

  private tellLook(slice: number): void {
    const json = { slice, axis: this.axis };
    // whoever looks has nothing of a failure: the first prompt there takes longer
    request(`${this.path}/view`, { method: "PUT", json, repeatable: false, signal: this.left.signal }).catch(() => {});
  }

  private check(): void {
    if (!this.mine) throw new ApiError(403, "another reader's: you may look at it");
    if (this.over.value !== null) throw this.over.value;
  }

  // -- what is heard ---------------------------------------------------------------------------------------------------

  private heard(event: EventInfo): void {
    const unknown = event.revision > this.masks.revision;
    this.heardOf = Math.max(this.heardOf, event.revision);
    switch (event.kind) {
      case "mask":
        // of another tab, unless a step of ours is on its way
        if (unknown && this.pending.value === 0 && event.status !== "propagated") this.stale = true;
        break;
      case "job":
        this.heardJob(event);
        break;
      case "progress":
        if (event.state === "embedded" && typeof event.slice === "number") this.add(this.embedded, event.slice);
        break;
      case "objects":
        void this.refresh();
        break;
      case "error":
        say({ kind: "warning", text: t("api.unrefined"), seconds: 8 });
        break;
      default:
        break;
    }
    if (unknown) void this.syncSoon().catch(() => {});
  }

  private heardJob(event: EventInfo): void {
    if (typeof event.job !== "string" || typeof event.object !== "number") return;
    const state = event.state as JobInfo["state"];
    const before = this.jobs.value.find((one) => one.id === event.job);
    // a connection that was lost is told of some things twice
    if (before !== undefined && ENDED.includes(before.state) && !ENDED.includes(state)) return;
    this.learnJob({
      id: event.job,
      object: event.object,
      state,
      done: event.done ?? 0,
      total: event.total ?? null,
      detail: event.detail ?? null,
      stopped: event.stopped ?? null,
    });
    if (!ENDED.includes(state) || before?.state === state) return;
    void this.syncSoon()
      .catch(() => {})
      .then(() => Promise.all([this.refresh(), this.reask()]));
  }

  /** Events were missed. */
  private caughtUp(): void {
    this.stale = true;
    this.embedded.value = new Set();
    void this.syncSoon()
      .catch(() => {})
      .then(() => this.refresh())
      .then(() => {
        if (this.looked !== null && this.mine && this.over.peek() === null) this.tellLook(this.looked);
      });
  }

  /** Ask for changes, and wait for some. */
  private async polled(stop: AbortSignal): Promise<void> {
    const since = this.masks.revision;
    const answer = await request(`${this.path}/changes`, { query: { since, wait: HELD_S }, signal: stop });
    const revision = Number(answer.headers.get("X-Medsam-Revision"));
    await bytesOf(answer, stop);
    const running = this.jobs.value.some((job) => !ENDED.includes(job.state));
    this.heardOf = Math.max(this.heardOf, revision);
    if (revision > this.masks.revision) {
      this.stale ||= this.pending.value === 0 && !running;
      await this.syncSoon();
    }
    if (revision > since || running) await this.refresh();
  }

  /** A step of ours may have brought what an event told of. */
  private async syncedIfNews(): Promise<void> {
    if (this.stale || this.heardOf > this.masks.revision) await this.synced();
  }

  private async synced(abort?: AbortSignal): Promise<Brought> {
    const since = this.masks.revision;
    const stop = abort ? AbortSignal.any([abort, this.left.signal]) : this.left.signal;
    const answer = await request(`${this.path}/changes`, { query: { since }, signal: stop });
    const brought = await this.take(answer, since);
    if (this.stale) {
      this.stale = false;
      void this.reask();
      void this.refresh();
    }
    return brought;
  }

  /** Paint what an answer brings. */
  private async take(answer: Response, since: number): Promise<Brought> {
    const revision = Number(answer.headers.get("X-Medsam-Revision") ?? Number.NaN);
    if (!Number.isSafeInteger(revision)) throw new WireError("an answer without a revision");
    const frames = readFrames(await bytesOf(answer, this.left.signal));
    // a store that was put back to an earlier state knows other revisions
    if (revision < since || !this.masks.apply(frames, revision)) await this.anew();
    if (Number(answer.headers.get("X-Medsam-Objects") ?? 0) > since) void this.refresh();
    return { revision, news: revision > since, touched: new Set(frames.map(placeOf)) };
  }

  /** All masks once more: what is here is not what the frames were cut against. */
  private async anew(): Promise<void> {
    const answer = await request(`${this.path}/changes`, { query: { since: 0 }, signal: this.left.signal });
    const frames = readFrames(await bytesOf(answer, this.left.signal));
    batch(() => {
      this.masks.forget();
      this.heardOf = 0;
      this.masks.apply(frames, Number(answer.headers.get("X-Medsam-Revision")));
      this.masks.version.value += 1;
    });
  }

  private async refreshed(): Promise<void> {
    try {
      this.learn(await ask<SessionInfo>(this.path, { signal: this.left.signal }));
    } catch (error) {
      // the next answer says it again
      if (!(error instanceof ApiError) && !isAbort(error)) throw error;
    }
  }

  private async reasked(): Promise<void> {
    try {
      const told = await this.queue.idle().then(() => ask(`${this.path}/prompts`, { signal: this.left.signal }));
      this.asked.value = fromFile(told, this.objects.value);
    } catch (error) {
      if (!(error instanceof ApiError) && !isAbort(error)) throw error;
    }
  }

  private learn(told: SessionInfo): void {
    // closed elsewhere: in another tab, or to go on along another axis
    if ((told.closed ?? null) !== null && !this.closed) {
      this.over.value ??= new ApiError(404, "the session was closed");
      this.leave();
    }
    batch(() => {
      if (!same(told.objects, this.objects.value)) this.objects.value = told.objects;
      if (!same(told.jobs, this.jobs.value)) this.jobs.value = told.jobs;
      if (this.pending.value === 0) {
        this.undoable.value = told.undo;
        this.redoable.value = told.redo;
      }
      if (!same(told.keep_range ?? null, this.keptRange.value)) this.keptRange.value = told.keep_range ?? null;
      this.activate();
    });
  }

  /** Prompts are about an object that is there. */
  private activate(): void {
    const objects = this.objects.value;
    if (!objects.some((one) => one.id === this.active.value)) this.active.value = objects.at(-1)?.id ?? null;
  }

  private learnObject(one: ObjectInfo): void {
    const others = this.objects.value.filter((other) => other.id !== one.id);
    this.objects.value = [...others, one].sort((a, b) => a.id - b.id);
  }

  private learnJob(one: JobInfo): void {
    const there = this.jobs.value.some((other) => other.id === one.id);
    this.jobs.value = there
      ? this.jobs.value.map((other) => (other.id === one.id ? one : other))
      : [...this.jobs.value, one];
  }

  private add(set: typeof this.embedded, slice: number): void {
    if (!set.value.has(slice)) set.value = new Set([...set.value, slice]);
  }

  private confidences(): ReadonlyMap<number, ReadonlyMap<number, number>> {
    void this.masks.version.value;
    const found = new Map<number, ReadonlyMap<number, number>>();
    for (const object of this.masks.objects()) {
      const sure = this.masks
        .slices(object)
        .map((slice) => [slice, this.masks.get(object, slice)!.confidence] as const)
        .filter((one): one is readonly [number, number] => one[1] !== null)
        .sort((a, b) => a[1] - b[1]);
      if (sure.length > 0) found.set(object, new Map(sure));
    }
    return found;
  }
}

function placeOf({ object, slice }: { readonly object: number; readonly slice: number }): string {
  return `${object}/${slice}`;
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.name === "TimeoutError";
}
