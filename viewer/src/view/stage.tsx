// Everything in the centre of the page: the planes of a scan, and 3D.

import { scan } from "../state";

export function Planes() {
  return <section class="view-planes">{scan.value?.caseId}</section>;
}
