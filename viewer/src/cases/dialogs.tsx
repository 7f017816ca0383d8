// Questions about a case: who else may see it, and whether it is to go.

import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { deleteCase, shareCase } from "../api/cases";
import { explain } from "../api/http";
import type { CaseInfo } from "../api/types";
import { t } from "../i18n";
import { Dialog } from "../shell/dialog";
import { say } from "../state";
import { forget } from "./list";

interface Properties {
  info: CaseInfo;
  close: () => void;
}

export function ShareDialog({ info, close }: Properties) {
  const user = useRef<HTMLInputElement>(null);
  const problem = useSignal<string | null>(null);
  const send = async (may: boolean) => {
    const name = user.current?.value.trim() ?? "";
    try {
      if (name === "") problem.value = t("cases.share.empty");
      else {
        await shareCase(info.id, name, may);
        say({ kind: "info", text: t(may ? "cases.share.done" : "cases.share.ended", { user: name }) });
        close();
      }
    } catch (error) {
      problem.value = explain(error);
    }
    user.current?.focus();
  };
  return (
    <Dialog title={t("cases.share.title")} onClose={close}>
      <p>{t("cases.share.text", { name: info.name })}</p>
      <form
        class="cases-form"
        onSubmit={(event) => {
          event.preventDefault();
          void send(true);
        }}
      >
        <label class="field">
          {t("cases.share.user")}
          <input ref={user} autocomplete="off" autocapitalize="none" spellcheck={false} maxLength={64} />
        </label>
        <p class="cases-form-problem" role="alert">
          {problem.value}
        </p>
        <div class="shell-dialog-actions">
          <button type="button" class="button-quiet" onClick={() => void send(false)}>
            {t("cases.share.end")}
          </button>
          <button type="submit" class="button">
            {t("cases.share")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

export function DeleteDialog({ info, close }: Properties) {
  const problem = useSignal<string | null>(null);
  const going = useSignal(false);
  const send = async () => {
    going.value = true;
    try {
      await deleteCase(info.id);
      forget(info.id);
      say({ kind: "info", text: t("cases.delete.done") });
      close();
    } catch (error) {
      problem.value = explain(error);
      going.value = false;
    }
  };
  return (
    <Dialog title={t("cases.delete.title")} onClose={close}>
      <p>{t("cases.delete.text", { name: info.name })}</p>
      <p class="cases-form-problem" role="alert">
        {problem.value}
      </p>
      <div class="shell-dialog-actions">
        <button type="button" class="button-quiet" onClick={close}>
          {t("shell.cancel")}
        </button>
        <button type="button" class="button-quiet button-bad" disabled={going.value} onClick={() => void send()}>
          {t("cases.delete")}
        </button>
      </div>
    </Dialog>
  );
}
