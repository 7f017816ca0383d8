// Numbers, dates and sizes as readers of a language write them.

import { language } from "../i18n";

const LOCALES = { en: "en-GB", ko: "ko-KR" } as const;

export function locale(): string {
  return LOCALES[language.value];
}

export function number(value: number, digits = 0): string {
  return new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(value);
}

export function percent(share: number): string {
  return new Intl.NumberFormat(locale(), { style: "percent" }).format(share);
}

/** A day as DICOM writes it, YYYYMMDD; what is none stays as it is. */
export function dicomDay(text: string): string {
  const found = /^(\d{4})(\d{2})(\d{2})$/.exec(text);
  if (found === null) return text;
  const [year, month, day] = found.slice(1).map(Number) as [number, number, number];
  const date = new Date(Date.UTC(year, month - 1, day));
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return text;
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeZone: "UTC" }).format(date);
}

/** The day of a moment as the server writes it (ISO 8601). */
export function day(text: string): string {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? text : new Intl.DateTimeFormat(locale(), { dateStyle: "medium" }).format(date);
}

/** A moment as the server writes it. */
export function moment(text: string): string {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return text;
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(date);
}

export function bytes(count: number): string {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"] as const;
  const power = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), units.length - 1);
  return new Intl.NumberFormat(locale(), {
    style: "unit",
    unit: units[power]!,
    unitDisplay: "short",
    maximumFractionDigits: power < 2 ? 0 : 1,
  }).format(count / 1000 ** power);
}

/** A name as DICOM writes it, FAMILY^GIVEN^MIDDLE^PREFIX^SUFFIX (and further scripts behind "="), as people read it. */
export function personName(text: string): string {
  const [first = ""] = text.split("=").filter((group) => group.trim() !== "");
  return first
    .split("^")
    .map((part) => part.trim())
    .filter(Boolean)
    .join(" ");
}

/** Columns x rows x slices. */
export function gridSize([slices, rows, columns]: readonly [number, number, number]): string {
  const sizes = slices === 1 ? [columns, rows] : [columns, rows, slices];
  return sizes.map((size) => number(size)).join(" × ");
}
