// A part of the panel that can be folded. Which are open is kept in this browser.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { remember, remembered } from "../remembered";
import { Glyph } from "./glyph";

export type SectionName = "structures" | "volume" | "compare" | "home";

const KEPT = "medsam.panels";
const OPEN_AT_FIRST: Record<SectionName, boolean> = { structures: true, volume: true, compare: false, home: false };

function kept(): Record<SectionName, boolean> {
  try {
    const found: unknown = JSON.parse(remembered(KEPT) ?? "{}");
    return typeof found === "object" && found !== null ? { ...OPEN_AT_FIRST, ...found } : OPEN_AT_FIRST;
  } catch {
    return OPEN_AT_FIRST;
  }
}

const unfolded = signal(kept());

export function unfold(name: SectionName, open = true): void {
  unfolded.value = { ...unfolded.peek(), [name]: open };
  remember(KEPT, JSON.stringify(unfolded.peek()));
}

interface Properties {
  name: SectionName;
  title: string;
  /** Said beside the title, also while it is folded. */
  note?: string | undefined;
  children: ComponentChildren;
}

export function Section({ name, title, note, children }: Properties) {
  const inside = useId();
  const open = unfolded.value[name];
  return (
    <section class="panels-section">
      <h2 class="panels-title">
        <button type="button" aria-expanded={open} aria-controls={inside} onClick={() => unfold(name, !open)}>
          <span class={open ? "panels-fold panels-fold-open" : "panels-fold"}>
            <Glyph name="chevron" />
          </span>
          {title}
          {note && <span class="panels-note">{note}</span>}
        </button>
      </h2>
      <div id={inside} class="panels-inside" hidden={!open}>
        {open && children}
      </div>
    </section>
  );
}
