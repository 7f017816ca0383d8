// Texts of the page. English is the source of the keys: a language that lacks one does not compile.
// Each room has a file of its own, `en/ROOM.ts` and `ko/ROOM.ts`; keys begin with the room's name: "tools.box".

import { signal } from "@preact/signals";
import { remember, remembered } from "../remembered";
import { en } from "./en";
import { ko } from "./ko";

export type Key = keyof typeof en;
export type Texts = Record<Key, string>;
export type Language = "en" | "ko";
const TEXTS: Record<Language, Texts> = { en, ko };
const KEPT = "medsam.language";

function first(): Language {
  const kept = remembered(KEPT);
  if (kept === "en" || kept === "ko") return kept;
  return navigator.language.startsWith("ko") ? "ko" : "en";
}

export const language = signal<Language>(first());
language.subscribe((chosen) => {
  document.documentElement.lang = chosen;
});

export function speak(chosen: Language): void {
  remember(KEPT, chosen);
  language.value = chosen;
}

/** The text of a key in the reader's language; `{name}` is replaced. Where it is rendered, it follows the language. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  return TEXTS[language.value][key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}
