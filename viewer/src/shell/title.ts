// What the window is called. No name of a case is in it: files may be called as their patients are.

import { effect } from "@preact/signals";
import { t } from "../i18n";
import { route } from "../state";

export function followTitle(): () => void {
  return effect(() => {
    const page = t(`shell.title.${route.value.page}`);
    document.title = `${page} – ${t("shell.title")}`;
  });
}
