// A reading that is open: what it was told is kept (`told.ts`) and brought up to date by every answer.
//
// Each step says which revision is known (`since`), so its answer brings everything that changed, also what a lost answer
// would have said. Steps and syncs have one queue: an answer never meets masks that are newer than its frames. A step that
// was not answered is looked for before the next one leaves, as soon as the server is there again.

import { batch, type ReadonlySignal, signal } from "@preact/signals";
import { listen } from "../api/events";
import { ApiError, type Ask, ask, bytesOf, isAbort, request } from "../api/http";
import type { EventInfo, JobInfo, ObjectInfo, PromptEntry, SessionInfo } from "../api/types";
import { pause, until } from "../api/wait";
import { type Frame, MEDIA_TYPE, readFrames, WireError } from "../api/wire";
import { t } from "../i18n";
import { offline, say } from "../state";
import { fromFile, withEntry } from "./asked";
import { Looks } from "./looks";
import type { MaskSlice } from "./masks";
import { latest, Queue } from "./order";
import type { Candidate, Reading, StepResult } from "./reading";
import { toRle } from "./rle";
import { hasEnded, Told } from "./told";
import { NotTaken, untaken } from "./untaken";

/** ms until a step counts as lost: the first prompt of a slice may wait for others' work. So do masks, which may be many. */
const STEP_TIMEOUT = 120_000;
/** ms until anything else does, for which steps may have to wait. */
const TIMEOUT = 30_000;
/** How often a server that is there is asked what came of a step whose answer was lost. */
const TRIES = 3;
/** ms that steps under way have once the case is left. */
const LEAVING = 60_000;
/** Steps that the server can take back: with so many, one more does not change how many there are. */
const UNDO_STEPS = 1000;
/** Seconds that the server holds an answer until something changes, where events do not come. */
const HELD_S = 20;

interface How {
  by?: 1 | -1;
  method?: "POST" | "DELETE";
  /** Whether a mask at an object and slice may be what came of it; missing: any. */
  isAbout?: (place: string) => boolean;
  /** Takes it once more. */
  again: () => Promise<unknown>;
}

/** What an answer brought. */
interface Brought {
  revision: number;
  /** Whether anything is newer than what was known before. */
  news: boolean;
  /** Object and slice of each mask that came. */
  touched: ReadonlySet<string>;
}

export class LiveReading extends Told implements Reading {
  connected: ReadonlySignal<boolean> = signal(false);

  private readonly path: string;
  private readonly queue = new Queue();
  /** Nothing is heard any more, and no slice is told of. */
  private readonly deaf = new AbortController();
  /** Nothing is sent any more. */
  private readonly left = new AbortController();
  /** Of `GET prompts`, of which some are not known here. */
  private stale = false;
  private readonly looks = new Looks((slice) => this.tellLook(slice));
  private readonly refresh = latest(() => this.refreshed());
  /** Of the step that was answered last. */
  private refreshing: Promise<void> = Promise.resolve();
  private readonly reask = latest(() => this.reasked());
  /** The latest revision that an event was of. */
  private heardOf = 0;
  /** Steps and changes that were answered. What was asked for before the last of them may be older than it. */
  private answered = 0;
  private readonly syncSoon = latest(() => this.queue.run(() => this.syncedIfNews()));

