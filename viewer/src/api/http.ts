// Requests to the server that the page came from: who asks, what is tried again, and one kind of error.
//
// What only reads, or says how something is to be, is tried four times within 3 s. A step whose answer was lost is not
// repeated: it may have been taken, and `changes` brings what came of it (`reading/live.ts`). What a locked login was
// refused waits for the password: it was not taken.

import { t } from "../i18n";
import { locked, me, offline } from "../state";
import type { Me } from "./types";
import { pause, until } from "./wait";

export const API = "/api/v1";
/** ms before another try */
const WAITS = [200, 800, 2000];
/** The longest that a server may make us wait by `Retry-After`, ms. */
const LONGEST_WAIT = 30_000;
const REPEATABLE = ["GET", "HEAD", "PUT", "DELETE"];
const LATER = [502, 503, 504];
/** What is asked at a locked door itself. */
const DOOR = ["/me", "/login", "/unlock", "/logout"];
/** ms between two looks whether a server that was gone is back */
const LOOKS = [500, 1000, 2000, 4000];
const LOOK_TIMEOUT = 5000;

/** What the server would not do, or (status 0) that it was not reached: then the request may have been taken. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly detail: string,
    readonly parameters: readonly string[] = [],
    /** Seconds after which another try makes sense. */
    readonly retryAfter: number | null = null,
  ) {
    super(detail);
    this.name = "ApiError";
  }
}

/** `detail` of an upload that broke off although the server is there. */
export const UPLOAD_BROKE = "upload broke off";

export interface Ask {
  method?: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  query?: Record<string, string | number | boolean | null | undefined>;
  json?: unknown;
  body?: BodyInit;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
  /** ms after which an answer, its body too, does not come any more: the server counts as gone. Default: never. */
  timeout?: number;
  /** Whether it may be sent twice; default: by its method. */
  repeatable?: boolean;
}

let csrf: string | null = null;

export function setCsrf(token: string | null): void {
  csrf = token;
}

/** Headers that every request of ours has. */
export function ownHeaders(method: string): Record<string, string> {
  return csrf !== null && method !== "GET" && method !== "HEAD" ? { "X-Medsam-Csrf": csrf } : {};
}

/** Address of a path below `/api/v1`. */
export function addressOf(path: string, query: Ask["query"] = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return `${API}${path}${text ? `?${text}` : ""}`;
}

/** An answer that is a success. Raises ApiError, and AbortError where `signal` says so. */
export async function request(path: string, ask: Ask = {}): Promise<Response> {
  const method = ask.method ?? "GET";
  const repeatable = ask.repeatable ?? REPEATABLE.includes(method);
  let renewed = false;
  for (let attempt = 0; ; attempt += 1) {
    const wait = WAITS[attempt];
    const answer = await sent(path, method, ask);
    if (answer instanceof Response) return answer;
    const { failure, hung } = answer;
    if (failure.status === 0) {
      // that took long enough
      if (wait === undefined || !repeatable || hung) {
        lost();
        throw failure;
      }
      await pause(wait, ask.signal);
    } else if (failure.status === 403 && !renewed && method !== "GET" && (await renew())) {
      // the login was renewed in another tab
      renewed = true;
    } else if (failure.status === 423 && !DOOR.includes(path) && (await isLocked())) {
      await until(() => !locked.value, ask.signal);
      attempt -= 1;
    } else {
      const limited = failure.status === 429 && failure.retryAfter !== null;
      const again = limited || (repeatable && LATER.includes(failure.status));
      if (wait === undefined || !again) {
        // whose lock it is was asked above, but for what is asked at the door
        if (failure.status !== 423 || DOOR.includes(path)) await heed(failure, path);
        throw failure;
      }
      await pause(Math.max(wait, Math.min((failure.retryAfter ?? 0) * 1000, LONGEST_WAIT)), ask.signal);
    }
  }
}

/** An answer that is a success, or why there is none. Raises AbortError. */
async function sent(path: string, method: string, ask: Ask): Promise<Response | { failure: ApiError; hung: boolean }> {
  try {
    const response = await send(path, method, ask);
    const isGood = response.ok || response.status === 304;
    const failure = isGood ? null : await refused(response);
    // 502 to 504 without the server's own words are a proxy's, before a server that is gone
    if (failure !== null && LATER.includes(failure.status) && failure.detail === "") {
      return { failure: new ApiError(0, `HTTP ${failure.status}`), hung: false };
    }
    reached();
    return failure === null ? response : { failure, hung: false };
  } catch (error) {
    ask.signal?.throwIfAborted();
    return { failure: new ApiError(0, String(error)), hung: isTimeout(error) };
  }
}

/** The JSON of an answer; undefined where there is none. */
export async function ask<T>(path: string, options: Ask = {}): Promise<T> {
  const response = await request(path, options);
  return response.status === 204 ? (undefined as T) : await jsonOf<T>(response, options.signal);
}

/** What an answer says in JSON. */
export async function jsonOf<T>(response: Response, signal?: AbortSignal): Promise<T> {
  return (await body(response.json(), signal)) as T;
}

/** An answer's bytes. */
export async function bytesOf(response: Response, signal?: AbortSignal): Promise<ArrayBuffer> {
  return body(response.arrayBuffer(), signal);
}

