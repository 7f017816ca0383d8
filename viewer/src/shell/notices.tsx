// What is always visible at the bottom, and banners below the top: the server is gone, this is somebody else's.

import { t } from "../i18n";
import { offline, openCase, reading } from "../state";
import { Icon } from "./icons";
import { answering } from "./model";
import { go } from "./routing";
import { openAgain } from "./session";

export function Foot() {
  const { name, licence } = answering();
  return (
    <footer class="shell-foot">
      <strong>{t("shell.research")}</strong>
      {name !== null && (
        <span>
          {t("shell.model.is", { name })}
          {licence !== null && ` · ${t("shell.model.licence", { licence })}`}
        </span>
      )}
    </footer>
  );
}

export function Banners() {
  const info = openCase.value;
  const over = reading.value?.over.value ?? null;
  const watched = reading.value !== null && !reading.value.mine;
  return (
    <div class="shell-banners">
      <div role="alert">
        {offline.value && (
          <p class="shell-banner shell-banner-bad">
            <Icon name="warning" />
            {t("shell.offline")}
          </p>
        )}
      </div>
      <div role="status">
        {over !== null && (
          <p class="shell-banner">
            <Icon name="warning" />
            {t(over.status === 409 ? "shell.over.changed" : "shell.over.closed")}
            <button type="button" class="button-quiet" onClick={() => openAgain(over.status === 409)}>
              {t("shell.over.open")}
            </button>
          </p>
        )}
        {watched && (
          <p class="shell-banner">
            <Icon name="eye" />
            {t("shell.watching")}
            {info !== null && (
              <button type="button" class="button-quiet" onClick={() => go({ page: "case", id: info.id })}>
                {t("shell.watching.mine")}
              </button>
            )}
          </p>
        )}
      </div>
    </div>
  );
}
