// From slices to the whole object: propagate, look at the least sure, fill between, copy.

import type { JobInfo } from "../api/types";
import { t } from "../i18n";
import type { Reading } from "../reading/reading";
import { hasEnded } from "../reading/told";
import { percent } from "../shell/format";
import { scan } from "../state";
import { Act } from "./act";
import {
  cannotCopy,
  cannotFill,
  cannotPropagate,
  copy,
  fill,
  type Obstacle,
  propagate,
  runningJob,
  toLeastSure,
  tried,
} from "./actions";
import { spoken } from "./format";
import { shown, sliceNow, toSlice } from "./goto";
import { bounded, reach, typed } from "./reach";
import { Section } from "./section";
import { activeSlices } from "./slices";
import { toldOf, whyStopped } from "./stopped";

export function VolumePart({ reading }: { reading: Reading }) {
  const running = reading.jobs.value.filter((job) => job.object !== null && !hasEnded(job));
  const active = reading.active.value;
  return (
    <Section
      name="volume"
      title={t("panels.volume")}
      note={running.length > 0 ? t("panels.under-way") : about(reading)}
    >
      {active === null ? <p class="panels-hint">{t("panels.cannot-nobody")}</p> : <Follow reading={reading} />}
      {running.map((job) => (
        <Progress key={job.id} reading={reading} job={job} />
      ))}
      <Unsure reading={reading} />
      <Ended reading={reading} />
      {active !== null && <Between reading={reading} />}
    </Section>
  );
}

/** Which structure all of this is about. */
function about(reading: Reading): string | undefined {
  const object = reading.objects.value.find((one) => one.id === reading.active.value);
  return object && spoken(object.name);
}

function Follow({ reading }: { reading: Reading }) {
  const why = cannotPropagate(reading);
  const millimetres = scan.value?.geometry.calibrated ?? false;
  const wrong = bounded.value && reach.value === null;
  const again = activeSlices(reading).leastSure.length > 0;
  return (
    <div class="panels-block">
      <Act
        class="button panels-wide"
        why={wrong ? t("panels.reach-wrong") : textOf(why)}
        onDo={() => void propagate(reading, reach.value ?? undefined)}
      >
        {t(again ? "panels.propagate-again" : "panels.propagate")} <kbd>G</kbd>
      </Act>
      {millimetres && (
        <fieldset class="panels-reach" aria-label={t("panels.reach")}>
          <label class="panels-check">
            <input
              type="checkbox"
              checked={bounded.value}
              onChange={(event) => {
                bounded.value = event.currentTarget.checked;
              }}
            />
            {t("panels.up-to")}
          </label>
          <input
            class="input panels-number"
            type="text"
            inputMode="decimal"
            aria-label={t("panels.reach-mm")}
            aria-invalid={wrong}
            disabled={!bounded.value}
            value={typed.value}
            onInput={(event) => {
              typed.value = event.currentTarget.value;
            }}
          />
          <span>mm</span>
        </fieldset>
      )}
      {wrong ? (
        <p class="panels-hint panels-wrong">{t("panels.reach-wrong")}</p>
      ) : (
        <Why why={why} but={again ? t("panels.again-hint") : null} />
      )}
    </div>
  );
}

function textOf(why: Obstacle): string | null {
  return why === null ? null : t(`panels.cannot-${why}`);
}

/** Why a button cannot be pressed, or what pressing it does. */
function Why({ why, but }: { why: Obstacle; but: string | null }) {
  if (why === "running") return null;
  const text = textOf(why) ?? but;
  return text === null ? null : <p class="panels-hint">{text}</p>;
}

function Progress({ reading, job }: { reading: Reading; job: JobInfo }) {
  const object = reading.objects.value.find((one) => one.id === job.object);
  const name = spoken(object?.name ?? "");
  return (
    <div class="panels-job">
      <p class="panels-line">
        <span class="panels-grow">
          {name}: {toldOf(job)}
        </span>
        {reading.mine && (
          <button
            type="button"
            class="button-quiet"
            aria-label={t("panels.stop-of", { name })}
            onClick={() => void tried(reading.stop(job.id))}
          >
            {t("panels.stop")}
          </button>
        )}
      </p>
      <progress
        aria-label={t("panels.progress-of", { name })}
        max={job.total ?? 1}
        {...(job.total === null ? {} : { value: Math.min(job.done, job.total) })}
      />
    </div>
  );
}

/** How the last propagation of the active structure ended. */
function Ended({ reading }: { reading: Reading }) {
  const active = reading.active.value;
  const job = reading.jobs.value.findLast((one) => active !== null && one.object === active);
  const { slices } = activeSlices(reading);
  // one that was undone is no news any more
  const undone = reading.redoable.value > 0 && !slices.some((one) => one.kind === "propagated");
  const ended = job !== undefined && !undone && runningJob(reading, active) === undefined ? job : undefined;
  const reasons = ended ? whyStopped(ended.stopped, reading.slices) : [];
  return (
    <>
      <div class="panels-ended" role="status">
        {ended && <p class={ended.state === "failed" ? "panels-wrong" : undefined}>{toldOf(ended)}</p>}
        {reasons.map((reason) => (
          <p key={reason} class="panels-hint">
            {reason}
          </p>
        ))}
      </div>
      {/* changes with each correction, which is not worth a word each time */}
      {ended && ended.state !== "failed" && (
        <p class="panels-hint">{t("panels.job-there", { count: slices.length })}</p>
      )}
    </>
  );
}

/** The least sure slices: where a look is worth most. */
function Unsure({ reading }: { reading: Reading }) {
  const order = activeSlices(reading).leastSure;
  if (order.length === 0) return null;
  const now = sliceNow(reading);
  return (
    <div class="panels-block">
      <button type="button" class="button-quiet panels-wide" onClick={toLeastSure}>
        {t("panels.least-sure")} <kbd>X</kbd>
      </button>
      <ol class="panels-unsure" aria-label={t("panels.unsure-list")}>
        {order.slice(0, 3).map(({ slice, confidence }) => (
          <li key={slice}>
            <button
              type="button"
              class="panels-link"
              aria-current={slice === now}
              onClick={() => toSlice(reading, slice)}
            >
              {t("panels.slice-confidence", { slice: shown(slice), confidence: percent(confidence!) })}
            </button>
          </li>
        ))}
      </ol>
    </div>
  );
}

function Between({ reading }: { reading: Reading }) {
  if (reading.slices < 2) return null;
  const gap = cannotFill(reading);
  return (
    <div class="panels-trio">
      <Act class="button-quiet" why={textOf(gap)} title={t("panels.fill-hint")} onDo={() => void fill(reading)}>
        {t("panels.fill-between")}
      </Act>
      <Copy reading={reading} step={-1} />
      <Copy reading={reading} step={1} />
    </div>
  );
}

function Copy({ reading, step }: { reading: Reading; step: 1 | -1 }) {
  const why = cannotCopy(reading, step);
  const slice = shown(sliceNow(reading) + step);
  const label = t("panels.copy-hint", { slice });
  return (
    <Act class="button-quiet" why={textOf(why)} title={label} onDo={() => void copy(reading, step)}>
      {why === "end" ? t("panels.copy-none") : t("panels.copy-to", { slice })}
    </Act>
  );
}
