// Above the cases, where a project is served: how far it is, and the next task.

import { t } from "../i18n";
import { number, percent } from "../shell/format";
import { hashOf } from "../shell/routing";
import { othersWords } from "./others";
import { project } from "./project";
import { doing } from "./task";
import { takeNext } from "./work";
import "./annotate.css";

export function HomeBar() {
  const now = project.value;
  if (now === null) return null;
  const { counts, me } = now;
  const finished = counts.submitted + counts.approved;
  const all = counts.open + counts.audits + counts.taken + finished;
  const mine = me.task !== null;
  const nothing = !mine && counts.mine === 0;
  return (
    <section class="annotate-home" aria-label={t("annotate.project")}>
      <div class="annotate-home-what">
        <p class="annotate-eyebrow">{t(`annotate.stage.${stageOf(now.stage)}`)}</p>
        <h2>{now.name}</h2>
        <ul class="annotate-dots" aria-label={t("annotate.structures")}>
          {now.structures.map((one) => (
            <li key={one.name}>
              <i style={{ background: one.colour }} aria-hidden="true" />
              {one.name.replaceAll("_", " ")}
            </li>
          ))}
        </ul>
      </div>
      <dl class="annotate-facts">
        <Fact term={t("annotate.waiting")} text={number(counts.mine)} />
        <Fact term={t("annotate.finished")} text={all === 0 ? "0" : `${number(finished)} / ${number(all)}`} />
        <Fact
          term={t("annotate.today")}
          text={t("annotate.today-of", { tasks: number(me.today), masks: number(me.masks) })}
        />
        {me.gold !== null && <Fact term={t("annotate.my-gold")} text={me.gold.toFixed(2)} />}
      </dl>
      <div class="annotate-home-do">
        <button
          type="button"
          class="button annotate-big"
          disabled={nothing || doing.value === "next"}
          aria-busy={doing.value === "next"}
          onClick={() => void takeNext()}
        >
          {t(mine ? "annotate.go-on" : "annotate.next")} <kbd>N</kbd>
        </button>
        {nothing && <p class="annotate-hint">{othersWords(counts)}</p>}
        <p class="annotate-links">
          {now.reviewer && (
            <a href={hashOf({ page: "review" })}>
              {t("annotate.review")}
              {counts.to_review > 0 && <span class="annotate-badge">{number(counts.to_review)}</span>}
            </a>
          )}
          <a href={hashOf({ page: "statistics" })}>{t("annotate.statistics")}</a>
        </p>
      </div>
      {all > 0 && (
        <progress max={all} value={finished} aria-label={t("annotate.progress", { share: percent(finished / all) })} />
      )}
    </section>
  );
}

function Fact({ term, text }: { term: string; text: string }) {
  return (
    <div>
      <dt>{term}</dt>
      <dd>{text}</dd>
    </div>
  );
}

export function stageOf(stage: number): 1 | 2 | 3 {
  return stage === 2 || stage === 3 ? stage : 1;
}
