// The structures of a reading: name, colour, shown, locked, and what was measured.

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import type { ObjectInfo } from "../api/types";
import { t } from "../i18n";
import type { Reading } from "../reading/reading";
import { number } from "../shell/format";
import { reading as open } from "../state";
import { makeObject } from "../tools/steps";
import { Act } from "./act";
import { find, remove, tried } from "./actions";
import { Appearance } from "./appearance";
import { NameBox } from "./combobox";
import { meanAndSpread, millilitres, millimetres, spoken } from "./format";
import { Glyph } from "./glyph";
import { shown, toSlice } from "./goto";
import { measured, stale } from "./measures";
import { OrgansPart } from "./organs";
import { Section, unfold } from "./section";

/** Whether a new one is being named. */
const adding = signal(false);

/** Begins with a further structure; false where none can be added. */
export function addStructure(): boolean {
  if (!open.peek()?.mine) return false;
  unfold("structures");
  adding.value = true;
  return true;
}

export function Structures({ reading }: { reading: Reading }) {
  const objects = reading.objects.value;
  const names = objects.map((one) => one.name);
  return (
    <Section
      name="structures"
      title={t("panels.structures")}
      note={objects.length > 0 ? `${objects.length}` : undefined}
    >
      {objects.length === 0 && <p class="panels-hint">{t("panels.no-structures")}</p>}
      <ul class="panels-list" aria-label={t("panels.structures")}>
        {objects.map((object) => (
          <Structure key={object.id} reading={reading} object={object} names={names} />
        ))}
      </ul>
      {reading.mine &&
        (adding.value ? (
          <NameBox
            label={t("panels.new-name")}
            placeholder={t("panels.new-placeholder")}
            taken={names}
            eager
            takesOnLeave
            onName={(name) => add(reading, name)}
            onLeave={() => {
              adding.value = false;
            }}
          />
        ) : (
          <button type="button" class="button-quiet panels-wide" onClick={addStructure}>
            {t("panels.add")}
          </button>
        ))}
      <OrgansPart reading={reading} />
      {objects.length > 0 && <Appearance />}
    </Section>
  );
}

async function add(reading: Reading, name: string): Promise<boolean> {
  const added = await tried(makeObject(reading, name));
  if (added) adding.value = false;
  return added;
}

interface RowProperties {
  reading: Reading;
  object: ObjectInfo;
  names: readonly string[];
}

function Structure({ reading, object, names }: RowProperties) {
  const [renaming, setRenaming] = useState(false);
  const active = reading.active.value === object.id;
  const name = spoken(object.name);
  const change = (what: Partial<Pick<ObjectInfo, "colour" | "visible" | "locked">>) =>
    void tried(reading.changeObject(object.id, what));

  async function rename(to: string): Promise<boolean> {
    if (to !== name && !(await tried(reading.changeObject(object.id, { name: to })))) return false;
    setRenaming(false);
    return true;
  }

  return (
    <li class={active ? "panels-row panels-row-active" : "panels-row"}>
      <div class="panels-line">
        <input
          type="color"
          class="panels-colour"
          aria-label={t("panels.colour-of", { name })}
          value={object.colour}
          disabled={!reading.mine}
          onChange={(event) => change({ colour: event.currentTarget.value })}
        />
        {renaming ? (
          <NameBox
            label={t("panels.name-of", { name })}
            start={name}
            taken={names.filter((other) => other !== object.name)}
            eager
            takesOnLeave
            onName={rename}
            onLeave={() => setRenaming(false)}
          />
        ) : (
          <button
            type="button"
            class="panels-name"
            aria-current={active}
            title={active && reading.mine ? t("panels.rename-hint") : name}
            onClick={() => {
              reading.active.value = object.id;
            }}
            onDblClick={() => reading.mine && setRenaming(true)}
            onKeyDown={(event) => {
              if (!reading.mine) return;
              if (event.key === "F2") setRenaming(true);
              else if (event.key === "Delete") void remove(reading, object);
              else return;
              event.preventDefault();
            }}
          >
            {name}
          </button>
        )}
        {active && reading.mine && !renaming && (
          <>
            <Small
              label={t("panels.find-it", { name })}
              glyph="find"
              why={object.locked ? t("panels.cannot-locked") : null}
              onDo={() => void find(reading, object)}
            />
            <Small label={t("panels.rename-it", { name })} glyph="edit" onDo={() => setRenaming(true)} />
            <Small
              label={t("panels.delete-it", { name })}
              glyph="trash"
              why={object.locked ? t("panels.cannot-locked") : null}
              onDo={() => void remove(reading, object)}
            />
          </>
        )}
        <Toggle
          pressed={!object.visible}
          label={t(object.visible ? "panels.hide" : "panels.show", { name })}
          glyph={object.visible ? "eye" : "hidden"}
          disabled={!reading.mine}
          onClick={() => change({ visible: !object.visible })}
        />
        <Toggle
          pressed={object.locked}
          label={t(object.locked ? "panels.unlock" : "panels.lock", { name })}
          glyph={object.locked ? "locked" : "open"}
          disabled={!reading.mine}
          onClick={() => change({ locked: !object.locked })}
        />
      </div>
      <Measures reading={reading} object={object.id} active={active} />
    </li>
  );
}