  constructor(told: SessionInfo) {
    super(told);
    this.path = `/sessions/${told.id}`;
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
      this.deaf.signal,
    );
  }

  async leave(): Promise<void> {
    this.looks.end();
    this.deaf.abort();
    if (this.pending.value > 0) await Promise.race([this.settled(), pause(LEAVING, this.left.signal).catch(() => {})]);
    this.left.abort();
  }

  async settled(): Promise<void> {
    do {
      await this.queue.idle();
      // the first step of an object follows upon that it was made
      await pause(0);
    } while (this.pending.value > 0);
  }

  // -- steps ---------------------------------------------------------------------------------------------------------

  async prompt(entry: PromptEntry): Promise<StepResult> {
    const here = placeOf(entry);
    const how: How = { isAbout: (place) => place === here, again: () => this.prompt(entry) };
    const brought = await this.step("/prompts", entry, how);
    if (brought.news) this.asked.value = withEntry(this.asked.value, entry);
    this.learnEmbedded(entry.slice);
    const state = this.masks.get(entry.object, entry.slice);
    return { status: state?.status ?? null, predictedIou: state?.predictedIou ?? null };
  }

  draw(object: number, slice: number, mask: MaskSlice): Promise<StepResult> {
    return this.prompt({ object, slice, drawn: toRle(mask, ...this.shape) });
  }

  async undo(): Promise<void> {
    await this.walk("/undo", { by: -1, again: () => this.undo() });
  }

  async redo(): Promise<void> {
    await this.walk("/redo", { again: () => this.redo() });
  }

  async interpolate(object: number): Promise<void> {
    await this.step("/interpolate", { object }, { isAbout: isOf(object), again: () => this.interpolate(object) });
    void this.reask();
  }

  async text(object: number, name: string): Promise<void> {
    const how = { isAbout: isOf(object), again: () => this.text(object, name) };
    await this.step("/text", { object, text: name }, how);
    void this.reask();
  }

  private async walk(path: string, how: How): Promise<void> {
    const { news, touched } = await this.step(path, undefined, how);
    if (!news) return;
    // what was asked there is taken back, or is again: no handles until it is known which
    this.asked.value = this.asked.value.filter((one) => !touched.has(placeOf(one)));
    // entries of a prompts file name objects, which may be others now
    void this.refreshing.then(() => this.reask());
  }

  /** Take a step. */
  private async step(path: string, body: unknown, how: How): Promise<Brought> {
    this.check();
    this.pending.value += 1;
    this.steps += 1;
    try {
      return await this.queue.run(async () => {
        const since = this.masks.revision;
        const brought = await this.sent(path, body, since, how);
        if (brought.news) this.count(path, how.by ?? 1);
        return brought;
      });
    } catch (error) {
      throw untaken(error);
    } finally {
      this.pending.value -= 1;
      this.steps -= 1;
      this.answered += 1;
      this.refreshing = this.refresh();
    }
  }

  private async sent(path: string, body: unknown, since: number, how: How): Promise<Brought> {
    const options: Ask = {
      method: how.method ?? "POST",
      repeatable: false,
      query: { since },
      headers: { Accept: MEDIA_TYPE },
      signal: this.left.signal,
      timeout: STEP_TIMEOUT,
    };
    if (body !== undefined) options.json = body;
    try {
      return await this.take(await request(this.path + path, options), since);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // a limit that time does not lift is one of what may be asked
      const isLater = error.status === 429 && error.retryAfter !== null;
      if (error.status === 401 || isLater) throw new NotTaken(error, how.again);
      if (error.status !== 0 && error.status < 500) throw error;
      const brought = await this.recovered(how);
      if (brought === null) throw new NotTaken(error, how.again);
      return brought;
    }
  }

  /** What came of a step that was not answered; null where it was not taken. Raises ApiError where nobody says. */
  private async recovered({ by = 1, isAbout }: How): Promise<Brought | null> {
    for (let tries = 1; ; tries += 1) {
      try {
        const told = await this.toldOf();
        const before = this.undoable.value;
        // what others did meanwhile is shown in any case
        const brought = await this.synced();
        const isFull = by === 1 && told.undo === before && before >= UNDO_STEPS;
        const isCounted = isFull || Math.sign(told.undo - before) === by;
        // a propagation that ended meanwhile is one step more, too
        const isThere = isAbout === undefined || [...brought.touched].some(isAbout);
        return isCounted && isThere ? { ...brought, news: true } : null;
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 0) || tries === TRIES) throw error;
        await until(() => !offline.value, this.left.signal);
      }
    }
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
    const options: Ask = { method: "PATCH", json: change, repeatable: true };
    // first answers are refined before
    if (change.locked !== undefined) options.timeout = STEP_TIMEOUT;
    const one = await this.change<ObjectInfo>(`/objects/${id}`, options);
    this.learnObject(one);
    return one;
  }

  async removeObject(id: number): Promise<void> {
    const how: How = { method: "DELETE", isAbout: isOf(id), again: () => this.removeObject(id) };
    await this.step(`/objects/${id}`, undefined, how);
    this.forgetObject(id);
  }

  async propagate(object: number, maxMm?: number): Promise<JobInfo> {
    const json = maxMm === undefined ? { object } : { object, max_mm: maxMm };
    const job = await this.change<JobInfo>("/propagate", { method: "POST", json });
    this.learnJob(job);
    return job;
  }

  async findOrgans(): Promise<JobInfo> {
    const job = await this.change<JobInfo>("/organs", { method: "POST" });
    this.learnJob(job);
    return job;
  }

  async stop(job: string): Promise<void> {
    this.check();
    const options: Ask = { method: "DELETE", signal: this.left.signal, timeout: TIMEOUT };
    this.learnJob(await ask<JobInfo>(`${this.path}/jobs/${job}`, options));
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
    const json = { keep_range: range };
    // first answers are refined before
    await this.change("", { method: "PATCH", json, repeatable: true, timeout: STEP_TIMEOUT });
    this.keptRange.value = range;
  }

  private async change<T>(path: string, options: Ask): Promise<T> {
    this.check();
    this.pending.value += 1;
    try {
      const bounded = { timeout: TIMEOUT, ...options, signal: this.left.signal };
      return await this.queue.run(() => ask<T>(this.path + path, bounded));
    } catch (error) {
      // it may have been done all the same
      void this.refresh();
      throw untaken(error);
    } finally {
      this.pending.value -= 1;
      this.answered += 1;
    }
  }

  look(slice: number): void {
    if (this.mine && slice >= 0 && slice < this.slices) this.looks.at(slice);
  }

  private tellLook(slice: number): void {
    const json = { slice, axis: this.axis };
    // whoever looks has nothing of a failure: the first prompt there takes longer
    request(`${this.path}/view`, { method: "PUT", json, repeatable: false, signal: this.deaf.signal }).catch(() => {});
  }

  private check(): void {
    if (!this.mine) throw new ApiError(403, "another reader's: you may look at it");
    if (this.over.value !== null) throw this.over.value;
    if (this.left.signal.aborted) throw new NotTaken(new ApiError(0, "the case was left"));
  }

  // -- what is heard ---------------------------------------------------------------------------------------------------

  private heard(event: EventInfo): void {
    const unknown = event.revision > this.masks.revision;
    this.heardOf = Math.max(this.heardOf, event.revision);
    switch (event.kind) {
      case "mask":
        // of another tab, unless a step of ours is on its way
        if (unknown && this.steps === 0 && event.status !== "propagated") this.stale = true;
        break;
      case "job":
        this.heardJob(event);
        break;
      case "progress":
        if (event.state === "embedded" && typeof event.slice === "number") this.learnEmbedded(event.slice);
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
    if (typeof event.job !== "string") return;
    const ends = this.learnJob({
      id: event.job,
      object: event.object ?? null,
      state: event.state as JobInfo["state"],
      done: event.done ?? 0,
      total: event.total ?? null,
      detail: event.detail ?? null,
      stopped: event.stopped ?? null,
      structures: event.structures ?? null,
    });
    if (!ends) return;
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
        const { now } = this.looks;
        if (now !== null && this.mine && this.over.peek() === null) this.tellLook(now);
      });
  }

  /** Ask for changes, and wait for some. */
  private async polled(stop: AbortSignal): Promise<void> {
    const since = this.masks.revision;
    const options: Ask = { query: { since, wait: HELD_S }, signal: stop, timeout: TIMEOUT + HELD_S * 1000 };
    const answer = await request(`${this.path}/changes`, options);
    const revision = revisionOf(answer);
    const frames = readFrames(await bytesOf(answer, stop));
    const running = this.jobs.value.some((job) => !hasEnded(job));
    this.heardOf = Math.max(this.heardOf, revision);
    if (revision > this.masks.revision) {
      this.stale ||= this.steps === 0 && !running;
      await this.queue.run(async () => {
        // unless a step has brought them meanwhile
        if (this.masks.revision === since) await this.painted(frames, revision, since);
        else await this.syncedIfNews();
      });
      this.freshened();
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
    const answer = await request(`${this.path}/changes`, { query: { since }, signal: stop, timeout: STEP_TIMEOUT });
    const brought = await this.take(answer, since);
    // after a step of ours it is asked anyhow
    if (Number(answer.headers.get("X-Medsam-Objects") ?? 0) > since) void this.refresh();
    this.freshened();
    return brought;
  }

  /** What another tab has asked is asked for, too. */
  private freshened(): void {
    if (!this.stale) return;
    this.stale = false;
    void this.reask();
    void this.refresh();
  }

  /** Paint what an answer brings. */
  private async take(answer: Response, since: number): Promise<Brought> {
    const revision = revisionOf(answer);
    return this.painted(readFrames(await bytesOf(answer, this.left.signal)), revision, since);
  }

  private async painted(frames: readonly Frame[], revision: number, since: number): Promise<Brought> {
    // a store that was put back to an earlier state knows other revisions
    if (revision < since || !this.masks.apply(frames, revision)) await this.anew();
    return { revision, news: revision > since, touched: new Set(frames.map(placeOf)) };
  }

  /** All masks once more: what is here is not what the frames were cut against. */
  private async anew(): Promise<void> {
    const options: Ask = { query: { since: 0 }, signal: this.left.signal, timeout: STEP_TIMEOUT };
    const answer = await request(`${this.path}/changes`, options);
    const frames = readFrames(await bytesOf(answer, this.left.signal));
    batch(() => {
      this.masks.forget();
      this.heardOf = 0;
      this.masks.apply(frames, revisionOf(answer));
      this.masks.version.value += 1;
    });
  }

  private toldOf(): Promise<SessionInfo> {
    return ask<SessionInfo>(this.path, { signal: this.left.signal, timeout: TIMEOUT });
  }

  private async refreshed(): Promise<void> {
    try {
      for (;;) {
        const before = this.answered;
        const told = await this.toldOf();
        if (before !== this.answered) continue;
        this.learn(told);
        if (this.over.value !== null) void this.leave();
        return;
      }
    } catch (error) {
      // the next answer says it again
      if (!(error instanceof ApiError) && !isAbort(error)) throw error;
    }
  }

  private async reasked(): Promise<void> {
    try {
      for (;;) {
        await this.queue.idle();
        const before = this.answered;
        const told = await ask(`${this.path}/prompts`, { signal: this.left.signal, timeout: TIMEOUT });
        if (before !== this.answered || this.steps > 0) continue;
        this.asked.value = fromFile(told, this.objects.value);
        return;
      }
    } catch (error) {
      if (!(error instanceof ApiError) && !isAbort(error)) throw error;
    }
  }
}

function revisionOf(answer: Response): number {
  const revision = Number(answer.headers.get("X-Medsam-Revision") ?? Number.NaN);
  if (!Number.isSafeInteger(revision)) throw new WireError("an answer without a revision");
  return revision;
}

/** Whether a place is of an object. */
function isOf(object: number): (place: string) => boolean {
  return (place) => place.startsWith(`${object}/`);
}

function placeOf({ object, slice }: { readonly object: number; readonly slice: number }): string {
  return `${object}/${slice}`;
}
