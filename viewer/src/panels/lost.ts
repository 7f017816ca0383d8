// What a reader should know before the page is left: confirmed steps are safe on the server, these are not, or not at home.

import { computed, effect, signal } from "@preact/signals";
import { reading } from "../state";

/** What was last taken home: of which session, and at which state of its masks. */
export const takenHome = signal<{ session: string; version: number } | null>(null);

export type Unsafe = "sending" | "running" | "not-home";

/** sending: steps are not confirmed yet. running: a propagation goes on, also without the page. not-home: no file has them. */
export const unsafe = computed<Unsafe | null>(() => {
  const open = reading.value;
  if (!open?.mine) return null;
  if (open.pending.value > 0) return "sending";
  if (open.jobs.value.some((job) => job.state === "running" || job.state === "queued")) return "running";
  const version = open.masks.version.value;
  const drawn = open.objects.value.some(({ id }) => open.masks.slices(id).length > 0);
  const home = takenHome.value;
  return drawn && !(home?.session === open.id && home.version === version) ? "not-home" : null;
});

/** Has the browser ask before the page goes while steps are unconfirmed; the returned function ends that. */
export function guardLeaving(): () => void {
  const ask = (event: BeforeUnloadEvent) => event.preventDefault();
  let guarding = false;
  // only while it is needed: a page that listens is not kept by the browser's back button
  const stop = effect(() => {
    const needed = unsafe.value === "sending";
    if (needed === guarding) return;
    guarding = needed;
    if (needed) window.addEventListener("beforeunload", ask);
    else window.removeEventListener("beforeunload", ask);
  });
  return () => {
    stop();
    window.removeEventListener("beforeunload", ask);
  };
}
