// What waits for a reviewer: tasks that were handed in, and readings that differ.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Disagreement, TaskInfo } from "../api/annotate";
import { t } from "../i18n";
import { share, spoken } from "../panels/format";
import { shown } from "../panels/goto";
import { number } from "../shell/format";
import { hashOf } from "../shell/routing";
import { project } from "./project";
import {
  approved,
  differing,
  dissentOf,
  isOwn,
  learnApproved,
  learnSubmitted,
  MOST,
  problem,
  reopen,
  skipped,
  submitted,
} from "./review";
import { doing } from "./task";
import { whyText } from "./whys";
import "./annotate.css";
import "./pages.css";

export function ReviewPage() {
  const counts = project.value?.counts;
  // what others hand in meanwhile is there, too
  useEffect(() => {
    const ending = new AbortController();
    void learnSubmitted(ending.signal);
    return () => ending.abort();
  }, [counts?.submitted, counts?.approved, counts?.skipped]);
  const found = submitted.value;
  return (
    <main class="annotate-page">
      <div class="annotate-inside">
        <h1>{t("annotate.review")}</h1>
        {problem.value !== null && (
          <p class="annotate-problem" role="alert">
            {problem.value}
            <button type="button" class="button-quiet" onClick={() => void learnSubmitted()}>
              {t("shell.again")}
            </button>
          </p>
        )}
        {found === null && problem.value === null && <p class="annotate-hint">{t("shell.working")}</p>}
        {found !== null && (
          <>
            <Submitted tasks={found} />
            <Differing found={differing.value} />
            <Skipped tasks={skipped.value} />
            <Approved count={counts?.approved ?? 0} />
          </>
        )}
      </div>
    </main>
  );
}

