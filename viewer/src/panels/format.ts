// Measurements in words that a report could have: no more digits than they are worth.

import { number } from "../shell/format";

/** A number with the digits it is worth: as many behind the point as `spread` (of the same unit) allows. */
function rounded(value: number, digits: number): string {
  const text = value.toFixed(digits);
  // no minus before nothing
  return Number(text) === 0 ? (0).toFixed(digits) : text;
}

/** Of a volume in ml: "0.42", "7.8", "1,523". */
export function millilitres(value: number): string {
  if (value < 1) return rounded(value, 2);
  return value < 100 ? rounded(value, 1) : number(value);
}

/** Of a length in mm: "0.8", "34.2". */
export function millimetres(value: number): string {
  return rounded(value, 1);
}

/** "52 ± 14", "0.31 ± 0.08": digits behind the point as the spread allows. */
export function meanAndSpread(mean: number, spread: number): string {
  const size = spread > 0 ? spread : Math.abs(mean);
  const digits = size >= 10 || size === 0 ? 0 : size >= 1 ? 1 : Math.min(4, 1 - Math.floor(Math.log10(size)));
  return `${rounded(mean, digits)} ± ${rounded(spread, digits)}`.replace("-", "−");
}

/** Of a Dice or another number between 0 and 1; a dash where there is none. */
export function share(value: number | null | undefined): string {
  if (value == null) return "–";
  // what is not the same does not say 1.000
  return (value < 1 ? Math.min(value, 0.999) : value).toFixed(3);
}

/** A structure's name as it is read: "kidney right". */
export function spoken(name: string): string {
  return name.replaceAll("_", " ");
}
