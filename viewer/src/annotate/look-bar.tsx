// Above the picture while a reviewer looks at what was handed in: whose it is, where it differs from another reading, and
// what is said of it.

import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Disagreement, type TaskInfo, taskInfo } from "../api/annotate";
import { isAbort } from "../api/http";
import { t } from "../i18n";
import { tried } from "../panels/actions";
import { compareWith, comparing, showDifference } from "../panels/comparing";
import { comparison } from "../panels/comparison";
import { share, spoken } from "../panels/format";
import { shown, sliceNow, toSlice } from "../panels/goto";
import type { Reading } from "../reading/reading";
import { Dialog } from "../shell/dialog";
import { go } from "../shell/routing";
import { tell } from "../shell/tell";
import { reading, route } from "../state";
import { Chips } from "./chips";
import { Legend } from "./legend";
import { approve, differing, giveBack, isOwn, learnSubmitted, mayReturn, mayReview } from "./review";
import { partsOf } from "./structures";
import { asking, doing, seen } from "./task";
import "./annotate.css";

export function LookBar() {
  const now = seen.value;
  const open = reading.value;
  if (now === null || open === null) return null;
  const to = route.value;
  const beside = to.page === "look" ? to.beside : undefined;
  return (
    <section class="annotate-bar" aria-label={t("annotate.review")} aria-busy={doing.value !== null}>
      <div class="annotate-line">
        <p class="annotate-who">
          <strong>{now.holder ?? "–"}</strong>
          <span>{t(`annotate.task-state.${now.state}`)}</span>
          {now.own && <span>{t("annotate.own-decision")}</span>}
          {now.difficulty && <span>{t(`annotate.${now.difficulty}`)}</span>}
        </p>
        <Chips open={open} parts={partsOf(now, open)} />
        <span class="annotate-space" />
        {mayReturn(now) ? <Verdict now={now} /> : isOwn(now) && <p class="annotate-hint">{t("annotate.own")}</p>}
      </div>
      {beside !== undefined && <Beside key={beside} now={now} open={open} beside={beside} />}
      {asking.value === "return" && <Return now={now} />}
    </section>
  );
}

function Verdict({ now }: { now: TaskInfo }) {
  const busy = doing.value !== null;
  return (
    <span class="annotate-ends">
      <button
        type="button"
        class="button-quiet"
        disabled={busy}
        onClick={() => {
          asking.value = "return";
        }}
      >
        {t("annotate.return")} <kbd>R</kbd>
      </button>
      {mayReview(now) && (
        <button type="button" class="button" disabled={busy} onClick={() => void approve(now)}>
          {t("annotate.approve")} <kbd>A</kbd>
        </button>
      )}
    </span>
  );
}

function Return({ now }: { now: TaskInfo }) {
  const note = useSignal("");
  const close = () => {
    asking.value = null;
  };
  return (
    <Dialog title={t("annotate.return.title", { who: now.holder ?? "" })} onClose={close}>
      <form
        class="annotate-form"
        onSubmit={(event) => {
          event.preventDefault();
          const text = note.value.trim();
          if (text !== "") void giveBack(now, text);
        }}
      >
        <label class="field">
          {t("annotate.return.note")}
          <textarea
            class="input annotate-text"
            rows={3}
            maxLength={1000}
            value={note.value}
            onInput={(event) => {
              note.value = event.currentTarget.value;
            }}
          />
        </label>
        <div class="shell-dialog-actions">
          <button type="button" class="button-quiet" onClick={close}>
            {t("shell.cancel")}
          </button>
          <button type="submit" class="button" disabled={note.value.trim() === ""}>
            {t("annotate.return")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** Two readings over each other: how much they share, and where they differ most. */
function Beside({ now, open, beside }: { now: TaskInfo; open: Reading; beside: string }) {
  const other = useSignal<TaskInfo | null>(null);
  const lookedAround = useSignal(false);
  useEffect(() => {
    const ending = new AbortController();
    void lay(now, open, beside, ending.signal).then((found) => {
      other.value = found;
    });
    if (differing.peek().length === 0) void learnSubmitted(ending.signal);
    return () => ending.abort();
  }, [open, beside]);
  const found = differing.value.filter((one) => one.task === now.id && one.second === beside);
  // the first one is shown where it is largest, once
  useSignalEffect(() => {
    const first = differing.value.find((one) => one.task === now.id && one.second === beside)?.slices[0];
    if (first && comparison.value?.session === open.id && comparison.value.object === null && !lookedAround.value) {
      lookedAround.value = true;
      toSlice(open, first.slice);
    }
  });
  const decide = found.find((one) => one.adjudicate !== null)?.adjudicate ?? null;
  return (
    <div class="annotate-line annotate-beside">
      <Legend
        mine={t("annotate.only", { who: now.holder ?? "–" })}
        theirs={t("annotate.only", { who: other.value?.holder ?? "–" })}
      />
      {comparing.value && <p class="annotate-hint">{t("panels.comparing")}</p>}
      {found.map((one) => (
        <Differs key={one.structure} open={open} one={one} />
      ))}
      <span class="annotate-space" />
      {decide !== null && (
        <button type="button" class="button" onClick={() => go({ page: "task", id: decide })}>
          {t("annotate.decide")}
        </button>
      )}
    </div>
  );
}

/** Has the picture show both. Returns the other task; null where it cannot be seen. */
export async function lay(
  now: TaskInfo,
  open: Reading,
  beside: string,
  signal?: AbortSignal,
): Promise<TaskInfo | null> {
  try {
    const other = await taskInfo(beside, signal);
    if (other.session !== null && reading.peek() === open) {
      const title = `${other.holder ?? other.id}, ${now.scan}`;
      await tried(compareWith(open, { session: other.session }, title));
    }
    return other;
  } catch (error) {
    if (!isAbort(error)) tell(error);
    return null;
  }
}

const MOST_SLICES = 4;

function Differs({ open, one }: { open: Reading; one: Disagreement }) {
  const object = open.objects.value.find((each) => spoken(each.name) === spoken(one.structure));
  return (
    <span class="annotate-differs">
      <button
        type="button"
        class="panels-link"
        disabled={object === undefined}
        aria-pressed={object !== undefined && comparison.value?.object === object.id}
        title={t("panels.most-different")}
        onClick={() => object && showDifference(open, object.id)}
      >
        {spoken(one.structure)} <b>{t("annotate.dice-of", { dice: share(one.dice) })}</b>
      </button>
      {one.slices.slice(0, MOST_SLICES).map(({ slice, dice }) => (
        <button
          key={slice}
          type="button"
          class="annotate-slice"
          aria-current={slice === sliceNow(open)}
          title={t("annotate.slice-dice", { slice: shown(slice), dice: share(dice) })}
          onClick={() => toSlice(open, slice)}
        >
          {shown(slice)}
        </button>
      ))}
    </span>
  );
}
