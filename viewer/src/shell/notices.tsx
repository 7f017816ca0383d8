// What is always visible at the bottom, and banners below the top: the server is gone, this is somebody else's.

import { type Key, t } from "../i18n";
import { offline, openCase, reading } from "../state";
import { Icon } from "./icons";
import { answering, licenceText } from "./model";
import { go } from "./routing";
import { openAgain } from "./session";

export function Foot() {
  const { name } = answering();
  return (
    <footer class="shell-foot">
      <strong>{t("shell.research")}</strong>
      {name !== null && (
        <span>
          {t("shell.model.is", { name })}
          {` · ${licenceText()}`}
        </span>
      )}
    </footer>
  );
}

/** Why nothing more comes of a reading, by status. */
const OVER: Record<number, Key> = { 403: "shell.over.forbidden", 409: "shell.over.changed" };

export function Banners() {
  const info = openCase.value;
  const open = reading.value;
  const over = open?.over.value ?? null;
  const watched = open !== null && !open.mine;
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
            {t(OVER[over.status] ?? "shell.over.closed")}
            {over.status !== 403 && (
              <button
                type="button"
                class="button-quiet"
                onClick={() => openAgain({ anew: over.status === 409, from: open?.id })}
              >
                {t("shell.over.open")}
              </button>
            )}
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
