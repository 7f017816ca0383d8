// Why tasks are skipped: reasons to choose from, and words.

import { t } from "../i18n";

/** As they are written down, in one language, so that they can be counted. */
const WHYS = {
  quality: "image quality",
  other: "another body part",
  unclear: "not sure what it is",
  broken: "the scan is broken",
} as const;
export type Why = keyof typeof WHYS;
export const ALL_WHYS = Object.keys(WHYS) as Why[];

/** What is written down. words: of the reader, who may have said nothing. */
export function whyOf(chosen: Why | null, words: string): string {
  return [chosen === null ? "" : WHYS[chosen], words.trim()].filter(Boolean).join(": ");
}

/** What was written down, in the language of who reads it. */
export function whyText(why: string | null): string {
  const known = ALL_WHYS.find((one) => why === WHYS[one] || why?.startsWith(`${WHYS[one]}: `));
  if (why === null || known === undefined) return why ?? "–";
  return t(`annotate.why.${known}`) + why.slice(WHYS[known].length);
}
