// Which page is on screen, by the part of the address behind "#": `#/` the cases, `#/case/ID` one of them,
// `#/case/ID/SESSION` somebody's reading of it. Of a project `#/task/ID` a task, `#/look/ID` one that is reviewed,
// `#/look/ID/ID` over another one, `#/review`, `#/statistics`. Ids are random: no address says whose a scan is.

import { type Route, route } from "../state";

const ID = "[A-Za-z0-9_-]{1,64}";
const INSIDE = new RegExp(`^#/(case|task|look)/(${ID})(?:/(${ID}))?/?$`);
const LISTS = /^#\/(review|statistics)\/?$/;

export function routeOf(hash: string): Route {
  const list = LISTS.exec(hash);
  if (list !== null) return { page: list[1] as "review" | "statistics" };
  const found = INSIDE.exec(hash);
  if (found === null) return { page: "cases" };
  const [, page, id, second] = found as unknown as [string, "case" | "task" | "look", string, string | undefined];
  if (second === undefined) return { page, id };
  if (page === "task") return { page: "cases" };
  return page === "case" ? { page, id, session: second } : { page, id, beside: second };
}

export function hashOf(to: Route): string {
  if (to.page === "cases") return "#/";
  if (!("id" in to)) return `#/${to.page}`;
  const second = to.page === "case" ? to.session : to.page === "look" ? to.beside : undefined;
  return `#/${to.page}/${to.id}${second === undefined ? "" : `/${second}`}`;
}

let mayLeave: () => boolean | Promise<boolean> = () => true;
let asking = false;

/** Goes to another page; the back button leads back. */
export function go(to: Route): void {
  if (location.hash !== hashOf(to)) location.hash = hashOf(to);
  follow();
}

function follow(): void {
  if (asking || hashOf(routeOf(location.hash)) === hashOf(route.value)) return;
  const may = mayLeave();
  if (typeof may === "boolean") {
    answered(may);
    return;
  }
  asking = true;
  void may.then(answered);
}

function answered(may: boolean): void {
  asking = false;
  const next = routeOf(location.hash);
  if (hashOf(next) === hashOf(route.value)) return;
  if (may) route.value = next;
  // the address has changed already
  else history.pushState(null, "", hashOf(route.value));
}

/** Follows the address from now on. ask: whether what is open may be left. Returns how to end that. */
export function followAddress(ask: () => boolean | Promise<boolean> = () => true): () => void {
  mayLeave = ask;
  follow();
  window.addEventListener("hashchange", follow);
  return () => window.removeEventListener("hashchange", follow);
}
