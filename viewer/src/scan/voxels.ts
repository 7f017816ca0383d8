// The voxels of a scan that are here. One array for all of them, written as they come: a CT costs what it takes once.

import { AXES, type Axis, type Geometry } from "../api/types";
import { type Elements, Growing, kindOf } from "./elements";
import type { Pixels, Voxel } from "./scan";

/** Bytes that are kept at most, in one array or as single slices. */
const MOST_BYTES = 2 ** 30;
/** Of slices beside the volume: cuts of it, which are made again at once, or all that is kept of a scan too large. */
const CUT_BYTES = 8 * 2 ** 20;
const LOOSE_BYTES = 128 * 2 ** 20;

export class Voxels {
  readonly channels: 1 | 3;
  /** Bytes of a plane of axis k on the wire, which lies there in one piece. */
  readonly planeBytes: number;
  readonly #geometry: Geometry;
  #all: Growing | null;
  /** Planes of axis k that are here, and slices of the acquired axis where that is another one. */
  readonly #planes: Uint8Array;
  readonly #acquired: Uint8Array;
  #count = 0;
  /** Slices that came by themselves, or were cut from the volume, the latest last. */
  readonly #loose = new Map<string, Pixels>();
  #looseBytes = 0;

  constructor(geometry: Geometry, most = MOST_BYTES) {
    const [planes, rows, columns] = geometry.shape;
    this.#geometry = geometry;
    this.channels = geometry.colour ? 3 : 1;
    const elements = rows * columns * this.channels;
    this.planeBytes = elements * kindOf(geometry.dtype).bytes;
    this.#all = room(geometry.dtype, elements * planes, most);
    this.#planes = new Uint8Array(planes);
    this.#acquired = new Uint8Array(geometry.axis === "k" ? 0 : geometry.planes[geometry.axis].count);
  }

  /** Whether there is room for all voxels: no more once values come that need wider elements than there is room for. */
  get whole(): boolean {
    return this.#all !== null;
  }

  /** How much of the volume is here, 0 to 1. */
  get share(): number {
    return this.#count / this.#planes.length;
  }

  has(axis: Axis, index: number): boolean {
    return this.#inVolume(axis, index) || this.#loose.has(`${axis}${index}`);
  }

  #inVolume(axis: Axis, index: number): boolean {
    if (!this.#all) return false;
    if (axis === "k") return this.#planes[index] === 1;
    return this.#count === this.#planes.length || (axis === this.#geometry.axis && this.#acquired[index] === 1);
  }

