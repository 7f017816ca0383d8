// The solid on screen, by niivue. This module and all that it needs are a chunk of their own.

import { Niivue, NVImage, SLICE_TYPE } from "@niivue/niivue";
import type { ObjectInfo } from "../api/types";
import { niftiOf, type Solid } from "./solid";

export type Shows = "scan" | "both" | "structures";

export interface Facing {
  azimuth: number;
  elevation: number;
  zoom: number;
}

/** Greys that hide what is behind them sooner than niivue's: 64 shades above the window's low are half a wall. */
const SURFACE = "surface";
const DENSE = {
  min: 0,
  max: 0,
  I: [0, 24, 64, 255],
  R: [0, 40, 130, 255],
  G: [0, 40, 126, 255],
  B: [0, 40, 120, 250],
  A: [0, 4, 110, 255],
};
/** How much of the light comes from one side. */
const SHADED = 0.25;
const MOST_ZOOM = 5;
const LEAST_ZOOM = 0.4;

/** Voxels along an edge that a solid may have: few where the processor draws. */
export function mostVoxels(): number {
  return drawnByProcessor() ? 128 : 256;
}

let drawnBy: boolean | null = null;
/** Whether there is no graphics card to draw with. */
function drawnByProcessor(): boolean {
  if (drawnBy === null) {
    const gl = document.createElement("canvas").getContext("webgl2");
    const named = gl?.getExtension("WEBGL_debug_renderer_info");
    const name = gl && named ? String(gl.getParameter(named.UNMASKED_RENDERER_WEBGL)) : "";
    drawnBy = /swiftshader|llvmpipe|software|basic render/i.test(name);
    gl?.getExtension("WEBGL_lose_context")?.loseContext();
  }
  return drawnBy;
}

export class Render {
  readonly #niivue: Niivue;
  #scan: NVImage | null = null;
  #masks: NVImage | null = null;
  #facing: Facing = { azimuth: 200, elevation: 15, zoom: 1.2 };

  private constructor(private readonly canvas: HTMLCanvasElement) {
    this.#niivue = new Niivue({
      backColor: [0, 0, 0, 1],
      show3Dcrosshair: false,
      isColorbar: false,
      isOrientCube: true,
      isOrientationTextVisible: false,
      dragAndDropEnabled: false,
      // hand and keys are ours: niivue's would have a window and slices of its own
      interactive: false,
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
      viewModeHotKey: "",
      forceDevicePixelRatio: drawnByProcessor() ? 1 : 0,
      loadingText: "",
      logLevel: "error",
    });
  }

  static async on(canvas: HTMLCanvasElement): Promise<Render> {
    const made = new Render(canvas);
    try {
      await made.#niivue.attachToCanvas(canvas, false);
      made.#niivue.addColormap(SURFACE, DENSE);
      made.#niivue.setSliceType(SLICE_TYPE.RENDER);
      await made.#niivue.setVolumeRenderIllumination(SHADED);
    } catch (error) {
      made.close();
      throw error;
    }
    return made;
  }

  get facing(): Facing {
    return this.#facing;
  }

  async show(solid: Solid, low: number, high: number): Promise<void> {
    const image = await imageOf(niftiOf(solid), low, high);
    this.#niivue.addVolume(image);
    this.#scan = image;
    this.turn(this.#facing);
  }

  window(low: number, high: number): void {
    if (!this.#scan) return;
    this.#scan.cal_min = low;
    this.#scan.cal_max = high;
    this.#niivue.updateGLVolume();
  }

  /** labels: numbers of objects, of the solid's size; null where there are none. */
  async mask(solid: Solid, labels: Uint8Array | null, objects: readonly ObjectInfo[]): Promise<void> {
    if (!labels) {
      if (this.#masks) this.#niivue.removeVolume(this.#masks);
      this.#masks = null;
      return;
    }
    if (this.#masks) this.#masks.img = labels;
    const image = this.#masks ?? (await imageOf(niftiOf({ ...solid, data: labels })));
    image.setColormapLabel(tableOf(objects));
    if (this.#masks) this.#niivue.updateGLVolume();
    else {
      this.#masks = image;
      this.#niivue.addVolume(image);
    }
  }

  shows(what: Shows): void {
    if (!this.#scan) return;
    this.#scan.opacity = what === "structures" ? 0 : 1;
    if (this.#masks) this.#masks.opacity = what === "scan" ? 0 : 1;
    this.#niivue.updateGLVolume();
  }

  turn({ azimuth, elevation, zoom }: Facing): void {
    this.#facing = {
      azimuth: ((azimuth % 360) + 360) % 360,
      elevation: Math.max(-90, Math.min(90, elevation)),
      zoom: Math.max(LEAST_ZOOM, Math.min(MOST_ZOOM, zoom)),
    };
    this.#niivue.scene.volScaleMultiplier = this.#facing.zoom;
    this.#niivue.setRenderAzimuthElevation(this.#facing.azimuth, this.#facing.elevation);
  }

  close(): void {
    this.#niivue.cleanup();
    this.canvas.getContext("webgl2")?.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

/** niivue's image of a NIfTI file. It takes its arguments by place: these are its own defaults, but for the window. */
function imageOf(nifti: ArrayBuffer, low = Number.NaN, high = Number.NaN): Promise<NVImage> {
  const no = Number.NaN;
  const byName = 0;
  // biome-ignore format: by place
  return NVImage.new(
    nifti, "solid.nii", SURFACE, 1, null, low, high, true, 0.02, false, false, "", 0, byName, no, no, false, null, 0, null,
  );
}

/** Colours of objects, by number; nothing else is painted. */
function tableOf(objects: readonly ObjectInfo[]) {
  const channel = (colour: string, at: number): number => Number.parseInt(colour.slice(at, at + 2), 16) || 0;
  const shown = objects.filter((object) => object.visible);
  return {
    I: [0, ...shown.map((object) => object.id)],
    R: [0, ...shown.map((object) => channel(object.colour, 1))],
    G: [0, ...shown.map((object) => channel(object.colour, 3))],
    B: [0, ...shown.map((object) => channel(object.colour, 5))],
    A: [0, ...shown.map(() => 255)],
    labels: ["", ...shown.map((object) => object.name)],
  };
}
