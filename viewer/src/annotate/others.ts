// What waits in the project for others than the reader: a second reading is by somebody else, a decision by a reviewer.

import type { ProjectInfo } from "../api/annotate";
import { t } from "../i18n";
import { number } from "../shell/format";

/** What is left that the reader may not do; null where nothing is. */
export function othersWords(counts: ProjectInfo["counts"]): string | null {
  if (counts.second > 0) return t("annotate.second-waits", { count: number(counts.second) });
  const others = counts.open + counts.audits - counts.mine;
  return others > 0 ? t("annotate.others-wait", { count: number(others) }) : null;
}
