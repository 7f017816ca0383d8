// What is always visible at the bottom, and banners below the top: the server is gone, this is somebody else's.

import { t } from "../i18n";
import { offline, openCase, reading } from "../state";
import { Icon } from "./icons";
import { model } from "./model";
import { go } from "./routing";

export function Foot() {
  const known = model.value;
  return (
    <footer class="shell-foot">
      <strong>{t("shell.research")}</strong>
      {known !== null && (
        <span>
          {t("shell.model.is", { name: known.name })}
          {known.licence !== null && ` · ${t("shell.model.licence", { licence: known.licence })}`}
        </span>
      )}
    </footer>
  );
}

export function Banners() {
  const info = openCase.value;
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
