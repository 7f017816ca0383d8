// A drawing that is written down before it is painted: so it is known where it reaches, and whether it is what is on
// screen already.

import type { Painting, Size } from "./cutout";

type Context = CanvasRenderingContext2D;
type Bounds = [left: number, top: number, right: number, bottom: number];

const NOWHERE: Bounds = [Infinity, Infinity, -Infinity, -Infinity];
/** CSS pixels above and below the line that text stands on, whatever its baseline is. */
const TEXT_REACH = 16;
/** Calls that paint nothing. All others that are not known reach over the whole plane. */
const SILENT = ["save", "restore", "closePath", "setLineDash"];

/** What `draw` draws; null: nothing. ruler: measures text. */
export function recorded(
  name: string,
  draw: (context: Context) => void,
  ruler: Context,
  size: Pick<Size, "width" | "height">,
): Painting | null {
  const recorder = new Recorder(ruler, size);
  draw(recorder.context);
  const [left, top, right, bottom] = recorder.reach;
  if (left >= right || top >= bottom) return null;
  const { calls } = recorder;
  const of = calls.flatMap((call) => [call.name, ...call.how.flat()]);
  return { name, of, area: { left, top, right, bottom }, paint: (context) => replay(calls, context) };
}

/** Of a context, what was set; by itself at first, as far as it matters here. */
interface State extends Record<string, unknown> {
  lineWidth: number;
  font: string;
  textAlign: string;
}

interface Call {
  readonly name: string;
  readonly how: readonly unknown[];
  /** A property that is given a value. */
  readonly sets: boolean;
}

function replay(calls: readonly Call[], context: Context): void {
  const on = context as unknown as Record<string, unknown>;
  context.save();
  for (const { name, how, sets } of calls) {
    if (sets) on[name] = how[0];
    else (on[name] as (...how: unknown[]) => void).apply(context, [...how]);
  }
  context.restore();
}

class Recorder {
  readonly calls: Call[] = [];
  readonly context: Context;
  /** Of all that was painted. */
  reach = NOWHERE;
  #path = NOWHERE;
  #state: State = { lineWidth: 1, font: "10px sans-serif", textAlign: "start" };
  readonly #states: State[] = [];

  constructor(
    private readonly ruler: Context,
    private readonly size: Pick<Size, "width" | "height">,
  ) {
    this.context = new Proxy(
      {},
      {
        get: (_, name: string) => (name in this.#state ? this.#state[name] : this.#method(name)),
        set: (_, name: string, value: unknown) => {
          this.#state[name] = value;
          this.calls.push({ name, how: [value], sets: true });
          return true;
        },
      },
    ) as unknown as Context;
  }

  #method(name: string): (...how: never[]) => unknown {
    if (name === "measureText") return (text: string) => this.#measured(text);
    return (...how: unknown[]) => {
      this.calls.push({ name, how, sets: false });
      if (name === "save") this.#states.push({ ...this.#state });
      else if (name === "restore") this.#state = this.#states.pop() ?? this.#state;
      this.#follow(name, how as number[]);
    };
  }

  #measured(text: string): TextMetrics {
    this.ruler.font = this.#state.font;
    return this.ruler.measureText(text);
  }

  /** Where a call reaches. */
  #follow(name: string, how: readonly number[]): void {
    const [x, y, a, b] = how as [number, number, number, number];
    if (name === "beginPath") this.#path = NOWHERE;
    else if (name === "moveTo" || name === "lineTo") this.#draws([x, y, x, y]);
    else if (name === "rect") this.#draws(rectangle(x, y, a, b));
    else if (name === "arc") this.#draws([x - a, y - a, x + a, y + a]);
    else if (name === "fill" && !how.length) this.#paints(this.#path);
    // half of the width on each side, and as much again where lines meet in a point
    else if (name === "stroke" && !how.length) this.#paints(wider(this.#path, this.#state.lineWidth));
    else if (name === "fillRect") this.#paints(rectangle(x, y, a, b));
    else if (name === "fillText") this.#paints(this.#text(String(how[0]), y, a));
    else if (!SILENT.includes(name)) this.#paints([0, 0, this.size.width, this.size.height]);
  }

  #draws(bounds: Bounds): void {
    this.#path = joined(this.#path, bounds);
  }

  #paints(bounds: Bounds): void {
    this.reach = joined(this.reach, bounds);
  }

  #text(text: string, x: number, y: number): Bounds {
    const { width } = this.#measured(text);
    const { textAlign } = this.#state;
    const left = textAlign === "center" ? x - width / 2 : textAlign === "right" || textAlign === "end" ? x - width : x;
    return [left - 1, y - TEXT_REACH, left + width + 1, y + TEXT_REACH];
  }
}

function joined(a: Bounds, b: Bounds): Bounds {
  return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];
}

/** Of any two corners. */
function rectangle(x: number, y: number, width: number, height: number): Bounds {
  return [Math.min(x, x + width), Math.min(y, y + height), Math.max(x, x + width), Math.max(y, y + height)];
}

function wider([left, top, right, bottom]: Bounds, by: number): Bounds {
  return [left - by, top - by, right + by, bottom + by];
}
