import { signal } from "@preact/signals";
import { afterEach, describe, expect, it, vi } from "vitest";
import { cursor, reading } from "../../src/state";
import { contour } from "../../src/tools/contour";
import type { Order } from "../../src/tools/decoder";
import { boxToInput, logitToStored, pointToInput } from "../../src/tools/input";
import { awake, followSlices, note, onSlice, orderOf, state, want, wanted } from "../../src/tools/preview";
import { json, serve } from "../api/server";
import { fakeReading, open, plane } from "./fake";

/** Lines as "x0,y0 x1,y1", ends in order, sorted. */
function lines(found: Float32Array): string[] {
  const out: string[] = [];
  for (let at = 0; at < found.length; at += 4) {
    const ends = [`${found[at]},${found[at + 1]}`, `${found[at + 2]},${found[at + 3]}`];
    out.push(ends.toSorted().join(" "));
  }
  return out.toSorted();
}

describe("the outline of a field", () => {
  it("lies where it is 0, between positions", () => {
    // prettier-ignore
    const field = [-1, -1, -1, -1, 3, -1, -1, -1, -1];
    expect(lines(contour(field, 3, 3))).toEqual(["0.25,1 1,0.25", "0.25,1 1,1.75", "1,0.25 1.75,1", "1,1.75 1.75,1"]);
  });
  it("closes half a position beyond the border", () => {
    expect(lines(contour([5], 1, 1))).toEqual(["-0.5,0 0,-0.5", "-0.5,0 0,0.5", "0,-0.5 0.5,0", "0,0.5 0.5,0"]);
  });
  it("is of the covered part alone", () => {
    // the third column is padding
    expect(lines(contour([-1, 1, 9, -1, 1, 9], 2, 2, 3)).filter((line) => line.includes("2,"))).toEqual([]);
  });
  it("joins opposite corners by their mean", () => {
    expect(contour([1, -3, -3, 1], 2, 2).length).toBe(contour([3, -1, -1, 3], 2, 2).length);
    const apart = lines(contour([1, -3, -3, 1], 2, 2));
    expect(apart).toContain("0,0.25 0.25,0");
    const joined = lines(contour([3, -1, -1, 3], 2, 2));
    expect(joined).toContain("0.75,0 1,0.25");
  });
  it("of nothing is nothing", () => {
    expect(contour([-1, -1], 2, 1)).toHaveLength(0);
  });
});

describe("the model's input", () => {
  // 8 rows of 2 mm and 10 columns of 1 mm: 16 x 10 mm, so 16 x 10 model pixels of a side of 16
  const info = plane([8, 10], [2, 1]);
  const frame = { plane: info, size: 16, resized: [16, 10] as const };
  it("takes points as pixel numbers and boxes as edges", () => {
    expect(pointToInput(frame, [0, 0])).toEqual([0, 0.5]);
    expect(pointToInput(frame, [9, 7])).toEqual([9, 14.5]);
    expect(boxToInput(frame, [0, 0, 10, 8])).toEqual([
      [0, 0],
      [10, 16],
    ]);
  });
  it("is upright", () => {
    const turned = plane([8, 10], [2, 1], { transpose: true, flip_rows: false, flip_columns: true });
    // 10 rows of 1 mm, 8 columns of 2 mm
    const upright = { plane: turned, size: 16, resized: [10, 16] as const };
    // stored row 0 is the last column
    expect(pointToInput(upright, [0, 0])).toEqual([14.5, 0]);
    expect(boxToInput(upright, [0, 0, 4, 1])).toEqual([
      [14, 0],
      [16, 4],
    ]);
  });
  it("leads back from the logits", () => {
    for (const view of [
      { transpose: false, flip_rows: false, flip_columns: false },
      { transpose: true, flip_rows: true, flip_columns: false },
    ]) {
      const turned = {
        plane: plane([8, 10], [2, 1], view),
        size: 16,
        resized: [view.transpose ? 10 : 16, view.transpose ? 16 : 10] as const,
      };
      const [u, v] = pointToInput(turned, [3, 5]);
      // a side of 4: each logit is 4 model pixels
      const [x, y] = logitToStored(turned, 4, (u + 0.5) / 4 - 0.5, (v + 0.5) / 4 - 0.5);
      expect(x).toBeCloseTo(3);
      expect(y).toBeCloseTo(5);
    }
  });
  it("has a box's corners as kinds 2 and 3, clicks before them, and padding after clicks alone", () => {
    const axis = { axis: "k", slice: 0 } as const;
    const both = orderOf({ ...axis, box: [0, 0, 10, 8], points: [[9, 7, 0]] }, "n", frame);
    expect([...both.coordinates]).toEqual([9, 14.5, 0, 0, 10, 16]);
    expect(both).toMatchObject({ labels: [0, 2, 3], ambiguous: false, covered: [0.625, 1] });
    const click = orderOf({ ...axis, box: null, points: [[9, 7, 1]] }, "n", frame);
    expect(click).toMatchObject({ labels: [1, -1], ambiguous: true });
    expect([...click.coordinates]).toEqual([9, 14.5, 0, 0]);
  });
  it("gives outlines on the stored slice", () => {
    const answer = {
      kind: "outline",
      lines: Float32Array.from([0, 0, 1, 0]),
      side: 16,
      iou: 1,
      ms: 1,
      raw: null,
    } as const;
    expect([...onSlice(answer, frame)]).toEqual([0, -0.25, 1, -0.25]);
  });
});

describe("a slow device", () => {
  it("has no preview after five late ones, until somebody asks for it again", () => {
    state.value = "ready";
    // the first one also makes ready
    note(4000);
    for (const ms of [300, 90, 300, 300]) note(ms);
    expect(state.value).toBe("ready");
    note(400);
    expect(state.value).toBe("slow");
    want(true);
    expect(state.value).toBe("none");
    expect(wanted.value).toBe(true);
  });
});

describe("embeddings", () => {
  /** A thread that keeps the last two. */
  class Thread extends EventTarget {
    private names: string[] = [];
    postMessage({ number, order }: { number: number; order: Order }): void {
      if (order.kind === "embedding") this.names = [...this.names, order.name].slice(-2);
      const data = { number, answer: { kind: "ready", kept: this.names } };
      this.dispatchEvent(new MessageEvent("message", { data }));
    }
    terminate(): void {}
  }
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
    reading.value = null;
  });

  it("are fetched again only once the decoder has them no more", async () => {
    vi.useFakeTimers();
    vi.stubGlobal("Worker", Thread);
    const calls = serve(({ path }) => {
      if (path === "/model") return json({ decoder: "/api/v1/model/decoder" });
      const meta = JSON.stringify({ shape: [1, 1, 1], resized: [64, 64], input_size: 64 });
      return new Response(new ArrayBuffer(2), { headers: { "X-Medsam-Meta": meta } });
    });
    open(plane([64, 64]), fakeReading(undefined, { embedded: signal(new Set([3, 4, 5])) }));
    awake.value = true;
    const stop = followSlices();
    const asked: number[] = [];
    for (const slice of [3, 4, 3, 5, 4, 3]) {
      cursor.value = [0, 0, slice];
      await vi.advanceTimersByTimeAsync(250);
      asked.push(calls.filter(({ path }) => path.endsWith("/embedding")).length);
      expect(state.value).toBe("ready");
    }
    stop();
    expect(asked).toEqual([1, 2, 2, 3, 3, 4]);
  });
});
