// What has to happen one after the other, and what need not happen twice.

/** One thing at a time, in the order in which they came. */
export class Queue {
  private tail: Promise<unknown> = Promise.resolve();

  run<T>(work: () => Promise<T>): Promise<T> {
    // what went wrong before is somebody else's
    const done = this.tail.then(work, work);
    this.tail = done.catch(() => {});
    return done;
  }

  /** Once all that has come is done. */
  async idle(): Promise<void> {
    await this.tail;
  }
}

/**
 * A call that is made once more, however often it was asked for while it was under way: its answer may be of before that.
 */
export function latest<T>(work: () => Promise<T>): () => Promise<T> {
  let now: Promise<T> | null = null;
  let next: Promise<T> | null = null;
  function begin(): Promise<T> {
    const made = work();
    now = made;
    const over = (): void => {
      if (now === made) now = null;
    };
    made.then(over, over);
    return made;
  }
  return () => {
    if (now === null) return begin();
    next ??= now
      .then(
        () => undefined,
        () => undefined,
      )
      .then(() => {
        next = null;
        return begin();
      });
    return next;
  };
}
