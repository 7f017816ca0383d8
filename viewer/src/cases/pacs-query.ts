// What a reader types, as a PACS is asked for it.

/** Days as DICOM searches them: YYYYMMDD-YYYYMMDD, either end open. */
export function dayRange(from: string, to: string): string {
  const [first, last] = [from.replaceAll("-", ""), to.replaceAll("-", "")];
  return first === "" && last === "" ? "" : `${first}-${last}`;
}

/** Names are searched by their beginning, unless the reader has put wildcards. */
export function nameKey(text: string): string {
  const name = text.trim();
  return name === "" || /[*?]/.test(name) ? name : `${name}*`;
}

export function keysOf(given: FormData): Record<string, string> {
  const text = (name: string) => String(given.get(name) ?? "").trim();
  return {
    patient_id: text("id"),
    patient_name: nameKey(text("name")),
    date: dayRange(text("from"), text("to")),
    modality: text("modality").toUpperCase(),
  };
}
