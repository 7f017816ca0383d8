// Keys of the tools.

import { currentTool } from "./current";

/** True when the key was meant for a tool. */
export function onKey(event: KeyboardEvent): boolean {
  return currentTool().key(event);
}
