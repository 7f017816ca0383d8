// The model that answers: what it is, and what is needed to have its decoder answer in the page (a preview).

import { ApiError, ask, bytesOf, request } from "./http";
import type { ModelInfo } from "./types";

/** What the model is; null where this server does not say. */
export async function modelInfo(signal?: AbortSignal): Promise<ModelInfo | null> {
  return orNull(ask<ModelInfo>("/model", { signal }));
}

/** The decoder as ONNX; null while the server has not made it, or makes none. path: as `modelInfo` says it. */
export async function decoder(path: string, signal?: AbortSignal): Promise<ArrayBuffer | null> {
  const below = path.replace(/^\/api\/v1/, "");
  const answer = await orNull(request(below, { signal }));
  return answer === null ? null : bytesOf(answer, signal);
}

export interface Embedding {
  /** float16, (C, h, w), little-endian */
  data: ArrayBuffer;
  /** As `X-Medsam-Meta` says it: shape, and how pixels of the slice are to be taken to the model's input. */
  meta: Record<string, unknown>;
}

/** What the encoder made of a slice; null where the server has none to give. */
export async function embedding(session: string, slice: number, signal?: AbortSignal): Promise<Embedding | null> {
  const answer = await orNull(request(`/sessions/${session}/slices/${slice}/embedding`, { signal }));
  if (answer === null) return null;
  const meta = JSON.parse(answer.headers.get("X-Medsam-Meta") ?? "{}") as Record<string, unknown>;
  return { data: await bytesOf(answer, signal), meta };
}

/** null where a route or what it gives is not there: the feature is hidden then. */
async function orNull<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ApiError && [404, 405, 409].includes(error.status)) return null;
    throw error;
  }
}
