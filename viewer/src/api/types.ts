// What the server says, as JSON. Its OpenAPI (`/api/v1/openapi.json`) is the source; docs/server.md explains it.

export type Axis = "i" | "j" | "k";
export const AXES: readonly Axis[] = ["k", "j", "i"];

/** How a stored slice is turned to stand upright: transposed first, then flipped. */
export interface View {
  transpose: boolean;
  flip_rows: boolean;
  flip_columns: boolean;
}

/** Slices along one axis, as stored: (rows, columns), pitch (row, column) in mm. */
export interface PlaneInfo {
  count: number;
  shape: [number, number];
  spacing_mm: [number, number];
  view: View;
}

export interface WindowInfo {
  name: string;
  low: number;
  high: number;
}

/** The grid of a scan. shape: (K, J, I). affine: 4 x 4, voxel (i, j, k, 1) to LPS mm. */
export interface Geometry {
  shape: [number, number, number];
  affine: number[][];
  calibrated: boolean;
  spacing_mm: [number, number, number] | null;
  axcodes: string | null;
  axis: Axis;
  planes: Record<Axis, PlaneInfo>;
  modality: string | null;
  units: string | null;
  colour: boolean;
  dtype: string;
  windows: WindowInfo[];
  notes: string[];
}

export interface Patient {
  name: string;
  id: string;
  study_date: string;
  study_description: string;
  series_description: string;
}

export interface CaseInfo {
  id: string;
  name: string;
  kind: "data" | "upload" | "pacs";
  format: "dicom" | "nifti" | "nrrd" | "mha" | "picture" | "npz";
  modality: string | null;
  shape: [number, number, number] | null;
  files: number;
  state: "listed" | "loading" | "ready" | "broken" | "gone";
  problem: string | null;
  mine: boolean;
  added: string;
  patient: Patient | null;
}

export interface ObjectInfo {
  id: number;
  name: string;
  colour: string;
  visible: boolean;
  locked: boolean;
}

export type JobState = "queued" | "running" | "done" | "stopped" | "failed";

export interface JobInfo {
  id: string;
  object: number;
  state: JobState;
  done: number;
  total: number | null;
  detail: string | null;
}

export interface SessionInfo {
  id: string;
  case: string;
  revision: number;
  axis: Axis;
  slices: number;
  objects: ObjectInfo[];
  jobs: JobInfo[];
  undo: number;
  redo: number;
  view: number | null;
  notes: string[];
  mine: boolean;
}

export interface Me {
  name: string;
  role: "reader" | "reviewer" | "administrator";
  way: "local" | "login" | "token" | "proxy";
  csrf: string | null;
  locks_after: number | null;
  ends_at: string | null;
}

/** A stroke of an entry. */
export interface Stroke {
  points: [number, number][];
  inside: boolean;
  width_mm?: number;
  width_px?: number;
}

/**
 * A prompt about an object on a slice. Positions are pixels of the stored slice, [x, y], the centre of column n being n;
 * boxes are half-open edges. `drawn`: the mask is to be exactly this one (brush, threshold, copy): no network is asked.
 */
export interface PromptEntry {
  object: number;
  slice: number;
  box?: [number, number, number, number];
  points?: [number, number, 0 | 1][];
  scribbles?: Stroke[];
  lasso?: [number, number][];
  line?: [[number, number], [number, number]];
  lines?: [[number, number], [number, number]][];
  ellipse?: [number, number, number, number];
  /** COCO run lengths of the slice: rows, columns; counts column by column. */
  mask?: { size: [number, number]; counts: string };
  drawn?: { size: [number, number]; counts: string };
}

export type MaskStatus = "first" | "refined" | "propagated" | "drawn" | "restored" | "removed";
