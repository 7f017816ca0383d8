// Opening a scan: the server reads it, and its voxels come to the page as they are looked at.

import type { Scan } from "../scan/scan";

export async function openScan(caseId: string): Promise<Scan> {
  throw new Error(`not there yet: ${caseId}`);
}
