// The list of cases: what is searched for, what was found, and looking again from time to time.

import { effect, signal, untracked } from "@preact/signals";
import { type CasePage, type CaseQuery, listCases } from "../api/cases";
import { ApiError, explain, isAbort } from "../api/http";
import type { CaseInfo } from "../api/types";
import { idleFor } from "../shell/idle";
import { locked, me, offline, route } from "../state";

const PAGE = 60;
/** The most that the server gives at once. */
const MOST = 500;
/** ms between two looks whether there is something new. A reader who is away asks for nothing: the login has to lock. */
const AGAIN_MS = 8000;
const AWAY_MS = 60_000;
/** ms after the last letter of what is searched for */
const TYPED_MS = 250;

export type Which = "all" | "mine" | "pacs";
export const search = signal("");
export const which = signal<Which>("all");
export const cases = signal<readonly CaseInfo[] | null>(null);
/** There are more. */
export const more = signal(false);
export const loading = signal(false);
export const problem = signal<string | null>(null);

let next: string | null = null;
let under: AbortController | null = null;
/** Whose they are, of those that were asked for. Asking is a line of the audit: it is not done for every look. */
let whose = new Map<string, CaseInfo["patient"]>();

function query(limit: number): CaseQuery {
  const limits = which.value === "mine" ? { mine: true } : which.value === "pacs" ? { kind: "pacs" as const } : {};
  return { q: search.value.trim(), limit, ...limits };
}

/** A page of them, with whose they are; where that is known of all it is not asked for again. */
async function look(after: string | null, limit: number, again: boolean, signal: AbortSignal): Promise<CasePage> {
  if (again) {
    const page = await listCases({ ...query(limit), patients: false }, after, signal);
    if (page.cases.every((one) => whose.has(one.id))) {
      return { ...page, cases: page.cases.map((one) => ({ ...one, patient: whose.get(one.id) ?? null })) };
    }
  }
  const page = await listCases({ ...query(limit), patients: true }, after, signal);
  for (const one of page.cases) whose.set(one.id, one.patient);
  return page;
}

async function ask(after: string | null, limit: number, again = false): Promise<void> {
  under?.abort();
  const control = new AbortController();
  under = control;
  loading.value = true;
  try {
    const page = await look(after, limit, again, control.signal);
    const before = after === null ? [] : (cases.value ?? []);
    cases.value = [...before, ...page.cases];
    next = page.next;
    more.value = next !== null;
    problem.value = null;
  } catch (error) {
    if (isAbort(error)) return;
    // a server that is gone has its banner: what was listed stays
    if (cases.value === null || !(error instanceof ApiError && error.status === 0)) problem.value = explain(error);
  } finally {
    if (under === control) loading.value = false;
  }
}

/** Looks again, at as many as are shown. */
export function refresh(): Promise<void> {
  return ask(null, Math.min(Math.max(cases.peek()?.length ?? 0, PAGE), MOST), true);
}

export function showMore(): Promise<void> {
  return next === null ? Promise.resolve() : ask(next, PAGE);
}

/** Everything: another reader may know less. */
export function forgetAll(): void {
  under?.abort();
  whose = new Map();
  cases.value = null;
  more.value = false;
  problem.value = null;
  search.value = "";
  which.value = "all";
}

export function forget(id: string): void {
  cases.value = cases.value?.filter((one) => one.id !== id) ?? null;
}

/** Asks while the list is on screen: anew for each search, and from time to time. Returns how to end that. */
export function followCases(): () => void {
  let typed: ReturnType<typeof setTimeout> | undefined;
  const stop = effect(() => {
    search.value;
    which.value;
    clearTimeout(typed);
    untracked(() => {
      typed = setTimeout(() => void ask(null, PAGE), cases.value === null ? 0 : TYPED_MS);
    });
  });
  const timer = setInterval(() => {
    // beyond what comes at once, looking again would take away what is shown
    const few = (cases.value?.length ?? 0) <= MOST;
    const seen = route.value.page === "cases" && !document.hidden && idleFor() < AWAY_MS && few;
    if (seen && !locked.value && !offline.value && !loading.value && me.value !== null) void refresh();
  }, AGAIN_MS);
  return () => {
    stop();
    clearTimeout(typed);
    clearInterval(timer);
    under?.abort();
  };
}
