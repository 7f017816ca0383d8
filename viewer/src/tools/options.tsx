// What can be set of the chosen tool, and how it is used, in a line.

import { t } from "../i18n";
import { reading, scan, tool } from "../state";
import { keyPointer } from "./keypointer";
import { measured, measureOnly } from "./line";
import { state, want, wanted } from "./preview";
import { PENS, sizeFor } from "./sizes";
import { ThresholdOptions } from "./thresholdoptions";

function unit(): string {
  return scan.value?.geometry.calibrated === false ? "px" : "mm";
}

function Size() {
  const size = sizeFor(tool.value);
  if (!size) return null;
  const at = PENS.findLastIndex((pen) => pen <= size.value);
  return (
    <label class="tools-size">
      <span>{t("tools.size")}</span>
      <input
        type="range"
        min={0}
        max={PENS.length - 1}
        value={at}
        aria-valuetext={`${size.value} ${unit()}`}
        onInput={(event) => {
          size.value = PENS[event.currentTarget.valueAsNumber] ?? size.value;
        }}
      />
      <output class="tools-number">
        {size.value} {unit()}
      </output>
    </label>
  );
}

function LineOptions() {
  return (
    <>
      <label class="tools-check">
        <input
          type="checkbox"
          checked={measureOnly.value}
          onChange={(event) => {
            measureOnly.value = event.currentTarget.checked;
          }}
        />
        {t("tools.measureOnly")}
      </label>
      {measured.value.length > 0 && (
        <button
          type="button"
          class="button-quiet"
          onClick={() => {
            measured.value = [];
          }}
        >
          {t("tools.clearMeasured", { count: measured.value.length })}
        </button>
      )}
    </>
  );
}

/** Shown where a preview can come at all. */
function PreviewSwitch() {
  if (state.value === "none" && wanted.value) return null;
  return (
    <label class="tools-check">
      <input
        type="checkbox"
        checked={wanted.value && state.value !== "slow"}
        onChange={(event) => want(event.currentTarget.checked)}
      />
      {t(state.value === "slow" ? "tools.previewSlow" : "tools.preview")}
    </label>
  );
}

export function Options() {
  if (!reading.value) return null;
  const id = tool.value;
  return (
    <section class="tools-options" aria-label={t("tools.options", { tool: t(`tools.${id}`) })}>
      <h2 class="tools-title">{t(`tools.${id}`)}</h2>
      <p class="tools-hint" role="status">
        {keyPointer.value ? t("tools.hint.keys") : t(`tools.hint.${id}`)}
      </p>
      {id === "box" && <PreviewSwitch />}
      {id !== "threshold" && <Size />}
      {id === "line" && <LineOptions />}
      {id === "threshold" && <ThresholdOptions size={<Size />} />}
    </section>
  );
}
