// Structures that share voxels: a label map can give each voxel to one of them alone.

import { effect, signal } from "@preact/signals";
import type { Reading } from "../reading/reading";
import { shared } from "./overlap";

export interface Overlap {
  readonly first: number;
  readonly second: number;
  readonly voxels: number;
}

/** Of the open reading, as last counted. */
export const overlaps = signal<readonly Overlap[]>([]);

/** ms after the last change of a mask */
const QUIET = 700;

/** Pairs of structures that share voxels, those that share most first. */
export function overlapsOf(reading: Pick<Reading, "objects" | "masks">): Overlap[] {
  const objects = reading.objects.peek().map((one) => one.id);
  const found: Overlap[] = [];
  for (const [at, first] of objects.entries()) {
    for (const second of objects.slice(at + 1)) {
      let voxels = 0;
      for (const slice of reading.masks.slices(first)) {
        voxels += shared(reading.masks.get(first, slice)?.mask, reading.masks.get(second, slice)?.mask);
      }
      if (voxels > 0) found.push({ first, second, voxels });
    }
  }
  return found.sort((a, b) => b.voxels - a.voxels);
}

/** Keeps `overlaps` those of a reading, behind its changes, until the returned function is called. */
export function followOverlaps(reading: Reading): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stop = effect(() => {
    reading.masks.version.value;
    reading.objects.value;
    clearTimeout(timer);
    timer = setTimeout(() => {
      overlaps.value = overlapsOf(reading);
    }, QUIET);
  });
  return () => {
    stop();
    clearTimeout(timer);
    overlaps.value = [];
  };
}
