// What has to happen one after the other, and what need not happen twice.

/** One thing at a time, in the order in which they came. */
export class Queue {
  private tail: Promise<unknown> = Promise.resolve();
  private ahead = 0;

  /** Where nothing is ahead, the work begins within the call: a request leaves before anything is drawn. */
  run<T>(work: () => Promise<T>): Promise<T> {
    // what went wrong before is somebody else's
    this.ahead += 1;
    const done = this.ahead === 1 ? work() : this.tail.then(work, work);
    const over = (): void => {
      this.ahead -= 1;
    };
    this.tail = done.then(over, over);
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
