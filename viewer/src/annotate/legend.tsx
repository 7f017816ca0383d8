// Colours and patterns of two readings over each other, in words.

import { t } from "../i18n";
import "../panels/panels.css";

interface Properties {
  mine: string;
  theirs: string;
}

export function Legend({ mine, theirs }: Properties) {
  return (
    <ul class="panels-legend" aria-label={t("panels.legend")}>
      <li>
        <span class="panels-swatch panels-swatch-mine" aria-hidden="true" />
        {mine}
      </li>
      <li>
        <span class="panels-swatch panels-swatch-theirs" aria-hidden="true" />
        {theirs}
      </li>
      <li>
        <span class="panels-swatch panels-swatch-both" aria-hidden="true" />
        {t("panels.legend-both")}
      </li>
    </ul>
  );
}
