// The right column, below what to do next: structures, volume, comparison, and what is taken home.

import { useEffect } from "preact/hooks";
import { t } from "../i18n";
import { reading as open } from "../state";
import { Doubt } from "../tools/doubt";
import { ComparePart } from "./compare";
import { endComparison } from "./comparing";
import { HomePart } from "./home";
import { guardLeaving } from "./lost";
import { followMeasures } from "./measures";
import { Notes } from "./notes";
import { Structures } from "./structures";
import { VolumePart } from "./volume";
import "./panels.css";

export function Panel() {
  const reading = open.value;
  useEffect(() => guardLeaving(), []);
  useEffect(() => {
    if (!reading) return;
    const stop = followMeasures(reading);
    return () => {
      stop();
      endComparison();
    };
  }, [reading]);
  return (
    <div class="panels-panel">
      <Doubt />
      {reading && !reading.mine && <p class="panels-caveat">{t("panels.looking")}</p>}
      {reading && (
        <>
          <Notes reading={reading} />
          <Structures reading={reading} />
          {reading.slices > 1 && <VolumePart reading={reading} />}
          <ComparePart reading={reading} />
          <HomePart reading={reading} />
        </>
      )}
    </div>
  );
}
