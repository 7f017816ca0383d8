// Steps that did not get through.

import { ApiError, isAbort } from "../api/http";

/** A step that the server has not taken, as far as is known, although nothing is wrong with it. */
export class NotTaken extends ApiError {
  constructor(
    why: ApiError,
    /** Takes it once more; missing where it is not known for sure that it was not taken. */
    readonly again?: () => Promise<unknown>,
  ) {
    super(why.status, why.detail, why.parameters, why.retryAfter);
    this.name = "NotTaken";
  }
}

/** What became of a step or a change, for whoever took it: one that was given up, or whose answer is lost, is not taken. */
export function untaken(error: unknown): unknown {
  if (isAbort(error)) return new NotTaken(new ApiError(0, "the case was left"));
  const isLost = error instanceof ApiError && (error.status === 0 || error.status === 401);
  return isLost && !(error instanceof NotTaken) ? new NotTaken(error) : error;
}