interface SmallProperties {
  label: string;
  glyph: "edit" | "trash" | "find";
  why?: string | null;
  onDo: () => void;
}

function Small({ label, glyph, why = null, onDo }: SmallProperties) {
  return (
    <Act class="button-icon panels-small" label={label} why={why} onDo={onDo}>
      <Glyph name={glyph} />
    </Act>
  );
}

interface ToggleProperties {
  pressed: boolean;
  label: string;
  glyph: "eye" | "hidden" | "locked" | "open";
  disabled: boolean;
  onClick: () => void;
}

function Toggle({ pressed, label, glyph, disabled, onClick }: ToggleProperties) {
  return (
    <button
      type="button"
      class={pressed ? "button-icon panels-small panels-pressed" : "button-icon panels-small"}
      aria-label={label}
      title={label}
      disabled={disabled}
      onClick={onClick}
    >
      <Glyph name={glyph} />
    </button>
  );
}

interface MeasuresProperties {
  reading: Reading;
  object: number;
  active: boolean;
}

/** One line of a structure that is not active: its volume. All of the active one. */
function Measures({ reading, object, active }: MeasuresProperties) {
  reading.masks.version.value;
  const measure = measured.value.get(object);
  if (!measure || measure.voxels === 0) {
    const drawn = reading.masks.slices(object).length > 0;
    return active ? <p class="panels-hint">{t(drawn ? "panels.measuring" : "panels.not-drawn")}</p> : null;
  }
  const size =
    measure.volume_ml === null
      ? t("panels.pixels", { count: number(measure.voxels) })
      : t("panels.ml", { volume: millilitres(measure.volume_ml) });
  if (!active) return <p class="panels-hint panels-numbers">{size}</p>;
  const { diameter_mm: diameter, slice, mean, std } = measure;
  return (
    <dl class="panels-measures" aria-busy={stale.value} data-stale={stale.value}>
      <dt>{t(measure.volume_ml === null ? "panels.area" : "panels.volume-of")}</dt>
      <dd>{size}</dd>
      {diameter !== null && (
        <>
          <dt>{t("panels.diameter")}</dt>
          <dd>
            {t("panels.mm", { length: millimetres(diameter) })}
            {slice !== null && reading.slices > 1 && (
              <button
                type="button"
                class="panels-link"
                title={t("panels.diameter-where")}
                onClick={() => toSlice(reading, slice)}
              >
                {t("panels.on-slice", { slice: shown(slice) })}
              </button>
            )}
          </dd>
        </>
      )}
      {mean !== null && (
        <>
          <dt>{t("panels.mean")}</dt>
          <dd>
            {meanAndSpread(mean, std ?? 0)} {measure.units ?? ""}
          </dd>
        </>
      )}
    </dl>
  );
}
