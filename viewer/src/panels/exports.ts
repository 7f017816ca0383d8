// What can be taken home of a reading, and why not where it cannot.

import type { CaseInfo } from "../api/types";
import type { Key } from "../i18n";
import type { Reading } from "../reading/reading";

export type Format = "nifti" | "seg" | "rtstruct" | "nrrd" | "png" | "csv";

export interface Offer {
  readonly format: Format;
  /** Why it cannot be had; null: it can. */
  readonly why: Key | null;
}

const DICOM: readonly Format[] = ["seg", "rtstruct"];

/** Formats in the order that they are offered in. PNG is for one slice alone. */
export function offers(scan: Pick<CaseInfo, "format">, slices: number, drawn: boolean): Offer[] {
  const formats: Format[] = ["seg", "nifti", "rtstruct", "nrrd", "csv"];
  if (slices === 1) formats.splice(2, 0, "png");
  return formats.map((format) => ({ format, why: whyNot(format, scan.format, drawn) }));
}

function whyNot(format: Format, scan: CaseInfo["format"], drawn: boolean): Key | null {
  if (DICOM.includes(format) && scan !== "dicom") return "panels.why-dicom";
  return drawn ? null : "panels.why-nothing";
}

/** Masks that are first answers still: the server refines them before it writes a file. */
export function firstAnswers(reading: Reading): number {
  let found = 0;
  for (const { id } of reading.objects.value)
    for (const slice of reading.masks.slices(id)) if (reading.masks.get(id, slice)?.status === "first") found += 1;
  return found;
}

/** Structures that have a mask. */
export function drawnObjects(reading: Reading): number {
  return reading.objects.value.filter(({ id }) => reading.masks.slices(id).length > 0).length;
}
