// Where the pixels of a slice are on screen: upright, of their true shape, zoomed and moved.

import type { Axis, PlaneInfo } from "../api/types";
import { fromUpright, toUpright, uprightShape } from "../scan/scan";
import type { Stage } from "../tools/tool";

/** How a plane is looked at. u, v: what is in its middle, in mm to the right and down from the middle of the slice. */
export interface Camera {
  readonly zoom: number;
  readonly u: number;
  readonly v: number;
}

export const FITTED: Camera = { zoom: 1, u: 0, v: 0 };
/** Of the room there is, when a slice is fitted into it. */
const FILLS = 0.97;
const LEAST_ZOOM = 0.4;
/** CSS pixels that a pixel of the slice has at most. */
const LARGEST_PIXEL = 96;

/** A slice on a plane of so many CSS pixels. */
export class Frame implements Stage {
  readonly scale: [number, number];
  readonly pitchMm: [number, number] | null;
  /** CSS pixels a mm (a pixel, where there are no millimetres). */
  readonly perMm: number;
  /** Pitch of upright columns and rows. */
  readonly #pitch: readonly [number, number];
  /** Upright middle of the slice, mm. */
  readonly #middle: readonly [number, number];
  readonly #fit: number;

  constructor(
    readonly axis: Axis,
    readonly slice: number,
    readonly plane: PlaneInfo,
    calibrated: boolean,
    readonly width: number,
    readonly height: number,
    readonly camera: Camera,
  ) {
    const [row, column] = plane.spacing_mm;
    const [rows, columns] = uprightShape(plane);
    this.#pitch = plane.view.transpose ? [row, column] : [column, row];
    this.#middle = [(columns * this.#pitch[0]) / 2, (rows * this.#pitch[1]) / 2];
    this.#fit = Math.min(width / (columns * this.#pitch[0]), height / (rows * this.#pitch[1])) * FILLS;
    this.perMm = this.#fit * camera.zoom;
    this.scale = [column * this.perMm, row * this.perMm];
    this.pitchMm = calibrated ? [column, row] : null;
  }

  toScreen(x: number, y: number): [number, number] {
    return this.#edgeToScreen(x + 0.5, y + 0.5);
  }

  /** CSS pixels -> position on the stored slice, centres at integers. */
  fromScreen(screenX: number, screenY: number): [number, number] {
    const u = (screenX - this.width / 2) / this.perMm + this.camera.u + this.#middle[0];
    const v = (screenY - this.height / 2) / this.perMm + this.camera.v + this.#middle[1];
    const [x, y] = fromUpright(this.plane, u / this.#pitch[0], v / this.#pitch[1]);
    return [x - 0.5, y - 0.5];
  }

  /** (a, b, c, d, e, f) as canvases have them: edges of the stored slice -> CSS pixels. */
  matrix(): [number, number, number, number, number, number] {
    const [e, f] = this.#edgeToScreen(0, 0);
    const [ax, ay] = this.#edgeToScreen(1, 0);
    const [bx, by] = this.#edgeToScreen(0, 1);
    return [ax - e, ay - f, bx - e, by - f, e, f];
  }

  /** The camera after zooming by a factor, with what is under a position of the screen staying there. */
  zoomed(factor: number, screenX: number, screenY: number): Camera {
    const pixel = Math.max(this.#pitch[0], this.#pitch[1]) * this.#fit;
    const most = Math.max(LARGEST_PIXEL / pixel, 1);
    const zoom = Math.min(Math.max(this.camera.zoom * factor, LEAST_ZOOM), most);
    const change = 1 / this.perMm - 1 / (this.#fit * zoom);
    return {
      zoom,
      u: this.camera.u + (screenX - this.width / 2) * change,
      v: this.camera.v + (screenY - this.height / 2) * change,
    };
  }

  /** The camera after the picture was dragged by so many CSS pixels. Its middle cannot leave the plane's. */
  moved(byX: number, byY: number): Camera {
    const keep = (value: number, most: number): number => Math.min(Math.max(value, -most), most);
    return {
      zoom: this.camera.zoom,
      u: keep(this.camera.u - byX / this.perMm, this.#middle[0]),
      v: keep(this.camera.v - byY / this.perMm, this.#middle[1]),
    };
  }

  #edgeToScreen(x: number, y: number): [number, number] {
    const [u, v] = toUpright(this.plane, x, y);
    return [
      this.width / 2 + (u * this.#pitch[0] - this.#middle[0] - this.camera.u) * this.perMm,
      this.height / 2 + (v * this.#pitch[1] - this.#middle[1] - this.camera.v) * this.perMm,
    ];
  }
}

/** A length for a scale bar: 1, 2 or 5 times a power of ten, the largest that is at most so long. */
export function roundLength(most: number): number {
  const power = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].map((digit) => digit * power).find((length) => length <= most * (1 + 1e-9)) ?? power;
}