  /** A slice as stored. The same one again is the same object, so long as it is not forgotten. */
  slice(axis: Axis, index: number): Pixels | undefined {
    const key = `${axis}${index}`;
    const known = this.#loose.get(key);
    if (known) {
      this.#loose.delete(key);
      this.#loose.set(key, known);
      return known;
    }
    if (!this.#inVolume(axis, index)) return undefined;
    const [rows, columns] = this.#geometry.planes[axis].shape;
    const pixels: Pixels = { rows, columns, channels: this.channels, data: this.#cut(axis, index, rows, columns) };
    this.#keep(key, pixels, axis === "k" ? 0 : pixels.data.buffer.byteLength);
    return pixels;
  }

  /** The value (in colour: three) of a voxel that is here. */
  value([i, j, k]: Voxel): number | readonly [number, number, number] | undefined {
    const [planes, rows, columns] = this.#geometry.shape;
    if (i < 0 || j < 0 || k < 0 || i >= columns || j >= rows || k >= planes) return undefined;
    if (this.#all && (this.#planes[k] === 1 || this.#acquired[this.#along([i, j, k])] === 1)) {
      return this.#at(this.#all.data, (k * rows + j) * columns + i);
    }
    for (const axis of AXES) {
      const [index, x, y] = axis === "k" ? [k, i, j] : axis === "j" ? [j, i, k] : [i, j, k];
      const loose = this.#loose.get(`${axis}${index}`);
      if (loose) return this.#at(loose.data, y * loose.columns + x);
    }
    return undefined;
  }

  #along(voxel: Voxel): number {
    return voxel[{ i: 0, j: 1, k: 2 }[this.#geometry.axis]]!;
  }

  #at(data: ArrayLike<number>, number: number): number | readonly [number, number, number] {
    if (this.channels === 1) return data[number]!;
    return [data[number * 3]!, data[number * 3 + 1]!, data[number * 3 + 2]!];
  }

  /** Planes [first, first + n) of axis k; they are left out where there is no room for all voxels. */
  writePlanes(first: number, values: Elements): void {
    const all = this.#widened(values);
    if (!all) return;
    const size = all.data.length / this.#planes.length;
    const n = values.length / size;
    all.data.set(values, first * size);
    for (let k = first; k < first + n; k += 1) {
      this.#count += 1 - this.#planes[k]!;
      this.#planes[k] = 1;
    }
  }

  /** A slice of any axis. */
  writeSlice(axis: Axis, index: number, values: Elements): void {
    const [rows, columns] = this.#geometry.planes[axis].shape;
    const all = axis === "k" || axis === this.#geometry.axis ? this.#widened(values) : null;
    if (!all) {
      this.#keep(`${axis}${index}`, { rows, columns, channels: this.channels, data: values }, values.byteLength);
      return;
    }
    if (axis === "k") {
      this.writePlanes(index, values);
      return;
    }
    const step = this.#steps(axis, index);
    for (let y = 0; y < rows; y += 1) {
      for (let x = 0; x < columns; x += 1) {
        const to = (step.start + y * step.row + x * step.column) * this.channels;
        const from = (y * columns + x) * this.channels;
        for (let c = 0; c < this.channels; c += 1) all.data[to + c] = values[from + c]!;
      }
    }
    this.#acquired[index] = 1;
  }

  /** The first run of planes of axis k that are missing, nearest to one of them, at most `most` long; null: none is. */
  missing(near: number, most: number): readonly [first: number, count: number] | null {
    const planes = this.#planes;
    let found = -1;
    for (let off = 0; off < planes.length && found < 0; off += 1) {
      for (const k of [near + off, near - off]) if (found < 0 && planes[k] === 0) found = k;
    }
    if (found < 0) return null;
    const backwards = found < near;
    let [first, end] = [found, found + 1];
    while (end - first < most && (backwards ? planes[first - 1] === 0 : planes[end] === 0)) {
      if (backwards) first -= 1;
      else end += 1;
    }
    return [first, end - first];
  }

  /** The array that takes values; null where there is none, or none can be. */
  #widened(values: Elements): Growing | null {
    try {
      // slices that are views of the array before would keep it in memory
      if (this.#all?.widen(values)) this.#forget();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.#all = null;
      this.#count = 0;
      this.#planes.fill(0);
      this.#acquired.fill(0);
      this.#forget();
    }
    return this.#all;
  }

  #forget(): void {
    this.#loose.clear();
    this.#looseBytes = 0;
  }

  #keep(key: string, pixels: Pixels, bytes: number): void {
    this.#loose.set(key, pixels);
    this.#looseBytes += bytes;
    for (const [oldest, old] of this.#loose) {
      if (this.#looseBytes <= (this.whole ? CUT_BYTES : LOOSE_BYTES) || oldest === key) break;
      this.#loose.delete(oldest);
      if (old.data.buffer !== this.#all?.data.buffer) this.#looseBytes -= old.data.buffer.byteLength;
    }
  }

  /** Where a slice lies in the volume, in voxels. */
  #steps(axis: Axis, index: number): { start: number; row: number; column: number } {
    const [, rows, columns] = this.#geometry.shape;
    if (axis === "j") return { start: index * columns, row: rows * columns, column: 1 };
    return { start: index, row: rows * columns, column: columns };
  }

  #cut(axis: Axis, index: number, rows: number, columns: number): Elements {
    const all = this.#all!.data;
    const n = this.channels;
    if (axis === "k") return all.subarray(index * rows * columns * n, (index + 1) * rows * columns * n);
    const cut = new (all.constructor as new (length: number) => Elements)(rows * columns * n);
    const step = this.#steps(axis, index);
    for (let y = 0; y < rows; y += 1) {
      const line = step.start + y * step.row;
      if (step.column === 1) {
        cut.set(all.subarray(line * n, (line + columns) * n), y * columns * n);
        continue;
      }
      for (let x = 0; x < columns; x += 1) {
        const from = (line + x * step.column) * n;
        for (let c = 0; c < n; c += 1) cut[(y * columns + x) * n + c] = all[from + c]!;
      }
    }
    return cut;
  }
}

/** An array for a volume; null where it would be larger than `most` bytes, or the browser has no memory for it. */
function room(dtype: string, length: number, most: number): Growing | null {
  if (Growing.bytes(dtype, length) > most) return null;
  try {
    return new Growing(dtype, length, most);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}
