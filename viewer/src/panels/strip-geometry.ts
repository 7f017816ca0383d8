// Where slices are on the strip, in CSS pixels from its top.

export interface Track {
  /** Of the strip, in pixels. */
  readonly height: number;
  readonly slices: number;
  /** Whether slice 0 is at the bottom. */
  readonly reversed: boolean;
}

/** Top and height of a slice; neighbours meet without a gap, and a slice is at least a pixel high. */
export function bandOf(track: Track, slice: number): { top: number; height: number } {
  const place = track.reversed ? track.slices - 1 - slice : slice;
  const top = Math.round((place * track.height) / track.slices);
  const bottom = Math.round(((place + 1) * track.height) / track.slices);
  return { top: Math.min(top, track.height - 1), height: Math.max(1, bottom - top) };
}

/** The slice at a height; the first or last beyond the ends. */
export function sliceAt(track: Track, y: number): number {
  const place = Math.min(track.slices - 1, Math.max(0, Math.floor((y * track.slices) / Math.max(track.height, 1))));
  return track.reversed ? track.slices - 1 - place : place;
}

/** Of those that there are, the nearest to a slice; undefined where there are none. */
export function nearest(slices: readonly number[], slice: number): number | undefined {
  let best: number | undefined;
  for (const one of slices) if (best === undefined || Math.abs(one - slice) < Math.abs(best - slice)) best = one;
  return best;
}

/** The next of those that there are, beyond `slice` in a direction; the last that there is stays. */
export function beyond(slices: readonly number[], slice: number, step: 1 | -1): number | undefined {
  const further = slices.filter((one) => (step > 0 ? one > slice : one < slice));
  return step > 0 ? further[0] : further[further.length - 1];
}
