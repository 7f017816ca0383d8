// The first page: bring a scan, find one, open it.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { HomeBar } from "../annotate/home-bar";
import { t } from "../i18n";
import { CaseList } from "./case-list";
import { Bring } from "./drop";
import { followCases } from "./list";
import { PacsSearch } from "./pacs";
import { followServers, servers } from "./servers";
import "./cases.css";

export function Cases() {
  useEffect(followCases, []);
  useEffect(followServers, []);
  const pacsShown = useSignal(false);
  return (
    <main class="cases-page">
      <div class="cases-inside">
        <HomeBar />
        <header class="cases-head">
          <div>
            <h1>{t("cases.title")}</h1>
            <ol class="cases-steps">
              <li>{t("cases.step1")}</li>
              <li>{t("cases.step2")}</li>
              <li>{t("cases.step3")}</li>
            </ol>
          </div>
          <Bring pacsShown={pacsShown} />
        </header>
        {pacsShown.value && servers.value.length > 0 && <PacsSearch />}
        <CaseList />
      </div>
    </main>
  );
}
