// A line over rounds: clicks a mask, or Dice. Small, with its numbers written at its points.

import { t } from "../i18n";

export interface Point {
  readonly at: string;
  readonly value: number;
  /** Drawn hollow: a model that was not promoted. */
  readonly hollow?: boolean;
}

interface Properties {
  title: string;
  points: readonly Point[];
  /** The axis begins here; where it is not said, below the lowest point. */
  from?: number;
  digits: number;
}

const [WIDTH, HEIGHT] = [420, 190];
const SIDE = { left: 40, right: 26, top: 26, bottom: 30 };
/** Between the axis and the first point, whose number stands there. */
const INSET = 26;

export function Chart({ title, points, from, digits }: Properties) {
  if (points.length === 0) return null;
  const values = points.map((point) => point.value);
  const [low, high] = rangeOf(values, from, 10 ** -digits);
  const x = (index: number) =>
    points.length === 1
      ? (SIDE.left + WIDTH - SIDE.right) / 2
      : SIDE.left + INSET + (index / (points.length - 1)) * (WIDTH - SIDE.left - SIDE.right - INSET);
  const y = (value: number) =>
    HEIGHT - SIDE.bottom - ((value - low) / (high - low)) * (HEIGHT - SIDE.top - SIDE.bottom);
  const told = points.map((point) => `${point.at}: ${point.value.toFixed(digits)}`).join("; ");
  const every = Math.ceil(points.length / 8);
  return (
    <figure class="annotate-chart">
      <figcaption>{title}</figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`${title}. ${told}`}>
        {[low, (low + high) / 2, high].map((value) => (
          <g key={value}>
            <line class="annotate-grid" x1={SIDE.left} x2={WIDTH - SIDE.right / 2} y1={y(value)} y2={y(value)} />
            <text class="annotate-tick" x={SIDE.left - 6} y={y(value) + 4} text-anchor="end">
              {value.toFixed(digits)}
            </text>
          </g>
        ))}
        <polyline class="annotate-curve" points={points.map((point, at) => `${x(at)},${y(point.value)}`).join(" ")} />
        {points.map((point, at) => (
          <g key={point.at}>
            <circle
              class={point.hollow ? "annotate-point annotate-point-hollow" : "annotate-point"}
              cx={x(at)}
              cy={y(point.value)}
              r={4}
            />
            {at % every === 0 && (
              <>
                <text class="annotate-value" x={x(at)} y={y(point.value) - 9} text-anchor="middle">
                  {point.value.toFixed(digits)}
                </text>
                <text class="annotate-tick" x={x(at)} y={HEIGHT - 10} text-anchor="middle">
                  {point.at}
                </text>
              </>
            )}
          </g>
        ))}
      </svg>
      {points.some((point) => point.hollow) && <p class="annotate-hint">{t("annotate.hollow")}</p>}
    </figure>
  );
}

/** Lowest and highest value of an axis: some room around the points, and for three ticks, `step` apart at least. */
export function rangeOf(values: readonly number[], from: number | undefined, step = 0): [number, number] {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = (most - least || Math.abs(most) || 1) * 0.15;
  const low = from ?? Math.max(least - room, 0);
  return [low, Math.max(most + room, low + 2 * step, low + 1e-6)];
}
