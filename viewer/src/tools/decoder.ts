// The page's end of the decoder's thread.

/** What the thread is told. Embeddings go by a name. */
export type Order =
  | { kind: "decoder"; graph: ArrayBuffer }
  | { kind: "embedding"; name: string; data: ArrayBuffer; shape: [number, number, number] }
  | {
      kind: "decode";
      name: string;
      /** Two numbers a position, in pixels of the model's input. */
      coordinates: Float32Array;
      /** 1 inside, 0 outside, 2 and 3 a box's corners, -1 padding. */
      labels: number[];
      /** Three masks are given, and the one that the network believes in most is wanted. */
      ambiguous: boolean;
      /** Shares of the input's columns and rows that the slice covers. */
      covered: [number, number];
      /** Have the logits as well. */
      raw?: boolean;
    };

export type Answer =
  | {
      kind: "ready";
      /** Names of the embeddings that are there. */
      kept: readonly string[];
    }
  | { kind: "missing" }
  | { kind: "failed"; why: string }
  | {
      kind: "outline";
      /** x0, y0, x1, y1 of a line each, in positions of the logits. */
      lines: Float32Array;
      side: number;
      iou: number;
      ms: number;
      raw: Float32Array | null;
    };

export interface Decoder {
  tell(order: Order, handed?: Transferable[]): Promise<Answer>;
  close(): void;
}

export function startDecoder(): Decoder {
  const worker = new Worker(new URL("./decoderworker.ts", import.meta.url), { type: "module" });
  const waiting = new Map<number, (answer: Answer) => void>();
  let last = 0;
  worker.addEventListener("message", (event: MessageEvent<{ number: number; answer: Answer }>) => {
    waiting.get(event.data.number)?.(event.data.answer);
    waiting.delete(event.data.number);
  });
  // a thread that could not begin answers nothing
  worker.addEventListener("error", () => {
    for (const answer of waiting.values()) answer({ kind: "failed", why: "the thread ended" });
    waiting.clear();
  });
  return {
    tell(order, handed = []) {
      last += 1;
      const number = last;
      return new Promise((resolve) => {
        waiting.set(number, resolve);
        worker.postMessage({ number, order }, handed);
      });
    },
    close: () => worker.terminate(),
  };
}
