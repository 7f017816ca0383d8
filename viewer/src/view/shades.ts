// Values of a scan -> grey levels, through a window: the same as the server's (medsam/transforms/intensity.py).

import type { Pixels } from "../scan/scan";

export interface Shown {
  readonly low: number;
  readonly high: number;
}

const TABLED: readonly [new (length: number) => ArrayLike<number>, size: number, offset: number][] = [
  [Uint8Array, 256, 0],
  [Int16Array, 65536, 32768],
  [Uint16Array, 65536, 0],
  [Int8Array, 256, 128],
];

interface Table {
  readonly low: number;
  readonly high: number;
  readonly offset: number;
  readonly shades: Uint8Array;
}
/** The last table of each type: all planes are seen through one window. */
const last = new Map<number, Table>();

/** 0 to 255. What is no number counts as low. */
export function shade(value: number, { low, high }: Shown): number {
  if (!(value > low)) return 0;
  if (value >= high) return 255;
  return Math.round(((value - low) * 255) / Math.max(high - low, 1e-8));
}

function tableOf(data: ArrayLike<number>, shown: Shown): Table | null {
  const number = TABLED.findIndex(([type]) => data instanceof type);
  if (number < 0) return null;
  const known = last.get(number);
  if (known && known.low === shown.low && known.high === shown.high) return known;
  const [, size, offset] = TABLED[number]!;
  const shades = Uint8Array.from({ length: size }, (_, entry) => shade(entry - offset, shown));
  const table = { low: shown.low, high: shown.high, offset, shades };
  last.set(number, table);
  return table;
}

const OPAQUE = 0xff000000;

/** Paint a slice as stored. out: 32 bits a pixel as `ImageData` has them, on little-endian machines. */
export function shadeSlice(pixels: Pixels, shown: Shown, out: Uint32Array): void {
  const { data, channels } = pixels;
  const table = tableOf(data, shown);
  const count = pixels.rows * pixels.columns;
  if (channels === 3) {
    const of = (value: number): number => (table ? table.shades[value + table.offset]! : shade(value, shown));
    for (let n = 0, at = 0; n < count; n += 1, at += 3) {
      out[n] = OPAQUE | (of(data[at + 2]!) << 16) | (of(data[at + 1]!) << 8) | of(data[at]!);
    }
  } else if (table) {
    const { shades, offset } = table;
    for (let n = 0; n < count; n += 1) out[n] = OPAQUE | (shades[data[n]! + offset]! * 0x010101);
  } else {
    for (let n = 0; n < count; n += 1) out[n] = OPAQUE | (shade(data[n]!, shown) * 0x010101);
  }
}

/** A slice as a picture of stored pixels, painted again when it or the window is another one. */
export class SlicePicture {
  readonly canvas = document.createElement("canvas");
  #image: ImageData | null = null;
  #data: unknown = null;
  #low = Number.NaN;
  #high = Number.NaN;

  show(pixels: Pixels, shown: Shown): HTMLCanvasElement {
    if (this.#data === pixels.data && this.#low === shown.low && this.#high === shown.high) return this.canvas;
    const { rows, columns } = pixels;
    const context = this.canvas.getContext("2d")!;
    if (this.#image?.width !== columns || this.#image.height !== rows) {
      this.canvas.width = columns;
      this.canvas.height = rows;
      this.#image = context.createImageData(columns, rows);
    }
    shadeSlice(pixels, shown, new Uint32Array(this.#image.data.buffer));
    context.putImageData(this.#image, 0, 0);
    this.#data = pixels.data;
    this.#low = shown.low;
    this.#high = shown.high;
    return this.canvas;
  }
}
