// What went wrong, as a message that says what to do.

import { ApiError, explain, isAbort, UPLOAD_BROKE } from "../api/http";
import { t } from "../i18n";
import { NotTaken } from "../reading/untaken";
import { locked, messages, say, unsay } from "../state";

/** Whether the same may be answered otherwise in a moment. */
function mayChange(error: unknown): boolean {
  return !(error instanceof ApiError) || error.status === 0 || error.status === 429 || error.status >= 500;
}

/** Says what went wrong; `retry` is offered as a button where that may help. Banners and forms say the rest: that the server is gone, or a
 * login is locked or over. What was given up on purpose is no news. */
export function tell(error: unknown, retry?: () => void): void {
  if (isAbort(error)) return;
  if (error instanceof NotTaken) {
    tellStep(error, retry);
    return;
  }
  if (error instanceof ApiError && (error.status === 401 || (error.status === 423 && locked.value))) return;
  if (error instanceof ApiError && error.status === 0 && error.detail !== UPLOAD_BROKE && retry === undefined) return;
  say({
    kind: "error",
    text: explain(error),
    ...(retry === undefined || !mayChange(error) ? {} : { action: { text: t("shell.again"), run: retry } }),
  });
}

/** The message about steps that can be taken again, and how. */
let offered: { id: number; steps: (() => Promise<unknown>)[] } = { id: 0, steps: [] };
/** The login ended before a step was taken. */
let endedBefore = false;
let last: string | null = null;

function tellStep(step: NotTaken, retry: (() => void) | undefined): void {
  if (step.status === 401) {
    endedBefore = true;
    return;
  }
  if (step.again === undefined) {
    const action = retry && { action: { text: t("shell.again"), run: retry } };
    say({ kind: "error", text: t("shell.untaken.unsure"), ...action });
    return;
  }
  // those of a message that nobody has answered yet go with this one, in their order
  const isThere = messages.peek().some((one) => one.id === offered.id);
  const steps = isThere ? [...offered.steps, step.again] : [step.again];
  if (isThere) unsay(offered.id);
  const isReached = step.status !== 0 && steps.length === 1;
  const text = isReached ? explain(step) : t("shell.untaken", { count: steps.length });
  const run = (): void => {
    for (const again of steps) again().catch((error: unknown) => tell(error));
  };
  offered = { id: say({ kind: "error", text, action: { text: t("shell.untaken.again"), run } }), steps };
}

/** Somebody is here, or nobody any more: who comes back hears what the end of the login cost. */
export function tellWhoCame(who: string | null): void {
  if (who === null) return;
  if (endedBefore && who === last) say({ kind: "warning", text: t("shell.untaken.login"), seconds: 30 });
  endedBefore = false;
  last = who;
}
