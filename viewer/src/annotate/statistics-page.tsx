// The numbers of a project on a page: what masks cost, by whom and of what; rounds and models; how far readers agree.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import type { EffortLine, ModelLine, RoundLine, Statistics } from "../api/annotate";
import { t } from "../i18n";
import { share, spoken } from "../panels/format";
import { moment, number, percent } from "../shell/format";
import { me } from "../state";
import { Chart } from "./chart";
import { forgetNumbers, goBack, learnNumbers, modelName, problem, told, totals, untouchedShare } from "./numbers";
import "./annotate.css";
import "./pages.css";

export function StatisticsPage() {
  useEffect(() => {
    const ending = new AbortController();
    void learnNumbers(ending.signal);
    return () => {
      ending.abort();
      forgetNumbers();
    };
  }, []);
  const found = told.value;
  return (
    <main class="annotate-page">
      <div class="annotate-inside">
        <h1>{t("annotate.statistics")}</h1>
        {problem.value !== null && (
          <p class="annotate-problem" role="alert">
            {problem.value}
            <button type="button" class="button-quiet" onClick={() => void learnNumbers()}>
              {t("shell.again")}
            </button>
          </p>
        )}
        {found === null && problem.value === null && <p class="annotate-hint">{t("shell.working")}</p>}
        {found !== null && <Everything numbers={found.statistics} models={found.models} />}
      </div>
    </main>
  );
}

function Everything({ numbers, models }: { numbers: Statistics; models: readonly ModelLine[] }) {
  const all = totals(numbers);
  const untouched = untouchedShare(numbers);
  return (
    <>
      <dl class="annotate-tiles">
        <Tile term={t("annotate.masks")} text={number(numbers.masks)} />
        <Tile term={t("annotate.per-hour")} text={all.perHour === null ? "–" : number(all.perHour)} />
        <Tile term={t("annotate.per-mask")} text={all.clicks?.toFixed(1) ?? "–"} />
        <Tile term={t("annotate.untouched")} text={untouched === null ? "–" : percent(untouched)} />
      </dl>
      <Rounds rounds={numbers.rounds} />
      <Effort title={t("annotate.by-reader")} lines={numbers.readers} />
      <Effort title={t("annotate.by-structure")} lines={numbers.structures} name={spoken} />
      {numbers.stages.length > 1 && (
        <Effort
          title={t("annotate.by-stage")}
          lines={numbers.stages}
          name={(key) => t("annotate.stage-of", { stage: key })}
        />
      )}
      <Models models={models} />
      <Agreement numbers={numbers} />
    </>
  );
}

function Tile({ term, text }: { term: string; text: string }) {
  return (
    <div>
      <dt>{term}</dt>
      <dd>{text}</dd>
    </div>
  );
}

function Card({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="annotate-card" aria-label={title}>
      <h2>{title}</h2>
      {children}
    </section>
  );
}

interface TableProperties {
  /** Columns, those with numbers after the first one. */
  columns: readonly string[];
  /** Of which the first is words. */
  words?: number;
  rows: readonly { key: string; cells: readonly ComponentChildren[] }[];
}

