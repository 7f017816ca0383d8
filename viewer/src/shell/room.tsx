// The reading room: tools at the left, planes in the middle, structures at the right.

import { useEffect } from "preact/hooks";
import { LookBar } from "../annotate/look-bar";
import { TaskBar } from "../annotate/task-bar";
import { takeNext } from "../annotate/work";
import { t } from "../i18n";
import { Panel } from "../panels/panel";
import { panelShown, reading, scan } from "../state";
import { Toolbar } from "../tools/toolbar";
import { Planes } from "../view/stage";
import { Icon } from "./icons";
import { hashOf } from "./routing";
import { openAgain, opening } from "./session";
import "./room.css";

export function Room() {
  if (scan.value === null) return <OnItsWay />;
  return (
    <div class="shell-desk">
      <TaskBar />
      <LookBar />
      <Inside watched={reading.value?.mine === false} />
    </div>
  );
}

function Inside({ watched }: { watched: boolean }) {
  useEffect(toPicture, []);
  return (
    <div class={panelShown.value ? "shell-room" : "shell-room shell-room-bare"}>
      {!watched && (
        <section class="shell-tools" aria-label={t("shell.tools")} onPointerUp={backToPicture}>
          <Toolbar />
        </section>
      )}
      <main class="shell-planes" tabIndex={-1} aria-label={t("shell.planes")}>
        <Planes />
      </main>
      <aside class="shell-panel" aria-label={t("shell.panel")} hidden={!panelShown.value}>
        <Panel />
      </aside>
    </div>
  );
}

/** The keyboard to the large plane, unless somebody has taken it elsewhere meanwhile. */
function toPicture(): void {
  if (document.activeElement === document.body) focusPicture();
}

export function focusPicture(): void {
  const main = document.querySelector<HTMLElement>(".shell-planes");
  (main?.querySelector<HTMLElement>("[data-plane][tabindex]") ?? main)?.focus({ preventScroll: true });
}

/** A tool that was pressed by mouse or finger gives the keyboard back to the picture: Enter and space are meant for that. */
function backToPicture(event: PointerEvent): void {
  const pressed = event.target instanceof Element ? event.target.closest("button") : null;
  if (pressed === null) return;
  setTimeout(() => {
    if (document.activeElement === pressed) focusPicture();
  });
}

function OnItsWay() {
  const now = opening.value;
  const problem = now?.problem ?? null;
  return (
    <main class="shell-wait">
      {problem === null ? (
        <>
          <span class="shell-wait-mark" aria-hidden="true" />
          <p role="status">{t("shell.opening")}</p>
          <a class="button-quiet" href={hashOf({ page: "cases" })}>
            {t("shell.cancel")}
          </a>
        </>
      ) : (
        <>
          <Icon name="warning" size={36} />
          <h1>{t(now?.taken ? "annotate.taken.title" : "shell.opening.failed")}</h1>
          <p role="alert">{problem}</p>
          <div class="shell-dialog-actions">
            <a class="button-quiet" href={hashOf({ page: "cases" })}>
              {t("shell.home")}
            </a>
            {now?.taken ? (
              <button type="button" class="button" onClick={() => void takeNext()}>
                {t("annotate.next")}
              </button>
            ) : now?.status === 409 ? (
              <button type="button" class="button" onClick={() => openAgain({ anew: true })}>
                {t("shell.opening.anew")}
              </button>
            ) : (
              <button type="button" class="button" onClick={() => openAgain()}>
                {t("shell.again")}
              </button>
            )}
          </div>
        </>
      )}
    </main>
  );
}
