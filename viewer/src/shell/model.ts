// What answers, and what its weights may be used for.

import { signal } from "@preact/signals";
import { modelInfo } from "../api/model";

export const model = signal<{ name: string; licence: string | null } | null>(null);

/** Asks once who is here; without an answer the page goes on, and says that it does not know. */
export async function learnModel(): Promise<void> {
  try {
    model.value = await modelInfo();
  } catch {
    model.value = null;
  }
}
