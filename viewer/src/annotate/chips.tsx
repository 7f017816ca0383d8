// The structures of a task in a row: colour, name, and how far each is.

import { t } from "../i18n";
import { spoken } from "../panels/format";
import type { Reading } from "../reading/reading";
import { choose, type Part } from "./structures";

const SIGNS = { drawn: "✓", proposed: "?", empty: "" } as const;

export function Chips({ open, parts }: { open: Reading; parts: readonly Part[] }) {
  return (
    <ul class="annotate-chips" aria-label={t("annotate.structures")}>
      {parts.map((part) => {
        const name = spoken(part.name);
        const active = part.object !== null && open.active.value === part.object.id;
        // who goes on to draw it on this slice stays there; a second press leads to it
        const shows = !open.mine || part.state === "proposed" || active;
        const state = t(`annotate.state.${part.absent ? "absent" : part.state}`);
        return (
          <li key={part.name}>
            <button
              type="button"
              class={`annotate-chip annotate-chip-${part.state}`}
              aria-current={active}
              aria-label={`${name}: ${state}`}
              title={state}
              onClick={() => void choose(open, part, shows)}
            >
              <i style={{ background: part.colour }} aria-hidden="true" />
              <span>{name}</span>
              <b aria-hidden="true">{part.absent ? "–" : SIGNS[part.state]}</b>
            </button>
          </li>
        );
      })}
    </ul>
  );
}
