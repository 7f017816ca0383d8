// An audit: a mask that a model made alone is good as it is, or wrong; who knows the right one draws it.

import type { TaskInfo } from "../api/annotate";
import { t } from "../i18n";
import type { Reading } from "../reading/reading";
import { reading } from "../state";
import { partsOf } from "./structures";
import { doing, gone, task } from "./task";
import { judge } from "./work";

/** Whether the mask is as the model made it. */
function isUntouched(now: TaskInfo, open: Reading): boolean {
  return partsOf(now, open).every((part) => part.state === "proposed");
}

export function Judgement({ now, open }: { now: TaskInfo; open: Reading }) {
  const busy = doing.value !== null || gone.value !== null;
  const untouched = isUntouched(now, open);
  return (
    <>
      <button
        type="button"
        class={untouched ? "button-quiet" : "button"}
        disabled={busy}
        title={t(untouched ? "annotate.audit.wrong-hint" : "annotate.audit.mine-hint")}
        onClick={() => void judge("wrong")}
      >
        {t(untouched ? "annotate.audit.wrong" : "annotate.audit.mine")} <kbd>W</kbd>
      </button>
      <button
        type="button"
        class="button"
        disabled={busy || !untouched}
        title={t(untouched ? "annotate.audit.good-hint" : "annotate.audit.changed")}
        onClick={() => void judge("good")}
      >
        {t("annotate.audit.good")} <kbd>A</kbd>
      </button>
    </>
  );
}

/** A key of an audit; false where it is none. */
export function onAuditKey(letter: string | null): boolean {
  const [now, open] = [task.peek(), reading.peek()];
  if (now === null || open === null || gone.peek() !== null) return false;
  if (letter === "w") void judge("wrong");
  // what was changed is not good as it is
  else if (letter === "a" && isUntouched(now, open)) void judge("good");
  else return letter === "a";
  return true;
}
