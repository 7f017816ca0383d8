"""`medsam export --model NAME|CHECKPOINT --out DIR`: a model as ONNX graphs, compared with torch before they are there.

    DIR/encoder.onnx        image -> embedding
    DIR/decoder.onnx        embedding and prompts -> masks, all in one
    DIR/precompute.onnx, decode_tokens.onnx, decode_tokens_with_mask.onnx
                            the decoder cut where work can be saved, see `medsam.models.export` and docs/export.md
    DIR/export.json         what they take and give, of which weights, and how far they are from torch

A graph of more than 2 GB has its weights beside it, in NAME.onnx.data.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsam.errors import CheckpointError, InputError, counted
from medsam.files import write_whole
from medsam.progress import status

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from medsam.models.sam import Sam
    from medsam.transforms.preprocess import Preprocess

REPORT = "export.json"
_MADE_BY = "medsam export"
# A number of a graph may be this far from torch's: logits go to some tens, and a mask is where they are above zero.
TOLERANCE = 1e-3
# Share of pixels that may change sides: those whose logit is zero but for rounding.
PIXELS_APART = 1e-5

_PURPOSE = {
    "encoder": "once an image",
    "decoder": "prompts on an embedding, masks of the whole image; needs no other graph",
    "precompute": "once an embedding: what `decode_tokens` needs of it",
    "decode_tokens": "prompts on what `precompute` gave; masks of the cells that are asked for, each 4 x 4 logits",
    "decode_tokens_with_mask": "prompts with logits of an earlier answer; masks of the cells that are asked for",
}


class ParityError(RuntimeError):
    """An exported graph differs from torch. No user can fix that, so it is none of `MedSAMError`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam export`."""
    parser.add_argument(
        "--model",
        default="litemedsam",
        metavar="NAME|CHECKPOINT",
        help="a known name (medsam models list) or a checkpoint file, fine-tuned ones too (default: litemedsam)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for encoder.onnx, decoder.onnx, the decoder in parts and export.json; made if it is not there, "
        "and of an earlier export only its own files are replaced",
    )
    parser.add_argument("--json", action="store_true", help="print export.json on stdout instead of a table")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "Every graph is run in ONNX Runtime on drawn inputs and compared with torch: a number further away than "
        f"{TOLERANCE:g},\nor a mask that differs, and nothing is written (exit 1). What the graphs take and give, "
        "with examples in Python\nand JavaScript: docs/export.md."
    )


def run(arguments: argparse.Namespace) -> None:
    """Export, compare, write, report. Raises MedSAMError subclasses for everything a user can fix."""
    import onnxruntime  # noqa: F401  a missing extra is reported before seconds go into loading a model

    from medsam.io.save import check_folder
    from medsam.models.build import load_model

    folder = arguments.out.expanduser()
    check_folder(folder)
    _old_files(folder)  # what is in the way is reported before minutes go by
    sam = load_model(arguments.model)
    with _made(folder):
        # the report moves last: it stands for all of them
        with write_whole(folder / REPORT) as part:
            report = export_model(sam, part.parent)
            old = _old_files(folder)
        for name in old - _files_of(report):
            (folder / name).unlink(missing_ok=True)
    if arguments.json:
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        _print(report, folder)


def export_model(sam: Sam, folder: Path) -> dict[str, Any]:
    """Write every graph of a model on the CPU and export.json to an empty folder; returns what export.json holds.

    Raises CheckpointError when the model cannot be exported or answers with numbers that are not finite, and
    ParityError when a graph is further than `TOLERANCE` from torch.
    """
    from medsam.models.export import GRAPHS, OPSET, export_graph
    from medsam.models.weights_file import weights_digest

    sam = sam.eval()
    graphs: dict[str, Any] = {}
    parity: dict[str, Any] = {}
    for number, name in enumerate(GRAPHS, 1):
        path = folder / f"{name}.onnx"
        with status(f"{sam.spec.name}, graph {number} of {len(GRAPHS)}: writing the {name}"):
            export_graph(sam, name, path)
        with status(f"{sam.spec.name}, graph {number} of {len(GRAPHS)}: comparing the {name} with torch"):
            graphs[name] = _described(path, _PURPOSE[name])
            parity[name] = compare_graph(sam, name, path)
    report = {
        "made_by": _MADE_BY,
        "model": sam.spec.to_dict(),
        "weights_sha256": weights_digest(sam),
        "opset": OPSET,
        "versions": _versions(),
        "preprocessing": _in_words(sam.spec.preprocess),
        "graphs": graphs,
        "parity": {
            "between": "ONNX Runtime and torch, float32, on a CPU",
            "largest_difference_allowed": TOLERANCE,
            "share_of_mask_pixels_allowed": PIXELS_APART,
            "passed": True,
            "graphs": parity,
        },
    }
    (folder / REPORT).write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    return report


# -- parity -----------------------------------------------------------------------------------------------------


def compare_graph(sam: Sam, name: str, path: Path) -> dict[str, Any]:
    """Run a graph in ONNX Runtime on drawn inputs beside torch; the same inputs every time.

    Returns the largest absolute difference, the largest relative one (of a whole output, by norm), the share of mask
    pixels that differ, None for graphs that give no masks, and the same for each input.
    Raises ParityError and CheckpointError as `export_model` does.
    """
    import numpy as np
    import onnxruntime
    import torch

    from medsam.models.export import GRAPHS, graph_module

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; its warnings speak of this machine's graphics cards
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    part, names = graph_module(sam, name), list(GRAPHS[name].inputs)
    gives_masks = GRAPHS[name].outputs[0] == "logits"
    cases: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        for what, inputs in _cases(sam, name):
            expected = part(*inputs)
            wanted = [each.numpy() for each in (expected if isinstance(expected, tuple) else (expected,))]
            if not all(np.isfinite(each).all() for each in wanted):
                raise CheckpointError(
                    f"The {name} of {sam.spec.name} answers with numbers that are not finite in torch already. The "
                    "weights may be damaged: fetch them again, or use another checkpoint."
                )
            found = session.run(None, {key: each.numpy() for key, each in zip(names, inputs, strict=True)})
            cases[what] = _distance(found, wanted, gives_masks)
            _check_distance(cases[what], f"the exported {name} of {sam.spec.name}", what, found[0].size)
    keys = ("largest_difference", "relative_difference", "mask_pixels_that_differ")
    worst = {key: max((case[key] for case in cases.values() if case[key] is not None), default=None) for key in keys}
    return {**worst, "passed": True, "inputs": cases}


def _distance(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], gives_masks: bool) -> dict[str, float | None]:
    """How far outputs are from torch's, as `compare_graph` reports it. gives_masks: the first are logits."""
    import numpy as np

    pairs = list(zip(found, wanted, strict=True))
    return {
        "largest_difference": max(float(np.abs(f - w).max()) for f, w in pairs),
        "relative_difference": max(float(np.linalg.norm(f - w) / np.linalg.norm(w)) for f, w in pairs),
        "mask_pixels_that_differ": float(((found[0] > 0) != (wanted[0] > 0)).mean()) if gives_masks else None,
    }


def _check_distance(distance: Mapping[str, float | None], graph: str, what: str, size: int) -> None:
    """Raise ParityError when outputs are too far from torch's. what: the inputs. size: logits in the first output.

    One logit may lie on the threshold, whatever the size: of few, that is a larger share than `PIXELS_APART`.
    """
    import onnxruntime
    import torch

    largest, pixels = distance["largest_difference"] or 0.0, distance["mask_pixels_that_differ"] or 0.0
    # NaN fails, too
    if not (largest <= TOLERANCE and pixels <= max(PIXELS_APART, 1 / size)):
        raise ParityError(
            f"{graph} answers {largest:.2g} away from torch ({TOLERANCE:g} is allowed) for {what}"
            + (f", and {100 * pixels:.2g} % of the mask pixels differ" if pixels else "")
            + f"; ONNX Runtime {onnxruntime.__version__}, torch {torch.__version__}. Nothing was written."
        )


def _cases(sam: Sam, name: str) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """What a graph is tried on, and its inputs: all that is free takes several lengths, one of them 1."""
    import torch

    from medsam.models.export import GRAPHS

    spec, side = sam.spec, sam.spec.embed_side
    if name == "encoder":
        for what, coarse in (("noise", spec.image_size), ("clouds", 8)):
            yield what, (_picture(spec.preprocess, coarse),)
        return
    embedding = sam.encode_image(_picture(spec.preprocess, 8))
    if name == "precompute":
        yield "an embedding", (embedding,)
        yield "noise", (torch.randn_like(embedding),)
        return
    laid_out = _drawn_prompts(spec.image_size)
    if "masks" in GRAPHS[name].inputs:
        laid_out["2 masks alone"] = torch.zeros(1, 2, 0, 2), torch.zeros(1, 2, 0, dtype=torch.int64)
    for number, (what, places) in enumerate(laid_out.items()):
        if places is None:
            continue
        coordinates, token_types = places
        drawn = {"embedding": embedding, "coordinates": coordinates, "token_types": token_types}
        drawn |= {"point_coords": coordinates, "point_labels": token_types}
        wanted = GRAPHS[name].inputs
        count = coordinates.shape[1]
        if "masks" in wanted:
            drawn["masks"] = 8 * torch.randn(1, count, 4 * side, 4 * side)
        if "keys" in wanted:
            drawn |= sam.precompute(embedding)._asdict()
        if "cells" in wanted:
            cells = (side * side, 1, 37)[number % 3]
            drawn["cells"] = torch.stack([torch.randperm(side * side)[:cells] for _ in range(count)])[None]
            what = f"{what}, {counted(cells, 'cell')}"
        yield what, tuple(drawn[each] for each in wanted)


def _drawn_prompts(size: int) -> dict[str, tuple[Tensor, Tensor] | None]:
    """Boxes and clicks on an image of `size` pixels a side, as positions and their token_types, by what they are."""
    import torch

    from medsam.models.prompt_encoder import as_tokens

    def boxes(prompts: int) -> Tensor:
        ends = torch.rand(1, prompts, 2, 2) * size
        return torch.cat([ends.amin(2), ends.amax(2)], dim=-1)

    def points(prompts: int, count: int) -> tuple[Tensor, Tensor]:
        return torch.rand(1, prompts, count, 2) * size, torch.randint(2, (1, prompts, count))

    ragged, labels = points(4, 5)
    for row, length in enumerate((1, 2, 4, 5)):
        labels[0, row, length:] = -1
    prompts = {
        "1 box": (boxes(1), None, None),
        "32 boxes": (boxes(32), None, None),
        "1 point": (None, *points(1, 1)),
        "3 prompts of 7 points": (None, *points(3, 7)),
        "2 boxes with 3 points": (boxes(2), *points(2, 3)),
        "4 prompts of 1 to 5 points, padded": (None, ragged, labels),
    }
    return {what: as_tokens(*given) for what, given in prompts.items()}


def _picture(preprocess: Preprocess, coarse: int) -> Tensor:
    """A drawn image (1, 3, S, S) in the range the model expects; `coarse` values a side, smooth between."""
    import torch
    from torch.nn import functional as F

    size = (preprocess.size, preprocess.size)
    grey = F.interpolate(torch.rand(1, 1, coarse, coarse), size, mode="bilinear", align_corners=False)
    if preprocess.scale == "standardise":
        mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
        return (255 * grey - mean) / std
    return grey.expand(-1, 3, -1, -1).contiguous()


# -- the report -------------------------------------------------------------------------------------------------


def _described(path: Path, purpose: str) -> dict[str, Any]:
    """What a graph's file says of itself. A length that is free is its name, such as "prompts"."""
    import onnx

    from medsam.models.export import OPSET

    model = onnx.load(path, load_external_data=False)
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    if opset != OPSET:
        raise ParityError(f"the exporter wrote {path.name} in operator set {opset}, not {OPSET}. Nothing was written.")

    def values(listed: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": value.name,
                "type": onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                "shape": [length.dim_param or length.dim_value for length in value.type.tensor_type.shape.dim],
            }
            for value in listed
        ]

    files = [path, *path.parent.glob(f"{path.name}.*")]
    return {
        "purpose": purpose,
        "files": [{"name": file.name, "bytes": file.stat().st_size, "sha256": _sha256(file)} for file in files],
        "inputs": values(model.graph.input),
        "outputs": values(model.graph.output),
    }


def _in_words(step: Preprocess) -> dict[str, Any]:
    size = step.size
    if step.scale == "minmax":
        scale = "scale the slice to [0, 1] by its own smallest and largest value"
    else:
        scale = f"subtract {list(step.mean)} and divide by {list(step.std)}, channel by channel"
    if step.fit == "pad":
        fit = (
            f"resize so that the longer side is {size} pixels and pixels are as square as the scan's millimetres "
            f"({step.interpolation}, with antialiasing)"
        )
        pad = f"pad with zeros to {size} x {size} on the right and at the bottom"
    else:
        fit = f"stretch both sides to {size} pixels ({step.interpolation}, with antialiasing)"
        pad = "nothing is padded"
    return {
        "image": [
            "one slice, values 0 to 255: CT through a window (soft tissue: level 40, width 400 HU), anything else from "
            "its 0.5th to its 99.5th percentile, pictures as they are; grey three times, colour as red, green, blue",
            fit,
            scale,
            pad,
        ],
        "prompts": [
            "positions are (x, y) in pixels of the model input: those of the slice times resized size / slice size",
            "a box has its first corner on the outer edge of its first pixel, its second on that of its last (half "
            "open); a click on the centre of pixel (x, y) is ((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5)",
            "labels: 1 inside, 0 outside, 2 and 3 the first and second corner of a box, -1 padding; clicks come before "
            "corners, and clicks without a box end with one padding position (0, 0)",
        ],
        "masks": [
            "logits: inside where above 0; the first of the four masks answers a box or several clicks, the other "
            "three a single click, of which the best by predicted_iou",
            f"enlarge (bilinear) to {size} x {size}, cut the padding off, resize to the slice, take what is above 0",
            "predicted_iou: the network's guess, not clamped",
        ],
    }


def _versions() -> dict[str, str]:
    import onnx
    import onnxruntime
    import onnxscript
    import torch

    from medsam._version import __version__

    modules = {"torch": torch, "onnx": onnx, "onnxscript": onnxscript, "onnxruntime": onnxruntime}
    return {"medsam": __version__, **{name: str(module.__version__) for name, module in modules.items()}}


def _print(report: dict[str, Any], folder: Path) -> None:
    for name, graph in report["graphs"].items():
        size = sum(file["bytes"] for file in graph["files"])
        found = report["parity"]["graphs"][name]
        pixels = found["mask_pixels_that_differ"]
        masks = "" if pixels is None else f", {pixels:.1g} of mask pixels differ" if pixels else ", same masks"
        print(f"{name + '.onnx':18} {size / 1e6:8.1f} MB   off by {found['largest_difference']:.1e}{masks}")
    runtime, against = (report["versions"][name] for name in ("onnxruntime", "torch"))
    print(
        f"wrote {folder}: {report['model']['name']}, opset {report['opset']}; ONNX Runtime {runtime} compared with "
        f"torch {against}, {REPORT} tells more"
    )


# -- files ------------------------------------------------------------------------------------------------------


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder, which goes again when it was not there and stays empty."""
    there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}. Choose another --out.") from error
    finally:
        if not there and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _old_files(folder: Path) -> set[str]:
    """Our own files of an earlier export. Raises InputError for files of our names that are not ours."""
    ours: set[str] = set()
    try:
        report = json.loads((folder / REPORT).read_text())
        if report["made_by"] == _MADE_BY:
            ours = _files_of(report)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    names = {REPORT, *(f"{name}.onnx{more}" for name in _PURPOSE for more in ("", ".data"))}
    foreign = sorted(name for name in names - ours if (folder / name).exists())
    if foreign:
        raise InputError(
            f"{folder} holds {', '.join(foreign)}, which no {REPORT} of medsam export names. Choose another --out, or "
            "move them away."
        )
    # what a report names is only ever deleted if it is one of the names we give
    return ours & names


def _files_of(report: dict[str, Any]) -> set[str]:
    return {REPORT, *(file["name"] for graph in report["graphs"].values() for file in graph["files"])}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
