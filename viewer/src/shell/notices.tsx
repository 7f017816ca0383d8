// What is always visible at the bottom, and banners below the top: the server is gone, this is somebody else's.

import { taskAbout } from "../annotate/project";
import { doing, gone, task } from "../annotate/task";
import { type Key, t } from "../i18n";
import { offline, openCase, reading, route } from "../state";
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
  // that a session is closed as its task is handed in is no news, and that it was elsewhere is said above the picture
  const isSaid = doing.value !== null || (task.value !== null && gone.value !== null);
  const over = isSaid ? null : (open?.over.value ?? null);
  // of a task the bar says whose it is
  const watched = open !== null && !open.mine && route.value.page !== "look";
  // it has a bar of its own, which hands it in
  const about = info !== null && open?.mine && route.value.page === "case" ? taskAbout(info.id) : null;
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
        {about !== null && (
          <p class="shell-banner">
            <Icon name="info" />
            {t("annotate.about")}
            <button type="button" class="button-quiet" onClick={() => go({ page: "task", id: about })}>
              {t("annotate.go-on")}
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
