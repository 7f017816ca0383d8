// Opening a scan: the server reads it, and its voxels come to the page as they are looked at.

import { openScanOf } from "../api/cases";
import { ApiError, bytesOf, explain, isAbort, request } from "../api/http";
import type { Axis } from "../api/types";
import { t } from "../i18n";
import { RemoteScan, type Source } from "../scan/remote";
import type { Scan } from "../scan/scan";
import { say } from "../state";

/** ms for the slice on screen before the volume begins to come */
const HEAD_START = 250;

/** A scan, once the server has read it. Its voxels come behind. Raises ApiError. */
export async function openScan(caseId: string, stop?: AbortSignal): Promise<Scan> {
  const scan = new RemoteScan(caseId, await openScanOf(caseId, stop), new CaseSource(caseId));
  setTimeout(() => void scan.bringAll(), HEAD_START);
  return scan;
}

/** The volume on the server is another one than that of which pieces are here. */
class Changed extends Error {}

class CaseSource implements Source {
  #tag: string | null = null;
  #changed = false;

  constructor(private readonly caseId: string) {}

  async slice(axis: Axis, index: number, stop: AbortSignal): Promise<ArrayBuffer> {
    return bytesOf(await request(`/cases/${this.caseId}/slices/${axis}/${index}`, { signal: stop }), stop);
  }

  async piece(begin: number, end: number, stop: AbortSignal): Promise<ArrayBuffer> {
    if (this.#changed) throw new Changed();
    const headers: Record<string, string> = { Range: `bytes=${begin}-${end - 1}` };
    if (this.#tag) headers["If-Range"] = this.#tag;
    const answer = await request(`/cases/${this.caseId}/volume`, { headers, signal: stop });
    const tag = answer.headers.get("ETag");
    if (answer.status !== 206 || (this.#tag && tag !== this.#tag)) {
      await answer.body?.cancel();
      this.#changed = true;
      throw new Changed();
    }
    this.#tag = tag;
    return bytesOf(answer, stop);
  }

  failed(error: unknown): boolean {
    if (isAbort(error)) return true;
    if (error instanceof Changed) {
      say({
        kind: "error",
        text: t("view.changed"),
        action: { text: t("view.reload"), run: () => location.reload() },
      });
      return false;
    }
    // of a server that is away the page tells by itself, and asks again
    if (error instanceof ApiError && (error.status === 0 || error.status === 401 || error.status === 423)) return true;
    say({ kind: "error", text: explain(error), seconds: 10 });
    // what is wrong with the scan stays wrong
    return error instanceof ApiError && (error.status === 429 || error.status >= 500);
  }
}
