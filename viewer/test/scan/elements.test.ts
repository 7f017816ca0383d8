import { describe, expect, it } from "vitest";
import { Growing, kindOf } from "../../src/scan/elements";

function bytes(values: ArrayLike<number>, type: new (from: ArrayLike<number>) => ArrayBufferView): ArrayBuffer {
  return new type(values).buffer as ArrayBuffer;
}

describe("values of the wire", () => {
  it("are read in all types that a scan has", () => {
    expect([...kindOf("<i2").read(bytes([-3, 4], Int16Array))]).toEqual([-3, 4]);
    expect([...kindOf("|u1").read(bytes([3, 255], Uint8Array))]).toEqual([3, 255]);
    expect([...kindOf("<u4").read(bytes([3, 4e9], Uint32Array))]).toEqual([3, 4e9]);
    expect([...kindOf("<f8").read(bytes([0.1], Float64Array))]).toEqual([0.1]);
    expect([...kindOf("<i8").read(new BigInt64Array([-7n]).buffer)]).toEqual([-7]);
  });

  it("of half precision are what their bits say", () => {
    const bits = [0x3c00, 0xc000, 0x0001, 0x7c00, 0x3555];
    const [one, two, small, infinite, third] = kindOf("<f2").read(bytes(bits, Uint16Array));
    expect([one, two, infinite]).toEqual([1, -2, Number.POSITIVE_INFINITY]);
    expect(small).toBeCloseTo(2 ** -24, 12);
    expect(third).toBeCloseTo(1 / 3, 3);
  });

  it("of another type or byte order are refused", () => {
    expect(() => kindOf("<c8")).toThrow("<c8");
    expect(() => kindOf(">i2")).toThrow(">i2");
  });
});

describe("an array of values", () => {
  it("that a narrow type holds is narrow", () => {
    const growing = new Growing("<i4", 4);
    expect(growing.widen(new Int32Array([-1000, 3071]))).toBe(false);
    expect(growing.data).toBeInstanceOf(Int16Array);
    expect(Growing.bytes("<i4", 100)).toBe(200);
  });

  it("becomes wider when something comes that does not fit, and keeps what it has", () => {
    const growing = new Growing("<i4", 2);
    growing.data[0] = -7;
    expect(growing.widen(new Int32Array([40000]))).toBe(true);
    expect(growing.data).toBeInstanceOf(Int32Array);
    expect(growing.data[0]).toBe(-7);
  });

  it("of doubles is as wide as its values need", () => {
    const growing = new Growing("<f8", 2);
    growing.widen(new Float64Array([12, -3]));
    expect(growing.data).toBeInstanceOf(Int16Array);
    growing.widen(new Float64Array([0.5]));
    expect(growing.data).toBeInstanceOf(Float32Array);
    growing.widen(new Float64Array([Number.NaN]));
    expect(growing.data).toBeInstanceOf(Float32Array);
    growing.widen(new Float64Array([0.1]));
    expect(growing.data).toBeInstanceOf(Float64Array);
  });

  it("of large whole numbers keeps all their digits", () => {
    const growing = new Growing("<i8", 2);
    growing.widen(new Float64Array([2 ** 31 - 1]));
    expect(growing.data).toBeInstanceOf(Int32Array);
    growing.widen(new Float64Array([2 ** 40 + 1]));
    expect(growing.data).toBeInstanceOf(Float64Array);
  });
});
