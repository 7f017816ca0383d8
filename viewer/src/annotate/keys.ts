// Keys of tasks. At home N takes the next one. In a task Shift+Enter hands in, A accepts what is proposed, J leads to the
// next slice that is asked for; of an audit A says good, W wrong. While a task is reviewed A approves, R returns.

import { letterOf } from "../panels/letter";
import { reading, route } from "../state";
import { currentTool } from "../tools/current";
import { onAuditKey } from "./audit";
import { project } from "./project";
import { approve, mayReturn, mayReview } from "./review";
import { accept, toNextSlice } from "./structures";
import { asking, seen, task } from "./task";
import { handInNow } from "./task-bar";
import { takeNext } from "./work";

/** True when the key was meant for tasks. */
export function onKey(event: KeyboardEvent): boolean {
  if (project.peek() === null || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return false;
  const letter = event.shiftKey ? null : letterOf(event);
  const open = reading.peek();
  if (open === null) {
    if (letter !== "n" || route.peek().page !== "cases") return false;
    void takeNext();
    return true;
  }
  const now = task.peek();
  if (now !== null && open.mine) {
    if (now.kind === "audit" && onAuditKey(letter)) return true;
    if (event.key === "Enter" && event.shiftKey) {
      // it ends what a tool has begun first
      return !(currentTool().busy?.() ?? false) && handInNow();
    }
    if (letter === "a") {
      accept(now, open);
      return true;
    }
    return letter === "j" && toNextSlice();
  }
  const looked = seen.peek();
  if (looked === null) return false;
  if (letter === "a" && mayReview(looked)) void approve(looked);
  else if (letter === "r" && mayReturn(looked)) asking.value = "return";
  else return false;
  return true;
}
