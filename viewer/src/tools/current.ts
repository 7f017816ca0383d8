// The tool that is chosen: planes send it what the pointer does.

import { tool } from "../state";
import { passive } from "./passive";
import type { Tool } from "./tool";

/** The chosen tool. Reads the signal: whoever renders by it is rendered again when another is chosen. */
export function currentTool(): Tool {
  return passive(tool.value);
}
