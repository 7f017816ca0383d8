// The top: what is open and whose, whether all is safe, and how the page is set.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { isAbort } from "../api/http";
import { sessionsOf } from "../api/results";
import type { CaseInfo, SessionLine } from "../api/types";
import { type Key, t } from "../i18n";
import { sending } from "../panels/lost";
import { axesOf } from "../scan/space";
import { layout, me, offline, openCase, panelShown, reading, route, scan } from "../state";
import { Account, LanguageSwitch } from "./account";
import { busy, warming } from "./busy";
import { dicomDay, moment, personName } from "./format";
import { helpShown } from "./help";
import { Icon, type IconName } from "./icons";
import { Menu } from "./menu";
import { focusPicture } from "./room";
import { go, hashOf } from "./routing";
import { tell } from "./tell";
import { theme, turn } from "./theme";
import "./top-bar.css";

const LAYOUTS: readonly (readonly ["one" | "four" | "volume", IconName, Key])[] = [
  ["one", "one", "shell.layout.one"],
  ["four", "four", "shell.layout.four"],
  ["volume", "volume", "shell.layout.volume"],
];

export function TopBar() {
  const info = openCase.value;
  const inside = route.value.page !== "cases";
  return (
    <header class="shell-top">
      {reading.value !== null && (
        <button type="button" class="button shell-skip" onClick={focusPicture}>
          {t("shell.skip")}
        </button>
      )}
      <a class="shell-home" href={hashOf({ page: "cases" })} aria-label={t(inside ? "shell.home" : "shell.title")}>
        {inside ? <Icon name="back" /> : <Icon name="logo" size={22} />}
        <span>{inside ? t("shell.home") : t("shell.title")}</span>
      </a>
      {info !== null && inside && <WhatIsOpen info={info} />}
      <span class="shell-space" />
      {reading.value !== null && <State />}
      {reading.value !== null && scan.value !== null && axesOf(scan.value.geometry).length > 1 && <Layouts />}
      {info !== null && seesOthers() && reading.value !== null && <Readers info={info} />}
      <span class="shell-wide">
        <LanguageSwitch />
      </span>
      <span class="shell-wide">
        <Button
          icon={theme.value === "dark" ? "sun" : "moon"}
          label={t(theme.value === "dark" ? "shell.theme.toLight" : "shell.theme.toDark")}
          press={() => turn(theme.value === "dark" ? "light" : "dark")}
        />
      </span>
      <Button
        icon="help"
        label={t("shell.help.open")}
        press={() => {
          helpShown.value = true;
        }}
      />
      <Account />
      {reading.value !== null && (
        <Button
          icon="panel"
          label={t(panelShown.value ? "shell.panel.hide" : "shell.panel.show")}
          pressed={panelShown.value}
          press={() => {
            panelShown.value = !panelShown.value;
          }}
        />
      )}
    </header>
  );
}

function seesOthers(): boolean {
  return me.value !== null && me.value.role !== "reader" && me.value.way !== "local";
}

interface ButtonProperties {
  icon: IconName;
  label: string;
  press: () => void;
  pressed?: boolean;
}

function Button({ icon, label, press, pressed }: ButtonProperties) {
  return (
    <button
      type="button"
      class="button-icon"
      aria-label={label}
      title={label}
      {...(pressed === undefined ? {} : { "aria-pressed": pressed })}
      onClick={press}
    >
      <Icon name={icon} />
    </button>
  );
}

function WhatIsOpen({ info }: { info: CaseInfo }) {
  const { patient } = info;
  const said = patient === null ? [] : [patient.id, dicomDay(patient.study_date), patient.study_description];
  const name = patient === null ? "" : personName(patient.name);
  return (
    <div class="shell-open">
      <h1>{info.name}</h1>
      {patient !== null && (
        <p>
          {[...new Set([name, ...said])].filter(Boolean).map((text) => (
            <span key={text}>{text}</span>
          ))}
        </p>
      )}
    </div>
  );
}

/** Whether what is drawn is on the server. */
function State() {
  const now = reading.value;
  if (now === null || !now.mine) return null;
  const [kind, key]: [string, Key] =
    offline.value || !now.connected.value
      ? ["away", "shell.state.away"]
      : sending.value || busy.value
        ? ["busy", warming.value ? "shell.state.warming" : "shell.state.busy"]
        : ["safe", "shell.state.safe"];
  return (
    <span class={`shell-state shell-state-${kind}`}>
      <i aria-hidden="true" />
      {t(key)}
    </span>
  );
}

function Layouts() {
  return (
    <fieldset class="shell-layouts">
      <legend class="aloud">{t("shell.layout")}</legend>
      {LAYOUTS.map(([one, icon, key]) => (
        <Button
          key={one}
          icon={icon}
          label={t(key)}
          pressed={layout.value === one}
          press={() => {
            layout.value = one;
          }}
        />
      ))}
    </fieldset>
  );
}

/** For those who may look at what others drew. */
function Readers({ info }: { info: CaseInfo }) {
  return (
    <Menu icon="eye" label={t("shell.readers")}>
      {(close) => <ReaderList info={info} close={close} />}
    </Menu>
  );
}

function ReaderList({ info, close }: { info: CaseInfo; close: () => void }) {
  const lines = useSignal<SessionLine[] | null>(null);
  useEffect(() => {
    const control = new AbortController();
    sessionsOf(info.id, true, control.signal).then(
      (found) => {
        lines.value = found;
      },
      (error) => {
        if (isAbort(error)) return;
        lines.value = [];
        tell(error);
      },
    );
    return () => control.abort();
  }, [info.id]);
  const others = (lines.value ?? []).filter((one) => one.owner !== me.value?.name);
  return (
    <>
      <p class="shell-account-name">{t("shell.readers")}</p>
      {lines.value === null && <p class="shell-account-text">{t("shell.working")}</p>}
      {lines.value !== null && others.length === 0 && <p class="shell-account-text">{t("shell.readers.none")}</p>}
      {others.map((one) => (
        <button
          key={one.id}
          type="button"
          class="button-icon shell-reader"
          onClick={() => {
            close();
            go({ page: "case", id: info.id, session: one.id });
          }}
        >
          <span>{one.owner}</span>
          <span>{moment(one.began)}</span>
        </button>
      ))}
    </>
  );
}
