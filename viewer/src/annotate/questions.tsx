// What is asked before a task is handed in or skipped.

import { useSignal } from "@preact/signals";
import type { TaskInfo } from "../api/annotate";
import { t } from "../i18n";
import { spoken } from "../panels/format";
import type { Reading } from "../reading/reading";
import { Dialog } from "../shell/dialog";
import { answered, choose, openParts, type Part } from "./structures";
import { asking } from "./task";
import { ALL_WHYS, type Why, whyOf } from "./whys";
import { send, skip } from "./work";

const close = () => {
  asking.value = null;
};

export function Questions({ now, open }: { now: TaskInfo; open: Reading }) {
  if (asking.value === "hand-in") return <Unanswered now={now} open={open} />;
  if (asking.value === "skip") return <Skip />;
  return null;
}

/** Structures without a mask, and proposals that nobody has looked at: each is answered once. */
function Unanswered({ now, open }: { now: TaskInfo; open: Reading }) {
  const parts = openParts(now, open);
  const said = useSignal<ReadonlySet<string>>(new Set(parts.filter((part) => part.absent).map((part) => part.name)));
  const missed = useSignal(false);
  const missing = now.slices === null ? "annotate.hand-in.absent" : "annotate.hand-in.absent-there";
  const left = parts.filter((part) => !said.value.has(part.name));
  const hand = () => {
    answered(parts);
    void send(parts.filter((part) => part.state === "empty").map((part) => part.name));
  };
  const look = (part: Part) => {
    close();
    void choose(open, part);
  };
  return (
    <Dialog title={t("annotate.hand-in.title")} onClose={close}>
      <form
        class="annotate-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (left.length > 0) missed.value = true;
          else hand();
        }}
      >
        <p>{t("annotate.hand-in.text")}</p>
        <ul class="annotate-questions">
          {parts.map((part) => (
            <li key={part.name}>
              <i style={{ background: part.colour }} aria-hidden="true" />
              <label>
                <input
                  type="checkbox"
                  checked={said.value.has(part.name)}
                  onChange={(event) => {
                    const next = new Set(said.value);
                    if (event.currentTarget.checked) next.add(part.name);
                    else next.delete(part.name);
                    said.value = next;
                  }}
                />
                <span>
                  <strong>{spoken(part.name)}</strong> {t(part.state === "empty" ? missing : "annotate.hand-in.looked")}
                </span>
              </label>
              <button type="button" class="button-icon annotate-word" onClick={() => look(part)}>
                {t(part.state === "empty" ? "annotate.hand-in.draw" : "annotate.hand-in.look")}
              </button>
            </li>
          ))}
        </ul>
        <p class="annotate-missed" role="status">
          {missed.value && left.length > 0 && t("annotate.hand-in.left")}
        </p>
        <div class="shell-dialog-actions">
          <button type="button" class="button-quiet" onClick={close}>
            {t("shell.cancel")}
          </button>
          <button type="submit" class="button" aria-disabled={left.length > 0}>
            {t("annotate.hand-in")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Skip() {
  const chosen = useSignal<Why | null>(null);
  const text = useSignal("");
  const why = whyOf(chosen.value, text.value);
  return (
    <Dialog title={t("annotate.skip.title")} onClose={close}>
      <form
        class="annotate-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (why !== "") void skip(why);
        }}
      >
        <p>{t("annotate.skip.text")}</p>
        <fieldset class="annotate-whys">
          <legend class="aloud">{t("annotate.skip.why")}</legend>
          {ALL_WHYS.map((one) => (
            <label key={one} class="annotate-check">
              <input
                type="radio"
                name="annotate-why"
                checked={chosen.value === one}
                onChange={() => {
                  chosen.value = one;
                }}
              />
              {t(`annotate.why.${one}`)}
            </label>
          ))}
        </fieldset>
        <label class="field">
          {t("annotate.skip.words")}
          <input
            maxLength={500}
            autocomplete="off"
            value={text.value}
            onInput={(event) => {
              text.value = event.currentTarget.value;
            }}
          />
        </label>
        <div class="shell-dialog-actions">
          <button type="button" class="button-quiet" onClick={close}>
            {t("shell.cancel")}
          </button>
          <button type="submit" class="button" disabled={why === ""}>
            {t("annotate.skip.do")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
