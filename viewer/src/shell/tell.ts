// What went wrong, as a message that says what to do.

import { ApiError, explain, isAbort } from "../api/http";
import { t } from "../i18n";
import { locked, say } from "../state";

/** Whether the same may be answered otherwise in a moment. */
function mayChange(error: unknown): boolean {
  return !(error instanceof ApiError) || error.status === 0 || error.status === 429 || error.status >= 500;
}

/** Says what went wrong; `retry` is offered as a button where that may help. Banners and forms say the rest: that the server is gone, or a
 * login is locked or over. What was given up on purpose is no news. */
export function tell(error: unknown, retry?: () => void): void {
  if (isAbort(error)) return;
  if (error instanceof ApiError && (error.status === 401 || (error.status === 423 && locked.value))) return;
  if (error instanceof ApiError && error.status === 0 && retry === undefined) return;
  say({
    kind: "error",
    text: explain(error),
    ...(retry === undefined || !mayChange(error) ? {} : { action: { text: t("shell.again"), run: retry } }),
  });
}
