// The decoder of the model, on a thread of its own: prompts on a slice's embedding to the outline of the answer.
// onnxruntime-web in WebAssembly, one thread; its .wasm is one of the page's own files.

import wasm from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import { env, InferenceSession, Tensor } from "onnxruntime-web/wasm";
import { widened } from "../scan/elements";
import { contour } from "./contour";
import type { Answer, Order } from "./decoder";

env.wasm.wasmPaths = { wasm };
env.wasm.numThreads = 1;
env.wasm.proxy = false;
env.logLevel = "error";

/** Embeddings that are kept: the slice on screen and where one was just now. */
const KEPT = 3;

let session: InferenceSession | null = null;
const embeddings = new Map<string, Tensor>();

async function obey(order: Order): Promise<Answer> {
  if (order.kind === "decoder") {
    session = await InferenceSession.create(order.graph, { executionProviders: ["wasm"] });
    return { kind: "ready", kept: [] };
  }
  if (order.kind === "embedding") {
    const features = widened(new Uint16Array(order.data));
    embeddings.set(order.name, new Tensor("float32", features, [1, ...order.shape]));
    for (const name of embeddings.keys()) if (embeddings.size > KEPT) embeddings.delete(name);
    return { kind: "ready", kept: [...embeddings.keys()] };
  }
  const embedding = embeddings.get(order.name);
  if (!session || !embedding) return { kind: "missing" };
  const begun = performance.now();
  const { coordinates, labels } = order;
  const results = await session.run({
    embedding,
    point_coords: new Tensor("float32", coordinates, [1, 1, labels.length, 2]),
    point_labels: new Tensor("int64", BigInt64Array.from(labels, BigInt), [1, 1, labels.length]),
  });
  const [logits, iou] = [results.logits!, results.predicted_iou!];
  const side = logits.dims[3]!;
  const mask = order.ambiguous ? best(iou.data as Float32Array) : 0;
  const field = (logits.data as Float32Array).subarray(mask * side * side, (mask + 1) * side * side);
  const [columns, rows] = order.covered.map((part) => Math.ceil(part * side)) as [number, number];
  const lines = contour(field, columns, rows, side);
  const raw = order.raw ? field.slice() : null;
  return { kind: "outline", lines, side, iou: (iou.data as Float32Array)[mask]!, ms: performance.now() - begun, raw };
}

/** Of the three masks of an ambiguous prompt, which follow the one of a clear prompt. */
function best(iou: Float32Array): number {
  return [1, 2, 3].reduce((found, mask) => (iou[mask]! > iou[found]! ? mask : found));
}

// orders are carried out one after the other, in order
let queue: Promise<unknown> = Promise.resolve();
addEventListener("message", (event: MessageEvent<{ number: number; order: Order }>) => {
  const { number, order } = event.data;
  queue = queue
    .then(() => obey(order))
    .then(
      (answer) => postMessage({ number, answer }),
      (error: unknown) => postMessage({ number, answer: { kind: "failed", why: String(error) } }),
    );
});
