// Elements of a scan as they come over the wire, and the smallest typed array that holds them exactly.

export type Elements = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Float32Array | Float64Array;

type Maker = { new (length: number): Elements; readonly BYTES_PER_ELEMENT: number };

interface Kind {
  /** Bytes an element on the wire. */
  readonly bytes: number;
  /** Values of a buffer; a view of it where there is an array of that type. */
  readonly read: (buffer: ArrayBuffer) => Elements;
  /** Arrays to keep them in: the first is tried, the next ones where a value does not fit. */
  readonly kept: readonly Maker[];
}

// Many files state more than they hold: int32 or float64 of values that int16 has. Half of the memory or less does then.
// Of these lists, each type holds all that the one before it does.
const WHOLE: readonly Maker[] = [Int16Array, Int32Array, Float64Array];

/** By numpy's name, but for the sign of its byte order: the wire is little-endian, and so are browsers. */
const KINDS: Record<string, Kind> = {
  i1: { bytes: 1, read: (buffer) => new Int8Array(buffer), kept: [Int8Array] },
  u1: { bytes: 1, read: (buffer) => new Uint8Array(buffer), kept: [Uint8Array] },
  i2: { bytes: 2, read: (buffer) => new Int16Array(buffer), kept: [Int16Array] },
  u2: { bytes: 2, read: (buffer) => new Uint16Array(buffer), kept: [Uint16Array] },
  i4: { bytes: 4, read: (buffer) => new Int32Array(buffer), kept: [Int16Array, Int32Array] },
  u4: { bytes: 4, read: (buffer) => Float64Array.from(new Uint32Array(buffer)), kept: WHOLE },
  i8: { bytes: 8, read: (buffer) => Float64Array.from(new BigInt64Array(buffer), Number), kept: WHOLE },
  u8: { bytes: 8, read: (buffer) => Float64Array.from(new BigUint64Array(buffer), Number), kept: WHOLE },
  f2: { bytes: 2, read: (buffer) => widened(new Uint16Array(buffer)), kept: [Float32Array] },
  f4: { bytes: 4, read: (buffer) => new Float32Array(buffer), kept: [Int16Array, Float32Array] },
  f8: { bytes: 8, read: (buffer) => new Float64Array(buffer), kept: [Int16Array, Float32Array, Float64Array] },
};

/** How elements of a numpy type are read and kept. Raises for a type that scans do not have. */
export function kindOf(dtype: string): Kind {
  const kind = KINDS[dtype.replace(/^[<|=>]/, "")];
  if (!kind || dtype.startsWith(">")) throw new Error(`A scan of type ${dtype} cannot be shown.`);
  return kind;
}

/** Whether an array of a type holds values exactly. */
function holds(maker: Maker, values: Elements): boolean {
  if (values instanceof maker || maker === Float64Array) return true;
  if (maker === Int16Array) return values.every((value) => (value << 16) >> 16 === value);
  if (maker === Int32Array) return values.every((value) => (value | 0) === value);
  return values.every((value) => Math.fround(value) === value || Number.isNaN(value));
}

/** An array of so many elements that begins small, and becomes wider when something comes that it cannot hold. */
export class Growing {
  data: Elements;
  #kept: readonly Maker[];

  /** most: bytes that it may take. */
  constructor(
    dtype: string,
    length: number,
    private readonly most = Number.POSITIVE_INFINITY,
  ) {
    const [first, ...wider] = kindOf(dtype).kept;
    this.#kept = wider;
    this.data = new first!(length);
  }

  /** Bytes that the first array takes. */
  static bytes(dtype: string, length: number): number {
    return kindOf(dtype).kept[0]!.BYTES_PER_ELEMENT * length;
  }

  /** Takes care that values can be written. True when the array is another one now. Raises RangeError without memory for it. */
  widen(values: Elements): boolean {
    const before = this.data;
    while (this.#kept.length > 0 && !holds(this.data.constructor as Maker, values)) {
      const [next, ...wider] = this.#kept;
      this.#kept = wider;
      if (!this.#kept.length || holds(next!, values)) {
        const grown = this.#made(next!, before.length);
        grown.set(before);
        this.data = grown;
      }
    }
    return this.data !== before;
  }

  #made(maker: Maker, length: number): Elements {
    if (maker.BYTES_PER_ELEMENT * length > this.most) throw new RangeError("more bytes than it may take");
    return new maker(length);
  }
}

/** IEEE half precision to single. */
export function widened(halves: Uint16Array): Float32Array {
  const out = new Float32Array(halves.length);
  for (let n = 0; n < halves.length; n += 1) out[n] = half(halves[n]!);
  return out;
}

/** A half-precision number of its 16 bits. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : (2 ** -14 * fraction) / 1024);
}
