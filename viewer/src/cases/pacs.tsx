// Scans that the hospital's servers have: studies are searched, a series of one is fetched and opened. What is asked and
// answered is about patients: it is kept in this page alone, and goes when the page is left.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { pacsFetch, pacsFind } from "../api/pacs";
import type { MatchInfo } from "../api/types";
import { t } from "../i18n";
import { dicomDay, number, personName } from "../shell/format";
import { Icon } from "../shell/icons";
import { go } from "../shell/routing";
import { tell } from "../shell/tell";
import { keysOf } from "./pacs-query";
import { servers } from "./servers";

/** studies of one answer, and series of a study */
const MOST = 100;
const MOST_SERIES = 500;

interface Found {
  /** That was asked, and its series are fetched from. */
  server: string;
  found: MatchInfo[];
  more: boolean;
}

export function PacsSearch() {
  const server = useSignal(servers.value[0] ?? "");
  const found = useSignal<Found | null>(null);
  const searching = useSignal(false);
  const under = useRef<AbortController | null>(null);
  useEffect(() => () => under.current?.abort(), []);
  const send = async (keys: Record<string, string>) => {
    under.current?.abort();
    const control = new AbortController();
    under.current = control;
    searching.value = true;
    const asked = server.peek();
    try {
      found.value = { server: asked, ...(await pacsFind(asked, keys, "study", MOST, control.signal)) };
    } catch (error) {
      tell(error, () => void send(keys));
    } finally {
      if (under.current === control) searching.value = false;
    }
  };
  return (
    <section class="cases-pacs" aria-label={t("cases.pacs.open")}>
      <form
        class="cases-pacs-form"
        autocomplete="off"
        onSubmit={(event) => {
          event.preventDefault();
          void send(keysOf(new FormData(event.currentTarget)));
        }}
      >
        {servers.value.length > 1 && (
          <label class="field">
            {t("cases.pacs.server")}
            <select
              value={server.value}
              onChange={(event) => {
                under.current?.abort();
                server.value = event.currentTarget.value;
                found.value = null;
              }}
            >
              {servers.value.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
        )}
        <Fields />
        <button type="submit" class="button" aria-disabled={searching.value}>
          {searching.value ? t("cases.pacs.searching") : t("cases.pacs.search")}
        </button>
      </form>
      <p role="status" class="cases-pacs-said">
        {found.value !== null && said(found.value)}
      </p>
      {found.value !== null && found.value.found.length > 0 && (
        <ul class="cases-pacs-list">
          {found.value.found.map((study) => (
            <Study key={study.study} server={found.value!.server} study={study} />
          ))}
        </ul>
      )}
    </section>
  );
}

function Fields() {
  return (
    <>
      <label class="field">
        {t("cases.pacs.id")}
        <input name="id" maxLength={64} />
      </label>
      <label class="field">
        {t("cases.pacs.name")}
        <input name="name" maxLength={62} />
      </label>
      <label class="field">
        {t("cases.pacs.from")}
        <input name="from" type="date" />
      </label>
      <label class="field">
        {t("cases.pacs.to")}
        <input name="to" type="date" />
      </label>
      <label class="field cases-pacs-short">
        {t("cases.pacs.modality")}
        <input name="modality" maxLength={16} />
      </label>
    </>
  );
}

function said({ found, more }: Found): string {
  if (found.length === 0) return t("cases.pacs.none");
  return t(more ? "cases.pacs.foundMore" : "cases.pacs.found", { count: number(found.length) });
}

function Study({ server, study }: { server: string; study: MatchInfo }) {
  const open = useSignal(false);
  const series = useSignal<MatchInfo[] | null>(null);
  const toggle = async () => {
    open.value = !open.value;
    if (!open.value || series.value !== null) return;
    try {
      series.value = (await pacsFind(server, { study: study.study }, "series", MOST_SERIES)).found;
    } catch (error) {
      open.value = false;
      tell(error, () => void toggle());
    }
  };
  const parts = [study.patient_id, dicomDay(study.date), study.modalities.join(", "), study.description];
  return (
    <li>
      <button type="button" class="cases-pacs-study" aria-expanded={open.value} onClick={() => void toggle()}>
        <Icon name="chevron" size={16} />
        <strong>{personName(study.patient_name) || study.patient_id || t("cases.pacs.unnamed")}</strong>
        <span>{parts.filter(Boolean).join(" · ")}</span>
        {study.series_count !== null && <em>{t("cases.pacs.series", { count: number(study.series_count) })}</em>}
      </button>
      {open.value && series.value === null && <p class="cases-pacs-said">{t("shell.working")}</p>}
      {open.value && series.value !== null && (
        <ul>
          {series.value.map((one) => (
            <Series key={one.series} server={server} series={one} />
          ))}
        </ul>
      )}
    </li>
  );
}

function Series({ server, series }: { server: string; series: MatchInfo }) {
  const under = useSignal<AbortController | null>(null);
  useEffect(() => () => under.peek()?.abort(), []);
  const bring = async () => {
    const control = new AbortController();
    under.value = control;
    try {
      const info = await pacsFetch(server, series.study, series.series, control.signal);
      go({ page: "case", id: info.id });
    } catch (error) {
      tell(error, () => void bring());
    } finally {
      under.value = null;
    }
  };
  const label = [series.number === null ? "" : `#${series.number}`, series.modalities.join(", "), series.description];
  return (
    <li class="cases-pacs-series">
      <span>{label.filter(Boolean).join(" · ")}</span>
      {series.images !== null && <em>{t("cases.pacs.images", { count: number(series.images) })}</em>}
      <button
        type="button"
        class="button-quiet"
        onClick={() => (under.value === null ? void bring() : under.value.abort())}
      >
        {t(under.value === null ? "cases.pacs.fetch" : "cases.pacs.fetching")}
      </button>
    </li>
  );
}
