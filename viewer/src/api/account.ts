// Who is here: the reader that the server knows, logging in and out, and a login that was idle.

import { locked, me } from "../state";
import { ApiError, ask, request, setCsrf } from "./http";
import type { Me } from "./types";

/** Ask who is here; null where somebody has to log in. Sets `state.me`, and `state.locked`. */
export async function whoAmI(): Promise<Me | null> {
  try {
    const told = await ask<Me>("/me");
    setCsrf(told.csrf);
    locked.value = false;
    // the same reader after an unlock is no news to who watches this
    if (JSON.stringify(told) !== JSON.stringify(me.value)) me.value = told;
    return told;
  } catch (error) {
    // one that is locked is somebody's, whose name is not told
    if (error instanceof ApiError && (error.status === 401 || error.status === 423)) return me.value;
    throw error;
  }
}

/** Raises ApiError: 401 for a wrong name or password, 429 (`retryAfter`) after too many. */
export async function login(name: string, password: string): Promise<Me> {
  const told = await ask<{ csrf: string }>("/login", { method: "POST", json: { name, password } });
  setCsrf(told.csrf);
  const known = await whoAmI();
  if (known === null) throw new ApiError(401, "");
  return known;
}

/** Open a locked login again. */
export async function unlock(password: string): Promise<void> {
  await request("/unlock", { method: "POST", json: { password } });
  locked.value = false;
  await whoAmI();
}

export async function logout(): Promise<void> {
  await request("/logout", { method: "POST" });
  setCsrf(null);
  me.value = null;
  locked.value = false;
}

/** What the server is: version of the interface, and of medsam; ready: its model can answer; project: it has one. */
export function version(): Promise<{ version: number; medsam?: string; ready?: boolean; project?: boolean }> {
  return ask("/version");
}
