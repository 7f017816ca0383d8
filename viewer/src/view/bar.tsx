// The line above the planes: window, fit, cine, smoothing, crosshair.

import { useSignalEffect } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { type Key, t } from "../i18n";
import { view as texts } from "../i18n/en/view";
import { axisNumber, type Scan } from "../scan/scan";
import { axesOf } from "../scan/space";
import { crosshairShown, cursor, layout, locked, window_ } from "../state";
import { fitAll, framesPerSecond, mainAxis, preset, running, showWindow, smooth, toSlice } from "./looking";
import { boundText } from "./readout";
import { ViewIcon } from "./view-icon";

export function Bar({ scan }: { scan: Scan }) {
  const { geometry } = scan;
  const axes = axesOf(geometry);
  const many = geometry.planes[mainAxis(geometry)].count > 1;
  return (
    <div class="view-bar" role="toolbar" aria-label={t("view.bar")}>
      <WindowChoice scan={scan} />
      <span class="view-gap" />
      <Loaded scan={scan} />
      <button
        type="button"
        class="view-button"
        title={`${t("view.fit")} (F)`}
        aria-label={t("view.fit")}
        onClick={fitAll}
      >
        <ViewIcon name="fit" />
      </button>
      {many && layout.value !== "volume" && <Cine scan={scan} />}
      <Switch name="smooth" text="view.smooth" keys="I" on={smooth.value} change={(on) => (smooth.value = on)} />
      {axes.length > 1 && (
        <Switch
          name="crosshair"
          text="view.crosshair"
          on={crosshairShown.value}
          change={(on) => (crosshairShown.value = on)}
        />
      )}
    </div>
  );
}

function Switch(of: {
  name: "smooth" | "crosshair";
  text: Key;
  keys?: string;
  on: boolean;
  change: (on: boolean) => void;
}) {
  const text = t(of.text);
  return (
    <button
      type="button"
      class="view-button"
      title={of.keys ? `${text} (${of.keys})` : text}
      aria-label={text}
      aria-pressed={of.on}
      onClick={() => of.change(!of.on)}
    >
      <ViewIcon name={of.name} />
    </button>
  );
}

/** How a window is called; a file's own preset by its name. */
export function windowText(name: string): string {
  const key = `view.window.${name}`;
  return key in texts ? t(key as Key) : name;
}

function WindowChoice({ scan }: { scan: Scan }) {
  const { windows } = scan.geometry;
  const { name, low, high } = window_.value;
  const [level, width] = [(low + high) / 2, high - low];
  const number = windows.findIndex((one) => one.name === name && one.low === low && one.high === high);
  return (
    <fieldset class="view-window" aria-label={t("view.window")}>
      <Select
        label={t("view.window")}
        title={t("view.windowHint")}
        value={String(number)}
        change={(value) => preset(Number(value))}
      >
        {number < 0 && <option value="-1">{windowText("own")}</option>}
        {windows.map((one, n) => (
          <option key={one.name} value={String(n)}>
            {windowText(one.name)}
            {n < 9 ? ` (${n + 1})` : ""}
          </option>
        ))}
      </Select>
      <NumberField text={t("view.level")} value={level} span={width} change={(value) => showWindow(value, width)} />
      <NumberField
        text={t("view.width")}
        value={width}
        span={width}
        least={0}
        change={(value) => showWindow(level, value)}
      />
    </fieldset>
  );
}

/** A choice that gives the focus back to the picture when a pointer made it: letters are the tools' again, not the list's. */
function Select(of: {
  label: string;
  title?: string;
  value: string;
  change: (value: string) => void;
  children: ComponentChildren;
}) {
  const byPointer = useRef(false);
  return (
    <select
      class="view-input"
      aria-label={of.label}
      title={of.title}
      value={of.value}
      onPointerDown={() => {
        byPointer.current = true;
      }}
      onKeyDown={() => {
        byPointer.current = false;
      }}
      onChange={(event) => {
        of.change(event.currentTarget.value);
        const room = event.currentTarget.closest(".view-room");
        if (byPointer.current) room?.querySelector<HTMLElement>(".view-plane")?.focus({ preventScroll: true });
      }}
    >
      {of.children}
    </select>
  );
}

function NumberField(of: {
  text: string;
  value: number;
  span: number;
  least?: number;
  change: (value: number) => void;
}) {
  return (
    <label class="view-number">
      <span>{of.text}</span>
      <input
        class="view-input"
        type="number"
        step="any"
        min={of.least}
        value={boundText(of.value, of.span)}
        onChange={(event) => {
          const value = event.currentTarget.valueAsNumber;
          if (Number.isFinite(value) && (of.least === undefined || value > of.least)) of.change(value);
          else event.currentTarget.value = boundText(of.value, of.span);
        }}
      />
    </label>
  );
}

function stopRunning(): void {
  running.value = false;
}

const SPEEDS = [4, 8, 12, 20, 30];

/** Slices run by, round and round, each once it is here. */
function Cine({ scan }: { scan: Scan }) {
  const on = running.value;
  const axis = mainAxis(scan.geometry);
  const speed = framesPerSecond.value;
  useEffect(() => {
    if (!on) return;
    const { count } = scan.geometry.planes[axis];
    const timer = setInterval(() => {
      const now = cursor.peek()[axisNumber(axis)];
      if (scan.slice(axis, now)) toSlice(axis, (now + 1) % count);
    }, 1000 / speed);
    return () => clearInterval(timer);
  }, [on, axis, speed, scan]);
  useEffect(() => stopRunning, [scan]);
  // slices that run by behind a lock, or where nobody looks, are no sign of a reader
  useSignalEffect(() => {
    if (locked.value) stopRunning();
  });
  useEffect(() => {
    if (!on) return;
    const look = () => document.hidden && stopRunning();
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, [on]);
  return (
    <span class="view-cine">
      <button
        type="button"
        class="view-button"
        title={`${t("view.cine")} (C)`}
        aria-label={t("view.cine")}
        aria-pressed={on}
        onClick={() => (running.value = !on)}
      >
        <ViewIcon name={on ? "pause" : "play"} />
      </button>
      {on && (
        <Select
          label={t("view.speed")}
          value={String(speed)}
          change={(value) => {
            framesPerSecond.value = Number(value);
          }}
        >
          {SPEEDS.map((one) => (
            <option key={one} value={String(one)}>
              {t("view.perSecond", { n: one })}
            </option>
          ))}
        </Select>
      )}
    </span>
  );
}

/** How much of the scan is here, until all of it is. */
function Loaded({ scan }: { scan: Scan }) {
  const share = scan.loaded.value;
  if (share >= 1 || scan.whole === false) return null;
  const percent = Math.floor(share * 100);
  return (
    <span class="view-loaded" title={t("view.loadingHint")}>
      {t("view.loading", { percent })}
      <progress max={100} value={percent} aria-label={t("view.loading", { percent })} />
    </span>
  );
}
