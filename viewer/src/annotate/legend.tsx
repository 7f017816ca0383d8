// Colours and patterns of two readings over each other, in words.

import { t } from "../i18n";

interface Properties {
  mine: string;
  theirs: string;
}

export function Legend({ mine, theirs }: Properties) {
  return (
    <ul class="annotate-legend" aria-label={t("panels.legend")}>
      <li>
        <span class="annotate-swatch annotate-swatch-mine" aria-hidden="true" />
        {mine}
      </li>
      <li>
        <span class="annotate-swatch annotate-swatch-theirs" aria-hidden="true" />
        {theirs}
      </li>
      <li>
        <span class="annotate-swatch annotate-swatch-both" aria-hidden="true" />
        {t("panels.legend-both")}
      </li>
    </ul>
  );
}
