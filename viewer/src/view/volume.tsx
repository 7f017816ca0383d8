// The scan in 3D. What it is made of is fetched when somebody looks at it.

import type { Scan } from "../scan/scan";

export function Volume({ scan }: { scan: Scan }) {
  return <div class="view-pane view-volume">{Math.round(scan.loaded.value * 100)} %</div>;
}
