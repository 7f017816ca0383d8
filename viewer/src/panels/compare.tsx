// How far the masks are from a reference: another reading of the scan, or a file of labels.

import { useEffect, useRef, useState } from "preact/hooks";
import { sessionsOf } from "../api/results";
import type { ComparedStructure, SessionLine } from "../api/types";
import { t } from "../i18n";
import type { Reading } from "../reading/reading";
import { moment } from "../shell/format";
import { tried } from "./actions";
import { compareWith, comparing, endComparison, type Outcome, outcome, showDifference } from "./comparing";
import { comparison } from "./comparison";
import { millilitres, millimetres, share, spoken } from "./format";
import { Section } from "./section";

export function ComparePart({ reading }: { reading: Reading }) {
  const found = outcome.value?.session === reading.id ? outcome.value : null;
  return (
    <Section name="compare" title={t("panels.compare")} note={found?.title}>
      <Choice reading={reading} />
      {found && <Result reading={reading} found={found} />}
    </Section>
  );
}

function titleOf(line: SessionLine): string {
  const closed = line.closed === null ? "" : ` (${t("panels.closed")})`;
  return `${line.owner}, ${moment(line.began)}${closed}`;
}

function Choice({ reading }: { reading: Reading }) {
  const [lines, setLines] = useState<readonly SessionLine[]>([]);
  const [chosen, setChosen] = useState("");
  const file = useRef<HTMLInputElement>(null);

  useEffect(() => {
    const ending = new AbortController();
    sessionsOf(reading.caseId, true, ending.signal).then(
      (found) => setLines(found.filter((one) => one.id !== reading.id)),
      // a file can be compared with all the same
      () => setLines([]),
    );
    return () => ending.abort();
  }, [reading]);

  async function withFile(picked: File | undefined): Promise<void> {
    if (picked) await tried(compareWith(reading, picked, picked.name));
    if (file.current) file.current.value = "";
  }

  async function withSession(id: string): Promise<void> {
    setChosen(id);
    const line = lines.find((one) => one.id === id);
    if (line && !(await tried(compareWith(reading, { session: id }, titleOf(line))))) setChosen("");
  }

  return (
    <div class="panels-block" aria-busy={comparing.value}>
      {lines.length > 0 && (
        <label class="field">
          {t("panels.other-reading")}
          <select
            value={chosen}
            disabled={comparing.value}
            onChange={(event) => void withSession(event.currentTarget.value)}
          >
            <option value="">{t("panels.choose")}</option>
            {lines.map((line) => (
              <option key={line.id} value={line.id}>
                {titleOf(line)}
              </option>
            ))}
          </select>
        </label>
      )}
      <button
        type="button"
        class="button-quiet panels-wide"
        disabled={comparing.value}
        onClick={() => file.current?.click()}
      >
        {t("panels.reference-file")}
      </button>
      <input
        ref={file}
        type="file"
        hidden
        accept=".nii,.gz,.nrrd,.mha,.mhd,.dcm,.png,.zip"
        aria-label={t("panels.reference-file")}
        onChange={(event) => void withFile(event.currentTarget.files?.[0])}
      />
      {comparing.value && (
        <p class="panels-hint" role="status">
          {t("panels.comparing")}
        </p>
      )}
    </div>
  );
}

function Result({ reading, found }: { reading: Reading; found: Outcome }) {
  const old = reading.masks.version.value !== found.version;
  return (
    <>
      <CompareTable reading={reading} structures={found.structures} />
      {found.structures.every((one) => one.dice === null) && <p class="panels-caveat">{t("panels.nothing-shared")}</p>}
      {found.notes.map((note) => (
        <p key={note} class="panels-hint">
          {note}
        </p>
      ))}
      <Legend />
      <div class="panels-pair">
        {old && (
          <button
            type="button"
            class="button-quiet"
            disabled={comparing.value}
            onClick={() => void tried(compareWith(reading, found.against, found.title))}
          >
            {t("panels.compare-again")}
          </button>
        )}
        <button type="button" class="button-quiet" onClick={endComparison}>
          {t("panels.compare-end")}
        </button>
      </div>
    </>
  );
}

interface TableProperties {
  reading: Reading;
  structures: readonly ComparedStructure[];
}

/** Volumes of both, with a dash for what is in one alone. */
export function volumes(one: ComparedStructure): string {
  const text = (ml: number | null) => (ml === null ? "–" : millilitres(ml));
  return `${text(one.volume_ml)} / ${text(one.volume_ref_ml)}`;
}

export function CompareTable({ reading, structures }: TableProperties) {
  const mm = (value: number | null) => (value === null ? "–" : millimetres(value));
  return (
    <table class="panels-table">
      <caption class="aloud">{t("panels.compare-caption")}</caption>
      <thead>
        <tr>
          <th scope="col">{t("panels.structure")}</th>
          <th scope="col">Dice</th>
          <th scope="col">
            <abbr title={t("panels.hd95-long")}>HD95</abbr> mm
          </th>
          <th scope="col">
            <abbr title={t("panels.assd-long")}>ASSD</abbr> mm
          </th>
          <th scope="col">{t("panels.ml-both")}</th>
        </tr>
      </thead>
      <tbody>
        {structures.map((one) => (
          <tr key={one.name}>
            <th scope="row">
              <Named reading={reading} one={one} />
            </th>
            <td>{share(one.dice)}</td>
            <td>{mm(one.hd95_mm)}</td>
            <td>{mm(one.assd_mm)}</td>
            <td>{volumes(one)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** A structure's name; of one that both have, the button that shows its difference alone. */
function Named({ reading, one }: { reading: Reading; one: ComparedStructure }) {
  const object = one.object;
  if (object === null || one.dice === null) return <>{spoken(one.name)}</>;
  return (
    <button
      type="button"
      class="panels-link"
      aria-pressed={comparison.value?.object === object}
      title={t("panels.most-different")}
      onClick={() => showDifference(reading, object)}
    >
      {spoken(one.name)}
    </button>
  );
}

/** Colours and patterns of the picture, in words. */
function Legend() {
  const shown = comparison.value;
  if (!shown) return null;
  return (
    <ul class="panels-legend" aria-label={t("panels.legend")}>
      {(["both", "mine", "theirs"] as const).map((part) => (
        <li key={part}>
          <span class={`panels-swatch panels-swatch-${part}`} aria-hidden="true" />
          {t(`panels.legend-${part}`)}
        </li>
      ))}
    </ul>
  );
}