function Submitted({ tasks }: { tasks: readonly TaskInfo[] }) {
  return (
    <section class="annotate-card" aria-labelledby="annotate-submitted">
      <h2 id="annotate-submitted">{t("annotate.submitted", { count: number(tasks.length) })}</h2>
      {tasks.length === 0 ? (
        <p class="annotate-hint">{t("annotate.submitted.none")}</p>
      ) : (
        <div class="annotate-scroll">
          <table class="annotate-table">
            <thead>
              <tr>
                <th scope="col">{t("annotate.scan")}</th>
                <th scope="col">{t("annotate.reader")}</th>
                <th scope="col">{t("annotate.structures")}</th>
                <th scope="col" class="annotate-number">
                  {t("annotate.masks")}
                </th>
                <th scope="col" class="annotate-number">
                  <abbr title={t("annotate.expected-long")}>{t("annotate.expected")}</abbr>
                </th>
                <th scope="col" class="annotate-number">
                  <abbr title={t("annotate.dissent-long")}>{t("annotate.dissent")}</abbr>
                </th>
              </tr>
            </thead>
            <tbody>
              {tasks.map((one) => (
                <Row key={one.id} one={one} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Row({ one }: { one: TaskInfo }) {
  const hard = one.difficulty === "hard";
  return (
    <tr>
      <th scope="row">
        {one.session === null ? one.scan : <a href={hashOf({ page: "look", id: one.id })}>{one.scan}</a>}
        {one.kind !== "draw" && <span class="annotate-tag">{t(`annotate.kind.${one.kind}`)}</span>}
        {hard && <span class="annotate-tag annotate-tag-warn">{t("annotate.hard")}</span>}
      </th>
      <td>{isOwn(one) ? t("annotate.me") : (one.holder ?? "–")}</td>
      <td>{one.structures.map(spoken).join(", ")}</td>
      <td class="annotate-number">{one.masks == null ? "–" : number(one.masks)}</td>
      <td class="annotate-number">{share2(one.expected_dice)}</td>
      <td class="annotate-number">{share2(dissentOf(one))}</td>
    </tr>
  );
}

/** What was approved may go back, too: who looks for it opens the list. */
function Approved({ count }: { count: number }) {
  const isOpen = useSignal(false);
  useEffect(() => {
    if (!isOpen.value || count === 0) return;
    const ending = new AbortController();
    void learnApproved(ending.signal);
    return () => ending.abort();
  }, [isOpen.value, count]);
  if (count === 0) return null;
  const found = approved.value;
  return (
    <details
      class="annotate-card"
      onToggle={(event) => {
        isOpen.value = event.currentTarget.open;
      }}
    >
      <summary>{t("annotate.approved.all", { count: number(count) })}</summary>
      {found === null && <p class="annotate-hint">{t("shell.working")}</p>}
      {found !== null && found.length >= MOST && (
        <p class="annotate-hint">{t("annotate.approved.first", { count: number(found.length) })}</p>
      )}
      {found !== null && (
        <ul class="annotate-approved">
          {found.map((one) => (
            <li key={one.id}>
              {one.session === null ? one.scan : <a href={hashOf({ page: "look", id: one.id })}>{one.scan}</a>}{" "}
              <span class="annotate-hint">{isOwn(one) ? t("annotate.me") : one.holder}</span>
            </li>
          ))}
        </ul>
      )}
    </details>
  );
}

function share2(value: number | null | undefined): string {
  return value == null ? "–" : value.toFixed(2);
}

function Differing({ found }: { found: readonly Disagreement[] }) {
  if (found.length === 0) return null;
  return (
    <section class="annotate-card" aria-labelledby="annotate-differing">
      <h2 id="annotate-differing">{t("annotate.differing")}</h2>
      <p class="annotate-hint">{t("annotate.differing.what")}</p>
      <div class="annotate-scroll">
        <table class="annotate-table">
          <thead>
            <tr>
              <th scope="col">{t("annotate.scan")}</th>
              <th scope="col">{t("annotate.structure")}</th>
              <th scope="col">{t("annotate.readers")}</th>
              <th scope="col" class="annotate-number">
                Dice
              </th>
              <th scope="col">{t("annotate.most-on")}</th>
              <th scope="col">
                <span class="aloud">{t("annotate.decide")}</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {found.map((one) => (
              <tr key={`${one.task} ${one.second} ${one.structure}`}>
                <th scope="row">
                  <a href={hashOf({ page: "look", id: one.task, beside: one.second })}>{one.scan}</a>
                </th>
                <td>{spoken(one.structure)}</td>
                <td>{one.readers.join(" – ")}</td>
                <td class="annotate-number">{share(one.dice)}</td>
                <td>
                  {one.slices
                    .slice(0, 4)
                    .map(({ slice }) => number(shown(slice)))
                    .join(", ")}
                </td>
                <td class="annotate-number">
                  {one.adjudicate !== null && (
                    <a href={hashOf({ page: "task", id: one.adjudicate })}>{t("annotate.decide")}</a>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** Nobody gets these any more, unless somebody opens them again. */
function Skipped({ tasks }: { tasks: readonly TaskInfo[] }) {
  if (tasks.length === 0) return null;
  return (
    <section class="annotate-card" aria-labelledby="annotate-skipped">
      <h2 id="annotate-skipped">{t("annotate.skipped.all", { count: number(tasks.length) })}</h2>
      <div class="annotate-scroll">
        <table class="annotate-table">
          <thead>
            <tr>
              <th scope="col">{t("annotate.scan")}</th>
              <th scope="col">{t("annotate.reader")}</th>
              <th scope="col">{t("annotate.why")}</th>
              <th scope="col">
                <span class="aloud">{t("annotate.reopen")}</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {tasks.map((one) => (
              <tr key={one.id}>
                <th scope="row">
                  <a href={hashOf({ page: "case", id: one.case })}>{one.scan}</a>
                  {one.kind !== "draw" && <span class="annotate-tag">{t(`annotate.kind.${one.kind}`)}</span>}
                </th>
                <td>{one.holder ?? "–"}</td>
                <td class="annotate-why">{whyText(one.why)}</td>
                <td class="annotate-number">
                  <button
                    type="button"
                    class="button-quiet"
                    aria-label={t("annotate.reopen-one", { scan: one.scan })}
                    disabled={doing.value !== null}
                    onClick={() => void reopen(one)}
                  >
                    {t("annotate.reopen")}
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
