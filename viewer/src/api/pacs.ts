// Servers of scans that the hospital has (PACS), where the settings name some.

import { ApiError, ask } from "./http";
import type { CaseInfo, MatchInfo } from "./types";

/** Names of those that may be searched; none where there are none. */
export async function pacsServers(signal?: AbortSignal): Promise<string[]> {
  try {
    return (await ask<{ name: string }[]>("/pacs", { signal })).map((one) => one.name);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return [];
    throw error;
  }
}

/** Keys: patient_id, patient_name, accession, date, modality, study_description, series_description, study, series. */
export function pacsFind(
  server: string,
  keys: Record<string, string>,
  level: "study" | "series" = "study",
  limit = 100,
  signal?: AbortSignal,
): Promise<{ found: MatchInfo[]; more: boolean }> {
  const given = Object.fromEntries(Object.entries(keys).filter(([, value]) => value.trim() !== ""));
  return ask(`/pacs/${server}/find`, { method: "POST", json: { level, keys: given, limit }, repeatable: true, signal });
}

/** Fetch a series, which is the reader's case from then on; minutes may pass. */
export function pacsFetch(server: string, study: string, series: string, signal?: AbortSignal): Promise<CaseInfo> {
  return ask(`/pacs/${server}/fetch`, { method: "POST", json: { study, series }, repeatable: true, signal });
}