function Table({ columns, words = 1, rows }: TableProperties) {
  const kind = (at: number) => (at < words ? undefined : "annotate-number");
  return (
    <div class="annotate-scroll">
      <table class="annotate-table">
        <thead>
          <tr>
            {columns.map((column, at) => (
              <th key={column} scope="col" class={kind(at)}>
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(({ key, cells }) => (
            <tr key={key}>
              <th scope="row">{cells[0]}</th>
              {cells.slice(1).map((cell, at) => (
                <td key={columns[at + 1]} class={kind(at + 1)}>
                  {cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const rate = (value: number | null) => (value === null ? "–" : number(value));

function effortCells(line: EffortLine): string[] {
  const untouched = untouchedShare(line);
  return [
    number(line.masks),
    rate(line.masks_per_hour),
    line.clicks_per_mask?.toFixed(1) ?? "–",
    number(line.boxes),
    number(line.strokes),
    untouched === null ? "–" : percent(untouched),
  ];
}

function effortColumns(): string[] {
  return [
    t("annotate.masks"),
    t("annotate.per-hour"),
    t("annotate.per-mask"),
    t("annotate.boxes"),
    t("annotate.strokes"),
    t("annotate.untouched"),
  ];
}

interface EffortProperties {
  title: string;
  lines: readonly EffortLine[];
  name?: (key: string) => string;
}

function Effort({ title, lines, name = (key) => key }: EffortProperties) {
  if (lines.length === 0) return null;
  const rows = lines.map((line) => ({ key: line.key, cells: [name(line.key), ...effortCells(line)] }));
  return (
    <Card title={title}>
      <Table columns={["", ...effortColumns()]} rows={rows} />
    </Card>
  );
}

/** "now" is what was drawn since the last one. */
function roundName(key: string, isOnly: boolean): string {
  if (key !== "now") return t("annotate.round-of", { round: key });
  return t(isOnly ? "annotate.no-round" : "annotate.since-rounds");
}

function shortName(key: string): string {
  return key === "now" ? t("annotate.now") : key;
}

function Rounds({ rounds }: { rounds: readonly RoundLine[] }) {
  if (rounds.length === 0) return null;
  const clicks = rounds.flatMap((one) =>
    one.clicks_per_mask === null ? [] : [{ at: shortName(one.key), value: one.clicks_per_mask }],
  );
  const dice = rounds.flatMap((one) =>
    one.dice_after === null ? [] : [{ at: shortName(one.key), value: one.dice_after, hollow: one.promoted === false }],
  );
  const rows = rounds.map((one) => ({
    key: one.key,
    cells: [
      roundName(one.key, rounds.length === 1),
      ...effortCells(one).slice(0, 3),
      share(one.dice_before),
      share(one.dice_after),
      one.promoted === null ? "–" : t(one.promoted ? "annotate.promoted" : "annotate.not-promoted"),
    ],
  }));
  const columns = ["", ...effortColumns().slice(0, 3), t("annotate.dice-before"), t("annotate.dice-after")];
  return (
    <Card title={t("annotate.by-round")}>
      {rounds.length > 1 && (
        <div class="annotate-charts">
          <Chart title={t("annotate.chart-clicks")} points={clicks} from={0} digits={1} />
          <Chart title={t("annotate.chart-dice")} points={dice} digits={3} />
        </div>
      )}
      <Table columns={[...columns, t("annotate.model-after")]} rows={rows} />
    </Card>
  );
}

function Models({ models }: { models: readonly ModelLine[] }) {
  if (models.length === 0) return null;
  const may = me.value?.role === "administrator";
  const now = models.find((one) => one.active);
  const offered = new Set<number | null>();
  const rows = models.map((one, at) => {
    const isOther = !one.active && one.round !== (now?.round ?? null) && !offered.has(one.round);
    if (isOther) offered.add(one.round);
    const gain = one.dice_after === null ? "–" : `${share(one.dice_before)} → ${share(one.dice_after)}`;
    return {
      key: `${at} ${one.at}`,
      cells: [
        modelName(one.round),
        moment(one.at),
        t(`annotate.model.${one.kind}`),
        gain,
        one.active ? (
          <strong class="annotate-good">{t("annotate.active")}</strong>
        ) : may && isOther ? (
          <button type="button" class="button-quiet" onClick={() => void goBack(one.round)}>
            {t("annotate.back")}
          </button>
        ) : (
          ""
        ),
      ],
    };
  });
  const columns = [t("annotate.model"), t("annotate.since"), t("annotate.why"), t("annotate.frozen-dice")];
  return (
    <Card title={t("annotate.models")}>
      <Table columns={[...columns, t("annotate.answers")]} words={3} rows={rows} />
    </Card>
  );
}

function Agreement({ numbers }: { numbers: Statistics }) {
  const { agreement, gold, verdicts } = numbers;
  const audited = verdicts.good + verdicts.wrong;
  return (
    <>
      {agreement.length > 0 && (
        <Card title={t("annotate.agreement")}>
          <Table
            columns={[t("annotate.structure"), t("annotate.readers"), "Dice", t("annotate.scans")]}
            words={2}
            rows={agreement.map((one) => ({
              key: [one.structure, ...one.readers].join(" "),
              cells: [spoken(one.structure), one.readers.join(" – "), share(one.dice), number(one.scans)],
            }))}
          />
        </Card>
      )}
      {gold.length > 0 && (
        <Card title={t("annotate.gold")}>
          <Table
            columns={[t("annotate.reader"), t("annotate.tasks"), "Dice"]}
            rows={gold.map((one) => ({ key: one.reader, cells: [one.reader, number(one.tasks), share(one.dice)] }))}
          />
        </Card>
      )}
      {audited > 0 && (
        <Card title={t("annotate.audit")}>
          <p>
            {t("annotate.audited", {
              good: number(verdicts.good),
              all: number(audited),
              share: percent(verdicts.good / audited),
              low: percent(verdicts.low),
              high: percent(verdicts.high),
            })}
          </p>
        </Card>
      )}
    </>
  );
}
