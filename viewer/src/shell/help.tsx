// The card with all keys, and how a scan becomes a file in a minute.

import { signal } from "@preact/signals";
import { project } from "../annotate/project";
import { type Key, t } from "../i18n";
import { Dialog } from "./dialog";
import "./help.css";

export const helpShown = signal(false);

/** Keys that go together, and what they do. */
export interface Group {
  title: Key;
  keys: readonly (readonly [readonly string[], Key])[];
}

export const GROUPS: readonly Group[] = [
  {
    title: "shell.help.draw",
    keys: [
      [["B"], "shell.key.box"],
      [["Alt"], "shell.key.outside"],
      [["S"], "shell.key.scribble"],
      [["L"], "shell.key.lasso"],
      [["P"], "shell.key.polygon"],
      [["R"], "shell.key.line"],
      [["D"], "shell.key.brush"],
      [["E"], "shell.key.eraser"],
      [["T"], "shell.key.threshold"],
      [["[", "]"], "shell.key.size"],
      [["K"], "shell.key.cursor"],
      [["Space"], "shell.key.press"],
      [["Enter"], "shell.key.accept"],
      [["Esc"], "shell.key.forget"],
    ],
  },
  {
    title: "shell.help.look",
    keys: [
      [["↑", "↓"], "shell.key.slice"],
      [["PgUp", "PgDn"], "shell.key.slices"],
      [["Home", "End"], "shell.key.ends"],
      [["1", "–", "9"], "shell.key.window"],
      [["+", "−"], "shell.key.zoom"],
      [["F"], "shell.key.fit"],
      [["C"], "shell.key.cine"],
      [["I"], "shell.key.smooth"],
      [["V"], "shell.key.layout"],
    ],
  },
  {
    title: "shell.help.structures",
    keys: [
      [["N"], "shell.key.next"],
      [["Shift", "N"], "shell.key.add"],
      [["H"], "shell.key.hide"],
      [["O"], "shell.key.outline"],
      [["G"], "shell.key.propagate"],
      [["X"], "shell.key.unsure"],
      [["Ctrl", "Z"], "shell.key.undo"],
      [["Ctrl", "Y"], "shell.key.redo"],
      [["?"], "shell.key.help"],
    ],
  },
];

/** Of tasks, where a project is served. */
export const TASKS: Group = {
  title: "shell.help.tasks",
  keys: [
    [["Shift", "Enter"], "shell.key.handIn"],
    [["A"], "shell.key.take"],
    [["J"], "shell.key.asked"],
    [["W"], "shell.key.wrong"],
  ],
};

const HAND: readonly (readonly [Key, Key])[] = [
  ["shell.hand.left", "shell.hand.leftDoes"],
  ["shell.hand.wheel", "shell.hand.wheelDoes"],
  ["shell.hand.zoom", "shell.hand.zoomDoes"],
  ["shell.hand.right", "shell.hand.rightDoes"],
  ["shell.hand.middle", "shell.hand.middleDoes"],
  ["shell.hand.shift", "shell.hand.shiftDoes"],
  ["shell.hand.double", "shell.hand.doubleDoes"],
  ["shell.hand.touch", "shell.hand.touchDoes"],
  ["shell.hand.hold", "shell.hand.holdDoes"],
];

export function Help() {
  if (!helpShown.value) return null;
  const close = () => {
    helpShown.value = false;
  };
  return (
    <Dialog title={t("shell.help.title")} onClose={close} wide>
      <ol class="shell-help-steps">
        <li>{t("shell.help.step1")}</li>
        <li>{t("shell.help.step2")}</li>
        <li>{t("shell.help.step3")}</li>
        <li>{t("shell.help.step4")}</li>
      </ol>
      <div class="shell-help-groups">
        {(project.value === null ? GROUPS : [...GROUPS, TASKS]).map((group) => (
          <section key={group.title}>
            <h3>{t(group.title)}</h3>
            <dl>
              {group.keys.map(([keys, does]) => (
                <div key={does}>
                  <dt>{keys.map((one) => (one === "–" ? <span key={one}>–</span> : <kbd key={one}>{one}</kbd>))}</dt>
                  <dd>{t(does)}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
        <section>
          <h3>{t("shell.help.hand")}</h3>
          <dl class="shell-help-hand">
            {HAND.map(([with_, does]) => (
              <div key={with_}>
                <dt>{t(with_)}</dt>
                <dd>{t(does)}</dd>
              </div>
            ))}
          </dl>
        </section>
      </div>
    </Dialog>
  );
}
