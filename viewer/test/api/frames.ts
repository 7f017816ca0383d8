// A writer of frames, for tests: the server's is medsam/wire.py.

export interface Told {
  object?: number;
  axis?: string;
  slice?: number;
  shape?: [number, number];
  rectangle: [number, number, number, number];
  base?: number;
  revision?: number;
  status?: string;
  confidence?: number;
}

/** pixels: of the rectangle, row by row. runs: written as run lengths, else as bits. */
export function frame(told: Told, pixels: ArrayLike<number>, runs = false): Uint8Array<ArrayBuffer> {
  const full = {
    object: 1,
    axis: "k",
    slice: 0,
    shape: [8, 8],
    base: 0,
    revision: 1,
    status: "refined",
    predicted_iou: null,
    expected_dice: null,
    ...told,
  };
  return framed(new TextEncoder().encode(JSON.stringify(full)), runs ? runsOf(pixels) : bitsOf(pixels), runs ? 1 : 0);
}

export function framed(head: Uint8Array, payload: Uint8Array, encoding: number): Uint8Array<ArrayBuffer> {
  const body = new Uint8Array(16 + head.length + payload.length);
  const view = new DataView(body.buffer);
  body.set([0x4d, 0x53, 0x41, 0x4d]);
  view.setUint16(4, 1, true);
  view.setUint8(6, encoding);
  view.setUint32(8, head.length, true);
  view.setUint32(12, payload.length, true);
  body.set(head, 16);
  body.set(payload, 16 + head.length);
  return body;
}

function bitsOf(pixels: ArrayLike<number>): Uint8Array {
  const bits = new Uint8Array(Math.ceil(pixels.length / 8));
  for (let at = 0; at < pixels.length; at += 1) if (pixels[at]) bits[at >> 3]! |= 128 >> (at & 7);
  return bits;
}

function runsOf(pixels: ArrayLike<number>): Uint8Array {
  const counts: number[] = [];
  let value = 0;
  let began = 0;
  for (let at = 0; at < pixels.length; at += 1) {
    if (Number(pixels[at] !== 0) === value) continue;
    counts.push(at - began);
    began = at;
    value = 1 - value;
  }
  if (pixels.length > 0) counts.push(pixels.length - began);
  return new Uint8Array(new Uint32Array(counts).buffer);
}

/** Bodies one after the other. */
export function joined(...parts: Uint8Array[]): ArrayBuffer {
  const body = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    body.set(part, at);
    at += part.length;
  }
  return body.buffer;
}

/** Pixels of a drawing: "#" is inside. */
export function pixelsOf(...rows: string[]): Uint8Array {
  return Uint8Array.from([...rows.join("")].map((letter) => (letter === "#" ? 1 : 0)));
}

/** Numbers that look random, the same in each run. */
export function numbersFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
