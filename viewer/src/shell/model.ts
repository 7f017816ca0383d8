// What answers, and what its weights may be used for.

import { signal } from "@preact/signals";
import { modelInfo } from "../api/model";
import { t } from "../i18n";
import { reading } from "../state";

interface Answering {
  name: string | null;
  licence: string | null;
}

const servers = signal<Answering>({ name: null, licence: null });

/** The model of the open reading, else the server's; null what is not told. */
export function answering(): Answering {
  const its = reading.value?.model;
  return its?.name ? its : servers.value;
}

/** What the weights may be used for, also where nobody says it: those of one's own training. */
export function licenceText(): string {
  const { licence } = answering();
  return licence === null ? t("shell.model.unstated") : t("shell.model.licence", { licence });
}

/** Asks once who is here; without an answer the page goes on, and says that it does not know. */
export async function learnModel(): Promise<void> {
  try {
    const told = await modelInfo();
    if (told !== null) servers.value = told;
  } catch {
    // the reading says it, too
  }
}
