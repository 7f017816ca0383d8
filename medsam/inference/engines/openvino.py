"""The exported graphs in OpenVINO, on a CPU.

Measured on a slice of LiteMedSAM (docs/results/README.md, "Engines"), OpenVINO encodes twice as fast as torch and a
quarter faster than ONNX Runtime; in bfloat16, where the processor has it, five times as fast as torch in float32.
The graphs are written once a set of weights (see `models.structures`), kept in the cache folder under the weights'
digest, compared with torch before they are trusted, and never asked of a user:

    CACHE/graphs/DIGEST/
      encoder.onnx …        one file a graph, see `models.export`; encoder.int8.onnx, see `models.quantise`
      compiled-…/           what OpenVINO made of them; one folder a precision and version of it
      checked.json          graph, precision, OpenVINO and processor -> the graph that answered as torch does

Letters: P prompts, n cells of the embedding's grid, s the side of the logits, four times the grid's.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from medsam.assets.cache import cache_dir, fetch
from medsam.errors import CheckpointError, InputError, PromptError
from medsam.files import write_text
from medsam.geometry import AXES
from medsam.inference.engines.base import AT_ONCE, OUTSIDE_ROI, EngineError, Precision
from medsam.io.load import load_volume
from medsam.models.export import GRAPHS, OPSET, example_inputs, export_graph, graph_module
from medsam.models.mask_decoder import ImageTokens
from medsam.models.prompt_encoder import as_tokens
from medsam.models.quantise import quantise_encoder
from medsam.models.runtime import locale_kept, openvino_core
from medsam.models.sam import Sam
from medsam.models.structures import STRUCTURES, fill_structure, find_structure
from medsam.models.weights_file import weights_digest
from medsam.progress import status
from medsam.transforms.intensity import resolve_window
from medsam.transforms.prepare import scan_tensor, slice_input
from medsam.transforms.preprocess import Preprocess

# Part of a graph's folder: raise it when `models.export` writes other graphs for the same weights.
_FORMAT = 6
# How far from torch a graph may answer: in float32 any number of an embedding or of logits, which go to some tens; at
# lower precision a whole embedding, by norm. What that does to masks is measured (docs/results/README.md, "Precision").
_TOLERANCE, _LOWER_TOLERANCE = 1e-3, {"bfloat16": 0.1, "float16": 0.1, "int8": 0.3}
# Slices of each sample scan and axis that int8 finds its ranges on.
_CALIBRATION = 6
# Prompts decoded together: the image's tokens of more do not fit into a processor's cache (docs/results/README.md).
_TOGETHER = 4
# Cells of a window come in multiples of this.
_CELLS = 64
# The graphs that are run here; `decoder` is for others.
_OURS = ("encoder", "precompute", "decode_tokens", "decode_tokens_with_mask")
# torch's exporter and its global generator are for one thread at a time.
_TORCH = threading.Lock()

# precision -> what OpenVINO computes in; int8 is in the graph itself, and what is not in int8 is in float32
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}
_NEEDS = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16", "int8": "INT8"}


class OpenVinoEngine:
    """The exported graphs on a CPU. Made by `choose_engine`.

    A graph is written, checked and compiled when it is first needed. Raises EngineError where that fails or the
    answers differ from torch's, and ImportError without OpenVINO.
    """

    name = "openvino"

    def __init__(self, sam: Sam, precision: Precision = "auto", folder: Path | None = None) -> None:
        core = openvino_core()
        self.sam, self.device = sam, torch.device("cpu")
        if precision == "auto":
            precision = "float32"
        self.precision = str(precision)
        self._digest = _graph_digest(sam)
        self._folder = folder or cache_dir() / "graphs" / self._digest
        if _NEEDS[self.precision] not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError(
                f"This processor does not compute in {self.precision}; leave `precision` out.", parameter="precision"
            )
        self._compiled: dict[str, Any] = {}
        self._locks = {graph: threading.Lock() for graph in _OURS}
        # a compiled graph works for one thread at a time, so each has requests of its own
        self._requests = threading.local()

    def encode(self, images: Tensor) -> Tensor:
        if len(images) > 1:
            # one image keeps both cores busy, and larger ones leave the cache
            return torch.cat([self.encode(image[None]) for image in images])
        self.sam.check_images(images)
        return self._run("encoder", images)[0]

    def warm_up(self) -> None:
        missing = [graph for graph in _OURS if not self._path(graph).exists()]
        first = status(f"Preparing {self.sam.spec.name} for this processor (once)") if missing else nullcontext()
        with first, locale_kept(), ThreadPoolExecutor(2) as pool:
            # OpenVINO reads and compiles each graph in one thread
            list(pool.map(self._ready, _OURS))

    def precompute(self, features: Tensor) -> ImageTokens:
        return ImageTokens(*self._run("precompute", features))

    def decode(
        self,
        features: Tensor,
        prompts: Mapping[str, Tensor],
        *,
        multimask: bool,
        image: ImageTokens | None = None,
        roi: Tensor | None = None,
        extend_roi: bool = False,
        at_once: int = AT_ONCE,
    ) -> tuple[Tensor, Tensor]:
        batched = {name: tensor[None] for name, tensor in prompts.items()}
        count = self.sam.count_prompts(features, **batched)
        if roi is not None and (roi.shape != (count, 4) or not roi.isfinite().all()):
            raise PromptError(f"roi: finite boxes ({count}, 4) are needed, got {tuple(roi.shape)}.")
        masks = batched.pop("masks", None)
        laid_out = as_tokens(batched.get("boxes"), batched.get("points"), batched.get("point_labels"))
        # a mask alone has no places
        coordinates, token_types = laid_out or (torch.zeros(1, count, 0, 2), torch.zeros(1, count, 0))
        side = self.sam.spec.embed_side
        corners, sizes = _windows(roi, count, side, self.sam.spec.image_size)
        chosen = slice(1, None) if multimask else slice(0, 1)
        logits = torch.full((count, 3 if multimask else 1, 4 * side, 4 * side), OUTSIDE_ROI)
        scores = torch.empty(count, logits.shape[1])
        beyond: list[int] = []
        # large windows with large ones: of those decoded together the largest tells how many cells are made of each
        for part in sizes.prod(dim=1).argsort(descending=True, stable=True).split(min(at_once, _TOGETHER)):
            cells = _cells(corners[part], sizes[part], side)
            places = (coordinates[:, part].float(), token_types[:, part].long(), cells[None])
            if masks is None:
                image = image or self.precompute(features)
                found, predicted_iou = self._run("decode_tokens", *image, *places)
            else:
                found, predicted_iou = self._run("decode_tokens_with_mask", features, masks[:, part].float(), *places)
            scores[part] = predicted_iou[0, :, chosen]
            for number, one in zip(part.tolist(), found[0, :, chosen], strict=True):
                (top, left), (rows, columns) = corners[number].tolist(), sizes[number].tolist()
                # (M, n, 4, 4) -> (M, 4 rows, 4 columns)
                window = one[:, : rows * columns].unflatten(1, (rows, columns)).transpose(2, 3).flatten(3).flatten(1, 2)
                logits[number, :, 4 * top : 4 * (top + rows), 4 * left : 4 * (left + columns)] = window
                ends = (top == 0, left == 0, top + rows == side, left + columns == side)
                if extend_roi and _reaches_out(window > self.sam.spec.mask_threshold, ends):
                    beyond.append(number)
        if beyond:
            again = {name: tensor[beyond] for name, tensor in prompts.items()}
            whole = self.decode(features, again, multimask=multimask, image=image, at_once=at_once)
            logits[beyond], scores[beyond] = whole
        return logits, scores

    def _run(self, graph: str, *inputs: Tensor) -> list[Tensor]:
        request = getattr(self._requests, graph, None)
        if request is None:
            request = _run_by_openvino(graph, self._ready(graph).create_infer_request)
            setattr(self._requests, graph, request)
        given = {number: tensor.detach().contiguous().numpy() for number, tensor in enumerate(inputs)}
        # inputs are read in place; outputs are copied, since the next request writes over them
        found = _run_by_openvino(graph, lambda: request.infer(given, share_inputs=True))
        return [torch.from_numpy(values) for values in found.values()]

    def _ready(self, graph: str) -> Any:
        """The graph, compiled; written and checked before if need be."""
        with self._locks[graph]:
            if graph not in self._compiled:
                self._compiled[graph] = self._checked(graph)
            return self._compiled[graph]

    def _precision(self, graph: str) -> str:
        # the decoder's positions need all their digits
        return self.precision if graph == "encoder" else "float32"

    def _path(self, graph: str) -> Path:
        return self._folder / (f"{graph}.int8.onnx" if self._precision(graph) == "int8" else f"{graph}.onnx")

    def _file(self, graph: str, *, anew: bool = False) -> Path:
        """The graph's file, written if it is not there. anew: whatever is there, and from the network's code alone."""
        path = self._path(graph)
        if path.exists() and not anew:
            return path
        self._folder.mkdir(parents=True, exist_ok=True)
        # of many processes on one machine, one writes it
        with FileLock(self._folder / ".lock"):
            if anew or not path.exists():
                if _graph_digest(self.sam) != self._digest:
                    raise EngineError(f"The weights of {self.sam.spec.name} have changed since it was loaded.")
                try:
                    self._write(graph, path, anew)
                except CheckpointError as error:
                    raise EngineError(str(error)) from error
        return path

    def _write(self, graph: str, path: Path, anew: bool) -> None:
        if self._precision(graph) == "int8":
            with tempfile.TemporaryDirectory(prefix=".int8-", dir=self._folder) as scratch:
                # the products that become int8 are found in a graph whose weights are folded
                source = Path(scratch) / f"{graph}.onnx"
                with _TORCH:
                    export_graph(self.sam, graph, source)
                quantise_encoder(source, _sample_crops(self.sam.spec.preprocess), path)
            return
        structure = None if anew else find_structure(self.sam.spec, graph)
        if structure is None:
            with _TORCH:
                export_graph(self.sam, graph, path)
        else:
            fill_structure(structure, self.sam, graph, path)

    def _compile(self, graph: str) -> Any:
        path, precision = self._path(graph), self._precision(graph)
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            # a folder each: OpenVINO 2026.4 takes a graph compiled for one precision for one of another
            # and one for each OpenVINO, which removes what another one compiled
            "CACHE_DIR": str(self._folder / f"compiled-{_HINTS[precision]}-{_openvino_version()}"),
        }
        return _run_by_openvino(path.name, lambda: openvino_core().compile_model(str(path), "CPU", settings))

    def _checked(self, graph: str) -> Any:
        """The compiled graph. A damaged file, and one made from a structure that fits no longer, is written anew."""
        try:
            return self._compared(graph)
        except EngineError:
            return self._compared(graph, anew=True)

    def _compared(self, graph: str, *, anew: bool = False) -> Any:
        self._file(graph, anew=anew)
        compiled = self._compile(graph)
        self._compare(graph, compiled)
        return compiled

    def _compare(self, graph: str, compiled: Any) -> None:
        """With torch, once a file, precision, OpenVINO and processor. Raises EngineError where answers differ."""
        # machines that share a folder have an entry each
        note, name = self._folder / "checked.json", f"{graph} {self._precision(graph)}, {_machine()}"
        with self._path(graph).open("rb") as file:
            about = f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
        if _checked_graphs(note).get(name) == about:
            return
        with _TORCH:
            self._compare_anew(graph, compiled)
            write_text(note, json.dumps({**_checked_graphs(note), name: about}, indent=1))

    def _compare_anew(self, graph: str, compiled: Any) -> None:
        precision = self._precision(graph)
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(0)
            inputs = example_inputs(self.sam, graph)
            expected = graph_module(self.sam, graph)(*inputs)
        given = {number: tensor.numpy() for number, tensor in enumerate(inputs)}
        found = _run_by_openvino(graph, lambda: compiled(given))
        for number, tensor in enumerate(expected if isinstance(expected, tuple) else (expected,)):
            wanted, got = tensor.numpy(), found[number]
            apart = float(np.abs(got - wanted).max() if precision == "float32" else _relative(got, wanted))
            allowed = _LOWER_TOLERANCE.get(precision, _TOLERANCE)
            # not a number is far, too
            if not apart <= allowed:
                raise EngineError(
                    f"The exported {graph} of {self.sam.spec.name} answers {apart:.2g} away from torch in {precision}; "
                    f"{allowed:g} is allowed."
                )


def _checked_graphs(note: Path) -> dict[str, Any]:
    try:
        checked = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return checked if isinstance(checked, dict) else {}


def _sample_crops(preprocess: Preprocess) -> Iterator[np.ndarray]:
    """Prepared slices (3, S, S) of the sample scans, a CT and an MR, along all axes: always the same."""
    for name, file in (("lumbar-ct", "image"), ("mni-brain", "t1")):
        scan = load_volume(fetch(name)[file])
        window, tensor = resolve_window(scan), scan_tensor(scan)
        for axis in AXES:
            plane = scan.geometry.plane(axis)
            # the outermost slices may be empty, and left and right of the template are the same
            for index in np.linspace(0.25, 0.8, _CALIBRATION) * plane.count:
                yield slice_input(tensor, plane, int(index), window, preprocess)[0].numpy()


def _run_by_openvino(what: str, run: Callable[[], Any]) -> Any:
    try:
        return run()
    except RuntimeError as error:
        # the lines before the last say where in OpenVINO
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise EngineError(f"OpenVINO cannot run {what}: {lines[-1] if lines else type(error).__name__}.") from error


def _windows(roi: Tensor | None, count: int, side: int, image_size: int) -> tuple[Tensor, Tensor]:
    """Windows on the embedding's grid: first (row, column) of each and its (rows, columns), (P, 2) both."""
    if roi is None:
        return torch.zeros(count, 2, dtype=torch.int64), torch.full((count, 2), side)
    cells = roi.double() * (side / image_size)
    # a cell around: logits between two pixels are mixed from both
    low = (cells[:, [1, 0]].floor().long() - 1).clamp(0, side - 1)
    high = (cells[:, [3, 2]].ceil().long() + 1).clamp(1, side)
    sizes = (high - low).clamp(min=1)
    return torch.minimum(low, side - sizes), sizes


