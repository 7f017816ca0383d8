// What the network says of its last answer, and what to do next: for the active object, on the slice on screen.

import { useEffect, useRef } from "preact/hooks";
import type { ExpectedDice } from "../api/wire";
import { t } from "../i18n";
import type { MaskState } from "../reading/masks";
import type { Candidate } from "../reading/reading";
import { axisNumber } from "../scan/scan";
import { cursor, reading, scan, window_ } from "../state";
import { type Advice, advise, LOW_DICE, LOW_IOU } from "./advice";
import { candidates, choose, isOf, type Place, search, searching, tryOn } from "./candidates";
import { Options } from "./options";
import { activeColour, activeObject, firstAnswer, sent, standing } from "./steps";
import { cropRound, picture } from "./thumb";

const SIZE = 84;
/** ms without a further step, after which other answers are looked for. */
const QUIET = 700;
/** More at once nobody reads. */
const MOST_ADVICE = 2;

interface Look {
  place: Place;
  state: MaskState;
  advice: Advice[];
}

/** The answer on screen; null where none was asked for. */
function look(): Look | null {
  const open = reading.value;
  const object = open && activeObject(open);
  if (!open || !object || !scan.value) return null;
  open.masks.version.value;
  const slice = cursor.value[axisNumber(open.axis)];
  const state = open.masks.get(object.id, slice);
  if (!state || (state.status !== "first" && state.status !== "refined")) return null;
  // what is on screen while a step is under way answers what was asked before it
  if (sent.value.some((one) => one.slice === slice && one.object === object.id)) return null;
  const { outline, points, scribbles } = standing(open.axis, slice);
  const corrected = points.length + scribbles.length > 0;
  // what a closer look will replace is nothing to worry about
  const final = state.status === "refined";
  const first = firstAnswer(open, object.id, slice);
  const box = corrected ? null : (outline?.box ?? null);
  const advice = final ? advise({ ...state, first, box }).slice(0, MOST_ADVICE) : [];
  const place = { session: open.id, object: object.id, slice, revision: state.revision };
  return { place, state, advice };
}

function Thumb({ place, one, all }: { place: Place; one: Candidate; all: readonly Candidate[] }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const open = reading.value;
  const shown = scan.value;
  const plane = open && shown?.geometry.planes[open.axis];
  const pixels = open ? shown?.slice(open.axis, place.slice) : undefined;
  const { low, high } = window_.value;
  const colour = activeColour();
  shown?.version.value;
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context || !plane || !pixels) return;
    const masks = all.map((other) => other.mask);
    const data = picture(plane, pixels, { low, high }, one.mask, colour, cropRound(plane, masks), SIZE);
    context.putImageData(new ImageData(data, SIZE, SIZE), 0, 0);
  }, [plane, pixels, low, high, colour, one, all]);
  return <canvas ref={canvas} width={SIZE} height={SIZE} class="tools-thumb" />;
}

function Candidates({ place, found }: { place: Place; found: readonly Candidate[] }) {
  // what goes away hears neither that the pointer left nor that the focus did
  useEffect(() => () => tryOn(place, null), []);
  const onKey = (event: KeyboardEvent) => {
    const one = found[Number(event.key) - 1];
    if (!one || event.ctrlKey || event.altKey || event.metaKey) return;
    // else the number is a window's
    event.stopPropagation();
    event.preventDefault();
    choose(place, one);
  };
  return (
    <fieldset class="tools-candidates" onKeyDown={onKey}>
      <legend>{t("tools.candidates")}</legend>
      {found.map((one, number) => (
        <button
          type="button"
          class="tools-candidate"
          key={one}
          aria-label={t("tools.candidate", { number: number + 1, iou: iouText(one.predictedIou) })}
          title={t("tools.candidate", { number: number + 1, iou: iouText(one.predictedIou) })}
          onClick={() => choose(place, one)}
          onPointerEnter={() => tryOn(place, one)}
          onPointerLeave={() => tryOn(place, null)}
          onFocus={() => tryOn(place, one)}
          onBlur={() => tryOn(place, null)}
        >
          <Thumb place={place} one={one} all={found} />
          <span>
            {number + 1}
            <small>{iouText(one.predictedIou)}</small>
          </span>
        </button>
      ))}
    </fieldset>
  );
}

function iouText(iou: number | null): string {
  return iou === null ? "" : iou.toFixed(2);
}

function Iou({ iou }: { iou: number }) {
  const shown = Math.min(Math.max(iou, 0), 1);
  return (
    <div class="tools-iou" title={t("tools.iouLong")}>
      <span>
        <span id="tools-iou-name">{t("tools.iou")}</span>
        <small>{t("tools.notCalibrated")}</small>
      </span>
      <meter min={0} max={1} low={LOW_IOU} high={0.85} optimum={1} value={shown} aria-labelledby="tools-iou-name" />
      <output class="tools-number">{iou.toFixed(2)}</output>
    </div>
  );
}

function Dice({ expected }: { expected: ExpectedDice }) {
  const [value, low, high] = [expected.value, expected.low, expected.high].map((one) => one.toFixed(2));
  return (
    <div class="tools-iou" title={t("tools.diceLong")}>
      <span>
        <span id="tools-dice-name">{t("tools.dice")}</span>
        <small>{t("tools.diceKind")}</small>
      </span>
      <meter
        min={0}
        max={1}
        low={LOW_DICE}
        high={0.85}
        optimum={1}
        value={expected.value}
        aria-labelledby="tools-dice-name"
      />
      <output class="tools-number">
        {value}
        <small>{t("tools.diceRange", { low: low!, high: high! })}</small>
      </output>
    </div>
  );
}

function Warning({ text }: { text: string }) {
  return (
    <p class="tools-warning">
      <span class="tools-sign" aria-hidden="true">
        !
      </span>
      {text}
    </p>
  );
}

function Answer({ now }: { now: Look }) {
  const { place, state, advice } = now;
  const others = candidates.value;
  const found = isOf(place, others) ? others!.found : null;
  const wanted = advice.length > 0 || state.ambiguous;
  const settled = state.status === "refined" && (reading.value?.pending.value ?? 0) === 0;
  useEffect(() => {
    if (!wanted || !settled || found) return;
    const timer = setTimeout(() => void search(place, true), QUIET);
    return () => clearTimeout(timer);
  }, [wanted, settled, found, place.object, place.slice, place.revision]);
  return (
    <section class="tools-doubt" aria-label={t("tools.answer")}>
      {state.expectedDice && <Dice expected={state.expectedDice} />}
      {state.predictedIou !== null && <Iou iou={state.predictedIou} />}
      <div role="status" class="tools-advice">
        {state.status === "first" && <p class="tools-hint">{t("tools.refining")}</p>}
        {advice.map((one) => (
          <Warning key={one} text={t(`tools.advice.${one}`)} />
        ))}
        {state.expectedDice?.unfamiliar && <Warning text={t("tools.unlike")} />}
        {state.ambiguous && advice.length === 0 && <p class="tools-hint">{t("tools.advice.oneClick")}</p>}
      </div>
      {found && found.length > 1 && <Candidates place={place} found={found} />}
      {found && found.length < 2 && wanted && <p class="tools-hint">{t("tools.noCandidates")}</p>}
      {!found && settled && (
        <button type="button" class="button-quiet" disabled={searching.value} onClick={() => void search(place, false)}>
          {t(searching.value ? "tools.searching" : "tools.otherAnswers")}
        </button>
      )}
    </section>
  );
}

export function Doubt() {
  const now = look();
  return (
    <div class="tools-now">
      <Options />
      {now && <Answer now={now} />}
    </div>
  );
}
