// Above the picture while a task is worked on: what is asked for, how far it is, and where it goes then.

import { useEffect } from "preact/hooks";
import type { TaskInfo } from "../api/annotate";
import { t } from "../i18n";
import { endComparison } from "../panels/comparing";
import { comparison } from "../panels/comparison";
import { shown, sliceNow } from "../panels/goto";
import type { Reading } from "../reading/reading";
import { focusPicture } from "../shell/room";
import { openAgain } from "../shell/session";
import { reading, say } from "../state";
import { Judgement } from "./audit";
import { Chips } from "./chips";
import { Legend } from "./legend";
import { lay } from "./look-bar";
import { Questions } from "./questions";
import { differing, learnSubmitted } from "./review";
import { accept, askedSlices, openParts, partsOf, toNextSlice } from "./structures";
import { asking, difficulty, doing, gone, stopAfter, task } from "./task";
import { handIn, putBack, takeNext } from "./work";
import "./annotate.css";

export function TaskBar() {
  const now = task.value;
  const open = reading.value;
  if (now === null || open === null || !open.mine) return null;
  const busy = doing.value !== null;
  const isAudit = now.kind === "audit";
  return (
    <section class="annotate-bar" aria-label={t("annotate.task")} aria-busy={busy} onPointerUp={backToPicture}>
      <Notes now={now} />
      <div class="annotate-line">
        <Chips open={open} parts={partsOf(now, open)} />
        {!isAudit && <Proposed now={now} open={open} />}
        <Slices now={now} open={open} />
        <span class="annotate-space" />
        {!isAudit && <Difficulties />}
        <StopAfter />
        <span class="annotate-ends">
          <button
            type="button"
            class="button-icon annotate-word"
            disabled={busy || gone.value !== null}
            onClick={() => void putBack()}
          >
            {t("annotate.put-back")}
          </button>
          <button
            type="button"
            class="button-icon annotate-word"
            disabled={busy || gone.value !== null}
            onClick={() => {
              asking.value = "skip";
            }}
          >
            {t("annotate.skip")}
          </button>
          {isAudit ? <Judgement now={now} open={open} /> : <HandIn />}
        </span>
      </div>
      <Questions now={now} open={open} />
    </section>
  );
}

function HandIn() {
  return (
    <button
      type="button"
      class="button"
      disabled={doing.value !== null || gone.value !== null}
      aria-busy={doing.value === "handing"}
      title={t("annotate.hand-in-key")}
      onClick={handInNow}
    >
      {t(doing.value === "handing" ? "annotate.handing-in" : "annotate.hand-in")}
    </button>
  );
}

/** Hands the task on screen in; false where there is none. */
export function handInNow(): boolean {
  const [now, open] = [task.peek(), reading.peek()];
  if (now === null || open === null || !open.mine) return false;
  if (gone.peek() !== null) return true;
  if (now.kind === "audit") say({ kind: "info", text: t("annotate.audit.say"), seconds: 6 });
  else void handIn(openParts(now, open).length > 0);
  return true;
}

/** What was pressed by mouse or finger gives the keyboard back to the picture, unless a card is over it now. */
function backToPicture(event: PointerEvent): void {
  const pressed = event.target instanceof Element ? event.target.closest("button, label") : null;
  if (pressed === null || pressed.closest("dialog") !== null) return;
  setTimeout(() => {
    if (pressed.contains(document.activeElement)) focusPicture();
  });
}

/** Why it came back, what kind it is where that changes what to do, and that it is no longer the reader's. */
function Notes({ now }: { now: TaskInfo }) {
  return (
    <div role="status">
      {gone.value !== null && (
        <p class="annotate-note annotate-note-bad">
          {t(`annotate.gone.${gone.value}`)}
          {gone.value === "open" ? (
            <button type="button" class="button-quiet" onClick={() => openAgain()}>
              {t("annotate.gone.again")}
            </button>
          ) : (
            <button type="button" class="button-quiet" onClick={() => void takeNext()}>
              {t("annotate.next")}
            </button>
          )}
        </p>
      )}
      {now.note !== null && (
        <p class="annotate-note">
          <strong>{t("annotate.returned")}</strong> {now.note}
        </p>
      )}
      {now.kind === "adjudicate" && <Adjudicate now={now} />}
      {now.kind === "audit" && <p class="annotate-note">{t("annotate.audit.what")}</p>}
    </div>
  );
}

/** What the other reader drew is a press away. */
function Adjudicate({ now }: { now: TaskInfo }) {
  const open = reading.value;
  useEffect(() => {
    const ending = new AbortController();
    void learnSubmitted(ending.signal);
    return () => ending.abort();
  }, [now.id]);
  const found = differing.value.find((one) => one.adjudicate === now.id);
  const isShown = open !== null && comparison.value?.session === open.id;
  return (
    <div class="annotate-note">
      {t("annotate.adjudicate.what")} {now.own && t("annotate.adjudicate.own")}
      {found !== undefined && open !== null && (
        <button
          type="button"
          class="button-quiet"
          aria-pressed={isShown}
          onClick={() => (isShown ? endComparison() : void lay(now, open, found.second))}
        >
          {t("annotate.adjudicate.other", { who: found.readers[1] })}
        </button>
      )}
      {isShown && found !== undefined && (
        <Legend
          mine={t("annotate.only", { who: t("annotate.me") })}
          theirs={t("annotate.only", { who: found.readers[1] })}
        />
      )}
    </div>
  );
}

function Proposed({ now, open }: { now: TaskInfo; open: Reading }) {
  const left = partsOf(now, open).filter((part) => part.state === "proposed").length;
  if (left === 0) return null;
  return (
    <button type="button" class="button-quiet" title={t("annotate.accept-hint")} onClick={() => accept(now, open)}>
      {t("annotate.accept")} <kbd>A</kbd>
    </button>
  );
}

function Slices({ now, open }: { now: TaskInfo; open: Reading }) {
  const found = askedSlices(now, open);
  if (found === null) return null;
  const { slices, done, next } = found;
  const here = slices.includes(sliceNow(open));
  // of an audit there is one, and nothing to count
  const counts = now.kind !== "audit";
  if (!counts && here) return null;
  return (
    <span class="annotate-slices">
      <span>
        {counts && t("annotate.slices", { done, all: slices.length })}
        {!here && <em>{t("annotate.slice-not-asked")}</em>}
      </span>
      {next !== null && (
        <button type="button" class="button-quiet" onClick={toNextSlice}>
          {t("annotate.slice-next", { slice: shown(next) })} <kbd>J</kbd>
        </button>
      )}
    </span>
  );
}

/** How hard it was. */
function Difficulties() {
  return (
    <fieldset class="annotate-marks">
      <legend class="aloud">{t("annotate.difficulty")}</legend>
      {(["easy", "hard"] as const).map((one) => (
        <button
          key={one}
          type="button"
          class="button-icon annotate-word"
          aria-pressed={difficulty.value === one}
          onClick={() => {
            difficulty.value = difficulty.value === one ? null : one;
          }}
        >
          {t(`annotate.${one}`)}
        </button>
      ))}
    </fieldset>
  );
}

/** Whether it is the last one for now. */
function StopAfter() {
  return (
    <label class="annotate-check" title={t("annotate.stop-after-hint")}>
      <input
        type="checkbox"
        checked={stopAfter.value}
        onChange={(event) => {
          stopAfter.value = event.currentTarget.checked;
        }}
      />
      {t("annotate.stop-after")}
    </label>
  );
}