def _cells(corners: Tensor, sizes: Tensor, side: int) -> Tensor:
    """Numbers of the windows' cells (P, n), row by row; smaller windows are filled up with their last cell."""
    # OpenVINO prepares itself for every n anew
    count = min(-(-int(sizes.prod(dim=1).amax()) // _CELLS) * _CELLS, side * side)
    number = torch.arange(count).clamp(max=sizes.prod(dim=1, keepdim=True) - 1)
    row, column = number // sizes[:, 1:], number % sizes[:, 1:]
    return (corners[:, :1] + row) * side + corners[:, 1:] + column


def _reaches_out(masks: Tensor, ends: tuple[bool, bool, bool, bool]) -> bool:
    """Whether any of masks (M, h, w) touches a side of its window; not those that are the image's: top, left, … ."""
    sides = (masks[:, 0], masks[:, :, 0], masks[:, -1], masks[:, :, -1])
    return any(bool(one.any()) for one, end in zip(sides, ends, strict=True) if not end)


def _graph_digest(sam: Sam) -> str:
    """Of everything a graph is made from: weights, sizes that leave no trace in them, and how it is written."""
    spec = sam.spec
    how = (_FORMAT, STRUCTURES, OPSET, sorted(GRAPHS))
    described = (*how, spec.encoder, spec.decoder, spec.preprocess, weights_digest(sam))
    return hashlib.sha256(repr(described).encode()).hexdigest()


def _relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@functools.cache
def _machine() -> str:
    processor = openvino_core().get_property("CPU", "FULL_DEVICE_NAME")
    return f"OpenVINO {_openvino_version()}, {platform.machine()}, {processor}"


def _openvino_version() -> str:
    """Fit to be part of a name: it may tell a branch, with slashes."""
    import openvino

    return re.sub(r"[^\w.]+", "-", str(openvino.__version__))
