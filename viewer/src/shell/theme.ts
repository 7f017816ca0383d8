// Dark or light: as the system says until the reader chooses.

import { computed, effect, signal } from "@preact/signals";

export type Theme = "dark" | "light";
const KEPT = "medsam.theme";
const system = window.matchMedia("(prefers-color-scheme: light)");

function chosenBefore(): Theme | null {
  const found = localStorage.getItem(KEPT);
  return found === "dark" || found === "light" ? found : null;
}

const chosen = signal<Theme | null>(chosenBefore());
const systems = signal<Theme>(system.matches ? "light" : "dark");
export const theme = computed<Theme>(() => chosen.value ?? systems.value);

export function turn(to: Theme): void {
  localStorage.setItem(KEPT, to);
  chosen.value = to;
}

/** Has the page be of the theme from now on. Returns how to end that. */
export function followTheme(): () => void {
  system.addEventListener("change", () => {
    systems.value = system.matches ? "light" : "dark";
  });
  return effect(() => {
    document.documentElement.dataset["theme"] = theme.value;
  });
}