async function body<T>(read: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  try {
    return await read;
  } catch (error) {
    signal?.throwIfAborted();
    if (isTimeout(error)) lost();
    // the connection broke off in the middle of an answer
    throw new ApiError(0, error instanceof Error ? error.message : String(error));
  }
}

function send(path: string, method: string, ask: Ask): Promise<Response> {
  const headers: Record<string, string> = { ...ownHeaders(method), ...ask.headers };
  if (ask.json !== undefined) headers["Content-Type"] = "application/json";
  const init: RequestInit = { method, headers, credentials: "same-origin", redirect: "error" };
  const content = ask.json !== undefined ? JSON.stringify(ask.json) : ask.body;
  if (content !== undefined) init.body = content;
  const signals = [ask.signal, ask.timeout === undefined ? undefined : AbortSignal.timeout(ask.timeout)];
  const given = signals.filter((one) => one !== undefined);
  if (given.length > 0) init.signal = AbortSignal.any(given);
  return fetch(addressOf(path, ask.query), init);
}

/** What the server says is wrong. */
export async function refused(response: Response): Promise<ApiError> {
  const after = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  const retryAfter = Number.isFinite(after) ? Math.max(after, 0) : null;
  try {
    const said = (await response.json()) as { detail?: unknown; parameters?: unknown };
    const parameters = Array.isArray(said.parameters) ? said.parameters.map(String) : [];
    return new ApiError(response.status, String(said.detail ?? ""), parameters, retryAfter);
  } catch {
    return new ApiError(response.status, "", [], retryAfter);
  }
}

/** What a refusal says of who is here. */
export async function heed(failure: ApiError, path = ""): Promise<void> {
  if (failure.status === 401 && path !== "/login" && path !== "/unlock") {
    csrf = null;
    me.value = null;
  } else if (failure.status === 423) {
    if (path === "/me") locked.value = true;
    else await isLocked();
  }
}

/**
 * Whether a 423 is of the login, which is noted, and not of an object: who may say who is here has no locked login. A page
 * that locked itself stays so.
 */
async function isLocked(): Promise<boolean> {
  const status = await send("/me", "GET", {}).then(
    (answer) => answer.status,
    () => 0,
  );
  if (status === 423) locked.value = true;
  return status === 423;
}

/** Ask for the token of changes again; whether it is another one now. */
export async function renew(): Promise<boolean> {
  if (csrf === null) return false;
  try {
    const answer = await send("/me", "GET", {});
    if (!answer.ok) return false;
    const told = (await answer.json()) as Me;
    const other = told.csrf !== csrf;
    csrf = told.csrf;
    return other;
  } catch {
    return false;
  }
}

// -- whether the server is there -------------------------------------------------------------------------------------

let looking = false;

function reached(): void {
  if (offline.value) offline.value = false;
}

/** The server was not reached: said until it is, which is looked for. */
export function lost(): void {
  offline.value = true;
  if (!looking) void lookOut();
}

/** Why the connection of an upload broke off: a server that takes no more of it closes it while bytes still come. */
export async function uploadBroken(): Promise<ApiError> {
  try {
    await fetch(addressOf("/health/live"));
    return new ApiError(0, UPLOAD_BROKE);
  } catch {
    lost();
    return new ApiError(0, "no server");
  }
}

async function lookOut(): Promise<void> {
  looking = true;
  try {
    for (let look = 0; offline.value; look += 1) {
      await pause(LOOKS[Math.min(look, LOOKS.length - 1)]!);
      try {
        const answer = await fetch(`${API}/health/live`, { signal: AbortSignal.timeout(LOOK_TIMEOUT) });
        // whatever it says, it is there; a proxy that stands before it says 502 to 504
        if (!LATER.includes(answer.status)) offline.value = false;
      } catch {
        // still gone
      }
    }
  } finally {
    looking = false;
  }
}

// -- in words --------------------------------------------------------------------------------------------------------

/** Whether it is the reader who ended what was under way. */
export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** Whether no answer came in time. */
function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.name === "TimeoutError";
}

/** What went wrong and what to do about it, in the reader's language. */
export function explain(error: unknown): string {
  if (!(error instanceof ApiError)) return t("api.unexpected");
  const detail = error.detail.replaceAll("`", "");
  switch (error.status) {
    case 0:
      return t(error.detail === UPLOAD_BROKE ? "api.uploadBroke" : "api.lost");
    case 401:
      return detail && me.value === null && /password/.test(detail) ? t("api.wrongPassword") : t("api.loggedOut");
    case 403:
      // of a file that has the patient's name in it
      return t(error.parameters.includes("format") ? "api.named" : "api.notAllowed");
    case 404:
      return t("api.notFound");
    case 409:
      return t("api.conflict", { detail });
    case 412:
      return t("api.movedOn");
    case 413:
      return t("api.tooLarge", { detail });
    case 423:
      return locked.value ? t("api.locked") : t("api.objectLocked", { detail });
    case 429:
      // a limit that time does not lift says what to do instead
      if (error.retryAfter === null) return t("api.conflict", { detail });
      return t("api.tooOften", { seconds: Math.ceil(error.retryAfter) });
    case 503:
      return t("api.busy", { detail });
    case 507:
      return t("api.diskFull");
    default:
      if (error.status >= 500) return t("api.defect", { detail });
      return detail ? t("api.refused", { detail }) : t("api.unexpected");
  }
}
