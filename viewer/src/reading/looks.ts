// Which slice is on screen, as it is told to the server: at once, and then what is on screen by then. A wheel that turns
// passes many.

/** ms between two words. */
const EVERY = 120;

export class Looks {
  /** The latest one; null: none yet. */
  now: number | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly tell: (slice: number) => void) {}

  at(slice: number): void {
    if (this.now === slice) return;
    this.now = slice;
    if (this.timer === undefined) this.said(slice);
  }

  end(): void {
    clearTimeout(this.timer);
  }

  private said(slice: number): void {
    this.timer = setTimeout(() => {
      this.timer = undefined;
      if (this.now !== slice) this.said(this.now!);
    }, EVERY);
    this.tell(slice);
  }
}
