// A thin bar while something takes longer than a moment, and why, where the server knows.

import { computed, effect, signal } from "@preact/signals";
import { version } from "../api/account";
import { t } from "../i18n";
import { reading } from "../state";
import { opening, turning } from "./session";

const MOMENT_MS = 300;
/** Longer than a step takes: then the server is asked whether its model is ready yet. */
const LONG_MS = 1500;

const stepping = computed(() => (reading.value?.pending.value ?? 0) > 0);
/** What the page waits for. */
export const waiting = computed(
  () => (opening.value !== null && opening.value.problem === null) || turning.value || stepping.value,
);
/** It has for more than a moment. */
export const busy = signal(false);
/** A step waits for the model, which a server that has just begun makes ready. */
export const warming = signal(false);

export function followWaiting(): () => void {
  const stops = [
    after(waiting, MOMENT_MS, () => {
      busy.value = true;
    }),
    after(stepping, LONG_MS, askWhy),
    effect(() => {
      if (!waiting.value) busy.value = false;
      if (!stepping.value) warming.value = false;
    }),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}

/** Does it once something has been so for a while. Returns how to end that. */
function after(what: { readonly value: boolean }, ms: number, run: () => void): () => void {
  return effect(() => {
    if (!what.value) return;
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  });
}

async function askWhy(): Promise<void> {
  try {
    const { ready } = await version();
    warming.value = ready === false && stepping.peek();
  } catch {
    // that the server is gone is said by its banner
    warming.value = false;
  }
  if (warming.value) setTimeout(askWhy, LONG_MS);
}

export function Busy() {
  return (
    <div class="shell-busy" role="status" aria-label={t("shell.busy")}>
      {busy.value && (
        <>
          <span class="shell-busy-bar" />
          <span class="aloud">{t(warming.value ? "shell.state.warming" : "shell.working")}</span>
        </>
      )}
    </div>
  );
}
