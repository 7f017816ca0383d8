// The border of a mask along the edges of its pixels.

import type { MaskSlice } from "../reading/masks";

/** Closed lines around all that is inside, holes the other way round: [x0, y0, x1, y1, ...], corners alone, as edges. */
export function outline(mask: MaskSlice): number[][] {
  const width = mask.x1 - mask.x0;
  const height = mask.y1 - mask.y0;
  const across = width + 1;
  const within = (x: number, y: number): boolean =>
    x >= 0 && y >= 0 && x < width && y < height && mask.data[y * width + x] === 1;
  // of each corner of a pixel, a bit for each border that leaves it: right, down, left, up; inside is at its right hand
  const leaving = new Uint8Array(across * (height + 1));
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (mask.data[y * width + x] !== 1) continue;
      const corner = y * across + x;
      if (!within(x, y - 1)) leaving[corner]! |= 1;
      if (!within(x + 1, y)) leaving[corner + 1]! |= 2;
      if (!within(x, y + 1)) leaving[corner + across + 1]! |= 4;
      if (!within(x - 1, y)) leaving[corner + across]! |= 8;
    }
  }
  const steps = [1, across, -1, -across];
  const lines: number[][] = [];
  for (let start = 0; start < leaving.length; start += 1) {
    while (leaving[start]) {
      const line: number[] = [];
      let corner = start;
      let before = -1;
      do {
        const direction = turn(leaving[corner]!, before);
        if (direction !== before) line.push(mask.x0 + (corner % across), mask.y0 + Math.floor(corner / across));
        leaving[corner]! &= ~(1 << direction);
        corner += steps[direction]!;
        before = direction;
      } while (corner !== start || leaving[start]! & (1 << ((before + 1) % 4)));
      lines.push(line);
    }
  }
  return lines;
}

/** Which border goes on: to the right where two meet, so that pixels that touch at a corner have lines of their own. */
function turn(leaving: number, before: number): number {
  const order = before < 0 ? [0, 1, 2, 3] : [(before + 1) % 4, before, (before + 3) % 4];
  return order.find((direction) => leaving & (1 << direction))!;
}
