// Everything in the centre of the page: the planes of a scan, and 3D.

import { useSignalEffect } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { t } from "../i18n";
import { axisNumber, type Scan } from "../scan/scan";
import { axesOf } from "../scan/space";
import { cursor, layout, reading, scan } from "../state";
import { Bar } from "./bar";
import { axesShown, fitAll, mainAxis } from "./looking";
import { Pane } from "./pane";
import { planeText, positionText, sliceText, valueText } from "./readout";
import "./view.css";
import { Volume } from "./volume";

export function Planes() {
  const shown = scan.value;
  // the server prepares the slice that is looked at
  useSignalEffect(() => {
    const of = reading.value;
    if (of && scan.value) of.look(cursor.value[axisNumber(of.axis)]);
  });
  useEffect(() => fitAll(), [shown]);
  if (!shown) return <section class="view-room" aria-label={t("view.room")} />;
  const { geometry } = shown;
  const solid = axesOf(geometry).length > 1;
  const kind = solid ? layout.value : "one";
  return (
    <section class="view-room" aria-label={t("view.room")}>
      <Bar scan={shown} />
      <div class={`view-grid view-grid-${kind}`}>
        {axesShown(geometry).map((axis) => (
          <Pane key={axis} scan={shown} axis={axis} />
        ))}
        {kind !== "one" && <Volume scan={shown} />}
      </div>
      <p id="view-keys" class="view-aloud">
        {t("view.keys")}
      </p>
      <Spoken scan={shown} />
    </section>
  );
}

/** ms of rest until a place is read aloud */
const REST = 600;

/** Where the crosshair is, for those who hear the page. */
function Spoken({ scan: of }: { scan: Scan }) {
  const [text, setText] = useState("");
  useSignalEffect(() => {
    const at = cursor.value;
    const axis = mainAxis(of.geometry);
    const timer = setTimeout(() => {
      const where = [
        `${planeText(of.geometry, axis)}, ${t("view.slice")} ${sliceText(of.geometry, axis, at)}`,
        positionText(of.geometry, at),
        valueText(of, at),
      ];
      setText(where.filter((part) => part).join(", "));
    }, REST);
    return () => clearTimeout(timer);
  });
  return (
    <output class="view-aloud" aria-live="polite">
      {text}
    </output>
  );
}
