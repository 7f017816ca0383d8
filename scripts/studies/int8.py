"""What less precision in the image encoder gains in time and costs in Dice: bfloat16, float16 and int8 in OpenVINO.

    medsam data recipe --all --root ../shared/data --out out/manifests
    .venv/bin/python scripts/studies/int8.py out/manifests/*.json
    ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI .venv/bin/python scripts/studies/int8.py --only time \
        --precision float32 int8 -- out/manifests/*.json

LiteMedSAM, whole slices, a tight box around every structure; every precision is asked the same on the same slices, and
the decoder always answers in torch and float32. Every third patient of a set gives slices for int8 to be calibrated on
(two a case) and no others, across all manifests; of each other case up to `--slices` are measured, of up to `--cases`
cases a set. Dice changes are against float32, each with its standard error over boxes; "structures" are those of a set,
with the mean change over their slices. Times are of one encoding, in turn, round by round. The second form shows what a
processor gains that has neither bfloat16 nor float16 (OpenVINO would emulate them there). Cases that several manifests
share count once.

Measured 2026-11-23: 325 boxes on 120 slices of 19 sets. No lower precision stays within 0.002 in the mean and 0.01 for each
structure, so float32 stays the default. docs/results/precision.csv, docs/results/engines.csv
Frozen: runs at commit 4726808 (there in scripts/bench/), whose names it uses; not linted and not kept up to date.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from medsam.data.manifest import Case
from medsam.data.manifest_json import read_manifest
from medsam.inference.network import Embedding, Network
from medsam.metrics.overlap import dice
from medsam.models.build import load_model
from medsam.models.export import export_graph
from medsam.models.quantise import quantise_encoder
from medsam.models.runtime import openvino_core
from medsam.prompts.prompt import Box
from medsam.prompts.simulate import tight_box
from medsam.transforms.frame import Frame
from medsam.transforms.intensity import resolve_window
from medsam.transforms.prepare import scan_tensor, slice_input
from medsam.transforms.preprocess import Preprocess

MODEL = "litemedsam"
# the patients whose number in their set leaves this after division by three calibrate
CALIBRATES = 1
# cases a set, two slices each
CALIBRATING = 4
# name -> which graph, and what OpenVINO computes the rest in
PRECISIONS = {
    "float32": ("float32", "f32"),
    "bfloat16": ("float32", "bf16"),
    "float16": ("float32", "f16"),
    "int8": ("int8", "f32"),
    "int8+bfloat16": ("int8", "bf16"),
}
CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
Encode = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Look:
    """A slice as the model sees it (3, S, S), and what is asked of it: structure -> (truth (h, w), box)."""

    dataset: str
    case: str
    index: int
    image: np.ndarray
    frame: Frame
    asked: dict[str, tuple[np.ndarray, Box]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--slices", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9, help="of the timing")
    parser.add_argument("--precision", nargs="+", choices=tuple(PRECISIONS), default=tuple(PRECISIONS))
    parser.add_argument("--only", choices=("time", "dice"))
    parser.add_argument("--json", type=Path, help="write all numbers here too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sam = load_model(MODEL)
    calibrating, measured = split(arguments.manifests)
    with tempfile.TemporaryDirectory() as folder:
        graphs = {kind: Path(folder) / f"{kind}.onnx" for kind in ("float32", "int8")}
        export_graph(sam, "encoder", graphs["float32"])
        images = [one.image for case in calibrating for one in looks(case, 2, sam.spec.preprocess)]
        quantise_encoder(graphs["float32"], images, graphs["int8"])
        sizes = {kind: path.stat().st_size for kind, path in graphs.items()}
        encoders = compile_all(graphs, arguments.precision, arguments.threads)
        report: dict[str, Any] = {"calibration_images": len(images), "bytes": sizes, "threads": arguments.threads}
        print(f"calibrated on {len(images)} slices of {len(calibrating)} cases; {arguments.threads} threads")
        print(f"float32 {sizes['float32'] / 1e6:.1f} MB, int8 {sizes['int8'] / 1e6:.1f} MB")
        if arguments.only != "dice":
            timed = {**encoders, **onnx_runtime(graphs, arguments.threads)}
            report["milliseconds"] = time_all(timed, images[0], arguments.rounds)
        if arguments.only != "time":
            network = Network(sam, "cpu", engine="torch")
            report["dice"] = compare(network, encoders, measured, arguments.cases, arguments.slices)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


def split(manifests: list[Path]) -> tuple[list[Case], dict[str, list[Case]]]:
    """Cases that calibrate, and the others by set; no patient and no image is in both."""
    calibrating: list[Case] = []
    others: dict[str, list[Case]] = {}
    known: set[tuple[Path, str]] = set()
    for path in manifests:
        cases = [case for case in read_manifest(path).cases if (case.image, str(case.label)) not in known]
        known |= {(case.image, str(case.label)) for case in cases}
        patients = list(dict.fromkeys(case.patient for case in cases))
        chosen = {patient for number, patient in enumerate(patients) if number % 3 == CALIBRATES}
        calibrating += spread([case for case in cases if case.patient in chosen], CALIBRATING)
        others[path.stem] = [case for case in cases if case.patient not in chosen]
    people = {case.patient for case in calibrating}
    shown = {case.image for case in calibrating}
    kept = {
        name: [case for case in cases if case.patient not in people and case.image not in shown]
        for name, cases in others.items()
    }
    return calibrating, {name: cases for name, cases in kept.items() if cases}


def spread(items: list[Any], count: int) -> list[Any]:
    """`count` of them, evenly over the list."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def looks(case: Case, count: int, preprocess: Preprocess) -> Iterator[Look]:
    """Up to `count` slices of a case, evenly over those with a structure; not the slivers at both ends."""
    scan = case.load_image()
    references = case.load_references(scan)
    plane, window = scan.geometry.plane(), resolve_window(scan, case.window or "auto")
    tensor = scan_tensor(scan)
    prompted = [
        index
        for index in range(plane.count)
        if any(tight_box(plane.take(mask, index)) is not None for mask in references.values())
    ]
    some = spread(prompted, count + 2)
    for index in some[1:-1] if len(some) > 2 else some:
        image, frame = slice_input(tensor, plane, index, window, preprocess)
        truths = {name: plane.take(mask, index).copy() for name, mask in references.items()}
        asked = {name: (truth, box) for name, truth in truths.items() if (box := tight_box(truth)) is not None}
        yield Look(case.dataset, case.id, index, image.numpy(), frame, asked)


