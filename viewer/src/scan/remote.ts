// A scan whose voxels come from the server: slices as they are looked at, and all of it behind them.

import { batch, signal } from "@preact/signals";
import type { Axis, Geometry } from "../api/types";
import { type Elements, kindOf } from "./elements";
import type { Pixels, Scan, Voxel } from "./scan";
import { Voxels } from "./voxels";

/** Where voxels come from. Both raise AbortError when they are told to stop. */
export interface Source {
  slice(axis: Axis, index: number, signal: AbortSignal): Promise<ArrayBuffer>;
  /** Bytes [begin, end) of the volume. Raises Changed where it is another one than before. */
  piece(begin: number, end: number, signal: AbortSignal): Promise<ArrayBuffer>;
  /** What to do when something does not come. Returns whether it may come later. */
  failed(error: unknown): boolean;
}

/** At a time, of slices; there is one piece of the volume beside them. */
const AT_ONCE = 3;
const AHEAD = 3;
const PIECE_BYTES = 4 * 2 ** 20;
/** ms until what failed is asked for again, or the volume goes on: twice as long each time, up to the latter */
const AGAIN = 4000;
const AGAIN_AT_MOST = 60_000;

export class RemoteScan implements Scan {
  readonly loaded = signal(0);
  readonly version = signal(0);
  readonly #voxels: Voxels;
  readonly #read: (buffer: ArrayBuffer) => Elements;
  readonly #ended = new AbortController();
  /** What is looked at along each axis, the latest last, and where to from the one before. */
  readonly #looks = new Map<Axis, { index: number; step: 1 | -1 }>();
  readonly #running = new Map<string, AbortController>();
  readonly #failed = new Set<string>();
  #planned = false;
  #idle: (() => void) | null = null;

  constructor(
    readonly caseId: string,
    readonly geometry: Geometry,
    private readonly source: Source,
    most?: number,
  ) {
    this.#voxels = new Voxels(geometry, most);
    this.#read = kindOf(geometry.dtype).read;
  }

  get whole(): boolean {
    return this.#voxels.whole;
  }

  slice(axis: Axis, index: number): Pixels | undefined {
    if (this.#ended.signal.aborted || index < 0 || index >= this.geometry.planes[axis].count) return undefined;
    const before = this.#looks.get(axis);
    if (before?.index !== index) {
      this.#looks.delete(axis);
      this.#looks.set(axis, { index, step: before && index < before.index ? -1 : 1 });
      this.#plan();
    } else if (!this.#voxels.has(axis, index)) this.#plan();
    return this.#voxels.slice(axis, index);
  }

  value(voxel: Voxel): number | readonly [number, number, number] | undefined {
    return this.#voxels.value(voxel);
  }

  close(): void {
    this.#ended.abort();
    for (const running of this.#running.values()) running.abort();
    this.#idle?.();
  }

  /** Bring the volume, in pieces, around what is looked at. Ends when all of it is here, or the scan is closed. */
  async bringAll(): Promise<void> {
    const { signal } = this.#ended;
    const most = Math.max(1, Math.floor(PIECE_BYTES / this.#voxels.planeBytes));
    let again = AGAIN;
    while (this.#voxels.whole && !signal.aborted) {
      // slices that somebody waits for come first
      while (this.#running.size > 0 && !signal.aborted) await new Promise<void>((go) => (this.#idle = go));
      const next = this.#voxels.missing(this.#looks.get("k")?.index ?? 0, most);
      if (!next || signal.aborted) return;
      const [first, count] = next;
      const bytes = this.#voxels.planeBytes;
      try {
        const buffer = await this.source.piece(first * bytes, (first + count) * bytes, signal);
        if (!signal.aborted) this.#came(() => this.#voxels.writePlanes(first, this.#whole(buffer, count * bytes)));
        again = AGAIN;
      } catch (error) {
        if (signal.aborted) return;
        if (!this.source.failed(error)) return;
        await new Promise((go) => setTimeout(go, again));
        again = Math.min(2 * again, AGAIN_AT_MOST);
      }
    }
  }

  /** After what is drawn now has asked for all it wants. */
  #plan(): void {
    if (this.#planned) return;
    this.#planned = true;
    queueMicrotask(() => {
      this.#planned = false;
      if (!this.#ended.signal.aborted) this.#fetch();
    });
  }

  /** Slices to have, the most urgent first: what is looked at, then its neighbours along the acquired axis. */
  #wanted(): [Axis, number][] {
    const looks = [...this.#looks].reverse();
    const wanted = looks.map(([axis, look]): [Axis, number] => [axis, look.index]);
    const acquired = this.#looks.get(this.geometry.axis);
    if (acquired) {
      const ahead = Array.from({ length: AHEAD }, (_, n) => acquired.index + acquired.step * (n + 1));
      for (const index of [...ahead, acquired.index - acquired.step]) wanted.push([this.geometry.axis, index]);
    }
    return wanted.filter(
      ([axis, index]) =>
        index >= 0 &&
        index < this.geometry.planes[axis].count &&
        !this.#voxels.has(axis, index) &&
        !this.#failed.has(`${axis}${index}`),
    );
  }

  #fetch(): void {
    const wanted = this.#wanted();
    const keys = new Set(wanted.map(([axis, index]) => `${axis}${index}`));
    for (const [key, running] of this.#running) if (!keys.has(key)) running.abort();
    for (const [axis, index] of wanted) {
      // what is looked at waits for no neighbour
      if (this.#running.size >= AT_ONCE && this.#looks.get(axis)?.index !== index) continue;
      if (!this.#running.has(`${axis}${index}`)) void this.#bring(axis, index);
    }
  }

  async #bring(axis: Axis, index: number): Promise<void> {
    const key = `${axis}${index}`;
    const stop = new AbortController();
    this.#running.set(key, stop);
    try {
      const buffer = await this.source.slice(axis, index, stop.signal);
      const [rows, columns] = this.geometry.planes[axis].shape;
      const bytes = rows * columns * this.#voxels.channels * kindOf(this.geometry.dtype).bytes;
      if (!stop.signal.aborted) this.#came(() => this.#voxels.writeSlice(axis, index, this.#whole(buffer, bytes)));
    } catch (error) {
      if (!stop.signal.aborted) {
        this.#failed.add(key);
        if (this.source.failed(error)) setTimeout(() => this.#retry(key), AGAIN);
      }
    } finally {
      this.#running.delete(key);
      if (!this.#ended.signal.aborted) this.#fetch();
      if (this.#running.size === 0) {
        this.#idle?.();
        this.#idle = null;
      }
    }
  }

  /** Whoever draws the slice asks for it again. */
  #retry(key: string): void {
    this.#failed.delete(key);
    if (!this.#ended.signal.aborted) this.version.value += 1;
  }

  #whole(buffer: ArrayBuffer, bytes: number): Elements {
    if (buffer.byteLength !== bytes) throw new Error("The server's answer has another size than the slice.");
    return this.#read(buffer);
  }

  #came(write: () => void): void {
    write();
    batch(() => {
      this.loaded.value = this.#voxels.share;
      this.version.value += 1;
    });
  }
}
