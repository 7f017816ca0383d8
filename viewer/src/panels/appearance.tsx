// How masks are shown, in one row: filled or as outlines, how strongly, or not at all.

import { t } from "../i18n";
import { maskOpacity, maskStyle, masksShown } from "../state";
import { Glyph } from "./glyph";

export function Appearance() {
  const percent = Math.round(maskOpacity.value * 100);
  const shown = masksShown.value;
  return (
    <div class="panels-appearance">
      <fieldset class="panels-choice" aria-label={t("panels.style")}>
        {(["fill", "outline"] as const).map((style) => (
          <label key={style}>
            <input
              type="radio"
              name="panels-style"
              class="aloud"
              checked={maskStyle.value === style}
              onChange={() => {
                maskStyle.value = style;
              }}
            />
            <span title={`${t(`panels.${style}`)} (O)`}>{t(`panels.${style}`)}</span>
          </label>
        ))}
      </fieldset>
      <input
        type="range"
        min="5"
        max="100"
        step="5"
        value={percent}
        disabled={maskStyle.value === "outline"}
        aria-label={t("panels.opacity")}
        aria-valuetext={`${percent} %`}
        title={`${t("panels.opacity")}: ${percent} %`}
        onInput={(event) => {
          maskOpacity.value = Number(event.currentTarget.value) / 100;
        }}
      />
      <button
        type="button"
        class={shown ? "button-icon panels-small" : "button-icon panels-small panels-pressed"}
        aria-label={t(shown ? "panels.hide-all" : "panels.show-all")}
        title={`${t(shown ? "panels.hide-all" : "panels.show-all")} (H)`}
        onClick={() => {
          masksShown.value = !shown;
        }}
      >
        <Glyph name={shown ? "eye" : "hidden"} />
      </button>
    </div>
  );
}