def compile_all(graphs: dict[str, Path], names: Collection[str], threads: int) -> dict[str, Encode]:
    """Precision -> encoder in OpenVINO, float32 first; those that this processor has."""
    core = openvino_core()
    can = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def encoder(path: Path, hint: str) -> Encode:
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = core.compile_model(str(path), "CPU", settings)
        return lambda image: compiled({0: image[None]})[0].copy()

    chosen = {name: PRECISIONS[name] for name in PRECISIONS if name in {"float32", *names}}
    return {name: encoder(graphs[kind], hint) for name, (kind, hint) in chosen.items() if CAPABILITIES[hint] in can}


def onnx_runtime(graphs: dict[str, Path], threads: int) -> dict[str, Encode]:
    """The same graphs in ONNX Runtime, where it is installed."""
    try:
        import onnxruntime
    except ImportError:
        return {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads

    def encoder(path: Path) -> Encode:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda image: session.run(None, {"image": image[None]})[0]

    return {f"ONNX Runtime, {kind}": encoder(path) for kind, path in graphs.items()}


def time_all(encoders: dict[str, Encode], image: np.ndarray, rounds: int) -> dict[str, dict[str, float]]:
    """Print and return milliseconds an encoding."""
    taken: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for name, encode in encoders.items():
            started = time.perf_counter()
            encode(image)
            if number:  # the first of each warms up
                taken[name].append(1000 * (time.perf_counter() - started))
    print("\n| encoder | ms, median | least |\n|---|---:|---:|")
    found = {name: {"median": float(np.median(each)), "least": min(each)} for name, each in taken.items()}
    for name, each in found.items():
        print(f"| {name} | {each['median']:.0f} | {each['least']:.0f} |")
    return found


def compare(
    network: Network, encoders: dict[str, Encode], measured: dict[str, list[Case]], cases: int, slices: int
) -> dict[str, dict[str, Any]]:
    """Print and return what each precision changes against float32."""
    scores: dict[str, dict[tuple[str, str], list[float]]] = {name: defaultdict(list) for name in encoders}
    errors: dict[str, list[float]] = defaultdict(list)
    todo = [case for several in measured.values() for case in spread(several, cases)]
    for case in track(todo, console=Console(stderr=True), transient=True):
        for look in looks(case, slices, network.sam.spec.preprocess):
            boxes = np.array([box for _, box in look.asked.values()])
            exact = None
            for name, encode in encoders.items():
                features = encode(look.image)
                exact = features if exact is None else exact
                errors[name].append(float(np.linalg.norm(features - exact) / np.linalg.norm(exact)))
                answer = network.predict(Embedding(torch.from_numpy(features), look.frame), boxes)
                for (structure, (truth, _)), mask in zip(look.asked.items(), answer.masks[:, 0], strict=True):
                    scores[name][look.dataset, structure].append(dice(truth, mask))
    print(
        "\n| encoder | error of the embedding | change of mean Dice | of the worst structure | of the worst with 3 "
        "slices | structures moved by more than 0.01 |\n|---|---:|---:|---:|---:|---:|"
    )
    base, found = scores["float32"], {}
    for name, by_structure in scores.items():
        if name == "float32":
            continue
        moved = {key: np.subtract(values, base[key]) for key, values in by_structure.items()}
        every = np.concatenate(list(moved.values()))
        means = {key: float(values.mean()) for key, values in moved.items()}
        worst = min(means, key=means.__getitem__)
        often = min((key for key in means if len(moved[key]) >= 3), key=means.__getitem__)
        found[name] = {
            "error": float(np.mean(errors[name])),
            "mean": float(every.mean()),
            "standard_error": float(every.std(ddof=1) / len(every) ** 0.5),
            "worst": {"structure": "/".join(worst), "change": means[worst], "slices": len(moved[worst])},
            "worst_of_three": {"structure": "/".join(often), "change": means[often], "slices": len(moved[often])},
            "moved": sum(abs(change) > 0.01 for change in means.values()),
            "structures": {"/".join(key): change for key, change in means.items()},
        }
        one = found[name]
        print(
            f"| {name} | {one['error']:.3f} | {one['mean']:+.4f} ± {one['standard_error']:.4f} | {means[worst]:+.3f} "
            f"({worst[1]}) | {means[often]:+.3f} ({often[1]}) | {one['moved']} of {len(means)} |"
        )
    total = np.concatenate(list(base.values()))
    print(f"\nfloat32: mean Dice {total.mean():.4f} over {len(total)} boxes on {len(errors['float32'])} slices")
    return found


if __name__ == "__main__":
    main()
