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

/** What became of a structure that was looked for without a prompt. kept: its object has a mask, which stays. */
export interface OrganRow {
  object: number | null;
  outcome: "found" | "absent" | "kept";
  structure: string;
  voxels: number | null;
  ml: number | null;
  head: string;
  tested_on_patients: number | null;
  tested_dice: number | null;
  tested_scans_without: number;
}

/** A structure that would be looked for. object: that has a mask of it, for which nobody looks. */
export interface OrganOffer {
  structure: string;
  object: number | null;
  head: string;
  tested_on_patients: number | null;
  tested_dice: number | null;
  tested_scans_without: number;
}

/** What would be looked for, and as what the scan is taken. lack: why there is nothing. */
export interface OrgansInfo {
  modality: string | null;
  modality_by: "stated" | "file" | "units" | "air and bone" | "not below 0" | "nothing";
  structures: OrganOffer[];
  lack: "no head" | "modality" | "untested" | null;
}

export interface JobInfo {
  id: string;
  /** That is propagated; null: organs are looked for. */
  object: number | null;
  state: JobState;
  done: number;
  total: number | null;
  detail: string | null;
  /** Once it has ended: why it went no further, by slice. */
  stopped?: Record<string, string> | null;
  /** Once a search for organs is done. */
  structures?: OrganRow[] | null;
}

export interface SessionInfo {
  id: string;
  case: string;
  revision: number;
  axis: Axis;
  geometry: { shape: [number, number, number]; affine: number[][]; calibrated: boolean };
  slices: number;
  objects: ObjectInfo[];
  jobs: JobInfo[];
  undo: number;
  redo: number;
  view: number | null;
  notes: string[];
  mine: boolean;
  /** When it was closed: it can be looked at. */
  closed?: string | null;
  /** Name of the model, the licence of its weights, and whether it answers clicks without a box. */
  model?: string;
  licence?: string | null;
  knows_clicks?: boolean;
  /** Values outside of [low, high] are in no mask; null: no limit. */
  keep_range?: [number | null, number | null] | null;
}

/** A session in a list. closed: when; null while it is open. */
export interface SessionLine {
  id: string;
  case: string;
  case_name: string;
  owner: string;
  axis: Axis;
  model: string;
  began: string;
  closed: string | null;
}

/** What an upload has become: a series each. notes: what was left out. */
export interface Uploaded {
  cases: CaseInfo[];
  notes: string[];
}

/** One study or series that a PACS has. */
export interface MatchInfo {
  study: string;
  series: string;
  modalities: string[];
  number: number | null;
  series_count: number | null;
  images: number | null;
  patient_id: string;
  patient_name: string;
  accession: string;
  date: string;
  description: string;
}

/** What a PACS took. failures: its reasons. */
export interface SentInfo {
  stored: number;
  failures: string[];
  notes: string[];
}

export type ExportFormat = "nifti" | "nrrd" | "mha" | "png" | "seg" | "seg-labelmap" | "rtstruct" | "csv";

/** Of a structure. diameter_mm: the largest in a slice, as RECIST's long axis; slice: which one. */
export interface Measure {
  object: number;
  name: string;
  voxels: number;
  volume_ml: number | null;
  diameter_mm: number | null;
  slice: number | null;
  /** From where to where, [x, y] each. */
  ends?: [number, number][] | null;
  mean: number | null;
  std: number | null;
  minimum: number | null;
  maximum: number | null;
  units: string | null;
}

/** How far a structure is from that of the same name in a reference. */
export interface ComparedStructure {
  name: string;
  object: number | null;
  dice: number | null;
  nsd?: number | null;
  hd95_mm: number | null;
  assd_mm: number | null;
  volume_ml: number | null;
  volume_ref_ml: number | null;
}

/** reference: an id under which its masks are kept for an hour. */
export interface Compared {
  reference: string;
  structures: ComparedStructure[];
  /** How the labels were read. */
  notes?: string[];
}

/** A name of a structure, what else it is called, and its colour. */
export interface StructureName {
  name: string;
  synonyms: string[];
  colour: string | null;
}

export interface ModelInfo {
  name: string;
  licence: string | null;
  knows_clicks: boolean;
  input_size: number;
  /** Path of the decoder as ONNX; null where none is made. */
  decoder: string | null;
}

/** What a server-sent event says. */
export interface EventInfo {
  revision: number;
  kind: "mask" | "refined" | "objects" | "job" | "progress" | "error" | "resync";
  object?: number | null;
  slice?: number | null;
  status?: string | null;
  job?: string | null;
  state?: string | null;
  done?: number | null;
  total?: number | null;
  detail?: string | null;
  stopped?: Record<string, string> | null;
  structures?: OrganRow[] | null;
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

/** first: a refined one follows. candidate: of no step, one of several. */
export type MaskStatus = "first" | "refined" | "propagated" | "drawn" | "restored" | "removed" | "candidate";
