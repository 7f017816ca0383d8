// Whether anything was painted on a canvas. An empty one above a picture is best not there: without a graphics card it
// costs as much time a frame as the picture itself.

const PAINTERS = [
  "fill",
  "stroke",
  "fillRect",
  "strokeRect",
  "fillText",
  "strokeText",
  "drawImage",
  "putImageData",
] as const;

export class Ink {
  #wet = false;

  /** context: of one canvas, which is watched from now on. */
  constructor(private readonly context: CanvasRenderingContext2D) {
    for (const name of PAINTERS) {
      const paint = context[name] as (...how: unknown[]) => void;
      const watched = (...how: unknown[]): void => {
        this.#wet = true;
        paint.apply(context, how);
      };
      (context as unknown as Record<string, unknown>)[name] = watched;
    }
  }

  /** Draw anew; whether something is there now. */
  renew(width: number, height: number, draw: (context: CanvasRenderingContext2D) => void): boolean {
    if (this.#wet) this.context.clearRect(0, 0, width, height);
    this.#wet = false;
    draw(this.context);
    return this.#wet;
  }
}
