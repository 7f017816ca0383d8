// What a reader should know before the page is left: confirmed steps are safe on the server, these are not, or not at home.

import { computed, effect } from "@preact/signals";
import { t } from "../i18n";
import { hasEnded } from "../reading/told";
import { agreed } from "../shell/asking";
import { offline, reading } from "../state";
import { currentTool } from "../tools/current";
import { measured } from "../tools/line";
import { touched } from "../tools/local";
import { underWay } from "../tools/steps";
import { region } from "../tools/threshold";
import { isHome } from "./taken";

export type Unsafe = "sending" | "running" | "not-home";

/** Steps and changes are on their way. */
export const sending = computed(() => underWay(reading.value));

/** Something is in the page alone: measured lines, a range that is not applied, an open polygon. */
const begun = computed(() => {
  if (reading.value === null) return false;
  // a corner more or less of a polygon
  void touched.value;
  const busy = currentTool().busy?.() ?? false;
  return busy || measured.value.length > 0 || region.value !== null;
});

/** sending: steps are not confirmed yet. running: a propagation goes on, also without the page. not-home: no file has them. */
export const unsafe = computed<Unsafe | null>(() => {
  const open = reading.value;
  if (!open?.mine) return null;
  if (sending.value) return "sending";
  if (open.jobs.value.some((job) => !hasEnded(job))) return "running";
  open.masks.version.value;
  const drawn = open.objects.value.some(({ id }) => open.masks.slices(id).length > 0);
  return drawn && !isHome(open) ? "not-home" : null;
});

/** Has the browser ask before the page goes while something would be lost; the returned function ends that. */
export function guardLeaving(): () => void {
  const ask = (event: BeforeUnloadEvent) => event.preventDefault();
  let guarding = false;
  // only while it is needed: a page that listens is not kept by the browser's back button
  const stop = effect(() => {
    const needed = unsafe.value === "sending" || begun.value;
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

/** Whether the case may be left within the page: asked where that costs something. Steps on their way go on behind it. */
export function mayLeave(): boolean | Promise<boolean> {
  const isStuck = unsafe.peek() === "sending" && offline.peek();
  if (!isStuck && !begun.peek()) return true;
  return agreed({
    title: t("panels.leave.title"),
    text: t(isStuck ? "panels.leave.sending" : "panels.leave.begun"),
    yes: t("panels.leave.go"),
    no: t("panels.leave.stay"),
  });
}
