// Which servers of the hospital may be searched.

import { signal } from "@preact/signals";
import { pacsServers } from "../api/pacs";

export const servers = signal<readonly string[]>([]);

/** Asks for them. Returns how to give that up. */
export function followServers(): () => void {
  const control = new AbortController();
  pacsServers(control.signal).then(
    (found) => {
      servers.value = found;
    },
    // the cases are there without a search, and their list says what is wrong
    () => {},
  );
  return () => control.abort();
}
