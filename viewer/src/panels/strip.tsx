// Beside the slice scroll bar: on which slices the active structure is, how it came there, and how sure that is.

import { useEffect, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import type { Reading } from "../reading/reading";
import { percent } from "../shell/format";
import { reading as open } from "../state";
import { spoken } from "./format";
import { shown, sliceNow, toSlice } from "./goto";
import { activeSlices, type SliceInfo } from "./slices";
import { beyond, nearest, sliceAt, type Track } from "./strip-geometry";
import { paintStrip } from "./strip-paint";
import "./strip.css";

interface Properties {
  /** Whether slice 0 is at the bottom. */
  reversed?: boolean;
}

export function Strip({ reversed = false }: Properties) {
  const reading = open.value;
  const active = reading?.active.value ?? null;
  if (!reading || reading.slices < 2) return null;
  return <Slices key={reading.id} reading={reading} object={active} reversed={reversed} />;
}

interface SlicesProperties {
  reading: Reading;
  object: number | null;
  reversed: boolean;
}

function Slices({ reading, object, reversed }: SlicesProperties) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const size = useSize(canvas);
  const info = reading.objects.value.find((one) => one.id === object);
  const { slices, leastSure } = activeSlices(reading);
  const least = leastSure[0] ?? null;
  const now = sliceNow(reading);
  const track: Track = { height: size.height, slices: reading.slices, reversed };
  const colour = info?.colour ?? "#888888";

  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context || size.height === 0) return;
    const dots = window.devicePixelRatio || 1;
    element.width = Math.round(size.width * dots);
    element.height = Math.round(size.height * dots);
    context.setTransform(dots, 0, 0, dots, 0, 0);
    const style = getComputedStyle(element);
    const token = (name: string) => style.getPropertyValue(name).trim();
    const look = { colour, ink: token("--ink"), ground: token("--ground"), warn: token("--warn") };
    paintStrip(context, track, size.width, slices, least?.slice ?? null, now, look);
  });

  const go = (event: PointerEvent) => toSlice(reading, pointed(event, track, slices));
  return (
    <canvas
      ref={canvas}
      class="panels-strip"
      role="slider"
      tabIndex={0}
      aria-orientation="vertical"
      aria-label={t("panels.strip", { name: info ? spoken(info.name) : t("panels.no-structure") })}
      aria-valuemin={1}
      aria-valuemax={reading.slices}
      aria-valuenow={shown(now)}
      aria-valuetext={saidOf(slices, now, least)}
      title={t("panels.strip-hint")}
      onPointerDown={(event) => {
        if (event.button !== 0) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        go(event);
      }}
      onPointerMove={(event) => {
        if (event.currentTarget.hasPointerCapture(event.pointerId)) go(event);
      }}
      onKeyDown={(event) => {
        const to = keyed(event.key, slices, now, reversed);
        if (to === null) return;
        if (to !== undefined) toSlice(reading, to);
        event.preventDefault();
        event.stopPropagation();
      }}
    />
  );
}

/** The slice under the pointer; one with a mask that is within three pixels is what was meant. */
function pointed(event: PointerEvent, track: Track, slices: readonly SliceInfo[]): number {
  const y = event.offsetY;
  const slice = sliceAt(track, y);
  const near = nearest(
    slices.map((one) => one.slice),
    slice,
  );
  const pitch = track.height / track.slices;
  return near !== undefined && Math.abs(near - slice) * pitch <= 3 ? near : slice;
}

/** Where a key leads: to slices with a mask, or (Page) to those that were asked or drawn; null: a key for others. */
export function keyed(key: string, slices: readonly SliceInfo[], now: number, reversed: boolean) {
  const all = slices.map((one) => one.slice);
  const given = slices.filter((one) => one.kind !== "propagated").map((one) => one.slice);
  const down = reversed ? -1 : 1;
  switch (key) {
    case "ArrowDown":
      return beyond(all, now, down);
    case "ArrowUp":
      return beyond(all, now, down === 1 ? -1 : 1);
    case "PageDown":
      return beyond(given, now, down);
    case "PageUp":
      return beyond(given, now, down === 1 ? -1 : 1);
    case "Home":
      return reversed ? all.at(-1) : all[0];
    case "End":
      return reversed ? all[0] : all.at(-1);
    default:
      return null;
  }
}

/** What a slice is, in words: what the strip shows by colour, length and marks. */
export function saidOf(slices: readonly SliceInfo[], now: number, least: SliceInfo | null): string {
  const here = slices.find((one) => one.slice === now);
  const parts = [t("panels.slice", { slice: shown(now) })];
  if (!here) parts.push(t("panels.kind-none"));
  else {
    parts.push(t(`panels.kind-${here.kind}`));
    if (here.confidence !== null) parts.push(t("panels.confidence", { confidence: percent(here.confidence) }));
    if (least?.slice === now) parts.push(t("panels.the-least-sure"));
  }
  return parts.join(", ");
}

/** Of an element, in CSS pixels, as it changes; and again when colours do. */
function useSize(of: { current: HTMLElement | null }): { width: number; height: number } {
  const [size, setSize] = useState({ width: 0, height: 0 });
  useEffect(() => {
    const element = of.current;
    if (!element) return;
    const measure = () => setSize({ width: element.clientWidth, height: element.clientHeight });
    const sizes = new ResizeObserver(measure);
    sizes.observe(element);
    const themes = new MutationObserver(measure);
    themes.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    measure();
    return () => {
      sizes.disconnect();
      themes.disconnect();
    };
  }, [of]);
  return size;
}
