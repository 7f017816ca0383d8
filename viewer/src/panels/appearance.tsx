// How masks are shown: outline or fill, how strongly, or not at all.

import { t } from "../i18n";
import { maskOpacity, maskStyle, masksShown } from "../state";

export function Appearance() {
  const percent = Math.round(maskOpacity.value * 100);
  return (
    <div class="panels-appearance">
      <div class="panels-choice" role="radiogroup" aria-label={t("panels.style")}>
        {(["fill", "outline"] as const).map((style) => (
          <label key={style} class="panels-radio">
            <input
              type="radio"
              name="panels-style"
              checked={maskStyle.value === style}
              onChange={() => {
                maskStyle.value = style;
              }}
            />
            {t(`panels.${style}`)}
          </label>
        ))}
      </div>
      <label class="panels-slider">
        {t("panels.opacity")}
        <input
          type="range"
          min="5"
          max="100"
          step="5"
          value={percent}
          disabled={maskStyle.value === "outline"}
          aria-valuetext={`${percent} %`}
          onInput={(event) => {
            maskOpacity.value = Number(event.currentTarget.value) / 100;
          }}
        />
      </label>
      <label class="panels-check">
        <input
          type="checkbox"
          checked={!masksShown.value}
          onChange={(event) => {
            masksShown.value = !event.currentTarget.checked;
          }}
        />
        {t("panels.hide-all")} <kbd>H</kbd>
      </label>
    </div>
  );
}
