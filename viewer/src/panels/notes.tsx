// How the scan was read and what is seen of it, in the server's words: what a reader must know before trusting a value.

import { useEffect } from "preact/hooks";
import { t } from "../i18n";
import type { Reading } from "../reading/reading";
import { say, scan } from "../state";

/** What was said of which case: another axis says nothing anew. */
const said = new Set<string>();

export function Notes({ reading }: { reading: Reading }) {
  const notes = [...new Set([...(scan.value?.geometry.notes ?? []), ...reading.notes])];
  useEffect(() => {
    const fresh = notes.filter((note) => !said.has(`${reading.caseId} ${note}`));
    for (const note of fresh) said.add(`${reading.caseId} ${note}`);
    if (fresh.length > 0) say({ kind: "warning", text: [t("panels.notes"), ...fresh].join("\n") });
  }, [reading]);
  if (notes.length === 0) return null;
  return (
    <section class="panels-caveat" aria-label={t("panels.notes")}>
      {notes.map((note) => (
        <p key={note}>{note}</p>
      ))}
    </section>
  );
}
