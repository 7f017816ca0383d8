// Dark, as reading rooms are, until the reader chooses light.

import { effect, signal } from "@preact/signals";
import { remember, remembered } from "../remembered";

export type Theme = "dark" | "light";
const KEPT = "medsam.theme";

export const theme = signal<Theme>(remembered(KEPT) === "light" ? "light" : "dark");

export function turn(to: Theme): void {
  remember(KEPT, to);
  theme.value = to;
}

/** Has the page be of the theme from now on. Returns how to end that. */
export function followTheme(): () => void {
  return effect(() => {
    document.documentElement.dataset["theme"] = theme.value;
  });
}
