// How far a propagation goes from the slices that it begins at.

import { computed, signal } from "@preact/signals";

/** Whether it is bounded, and what was typed. */
export const bounded = signal(false);
export const typed = signal("30");

/** A distance in mm, or null for the whole volume; what is no distance bounds nothing. */
export const reach = computed<number | null>(() => {
  if (!bounded.value) return null;
  const mm = Number(typed.value.replace(",", "."));
  return typed.value.trim() !== "" && Number.isFinite(mm) && mm > 0 ? mm : null;
});
