// What is done with the task on screen: it is handed in, put back or skipped, and the next one is taken. Masks are those of
// its session, which is an ordinary one.

import { type HandedIn, leaveTask, nextTask, skipTask, submitTask, taskInfo } from "../api/annotate";
import { ApiError } from "../api/http";
import { t } from "../i18n";
import { share, spoken } from "../panels/format";
import { mayLeave } from "../panels/lost";
import { hasEnded } from "../reading/told";
import { agreed } from "../shell/asking";
import { go } from "../shell/routing";
import { leaveCase } from "../shell/session";
import { tell } from "../shell/tell";
import { reading, say } from "../state";
import { forget } from "./kept";
import { learnProject } from "./project";
import { asking, difficulty, doing, gone, seconds, stopAfter, task } from "./task";

/** The reader's task, or the next one. */
export async function takeNext(): Promise<void> {
  if (doing.peek() !== null) return;
  doing.value = "next";
  try {
    const next = await nextTask();
    if (next !== null) go({ page: "task", id: next.id });
    else {
      say({ kind: "info", text: t("annotate.nothing-left"), seconds: 10 });
      home();
    }
  } catch (error) {
    tell(error, () => void takeNext());
    if (reading.peek() === null) home();
  } finally {
    doing.value = null;
  }
}

function home(): void {
  void learnProject();
  go({ page: "cases" });
}

/** After this one: the next, or home. */
function goOn(): void {
  // nothing of it is left in the page that could be lost
  leaveCase();
  const stop = stopAfter.peek();
  stopAfter.value = false;
  if (stop) home();
  else void takeNext();
}

/** Hands in, once what has to be asked is answered. open: whether something is. */
export async function handIn(open: boolean): Promise<void> {
  const of = reading.peek();
  if (task.peek() === null || of === null || !of.mine || doing.peek() !== null) return;
  if (of.jobs.peek().some((job) => !hasEnded(job))) {
    say({ kind: "info", text: t("annotate.running"), seconds: 8 });
    return;
  }
  if (!(await mayLeave())) return;
  if (open) asking.value = "hand-in";
  else await send();
}

/** Hands in what is drawn. missing: structures that the scan does not have. */
export async function send(missing: readonly string[] = []): Promise<void> {
  const now = task.peek();
  const of = reading.peek();
  if (now === null || of === null || doing.peek() !== null) return;
  asking.value = null;
  doing.value = "handing";
  try {
    await of.settled();
    const told = await submitTask(now.id, {
      session: of.id,
      seconds: Math.round(seconds.peek()),
      difficulty: difficulty.peek(),
      absent: [...missing],
      note: null,
    });
    forget(now.id);
    tellHandedIn(told);
  } catch (error) {
    void heedGone(error);
    tell(error, () => void send(missing));
    return;
  } finally {
    doing.value = null;
  }
  goOn();
}

function tellHandedIn({ masks, untouched, dice }: HandedIn): void {
  const key = masks === 1 ? "annotate.handed-in-one" : "annotate.handed-in";
  const words = [t(key, { masks })];
  if (untouched > 0) words.push(t("annotate.handed-in-untouched", { untouched }));
  const known = Object.entries(dice ?? {});
  if (known.length > 0) {
    const each = known.map(([name, value]) => `${spoken(name)} ${share(value)}`).join(", ");
    words.push(t("annotate.handed-in-gold", { dice: each }));
  }
  say({ kind: "info", text: words.join(" "), seconds: known.length > 0 ? 20 : 8 });
}

export async function skip(why: string): Promise<void> {
  await left((id) => skipTask(id, why, Math.round(seconds.peek())), "annotate.skipped", goOn);
}

/** For somebody else, or for later. */
export async function putBack(): Promise<void> {
  const drawn = (reading.peek()?.undoable.peek() ?? 0) > 0;
  const words = { title: t("annotate.put-back.title"), text: t("annotate.put-back.text") };
  if (drawn && !(await agreed({ ...words, yes: t("annotate.put-back"), no: t("shell.cancel") }))) return;
  const away = () => {
    leaveCase();
    home();
  };
  await left((id) => leaveTask(id, Math.round(seconds.peek())), "annotate.left", away);
}

async function left(
  tellServer: (id: string) => Promise<void>,
  words: "annotate.skipped" | "annotate.left",
  then: () => void,
): Promise<void> {
  const now = task.peek();
  if (now === null || doing.peek() !== null) return;
  asking.value = null;
  doing.value = "leaving";
  try {
    await reading.peek()?.settled();
    await tellServer(now.id);
  } catch (error) {
    void heedGone(error);
    tell(error);
    return;
  } finally {
    doing.value = null;
  }
  forget(now.id);
  say({ kind: "info", text: t(words), seconds: 6 });
  then();
}

/** A task that an answer refuses may be no longer the reader's. */
export async function heedGone(error: unknown): Promise<void> {
  const now = task.peek();
  if (now === null || !(error instanceof ApiError) || ![403, 404, 409].includes(error.status)) return;
  try {
    const told = await taskInfo(now.id);
    const isMine = told.mine && told.state === "taken" && told.session === reading.peek()?.id;
    if (task.peek()?.id === now.id) gone.value = !isMine;
  } catch {
    // the next answer says it again
  }
}
