// The cases that may be opened, as cards.

import { useSignal } from "@preact/signals";
import type { CaseInfo } from "../api/types";
import { type Key, t } from "../i18n";
import { number } from "../shell/format";
import { Icon } from "../shell/icons";
import { me } from "../state";
import { CaseCard } from "./case-card";
import { DeleteDialog, ShareDialog } from "./dialogs";
import { cases, loading, more, problem, refresh, search, showMore, type Which, which } from "./list";
import { servers } from "./servers";

const WHICH: readonly (readonly [Which, Key])[] = [
  ["all", "cases.which.all"],
  ["mine", "cases.which.mine"],
  ["pacs", "cases.which.pacs"],
];

export function CaseList() {
  const asked = useSignal<{ what: "share" | "delete"; info: CaseInfo } | null>(null);
  const close = () => {
    asked.value = null;
  };
  const found = cases.value;
  return (
    <section class="cases-list" aria-label={t("cases.list")}>
      <Search />
      {problem.value !== null && (
        <div class="cases-problem" role="alert">
          <p>{problem.value}</p>
          <button type="button" class="button-quiet" onClick={() => void refresh()}>
            {t("shell.again")}
          </button>
        </div>
      )}
      {found === null && problem.value === null && <p class="cases-empty">{t("shell.working")}</p>}
      {found?.length === 0 && problem.value === null && <Empty />}
      {found !== null && found.length > 0 && (
        <ul class="cases-grid" aria-busy={loading.value}>
          {found.map((info) => (
            <CaseCard
              key={info.id}
              info={info}
              mayDelete={info.kind !== "data" && (info.mine || me.value?.role === "administrator")}
              mayShare={info.kind !== "data" && info.mine && me.value?.way !== "local"}
              ask={(what) => {
                asked.value = { what, info };
              }}
            />
          ))}
        </ul>
      )}
      {more.value && (
        <button type="button" class="button-quiet cases-more" disabled={loading.value} onClick={() => void showMore()}>
          {t("cases.more")}
        </button>
      )}
      {asked.value?.what === "share" && <ShareDialog info={asked.value.info} close={close} />}
      {asked.value?.what === "delete" && <DeleteDialog info={asked.value.info} close={close} />}
    </section>
  );
}

function Search() {
  const found = cases.value;
  return (
    <div class="cases-tools">
      <h2>{t("cases.list")}</h2>
      <p class="cases-count" role="status">
        {found !== null && t(found.length === 1 ? "cases.countOne" : "cases.count", { count: number(found.length) })}
        {more.value && "+"}
      </p>
      <fieldset class="cases-which">
        <legend class="aloud">{t("cases.which")}</legend>
        {WHICH.filter(([one]) => one !== "pacs" || servers.value.length > 0).map(([one, key]) => (
          <button
            key={one}
            type="button"
            class="button-icon"
            aria-pressed={which.value === one}
            onClick={() => {
              which.value = one;
            }}
          >
            {t(key)}
          </button>
        ))}
      </fieldset>
      <label class="cases-search">
        <Icon name="search" />
        <span class="aloud">{t("cases.search")}</span>
        <input
          type="search"
          class="input"
          placeholder={t("cases.search")}
          maxLength={100}
          value={search.value}
          onInput={(event) => {
            search.value = event.currentTarget.value;
          }}
        />
      </label>
    </div>
  );
}

function Empty() {
  const searched = search.value.trim() !== "" || which.value !== "all";
  return (
    <div class="cases-empty">
      <p>{t(searched ? "cases.notFound" : "cases.empty")}</p>
      {searched && (
        <button
          type="button"
          class="button-quiet"
          onClick={() => {
            search.value = "";
            which.value = "all";
          }}
        >
          {t("cases.showAll")}
        </button>
      )}
    </div>
  );
}
