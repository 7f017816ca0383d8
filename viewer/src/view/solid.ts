// A scan and its masks as a solid of few voxels, for 3D: nobody sees more of them there, and memory is short.

import type { Geometry } from "../api/types";
import type { Masks } from "../reading/masks";
import type { Scan } from "../scan/scan";
import { IN_PLANE } from "../scan/scan";
import type { Shown } from "./shades";

export interface Solid {
  /** Voxels along i, j, k, and how many of the scan's each of them covers along these. */
  readonly size: readonly [number, number, number];
  readonly steps: readonly [number, number, number];
  /** i fastest. */
  readonly data: Int16Array | Float32Array | Uint8Array;
  /** Rows of the affine of its voxels, to RAS mm as NIfTI has them. */
  readonly ras: readonly (readonly number[])[];
}

/** ms that a piece of work may keep the page from answering */
const SLICE_MS = 12;

/** How many voxels become one along i, j, k, so that none of them has more than `most`. */
export function stepsFor(geometry: Geometry, most: number): [number, number, number] {
  const [planes, rows, columns] = geometry.shape;
  const of = (length: number): number => Math.max(1, Math.ceil(length / most));
  return [of(columns), of(rows), of(planes)];
}

export function rasOf(geometry: Geometry, steps: readonly number[]): number[][] {
  return geometry.affine.slice(0, 3).map((row, n) => {
    const sign = n < 2 ? -1 : 1;
    // the middle of the first block lies half a block behind its first voxel
    const shift = steps.reduce((sum, step, axis) => sum + (row[axis]! * (step - 1)) / 2, row[3]!);
    return [...steps.map((step, axis) => sign * row[axis]! * step), sign * shift];
  });
}

/** Of CT, bone: what is darker is fog around it. HU. */
const BONE = { low: 100, high: 450 };
/** Of others, the share of the window at its dark end that is fog. */
const FOG = 0.2;

/** Values to see in 3D when slices are seen through a window. */
export function solidWindow(geometry: Geometry, { low, high }: Shown): Shown {
  const hounsfield = geometry.windows.some((one) => one.name === "bone");
  if (hounsfield) return { low: Math.max(low, BONE.low), high: Math.max(high, BONE.high) };
  return { low: low + (high - low) * FOG, high };
}

/** Of scans whose voxels were all here: planes come and go beside 3D, and what it is made of does not change. */
const solids = new WeakMap<Scan, { most: number; solid: Solid }>();

/** Means of blocks of a scan that is all here, made once; null when it was closed meanwhile. */
export async function solidOf(scan: Scan, most: number): Promise<Solid | null> {
  const known = solids.get(scan);
  if (known?.most === most) return known.solid;
  const solid = await meansOf(scan, most);
  if (solid) solids.set(scan, { most, solid });
  return solid;
}

async function meansOf(scan: Scan, most: number): Promise<Solid | null> {
  const { geometry } = scan;
  const steps = stepsFor(geometry, most);
  const [planes, rows, columns] = geometry.shape;
  const size = [columns, rows, planes].map((length, n) => Math.ceil(length / steps[n]!)) as [number, number, number];
  const sums = new Float32Array(size[0] * size[1]);
  const counts = new Uint16Array(size[0] * size[1]);
  const data = new Float32Array(size[0] * size[1] * size[2]);
  let since = performance.now();
  for (let k = 0; k < size[2]; k += 1) {
    sums.fill(0);
    counts.fill(0);
    for (let plane = k * steps[2]; plane < Math.min((k + 1) * steps[2], planes); plane += 1) {
      const pixels = scan.slice("k", plane);
      if (!pixels) return null;
      addBlocks(pixels.data, rows, columns, steps, size[0], sums, counts);
    }
    for (let n = 0, at = k * sums.length; n < sums.length; n += 1) data[at + n] = sums[n]! / Math.max(counts[n]!, 1);
    if (performance.now() - since > SLICE_MS) {
      await rest();
      since = performance.now();
    }
  }
  const whole = !geometry.dtype.includes("f") && data.every((value) => Math.abs(value) < 32767);
  return { size, steps, data: whole ? Int16Array.from(data, Math.round) : data, ras: rasOf(geometry, steps) };
}

