// A thin bar while something takes longer than a moment.

import { computed, effect, signal } from "@preact/signals";
import { t } from "../i18n";
import { reading } from "../state";
import { opening, turning } from "./session";

const MOMENT_MS = 300;

/** What the page waits for. */
export const waiting = computed(
  () =>
    (opening.value !== null && opening.value.problem === null) ||
    turning.value ||
    (reading.value?.pending.value ?? 0) > 0,
);
/** It has for more than a moment. */
export const busy = signal(false);

export function followWaiting(): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stop = effect(() => {
    clearTimeout(timer);
    if (!waiting.value) busy.value = false;
    else
      timer = setTimeout(() => {
        busy.value = true;
      }, MOMENT_MS);
  });
  return () => {
    clearTimeout(timer);
    stop();
  };
}

export function Busy() {
  return (
    <div class="shell-busy" role="status" aria-label={t("shell.busy")}>
      {busy.value && (
        <>
          <span class="shell-busy-bar" />
          <span class="aloud">{t("shell.working")}</span>
        </>
      )}
    </div>
  );
}
