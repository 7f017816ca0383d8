// Which letter a key is, whatever the keyboard is set to: with a Korean one the key B says "ㅠ", or "Process".

type Key = Pick<KeyboardEvent, "key" | "code">;

/** "a" to "z", without a modifier beside Shift; null for any other key. */
export function letterOf(event: Key & Pick<KeyboardEvent, "ctrlKey" | "metaKey" | "altKey">): string | null {
  return event.ctrlKey || event.metaKey || event.altKey ? null : letterUnder(event);
}

/** The same whatever modifiers there are. */
export function letterUnder(event: Key): string | null {
  if (/^[a-z]$/i.test(event.key)) return event.key.toLowerCase();
  // another Latin layout than the key caps say has letters in `key`; where it has none, the place of the key counts
  const place = /^Key([A-Z])$/.exec(event.code);
  return place && event.key !== "Dead" ? place[1]!.toLowerCase() : null;
}
