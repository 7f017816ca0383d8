// Where a field of numbers is 0: the outline of what a network says, between its positions.

/** x0, y0, x1, y1 of a line each, in positions of the field (the centre of column n is n). Nothing lies beyond the field. */
export function contour(field: ArrayLike<number>, columns: number, rows: number, stride = columns): Float32Array {
  const found: number[] = [];
  const at = (x: number, y: number): number =>
    x < 0 || y < 0 || x >= columns || y >= rows ? Number.NEGATIVE_INFINITY : field[y * stride + x]!;
  for (let y = -1; y < rows; y += 1) {
    for (let x = -1; x < columns; x += 1) {
      square(found, x, y, at(x, y), at(x + 1, y), at(x + 1, y + 1), at(x, y + 1));
    }
  }
  return Float32Array.from(found);
}

/** How far from a to b the field is 0; half-way where one of them is beyond the field. */
function part(a: number, b: number): number {
  return Number.isFinite(a) && Number.isFinite(b) ? a / (a - b) : 0.5;
}

/** The lines through the square whose corners, from the upper left with the clock, are a, b, c and d. */
function square(found: number[], x: number, y: number, a: number, b: number, c: number, d: number): void {
  const kind = (a > 0 ? 1 : 0) | (b > 0 ? 2 : 0) | (c > 0 ? 4 : 0) | (d > 0 ? 8 : 0);
  if (kind === 0 || kind === 15) return;
  const top = (): [number, number] => [x + part(a, b), y];
  const right = (): [number, number] => [x + 1, y + part(b, c)];
  const bottom = (): [number, number] => [x + part(d, c), y + 1];
  const left = (): [number, number] => [x, y + part(a, d)];
  const line = (from: [number, number], to: [number, number]) => found.push(from[0], from[1], to[0], to[1]);
  // two opposite corners: whether they are joined in the middle, the mean says
  const joined = a + b + c + d > 0;
  switch (kind) {
    case 1:
    case 14:
      line(left(), top());
      break;
    case 2:
    case 13:
      line(top(), right());
      break;
    case 4:
    case 11:
      line(right(), bottom());
      break;
    case 8:
    case 7:
      line(bottom(), left());
      break;
    case 3:
    case 12:
      line(left(), right());
      break;
    case 6:
    case 9:
      line(top(), bottom());
      break;
    default: {
      const apart = (kind === 5) === joined;
      line(left(), apart ? bottom() : top());
      line(right(), apart ? top() : bottom());
    }
  }
}
