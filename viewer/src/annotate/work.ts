// What is done with the task on screen: it is handed in, put back or skipped, and the next one is taken. Masks are those of
// its session, which is an ordinary one.

import {
  type HandedIn,
  leaveTask,
  nextTask,
  skipTask,
  submitTask,
  type TaskInfo,
  taskInfo,
  type Verdict,
} from "../api/annotate";
import { ApiError } from "../api/http";
import { t } from "../i18n";
import { share, spoken } from "../panels/format";
import { mayLeave } from "../panels/lost";
import { hasEnded } from "../reading/told";
import { agreed } from "../shell/asking";
import { go } from "../shell/routing";
import { leaveCase, openAgain } from "../shell/session";
import { tell } from "../shell/tell";
import { reading, route, say } from "../state";
import { forget } from "./kept";
import { othersWords } from "./others";
import { learnProject, project } from "./project";
import { asking, difficulty, doing, gone, seconds, stopAfter, task } from "./task";

/** The reader's task, or the next one. */
export async function takeNext(): Promise<void> {
  if (doing.peek() !== null) return;
  doing.value = "next";
  const from = route.peek();
  try {
    const next = await nextTask();
    // somebody went elsewhere meanwhile, and finds it at home
    if (route.peek() !== from) void learnProject();
    else if (next !== null) show(next.id);
    else {
      await learnProject();
      const counts = project.peek()?.counts;
      const words = [t("annotate.nothing-left"), counts === undefined ? null : othersWords(counts)];
      say({ kind: "info", text: words.filter(Boolean).join(" "), seconds: 10 });
      if (route.peek() === from) go({ page: "cases" });
    }
  } catch (error) {
    tell(error, () => void takeNext());
    if (reading.peek() === null && route.peek() === from) home();
  } finally {
    doing.value = null;
  }
}

/** Also the one whose address this is already: it came back at once. */
function show(id: string): void {
  const to = route.peek();
  if (to.page === "task" && to.id === id && reading.peek() === null) openAgain();
  else go({ page: "task", id });
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
  if (!(await mayHandIn())) return;
  if (open) asking.value = "hand-in";
  else await send();
}

/** Hands an audit in. */
export async function judge(verdict: Verdict): Promise<void> {
  if (await mayHandIn()) await send([], verdict);
}

async function mayHandIn(): Promise<boolean> {
  const of = reading.peek();
  if (task.peek() === null || of === null || !of.mine || doing.peek() !== null) return false;
  if (of.jobs.peek().some((job) => !hasEnded(job))) {
    say({ kind: "info", text: t("annotate.running"), seconds: 8 });
    return false;
  }
  return mayLeave();
}

/** Hands in what is drawn. missing: structures that the scan does not have. verdict: of an audit. */
export async function send(missing: readonly string[] = [], verdict?: Verdict): Promise<void> {
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
      ...(verdict && { verdict }),
    });
    forget(now.id);
    if (verdict === undefined) tellHandedIn(told);
    else say({ kind: "info", text: t(`annotate.audit.said.${verdict}`, { scan: now.scan }), seconds: 8 });
  } catch (error) {
    void heedGone(error);
    tell(error, () => void send(missing, verdict));
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
  if (error instanceof ApiError && [403, 404, 409].includes(error.status)) await lookAfter();
}

/** Whose the task on screen is now. */
export async function lookAfter(): Promise<void> {
  const now = task.peek();
  if (now === null) return;
  let told: TaskInfo | null;
  try {
    told = await taskInfo(now.id);
  } catch (error) {
    // what somebody else works on is none of the reader's business; of what is not answered the next answer tells
    if (!(error instanceof ApiError) || error.status !== 404) return;
    told = null;
  }
  if (task.peek()?.id === now.id) gone.value = goneNow(told);
}

function goneNow(told: TaskInfo | null): typeof gone.value {
  if (told === null) return "taken";
  if (told.state === "open") return "open";
  if (told.state !== "taken") return "done";
  if (!told.mine) return "taken";
  // taken anew in another window, in another session
  return told.session === reading.peek()?.id ? null : "done";
}
