// Which page is on screen, by the part of the address behind "#": `#/` the cases, `#/case/ID` one of them,
// `#/case/ID/SESSION` somebody's reading of it. Ids are random: no address says whose a scan is.

import { type Route, route } from "../state";

const ID = "[A-Za-z0-9_-]{1,64}";
const CASE = new RegExp(`^#/case/(${ID})(?:/(${ID}))?/?$`);

export function routeOf(hash: string): Route {
  const found = CASE.exec(hash);
  if (found === null) return { page: "cases" };
  const [, id, session] = found;
  return session === undefined ? { page: "case", id: id! } : { page: "case", id: id!, session };
}

export function hashOf(to: Route): string {
  if (to.page === "cases") return "#/";
  return to.session === undefined ? `#/case/${to.id}` : `#/case/${to.id}/${to.session}`;
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
