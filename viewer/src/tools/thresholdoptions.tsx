// A slider with two ends over the values of a region, and what is done with it.

import type { ComponentChildren } from "preact";
import { t } from "../i18n";
import { reading, scan } from "../state";
import {
  apply,
  ends,
  forget,
  keep,
  type Manner,
  manner,
  type Range,
  region,
  regionBy,
  restRange,
  setManner,
  setRange,
} from "./threshold";

const STEPS = 400;
const MANNERS: readonly Manner[] = ["add", "replace", "remove"];

/** Of whole numbers 1, of others a fine share of the range. */
function stepOf([low, high]: Range): number {
  const whole = /^[<>|]?[iu]/.test(scan.value?.geometry.dtype ?? "") || /^u?int/.test(scan.value?.geometry.dtype ?? "");
  return whole ? 1 : Math.max((high - low) / STEPS, Number.EPSILON);
}

/** As many digits as the step needs. */
export function written(value: number, step: number): string {
  return value.toFixed(Math.min(Math.max(0, Math.ceil(-Math.log10(step))), 6));
}

function End({ which, bounds }: { which: 0 | 1; bounds: Range }) {
  const now = restRange();
  const step = stepOf(bounds);
  const change = (value: number) => {
    if (!Number.isFinite(value)) return;
    const other = now[1 - which]!;
    // one end stops at the other
    const end = which === 0 ? Math.min(value, other) : Math.max(value, other);
    setRange(which === 0 ? [end, other] : [other, end]);
  };
  const name = t(which === 0 ? "tools.lowest" : "tools.highest");
  const shown = written(now[which], step);
  return (
    <div class="tools-end">
      <input
        type="range"
        aria-label={name}
        min={bounds[0]}
        max={bounds[1]}
        step={step}
        value={now[which]}
        onInput={(event) => change(event.currentTarget.valueAsNumber)}
      />
      <input
        type="number"
        class="tools-field"
        aria-label={name}
        step={step}
        value={shown}
        onChange={(event) => change(event.currentTarget.valueAsNumber)}
      />
    </div>
  );
}

function Choices<T extends string>(props: {
  name: string;
  values: readonly T[];
  now: T;
  text: (value: T) => string;
  choose: (value: T) => void;
}) {
  return (
    <fieldset class="tools-choices">
      <legend>{props.name}</legend>
      {props.values.map((value) => (
        <label key={value}>
          <input
            type="radio"
            name={`tools-${props.name}`}
            checked={props.now === value}
            onChange={() => props.choose(value)}
          />
          {props.text(value)}
        </label>
      ))}
    </fieldset>
  );
}

function Kept() {
  const now = reading.value?.keptRange.value;
  if (now) {
    const step = stepOf(ends.value);
    const end = (value: number | null) => (value === null ? "…" : written(value, step));
    return (
      <p class="tools-kept">
        {t("tools.keptTo", { low: end(now[0]), high: end(now[1]) })}{" "}
        <button type="button" class="button-quiet" onClick={() => void keep(null)}>
          {t("tools.keepNone")}
        </button>
      </p>
    );
  }
  return (
    <button type="button" class="button-quiet" onClick={() => void keep(restRange())}>
      {t("tools.keepRange")}
    </button>
  );
}

export function ThresholdOptions({ size }: { size: ComponentChildren }) {
  const now = restRange();
  const bounds: Range = region.value
    ? [Math.min(ends.value[0], now[0]), Math.max(ends.value[1], now[1])]
    : [now[0] - (now[1] - now[0]), now[1] + (now[1] - now[0])];
  return (
    <>
      <Choices
        name={t("tools.region")}
        values={["box", "brush"] as const}
        now={regionBy.value}
        text={(value) => t(`tools.region.${value}`)}
        choose={(value) => {
          regionBy.value = value;
        }}
      />
      {regionBy.value === "brush" && size}
      <fieldset class="tools-range">
        <legend>
          {t("tools.values")} {scan.value?.geometry.units ?? ""}
        </legend>
        <End which={0} bounds={bounds} />
        <End which={1} bounds={bounds} />
      </fieldset>
      {region.value && (
        <>
          <Choices
            name={t("tools.manner")}
            values={MANNERS}
            now={manner.value}
            text={(value) => t(`tools.manner.${value}`)}
            choose={setManner}
          />
          <div class="tools-row">
            <button type="button" class="button" onClick={apply}>
              {t("tools.apply")}
            </button>
            <button type="button" class="button-quiet" onClick={forget}>
              {t("tools.forget")}
            </button>
          </div>
        </>
      )}
      <Kept />
    </>
  );
}
