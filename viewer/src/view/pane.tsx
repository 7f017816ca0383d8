// One plane with all that is around its picture: letters, place and value, slices.

import { useComputed } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Axis } from "../api/types";
import { t } from "../i18n";
import { Strip } from "../panels/strip";
import { axisNumber, type Scan } from "../scan/scan";
import { axesOf, edgeLetters, growsUpwards } from "../scan/space";
import { cursor, layout, reading } from "../state";
import { Hand } from "./hand";
import { enlarge, pointer, toSlice } from "./looking";
import { Plane } from "./plane";
import { placeAt, planeText, positionText, sliceText, valueText } from "./readout";

export function Pane({ scan, axis }: { scan: Scan; axis: Axis }) {
  const host = useRef<HTMLDivElement>(null);
  const slice = useRef<HTMLCanvasElement>(null);
  const masks = useRef<HTMLCanvasElement>(null);
  const drawn = useRef<HTMLCanvasElement>(null);
  const [plane, setPlane] = useState<Plane | null>(null);
  useEffect(() => {
    const canvases = { slice: slice.current!, masks: masks.current!, hand: drawn.current! };
    const made = new Plane(scan, axis, host.current!, canvases);
    const hand = new Hand(host.current!, axis, () => made.frame.peek());
    setPlane(made);
    return () => {
      hand.close();
      made.close();
    };
  }, [scan, axis]);
  const { geometry } = scan;
  const label = useComputed(
    () => `${planeText(geometry, axis)}, ${t("view.slice")} ${sliceText(geometry, axis, cursor.value)}`,
  );
  return (
    <div class="view-pane" data-plane={axis}>
      <div
        class="view-plane"
        ref={host}
        role="application"
        aria-label={label}
        aria-describedby="view-keys"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: an application takes keys, that is what the role says
        tabIndex={0}
        data-plane={axis}
      >
        <canvas class="view-canvas" ref={slice} />
        <canvas class="view-cutout view-masks" ref={masks} />
        <canvas class="view-cutout" ref={drawn} />
        <Letters scan={scan} axis={axis} />
        {plane?.waiting.value && (
          <p class="view-waiting" role="status">
            {t("view.waiting")}
          </p>
        )}
      </div>
      <Corner scan={scan} axis={axis} />
      <Readout scan={scan} axis={axis} plane={plane} />
      {geometry.planes[axis].count > 1 && <Slices scan={scan} axis={axis} />}
    </div>
  );
}

function Letters({ scan, axis }: { scan: Scan; axis: Axis }) {
  const letters = edgeLetters(scan.geometry, axis);
  if (!letters) return null;
  return (
    <>
      {(["left", "right", "top", "bottom"] as const).map((edge) => (
        <span key={edge} class={`view-letter view-letter-${edge}`} aria-hidden="true">
          {letters[edge]}
        </span>
      ))}
    </>
  );
}

/** What the plane is called, and its slice; a button that makes it large, and small again. */
function Corner({ scan, axis }: { scan: Scan; axis: Axis }) {
  const { geometry } = scan;
  const name = planeText(geometry, axis);
  const place = geometry.planes[axis].count > 1 ? sliceText(geometry, axis, cursor.value) : "";
  if (axesOf(geometry).length === 1) {
    return (
      <p class="view-corner">
        {name} <b>{place}</b>
      </p>
    );
  }
  return (
    <button
      type="button"
      class="view-corner"
      title={t(layout.value === "one" ? "view.all" : "view.enlarge")}
      onClick={() => enlarge(axis)}
    >
      {name} <b>{place}</b>
    </button>
  );
}

/** Place and value under the pointer; without one over this plane, those of the crosshair. */
function Readout({ scan, axis, plane }: { scan: Scan; axis: Axis; plane: Plane | null }) {
  const { geometry } = scan;
  const over = pointer.value;
  // slices that come bring values
  if (scan.loaded.value < 1) scan.version.value;
  const frame = over?.axis === axis ? plane?.frame.value : null;
  // of the picture as it lies now: it may move under a pointer that rests
  const place =
    over && frame
      ? placeAt(geometry, axis, frame.slice, ...frame.fromScreen(over.x, over.y))
      : { voxel: cursor.value, exact: cursor.value };
  if (!place) return null;
  return (
    <div class="view-readout">
      <p>{positionText(geometry, place.exact)}</p>
      <p>
        {t("view.voxel", { at: place.voxel.join(" ") })} <b>{valueText(scan, place.voxel)}</b>
      </p>
    </div>
  );
}

/** A bar with all slices, head, front or right at the top, and the propagation's strip along the reading's axis. */
function Slices({ scan, axis }: { scan: Scan; axis: Axis }) {
  const { geometry } = scan;
  const last = geometry.planes[axis].count - 1;
  const at = cursor.value[axisNumber(axis)];
  const name = planeText(geometry, axis);
  const upwards = growsUpwards(geometry, axis);
  return (
    <div class="view-slices">
      <input
        class={upwards ? "view-slider view-slider-up" : "view-slider"}
        type="range"
        min={0}
        max={last}
        step={1}
        value={at}
        aria-label={t("view.slices", { plane: name })}
        aria-valuetext={sliceText(geometry, axis, cursor.value)}
        aria-orientation="vertical"
        onInput={(event) => toSlice(axis, Number(event.currentTarget.value))}
      />
      {reading.value?.axis === axis && (
        <div class="view-strip">
          <Strip reversed={upwards} />
        </div>
      )}
    </div>
  );
}
