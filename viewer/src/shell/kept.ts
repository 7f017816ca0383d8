// Where a reader was in a case: a reload goes on there. In this window's session storage, by the case's id; numbers and
// settings alone, nothing that names anybody.

import type { Axis, Geometry } from "../api/types";
import type { Voxel } from "../scan/scan";

export interface Kept {
  cursor: Voxel;
  window: { name: string; low: number; high: number };
  layout: "one" | "four" | "volume";
  activeAxis: Axis;
  /** The structure that prompts were about: its number, which another session may give to another one. */
  active: { session: string; object: number } | null;
}

const key = (caseId: string) => `medsam.case.${caseId}`;

export function keep(caseId: string, where: Kept): void {
  try {
    sessionStorage.setItem(key(caseId), JSON.stringify(where));
  } catch {
    // a full or forbidden storage costs the place alone
  }
}

/** Where it was, as far as that is a place in this scan. */
export function kept(caseId: string, geometry: Geometry): Kept | null {
  let found: unknown;
  try {
    found = JSON.parse(sessionStorage.getItem(key(caseId)) ?? "null");
  } catch {
    return null;
  }
  return isKept(found) && inside(found.cursor, geometry) ? found : null;
}

function isKept(found: unknown): found is Kept {
  if (typeof found !== "object" || found === null) return false;
  const { cursor, window: seen, layout, activeAxis, active } = found as Partial<Kept>;
  return (
    Array.isArray(cursor) &&
    cursor.length === 3 &&
    cursor.every(Number.isInteger) &&
    typeof seen?.name === "string" &&
    Number.isFinite(seen.low) &&
    Number.isFinite(seen.high) &&
    (layout === "one" || layout === "four" || layout === "volume") &&
    (activeAxis === "i" || activeAxis === "j" || activeAxis === "k") &&
    (active === null || (typeof active?.session === "string" && Number.isInteger(active.object)))
  );
}

function inside(cursor: Voxel, geometry: Geometry): boolean {
  const [slices, rows, columns] = geometry.shape;
  const most = [columns, rows, slices];
  return cursor.every((at, number) => at >= 0 && at < most[number]!);
}
