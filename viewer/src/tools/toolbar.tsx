// The tools, from top to bottom.

import { useEffect } from "preact/hooks";
import { t } from "../i18n";
import { reading, tool } from "../state";
import { currentTool } from "./current";
import { KeysIcon, ToolIcon, UndoIcon } from "./icons";
import { enterKeys, keyPointer, leaveKeys } from "./keypointer";
import { TOOL_KEYS } from "./keys";
import { followSlices } from "./preview";
import { back } from "./steps";
import type { ToolId } from "./tool";
import "./tools.css";

const GROUPS: readonly (readonly ToolId[])[] = [
  ["box", "scribble", "lasso", "polygon", "line"],
  ["brush", "eraser", "threshold"],
  ["pan", "window"],
];
const KEYS = Object.fromEntries(Object.entries(TOOL_KEYS).map(([key, id]) => [id, key.toUpperCase()]));

function Choice({ id }: { id: ToolId }) {
  const key = KEYS[id];
  const name = t(`tools.${id}`);
  return (
    <button
      type="button"
      class="tools-button"
      aria-pressed={tool.value === id}
      aria-label={name}
      aria-keyshortcuts={key}
      data-tool={id}
      title={key ? `${name} (${key})` : name}
      onClick={() => {
        tool.value = id;
      }}
    >
      <ToolIcon id={id} />
      {key && (
        <span class="tools-letter" aria-hidden="true">
          {key}
        </span>
      )}
    </button>
  );
}

function Back({ forward = false }: { forward?: boolean }) {
  const open = reading.value;
  const count = (forward ? open?.redoable.value : open?.undoable.value) ?? 0;
  const name = t(forward ? "tools.redo" : "tools.undo");
  return (
    <button
      type="button"
      class="tools-button"
      // not `disabled`: focus would be lost with the last step
      aria-disabled={count === 0}
      aria-label={`${name}, ${t("tools.steps", { count })}`}
      aria-keyshortcuts={forward ? "Control+Y" : "Control+Z"}
      title={`${name} (Ctrl ${forward ? "Y" : "Z"}): ${t("tools.steps", { count })}`}
      onClick={() => void back(forward)}
    >
      <UndoIcon forward={forward} />
      <span class="tools-count" aria-hidden="true">
        {count > 0 ? count : ""}
      </span>
    </button>
  );
}

function ByKeys() {
  const on = keyPointer.value !== null;
  return (
    <button
      type="button"
      class="tools-button"
      aria-pressed={on}
      aria-label={t("tools.byKeys")}
      aria-keyshortcuts="K"
      title={`${t("tools.byKeys")} (K)`}
      onClick={() => (on ? leaveKeys(currentTool()) : enterKeys())}
    >
      <KeysIcon />
      <span class="tools-letter" aria-hidden="true">
        K
      </span>
    </button>
  );
}

export function Toolbar() {
  useEffect(() => followSlices(), []);
  return (
    <div class="tools-bar">
      {GROUPS.map((ids) => (
        <div class="tools-group" key={ids[0]}>
          {ids.map((id) => (
            <Choice id={id} key={id} />
          ))}
        </div>
      ))}
      <div class="tools-group">
        <ByKeys />
      </div>
      <div class="tools-group tools-last">
        <Back />
        <Back forward />
      </div>
    </div>
  );
}
