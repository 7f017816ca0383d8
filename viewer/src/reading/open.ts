// How a reading begins.

import { ApiError } from "../api/http";
import type { Axis } from "../api/types";
import type { Reading } from "./reading";

export interface OpenOptions {
  /** Along which slices are counted; default: that of the open session, or as acquired. */
  axis?: Axis;
  /** Masks to begin from: those of another session of one's own. */
  start?: { session: string };
  /** A session to look at, of anybody's; nothing of it is changed unless it is one's own. */
  session?: string;
  signal?: AbortSignal;
}

export async function openReading(caseId: string, options: OpenOptions = {}): Promise<Reading> {
  throw new ApiError(404, `${caseId} ${options.axis}`);
}
