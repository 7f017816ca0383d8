// What lies over a picture, on a canvas that is no larger than what is on it, of which only what changed is painted
// again: where no graphics card helps, every pixel of a canvas that was painted on is copied and mixed anew.

type Context = CanvasRenderingContext2D;

/** CSS pixels of a plane, or the device's. */
export interface Area {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

export interface Painting {
  /** Of what: one of a name at a time. */
  readonly name: string;
  /** What it is made of: of the same, it looks the same. */
  readonly of: readonly unknown[];
  /** Holds all of it, CSS pixels. */
  readonly area: Area;
  /** context: CSS pixels of the plane; as it was afterwards. */
  paint(context: Context): void;
}

/** CSS pixels, and the device's for each of them. */
export interface Size {
  readonly width: number;
  readonly height: number;
  readonly ratio: number;
}

/** Canvases end at multiples of so many pixels: what grows under the hand does not need another for each point. */
const STEP = 64;
/** Times what is needed that a canvas stays as large as it was. */
const ROOMY = 4;

export class Cutout {
  readonly context: Context;
  #shown: readonly Painting[] = [];
  #ratio = 1;
  /** Pixels of the device; null: nothing is shown. */
  #place: Area | null = null;

  constructor(private readonly canvas: HTMLCanvasElement) {
    this.context = canvas.getContext("2d")!;
    canvas.style.visibility = "hidden";
  }

  /** Show these, the last on top. */
  show(paintings: readonly Painting[], size: Size): void {
    const before = this.#shown;
    this.#shown = paintings;
    const needed = onDevice(union(paintings.map((one) => one.area)), size);
    if (!needed) {
      this.canvas.style.visibility = "hidden";
      this.#place = null;
      return;
    }
    const place = this.#place;
    const stays = place && this.#ratio === size.ratio && holds(place, needed) && pixels(place) <= ROOMY * room(needed);
    if (stays) this.#renew(place, onDevice(changed(before, paintings), size), size);
    else this.#renew(this.#move(needed, size), needed, size);
  }

  #move(needed: Area, { width, height, ratio }: Size): Area {
    const { canvas } = this;
    const place = snapped(needed, Math.ceil(width * ratio), Math.ceil(height * ratio));
    // given a size, a canvas is empty
    canvas.width = place.right - place.left;
    canvas.height = place.bottom - place.top;
    canvas.style.left = `${place.left / ratio}px`;
    canvas.style.top = `${place.top / ratio}px`;
    canvas.style.width = `${canvas.width / ratio}px`;
    canvas.style.height = `${canvas.height / ratio}px`;
    canvas.style.visibility = "";
    this.#place = place;
    this.#ratio = ratio;
    return place;
  }

  #renew(place: Area, stale: Area | null, size: Size): void {
    if (!stale) return;
    const { context } = this;
    context.save();
    context.setTransform(1, 0, 0, 1, -place.left, -place.top);
    const edges = [stale.left, stale.top, stale.right - stale.left, stale.bottom - stale.top] as const;
    context.beginPath();
    context.rect(...edges);
    context.clip();
    context.clearRect(...edges);
    context.setTransform(size.ratio, 0, 0, size.ratio, -place.left, -place.top);
    for (const one of this.#shown) {
      const on = onDevice(one.area, size);
      if (on && meet(on, stale)) one.paint(context);
    }
    context.restore();
  }
}

/** What has to be painted again for paintings to be others; null: nothing. */
export function changed(before: readonly Painting[], now: readonly Painting[]): Area | null {
  const old = new Map(before.map((one) => [one.name, one.of]));
  const kept = now.filter((one) => same(old.get(one.name), one.of));
  const names = new Set(kept.map((one) => one.name));
  const stale = [...before, ...now].filter((one) => !names.has(one.name));
  const order = before.filter((one) => names.has(one.name));
  // what lay on top may lie below
  if (order.some((one, n) => one.name !== kept[n]!.name)) stale.push(...kept);
  return union(stale.map((one) => one.area));
}

export function same(a: readonly unknown[] | undefined, b: readonly unknown[]): boolean {
  return a?.length === b.length && a.every((part, n) => part === b[n]);
}

export function union(areas: readonly Area[]): Area | null {
  if (!areas.length) return null;
  return {
    left: Math.min(...areas.map((one) => one.left)),
    top: Math.min(...areas.map((one) => one.top)),
    right: Math.max(...areas.map((one) => one.right)),
    bottom: Math.max(...areas.map((one) => one.bottom)),
  };
}

/** Whole pixels of the device, on the plane alone; null: none is. */
function onDevice(area: Area | null, { width, height, ratio }: Size): Area | null {
  if (!area) return null;
  const left = Math.max(Math.floor(area.left * ratio), 0);
  const top = Math.max(Math.floor(area.top * ratio), 0);
  const right = Math.min(Math.ceil(area.right * ratio), Math.ceil(width * ratio));
  const bottom = Math.min(Math.ceil(area.bottom * ratio), Math.ceil(height * ratio));
  return left < right && top < bottom ? { left, top, right, bottom } : null;
}

function snapped(area: Area, width: number, height: number): Area {
  return {
    left: Math.floor(area.left / STEP) * STEP,
    top: Math.floor(area.top / STEP) * STEP,
    right: Math.min(Math.ceil(area.right / STEP) * STEP, width),
    bottom: Math.min(Math.ceil(area.bottom / STEP) * STEP, height),
  };
}

function holds(one: Area, other: Area): boolean {
  return one.left <= other.left && one.top <= other.top && one.right >= other.right && one.bottom >= other.bottom;
}

export function meet(one: Area, other: Area): boolean {
  return one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
}

function pixels(area: Area): number {
  return (area.right - area.left) * (area.bottom - area.top);
}

/** Pixels of the smallest canvas for an area. */
function room(area: Area): number {
  return pixels(snapped(area, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY));
}