function addBlocks(
  data: ArrayLike<number>,
  rows: number,
  columns: number,
  steps: readonly [number, number, number],
  across: number,
  sums: Float32Array,
  counts: Uint16Array,
): void {
  for (let y = 0, from = 0; y < rows; y += 1) {
    const line = Math.floor(y / steps[1]) * across;
    for (let x = 0, block = line, left = steps[0]; x < columns; x += 1, from += 1) {
      const value = data[from]!;
      // what is no number has no share
      if (value - value === 0) {
        sums[block]! += value;
        counts[block]! += 1;
      }
      left -= 1;
      if (left === 0) {
        left = steps[0];
        block += 1;
      }
    }
  }
}

/** Masks as a label map of the size of a solid: a block of which an object has any voxel is the object's. */
export async function labelsOf(masks: Masks, objects: readonly number[], solid: Solid): Promise<Uint8Array> {
  const labels = new Uint8Array(solid.size[0] * solid.size[1] * solid.size[2]);
  const number = { i: 0, j: 1, k: 2 } as const;
  const strides = [1, solid.size[0], solid.size[0] * solid.size[1]];
  const [along, across, down] = [masks.axis, ...IN_PLANE[masks.axis]].map((axis) => number[axis]) as [0, 1, 2];
  let since = performance.now();
  for (const object of objects) {
    for (const slice of masks.slices(object)) {
      const mask = masks.get(object, slice)?.mask;
      if (!mask) continue;
      const base = Math.floor(slice / solid.steps[along]) * strides[along]!;
      for (let y = mask.y0, n = 0; y < mask.y1; y += 1) {
        const line = base + Math.floor(y / solid.steps[down]) * strides[down]!;
        for (let x = mask.x0; x < mask.x1; x += 1, n += 1) {
          if (mask.data[n]) labels[line + Math.floor(x / solid.steps[across]) * strides[across]!] = object;
        }
      }
      if (performance.now() - since > SLICE_MS) {
        await rest();
        since = performance.now();
      }
    }
  }
  return labels;
}

/** Let the page draw and answer. */
function rest(): Promise<void> {
  return new Promise((go) => setTimeout(go));
}

const TYPES: [new (length: number) => Solid["data"], code: number][] = [
  [Uint8Array, 2],
  [Int16Array, 4],
  [Float32Array, 16],
];

/** A solid as the bytes of a NIfTI-1 file. */
export function niftiOf({ size, data, ras }: Pick<Solid, "size" | "data" | "ras">): ArrayBuffer {
  const HEAD = 352;
  const buffer = new ArrayBuffer(HEAD + data.byteLength);
  const head = new DataView(buffer);
  const pitch = [0, 1, 2].map((axis) => Math.hypot(...ras.map((row) => row[axis]!)));
  head.setInt32(0, 348, true);
  [3, ...size, 1, 1, 1, 1].forEach((length, n) => {
    head.setInt16(40 + 2 * n, length, true);
  });
  head.setInt16(70, TYPES.find(([type]) => data instanceof type)![1], true);
  head.setInt16(72, data.BYTES_PER_ELEMENT * 8, true);
  [1, ...pitch, 0, 0, 0, 0].forEach((length, n) => {
    head.setFloat32(76 + 4 * n, length, true);
  });
  head.setFloat32(108, HEAD, true);
  head.setFloat32(112, 1, true);
  head.setUint8(123, 2);
  head.setInt16(254, 1, true);
  ras.flat().forEach((value, n) => {
    head.setFloat32(280 + 4 * n, value, true);
  });
  head.setUint32(344, 0x00312b6e, true);
  new Uint8Array(buffer, HEAD).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return buffer;
}
