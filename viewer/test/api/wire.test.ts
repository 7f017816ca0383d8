import { describe, expect, it } from "vitest";
import { areaOf, readFrames, WireError } from "../../src/api/wire";
import { frame, framed, joined, numbersFrom, pixelsOf } from "./frames";

const HEAD =
  '{"object":1,"axis":"k","slice":41,"shape":[6,8],"rectangle":[2,1,6,4],"base":5,"revision":7,"status":"first",' +
  '"predicted_iou":0.91,"expected_dice":null}';
const PIXELS = pixelsOf(".##.", "####", ".#..");

/** The example of docs/server.md, byte by byte. */
function documented(): ArrayBuffer {
  const prefix = "4d 53 41 4d 01 00 00 00 97 00 00 00 02 00 00 00".split(" ").map((byte) => Number.parseInt(byte, 16));
  return joined(Uint8Array.from(prefix), new TextEncoder().encode(HEAD), Uint8Array.from([0x6f, 0x40]));
}

describe("frames", () => {
  it("are read as docs/server.md writes them", () => {
    const [one, ...others] = readFrames(documented());
    expect(others).toEqual([]);
    expect(one).toEqual({
      object: 1,
      axis: "k",
      slice: 41,
      rows: 6,
      columns: 8,
      rectangle: [2, 1, 6, 4],
      pixels: PIXELS,
      base: 5,
      revision: 7,
      status: "first",
      predictedIou: 0.91,

      confidence: null,
      expectedDice: null,
      ambiguous: false,
    });
  });

  it("tell what Dice is expected with its interval, or nothing", () => {
    const said = { expected_dice: 0.86, expected_dice_low: 0.71, expected_dice_high: 0.94 };
    const of = (told: object) => readFrames(joined(frame({ rectangle: [0, 0, 1, 1], ...told }, [1])))[0]!.expectedDice;
    expect(of(said)).toEqual({ value: 0.86, low: 0.71, high: 0.94, unfamiliar: false });
    expect(of({ ...said, unfamiliar: true })?.unfamiliar).toBe(true);
    expect([of({}), of({ ...said, expected_dice: null }), of({ expected_dice: 0.86 })]).toEqual([null, null, null]);
  });

  it("tell that one click is all that was asked", () => {
    const of = (told: object) => readFrames(joined(frame({ rectangle: [0, 0, 1, 1], ...told }, [1])))[0]!.ambiguous;
    expect([of({}), of({ ambiguous: true }), of({ ambiguous: 1 })]).toEqual([false, true, false]);
  });

  it("are the same as run lengths: 1, 2, 1, 4, 1, 1, 2 of 32 bits", () => {
    const payload = new Uint8Array(new Uint32Array([1, 2, 1, 4, 1, 1, 2]).buffer);
    expect(payload.length).toBe(28);
    const body = framed(new TextEncoder().encode(HEAD), payload, 1);
    expect(readFrames(body.buffer)[0]!.pixels).toEqual(PIXELS);
  });

  it("come back as they were written, whatever is in them", () => {
    const random = numbersFrom(7);
    const whole = (below: number): number => Math.floor(random() * below);
    for (let round = 0; round < 300; round += 1) {
      const [rows, columns] = [1 + whole(20), 1 + whole(20)];
      const x0 = whole(columns + 1);
      const y0 = whole(rows + 1);
      const rectangle: [number, number, number, number] = [
        x0,
        y0,
        x0 + whole(columns - x0 + 1),
        y0 + whole(rows - y0 + 1),
      ];
      const likely = random();
      const pixels = Uint8Array.from({ length: areaOf(rectangle) }, () => (random() < likely ? 1 : 0));
      const told = { shape: [rows, columns] as [number, number], rectangle, revision: round };
      const [bits, runs] = readFrames(joined(frame(told, pixels), frame(told, pixels, true)));
      expect(bits!.pixels).toEqual(pixels);
      expect(runs).toEqual(bits);
    }
  });

  it("may be none, and may have no payload", () => {
    expect(readFrames(new ArrayBuffer(0))).toEqual([]);
    const [removed] = readFrames(frame({ rectangle: [0, 0, 0, 0], status: "removed" }, []).buffer);
    expect(removed!.pixels.length).toBe(0);
  });

  it("may say more than is known here", () => {
    const told = {
      rectangle: [0, 0, 1, 1] as [number, number, number, number],
      status: "dreamt",
      confidence: 0.25,
      x: 1,
    };
    const [one] = readFrames(frame(told, [1]).buffer);
    expect([one!.status, one!.confidence]).toEqual(["dreamt", 0.25]);
  });

  it("are refused where they are damaged", () => {
    const good = new Uint8Array(documented());
    const changed = (at: number, value: number): ArrayBuffer => {
      const bytes = good.slice();
      bytes[at] = value;
      return bytes.buffer;
    };
    const bad: Record<string, ArrayBuffer> = {
      "cut in the prefix": good.slice(0, 10).buffer,
      "cut in the payload": good.slice(0, -1).buffer,
      "another magic": changed(0, 0x4e),
      "a later version": changed(4, 2),
      "an unknown encoding": changed(6, 2),
      "a length beyond the body": changed(14, 1),
      "no JSON": changed(16, 0x5b),
      "a rectangle beyond the slice": frame({ rectangle: [0, 0, 9, 1] }, new Uint8Array(9)).buffer,
      "a rectangle the wrong way round": frame({ rectangle: [3, 0, 1, 1] }, []).buffer,
      "an axis that is none": frame({ rectangle: [0, 0, 0, 0], axis: "z" }, []).buffer,
      "fewer bits than pixels": frame({ rectangle: [0, 0, 5, 5] }, new Uint8Array(8)).buffer,
      "runs of another sum": frame({ rectangle: [0, 0, 5, 5] }, new Uint8Array(24), true).buffer,
      "a slice that is too large": frame({ rectangle: [0, 0, 0, 0], shape: [2 ** 20, 2 ** 20] }, []).buffer,
    };
    for (const [what, body] of Object.entries(bad)) expect(() => readFrames(body), what).toThrow(WireError);
  });
});
