// Decodes box prompts in this page and compares the logits with those torch gave on the server.
//
// Address: ?way=decoder|parts|window|masked & threads=N & rounds=N & embedding=float32|float16
//   decoder   decoder.onnx, every prompt from the embedding on
//   parts     precompute.onnx once, then decode_tokens.onnx with every cell of the grid
//   window    the same, but only the cells around a prompt's box
//   masked    decode_tokens_with_mask.onnx: the same boxes, with the logits of torch's first answer to look at again
// What came out is the promise `window.outcome`; run.py reads it.
import * as ort from "/ort/ort.wasm.min.mjs";

const asked = new URLSearchParams(location.search);
const way = asked.get("way") ?? "decoder";
const threads = Number(asked.get("threads") ?? 1);
const rounds = Number(asked.get("rounds") ?? 3);
const kept = asked.get("embedding") ?? "float32";
const GRAPHS = { decoder: ["decoder"], parts: ["precompute", "decode_tokens"], window: ["precompute", "decode_tokens"], masked: ["decode_tokens_with_mask"] };
// Logit of a pixel nobody asked for: certainly outside.
const UNASKED = -32;
// Cells that are looked at beyond a box, and pixels of the model input a mask may leave it by.
const CELLS_AROUND = 1;

async function bytes(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${answer.statusText}`);
  return await answer.arrayBuffer();
}

const floats = async (path) => new Float32Array(await bytes(path));
const tensor = (values, shape) => new ort.Tensor("float32", values, shape);
const whole = (values, shape) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);

// A box as two positions, its corners, which are of kind 2 and 3.
const corners = (box) => [tensor(Float32Array.from(box), [1, 1, 2, 2]), whole([2, 3], [1, 1, 2])];

// The cells of the grid around a box: first row and column, rows and columns.
function cellsAround(box, side, size) {
  const low = (x) => Math.min(Math.max(Math.floor((x * side) / size) - CELLS_AROUND, 0), side - 1);
  const high = (x) => Math.max(Math.min(Math.ceil((x * side) / size) + CELLS_AROUND, side), 1);
  const [column, row] = [low(box[0]), low(box[1])];
  return { row, column, rows: high(box[3]) - row, columns: high(box[2]) - column };
}

// Logits of cells (4, n, 4, 4) -> whole maps (4, 4 side, 4 side).
function placed(logits, window, side) {
  const length = 4 * side;
  const maps = new Float32Array(4 * length * length).fill(UNASKED);
  let from = 0;
  for (let mask = 0; mask < 4; mask++)
    for (let row = window.row; row < window.row + window.rows; row++)
      for (let column = window.column; column < window.column + window.columns; column++)
        for (let line = 0; line < 4; line++, from += 4)
          maps.set(logits.subarray(from, from + 4), (mask * length + 4 * row + line) * length + 4 * column);
  return maps;
}

// A function from a prompt to its logits (4, 4 side, 4 side), made once for an embedding.
async function decoderFor(sessions, task, embedding) {
  const { side, size } = task;
  if (way === "decoder")
    return async (prompt) => {
      const [point_coords, point_labels] = corners(prompt.box);
      return (await sessions.decoder.run({ embedding, point_coords, point_labels })).logits.data;
    };
  const all = { row: 0, column: 0, rows: side, columns: side };
  const part = way === "masked" ? { embedding } : await sessions.precompute.run({ embedding });
  return async (prompt) => {
    const [coordinates, token_types] = corners(prompt.box);
    const window = way === "window" ? cellsAround(prompt.box, side, size) : all;
    const numbers = [];
    for (let row = window.row; row < window.row + window.rows; row++)
      for (let column = window.column; column < window.column + window.columns; column++) numbers.push(row * side + column);
    const inputs = { ...part, coordinates, token_types, cells: whole(numbers, [1, 1, numbers.length]) };
    if (way === "masked") inputs.masks = tensor(prompt.first, [1, 1, 4 * side, 4 * side]);
    const session = way === "masked" ? sessions.decode_tokens_with_mask : sessions.decode_tokens;
    return placed((await session.run(inputs)).logits.data, window, side);
  };
}

// How far the logits are from torch's, in the cells that were asked for, and pixels that another mask has.
function compare(found, wanted, prompt, { side, size }) {
  const window = way === "window" ? cellsAround(prompt.box, side, size) : { row: 0, column: 0, rows: side, columns: side };
  const length = 4 * side;
  let apart = 0, differ = 0, inside = 0, pixels = 0;
  for (let mask = 0; mask < 4; mask++)
    for (let y = 4 * window.row; y < 4 * (window.row + window.rows); y++)
      for (let x = 4 * window.column; x < 4 * (window.column + window.columns); x++) {
        const at = (mask * length + y) * length + x;
        const gap = Math.abs(found[at] - wanted[at]);
        // not a number is far, too
        if (!(gap <= apart)) apart = gap;
        if (found[at] > 0 !== wanted[at] > 0) differ++;
        if (wanted[at] > 0) inside++;
        pixels++;
      }
  return { apart: Number.isNaN(apart) ? Infinity : apart, differ, inside, pixels };
}

async function draw(task, maps) {
  const canvas = document.getElementById("view");
  const context = canvas.getContext("2d");
  canvas.width = canvas.height = task.size;
  context.drawImage(await createImageBitmap(new Blob([await bytes("/data/slice.png")])), 0, 0);
  const shown = context.getImageData(0, 0, task.size, task.size);
  const step = task.size / (4 * task.side);
  maps.forEach((logits, number) => {
    const colour = colourOf(number);
    for (let y = 0; y < task.size; y++)
      for (let x = 0; x < task.size; x++)
        if (logits[Math.floor(y / step) * 4 * task.side + Math.floor(x / step)] > 0)
          for (let channel = 0; channel < 3; channel++) {
            const at = 4 * (y * task.size + x) + channel;
            shown.data[at] = 0.55 * shown.data[at] + 0.45 * colour[channel];
          }
  });
  context.putImageData(shown, 0, 0);
  task.prompts.forEach(({ box: [x0, y0, x1, y1] }, number) => {
    context.strokeStyle = `rgb(${colourOf(number)})`;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  });
}

// Hues a golden angle apart, so that neighbours differ.
function colourOf(number) {
  const hue = ((number * 137.5) % 360) / 60;
  const ramp = (shift) => Math.round(255 * Math.min(Math.max(Math.abs(((hue + shift) % 6) - 3) - 1, 0), 1));
  return [ramp(0), ramp(4), ramp(2)];
}

function spread(times) {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  return { median: at(0.5), p10: at(0.1), p90: at(0.9), best: sorted[0], n: sorted.length };
}

async function main() {
  if (!(way in GRAPHS)) throw new Error(`There is no way ${way}.`);
  if (threads > 1 && !crossOriginIsolated) throw new Error("Threads need cross-origin isolation (COOP and COEP).");
  ort.env.wasm.wasmPaths = "/ort/";
  ort.env.wasm.numThreads = threads;

  const task = JSON.parse(new TextDecoder().decode(await bytes("/data/task.json")));
  const raw = await bytes(`/data/embedding.${kept}`);
  const values = kept === "float16" ? Float32Array.from(new Float16Array(raw)) : new Float32Array(raw);
  const embedding = tensor(values, task.embedding);
  const wanted = await floats(way === "masked" ? "/data/again.float32" : "/data/logits.float32");
  const area = (4 * task.side) ** 2;
  const first = way === "masked" ? await floats("/data/logits.float32") : null;
  task.prompts.forEach((prompt, number) => {
    // the single mask of a first answer, which is what a correction starts from
    prompt.first = first?.slice(4 * number * area, (4 * number + 1) * area);
  });

  const sessions = {};
  const fetched = {};
  let started = performance.now();
  for (const name of GRAPHS[way]) {
    const graph = await bytes(`/graphs/${name}.onnx`);
    fetched[name] = graph.byteLength;
    sessions[name] = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  }
  const ready = performance.now() - started;

  started = performance.now();
  const decode = await decoderFor(sessions, task, embedding);
  const prepared = performance.now() - started;

  started = performance.now();
  await decode(task.prompts[0]);
  const firstCall = performance.now() - started;

  const times = [];
  const maps = [];
  const total = { apart: 0, differ: 0, inside: 0, pixels: 0 };
  for (let round = 0; round < rounds; round++)
    for (const [number, prompt] of task.prompts.entries()) {
      started = performance.now();
      const logits = await decode(prompt);
      times.push(performance.now() - started);
      if (round > 0) continue;
      maps.push(logits.slice(0, area));
      const one = compare(logits, wanted.subarray(4 * number * area, 4 * (number + 1) * area), prompt, task);
      total.apart = Math.max(total.apart, one.apart);
      for (const key of ["differ", "inside", "pixels"]) total[key] += one[key];
    }
  await draw(task, maps);

  const outcome = {
    way, threads, embedding: kept, model: task.model, prompts: task.prompts.length, rounds,
    runtime: ort.env.versions.web, isolated: crossOriginIsolated, agent: navigator.userAgent,
    graph_bytes: fetched, ready_ms: ready, prepare_ms: prepared, first_ms: firstCall, prompt_ms: spread(times), prompt_times_ms: times,
    largest_difference: total.apart, mask_pixels_that_differ: total.differ, mask_pixels: total.inside, pixels: total.pixels,
  };
  tell(outcome);
  return outcome;
}

function tell(outcome) {
  const ms = (value) => `${value.toFixed(1)} ms`;
  const rows = [
    ["model", outcome.model],
    ["graphs", Object.entries(outcome.graph_bytes).map(([name, size]) => `${name} ${(size / 1e6).toFixed(1)} MB`).join(", ")],
    ["way, threads", `${outcome.way}, ${outcome.threads}`],
    ["onnxruntime-web", outcome.runtime],
    ["a prompt, median", ms(outcome.prompt_ms.median)],
    ["10th to 90th percentile", `${ms(outcome.prompt_ms.p10)} to ${ms(outcome.prompt_ms.p90)}`],
    ["first prompt", ms(outcome.first_ms)],
    ["once an embedding", ms(outcome.prepare_ms)],
    ["once a page: graphs fetched and compiled", ms(outcome.ready_ms)],
    ["prompts × rounds", `${outcome.prompts} × ${outcome.rounds}`],
    ["largest difference of a logit from torch", outcome.largest_difference.toExponential(1)],
    ["mask pixels that differ", `${outcome.mask_pixels_that_differ} of ${outcome.mask_pixels}`],
  ];
  const table = document.getElementById("numbers");
  for (const row of rows) {
    const line = table.insertRow();
    for (const text of row) line.insertCell().textContent = text;
  }
  document.getElementById("said").textContent = `${outcome.prompts} boxes on one slice, decoded here.`;
}

window.outcome = main();
window.outcome.catch((error) => {
  const said = document.getElementById("said");
  said.textContent = String(error);
  said.className = "bad";
});
