// Where scans are brought: files or folders, dropped anywhere on the page or chosen.

import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { filesChosen, filesDropped } from "../api/cases";
import { t } from "../i18n";
import { bytes, number, percent } from "../shell/format";
import { Icon } from "../shell/icons";
import { servers } from "./servers";
import { bring, gathering, stopUploads, uploading } from "./uploads";

export function Bring({ pacsShown }: { pacsShown: Signal<boolean> }) {
  const over = useSignal(false);
  useEffect(() => followDrops(over), []);
  return (
    <section class={over.value ? "cases-drop cases-drop-over" : "cases-drop"} aria-label={t("cases.bring")}>
      {uploading.value === null ? <Choose pacsShown={pacsShown} /> : <Progress />}
    </section>
  );
}

function Choose({ pacsShown }: { pacsShown: Signal<boolean> }) {
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (folder.current !== null) folder.current.webkitdirectory = true;
  }, []);
  const chosen = (event: Event) => {
    const input = event.currentTarget as HTMLInputElement;
    if (input.files !== null && input.files.length > 0) void bring(filesChosen([...input.files]));
    // the same file may be chosen once more
    input.value = "";
  };
  return (
    <>
      <Icon name="upload" size={28} />
      <p class="cases-drop-text" role="status">
        {gathering.value ? t("cases.gathering") : t("cases.drop")}
      </p>
      <p class="cases-drop-kinds">{t("cases.kinds")}</p>
      <div class="cases-drop-buttons">
        <button type="button" class="button" onClick={() => files.current?.click()}>
          {t("cases.chooseFiles")}
        </button>
        <button type="button" class="button-quiet cases-choose-folder" onClick={() => folder.current?.click()}>
          <Icon name="folder" />
          {t("cases.chooseFolder")}
        </button>
        {servers.value.length > 0 && (
          <button
            type="button"
            class="button-quiet"
            aria-expanded={pacsShown.value}
            onClick={() => {
              pacsShown.value = !pacsShown.value;
            }}
          >
            <Icon name="server" />
            {t("cases.pacs.open")}
          </button>
        )}
      </div>
      <input ref={files} type="file" multiple hidden aria-label={t("cases.chooseFiles")} onChange={chosen} />
      <input ref={folder} type="file" multiple hidden aria-label={t("cases.chooseFolder")} onChange={chosen} />
    </>
  );
}

function Progress() {
  const now = uploading.value;
  if (now === null) return null;
  const share = now.total > 0 ? Math.min(now.sent / now.total, 1) : 0;
  return (
    <div class="cases-progress">
      <p role="status">
        {now.reading
          ? t("cases.reading")
          : t(now.files === 1 ? "cases.sendingOne" : "cases.sending", { count: number(now.files) })}
        {now.waiting > 0 && ` ${t("cases.waiting", { count: number(now.waiting) })}`}
      </p>
      <progress aria-label={t("cases.progress")} max={1} {...(now.reading ? {} : { value: share })} />
      <p class="cases-progress-numbers">
        <span>{percent(now.reading ? 1 : share)}</span>
        <span>{t("cases.sent", { sent: bytes(now.sent), total: bytes(now.total) })}</span>
      </p>
      <button type="button" class="button-quiet" onClick={stopUploads}>
        {t("cases.stop")}
      </button>
    </div>
  );
}

/** Files may be dropped anywhere: beside the field, the browser would leave the page for them. */
function followDrops(over: Signal<boolean>): () => void {
  const withFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  const above = (event: DragEvent) => {
    if (!withFiles(event)) return;
    event.preventDefault();
    over.value = true;
  };
  const gone = (event: DragEvent) => {
    if (event.relatedTarget === null) over.value = false;
  };
  const drop = (event: DragEvent) => {
    over.value = false;
    if (!withFiles(event) || event.dataTransfer === null) return;
    event.preventDefault();
    void bring(filesDropped(event.dataTransfer));
  };
  window.addEventListener("dragover", above);
  window.addEventListener("dragleave", gone);
  window.addEventListener("drop", drop);
  return () => {
    window.removeEventListener("dragover", above);
    window.removeEventListener("dragleave", gone);
    window.removeEventListener("drop", drop);
  };
}
