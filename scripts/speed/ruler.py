"""Seconds and memory of every stage, ours beside its reference, in turn on the same input; and whether they agree.

    scripts/reference-env
    .venv/bin/python scripts/speed/ruler.py [--stages encode decode ...] [--pairs 7] [--precision auto] [--json FILE]

A stage is one process of ours (.venv) and one of the reference (.venv-reference, reference_ruler.py), both with the
same number of threads and nothing else to do. They take turns, ours, reference, ours, ...; while one works the other
sleeps (OMP_WAIT_POLICY=PASSIVE for both, so that no idle thread spins). The first turn of each is not counted. A
ratio is of the two turns of one pair; told are the median, the lowest and the highest.

    stage        ours                                                   reference
    preprocess   medsam.transforms.prepare on a CT slice of 512 x 512   LiteMedSAM's recipe, antialiased bilinear
    preprocess-area   the same                                          its own: OpenCV's INTER_AREA (other pixels)
    encode       Predictor.encode, LiteMedSAM, a slice                  image_encoder of the public code
    decode       Predictor.predict, the first box on an embedding       prompt_encoder and mask_decoder
    decode-next  a further box on the same embedding                    the same: it keeps nothing
    decode20     20 boxes on the same slice in one call                 20 times one box
    decode20-near    the same, only what masks reach, see --zoom off    20 times one box
    decode20-inside  the same, logits outside the boxes not made        20 times one box
    restore      logits of 20 boxes -> masks at 512 x 512               crop, enlarge, sigmoid > 0.5, one by one
    metrics      medsam.metrics.measure, 3 organs in 512 x 512 x 300    surface-distance
    encode-vit-b Predictor.encode, SAM ViT-B at 1024, random weights    image_encoder of segment-anything
    ct           Predictor.segment without zoom and cleaning: a whole   slice by slice, box by box, label map by the
                 CT, a tight box a slice and structure (--ct)           same rule (higher predicted IoU)
    segment      the command `medsam segment` on a CT, as a process     a script with nibabel, as a process
    load         loading.py: a DICOM series beside MONAI's LoadImage
    training     training.py: a step of fine-tuning beside the public loop

Answers are compared in every stage of this script, and the exit status is 1 when they differ by more than the stage
allows: a ratio without agreement is worth nothing. Embeddings: the largest difference over the largest value, 1e-3 in
float32, or in lower precision the relative RMS, 0.1, and the Dice of the masks that a decoder in float32 finds in
both. Masks: Dice > 0.99, in float32 > 0.999 on the same embedding, and logits within 0.01. Label maps: Dice > 0.99 of
all voxels and as the mean of structures. Metrics: 1e-6 (Dice) and 1e-3. Pixels: two grey levels of 256.
`training` compares nothing: its two sides have different losses.

Memory is the peak of the resident set (VmHWM): of the process from its start, libraries and model included, and
"working", from the end of the warm-up on. The machine's limit is the best matrix product of 2048 x 2048 that either
torch does in this run, in float32 and, where the processor has it, bfloat16; a stage's limit is its floating-point
operations (a multiply and an add are two) divided by that. Both sides' operations are counted by torch's
FlopCounterMode, ours in the eager model, and the fewer count: eager, our ViT has more than the public code, since its
keys carry their positions, and ours shares what 20 boxes have in common. A graph that leaves work out may be below.
`others` is how many cores other programs used during the turns: above 0.2 a row is to be measured again. The ratio of
CPU seconds stands beside: other programs disturb it less, but it does not see a side that leaves a core idle.

JSON: {"machine": {processor, threads, float32_gflops, bfloat16_gflops, ...}, "settings": {...}, "stages": {NAME:
{"what", "ours" and "reference": {"seconds" (median), "low", "high", "all", "cpu_seconds", "peak_mib", "working_mib",
"setup_seconds", "facts"}, "ratio", "ratio_low", "ratio_high", "cpu_ratio", "goal", "agreement": {measure: number, ...},
"agrees", "others", "gflop": {side: number}, "limit_seconds": {precision: seconds}}}, "load": JSON of loading.py,
"training": of training.py}. Written anew after every stage.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

# torch and medsam only in functions: reference_ruler.py imports this file, and the coordinator stays small, since a
# process that it starts is charged with the coordinator's own peak
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / ".venv-reference" / "bin" / "python"
HERE = Path(__file__).resolve()
THREADS = len(os.sched_getaffinity(0))
CTS = ("totalseg_abdomen_ct/ct_slab", "totalseg_abdomen_ct/ct_full", "lung_ct_dicom_rtstruct", "liver_ct_dicom_seg")
DICE = 0.99
# as in medsam.inference.engines
OUTSIDE_ROI = -32.0

Arrays = dict[str, np.ndarray]


# -- agreement ----------------------------------------------------------------------------------------------


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Of two bool arrays of one shape; nan when both are empty."""
    if one.shape != other.shape:
        raise SystemExit(f"Answers have shapes {one.shape} and {other.shape}.")
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else float("nan")


def compare_features(ours: Arrays, theirs: Arrays, exact: bool) -> tuple[dict[str, float], bool]:
    """Embeddings, and where real weights made them the masks that one decoder finds in them.

    exact: ours was computed in float32.
    """
    a, b = ours["features"].astype(np.float64), theirs["features"].astype(np.float64)
    largest = float(np.abs(a - b).max() / np.abs(b).max())
    rms = float(np.sqrt(((a - b) ** 2).mean() / (b**2).mean()))
    # a map that hardly varies proves nothing
    varies = float(b.std(axis=(-2, -1)).mean() / np.abs(b).max())
    found = {"largest": largest, "rms": rms}
    good = (largest <= 1e-3 if exact else rms <= 0.1) and varies > 1e-2
    if "masks" in theirs:
        masks, same = compare_masks(ours, theirs, exact)
        return found | masks, good and same
    return found, good


def compare_logits(ours: Arrays, theirs: Arrays, exact: bool, whole: bool = False) -> tuple[dict[str, float], bool]:
    """Logits (P, s, s); where ours was not asked it says OUTSIDE_ROI or -inf. whole: masks are compared there, too."""
    a, b = ours["logits"], theirs["logits"]
    # not a number is no answer, and has to be seen
    known = ~np.isneginf(a) & (a != OUTSIDE_ROI)
    largest = float(np.abs(a[known] - b[known]).max())
    found, good = compare_masks({"masks": a > 0}, {"masks": (b > 0) & (known | whole)}, exact)
    return {"largest": largest, **found}, good and largest <= (1e-2 if exact else np.inf)


def compare_masks(ours: Arrays, theirs: Arrays, exact: bool) -> tuple[dict[str, float], bool]:
    """Masks (P, h, w): Dice of all together, and the lowest of one."""
    a, b = ours["masks"], theirs["masks"]
    overall = dice(a, b)
    each = [value for one, other in zip(a, b, strict=True) if not np.isnan(value := dice(one, other))]
    return {"dice": overall, "dice_lowest": min(each, default=float("nan"))}, overall > (0.999 if exact else DICE)


def compare_pixels(ours: Arrays, theirs: Arrays, exact: bool) -> tuple[dict[str, float], bool]:
    """Model inputs in [0, 1]; the reference rounds to 256 grey levels before it resizes."""
    gap = np.abs(ours["pixels"] - theirs["pixels"])
    found = {"largest": float(gap.max()), "mean": float(gap.mean())}
    return found, found["largest"] <= 2 / 255


def compare_other_pixels(ours: Arrays, theirs: Arrays, exact: bool) -> tuple[dict[str, float], bool]:
    """The same for another resampling: near, but not equal."""
    found, _ = compare_pixels(ours, theirs, exact)
    return found, found["mean"] <= 0.01


def compare_numbers(ours: Arrays, theirs: Arrays, exact: bool) -> tuple[dict[str, float], bool]:
    """Rows of Dice, NSD and HD95 (mm)."""
    gap = np.abs(ours["numbers"] - theirs["numbers"]).max(axis=0)
    found = dict(zip(("dice", "nsd", "hd95_mm"), gap.tolist(), strict=True))
    return found, bool(gap[0] <= 1e-6 and (gap[1:] <= 1e-3).all())


def compare_labels(ours: Arrays, theirs: Arrays, exact: bool) -> tuple[dict[str, float], bool]:
    """Label maps: Dice of all voxels and by structure."""
    a, b = ours["labels"], theirs["labels"]
    if a.shape != b.shape:
        raise SystemExit(f"Label maps have shapes {a.shape} and {b.shape}.")
    each = [dice(a == label, b == label) for label in np.union1d(a, b) if label]
    total = np.count_nonzero(a) + np.count_nonzero(b)
    same = 2 * np.count_nonzero((a == b) & (a > 0)) / total if total else float("nan")
    mean = float(np.mean(each)) if each else float("nan")
    found = {"dice": same, "dice_mean": mean, "dice_lowest": min(each, default=float("nan")), "structures": len(each)}
    return found, same > DICE and mean > DICE


@dataclass(frozen=True)
class Stage:
    """repeats: calls a turn, so that a turn is no blink. goal: the ratio that is wanted."""

    what: str
    compare: Callable[[Arrays, Arrays, bool], tuple[dict[str, float], bool]]
    repeats: int = 1
    goal: float | None = None


STAGES = {
    "preprocess": Stage("a slice of 512 x 512 to model input", compare_pixels, 30),
    "preprocess-area": Stage("the same, reference with INTER_AREA", compare_other_pixels, 30),
    "encode": Stage("LiteMedSAM, one slice", compare_features, 2, 3.0),
    "decode": Stage("LiteMedSAM, first box on a slice", compare_logits, 8, 2.0),
    "decode-next": Stage("LiteMedSAM, a further box", compare_logits, 8),
    "decode20": Stage("LiteMedSAM, 20 boxes on a slice", compare_logits, 1, 5.0),
    "decode20-near": Stage("the same, as --zoom off takes them", partial(compare_logits, whole=True), 1, 5.0),
    "decode20-inside": Stage("the same, masks inside their boxes as --zoom auto takes them", compare_logits, 1, 5.0),
    "restore": Stage("logits of 20 boxes to 512 x 512", compare_masks, 5),
    "metrics": Stage("Dice, HD95, NSD of 3 organs, 512 x 512 x 300", compare_numbers),
    "encode-vit-b": Stage("SAM ViT-B at 1024, one image", compare_features, 1, 1.9),
    "ct": Stage("whole CT, every slice and structure by its box", compare_labels, 1, 4.0),
    "segment": Stage("the command, 12 boxes on a CT", compare_labels),
}
ELSEWHERE = ("load", "training")
# those that ask LiteMedSAM
NETWORK = {"encode", "decode", "decode-next", "decode20", "decode20-near", "decode20-inside", "ct", "segment"}


# -- a side of a stage: a process that takes turns ----------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """run: what is timed. arrays: its answer as arrays, not timed. facts: for the record, asked at the end."""

    run: Callable[[], Any]
    arrays: Callable[[Any], Arrays]
    facts: Callable[[], dict[str, Any]] = dict


def memory_mib(line: str = "VmHWM") -> float:
    """The largest resident set of this process since it began, or since the last reset."""
    return int(Path("/proc/self/status").read_text().split(f"{line}:")[1].split()[0]) / 1024


def serve(build: Callable[[Path], Side], inputs: Path) -> None:
    """Take turns: "turn N" on stdin runs N times, "reset" begins working memory, "answer FILE" writes the last answer.

    Each line is answered with one of JSON on stdout; what a library prints there goes to stderr.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    started = time.perf_counter()
    side = build(inputs)
    told: dict[str, Any] = {"setup_seconds": time.perf_counter() - started}
    peak, last = 0.0, None
    print(json.dumps(told), file=out, flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        told = {}
        if word == "turn":
            last = None
            start, start_cpu = time.perf_counter(), time.process_time()
            for _ in range(int(rest)):
                last = side.run()
            told["seconds"] = (time.perf_counter() - start) / int(rest)
            told["cpu_seconds"] = (time.process_time() - start_cpu) / int(rest)
        elif word == "reset":
            peak = max(peak, memory_mib())
            Path("/proc/self/clear_refs").write_text("5")
        elif word == "answer":
            told["facts"] = side.facts()
            np.savez(rest, **cast(Any, side.arrays(last)))
        told["working_mib"] = memory_mib()
        told["peak_mib"] = peak = max(peak, told["working_mib"])
        print(json.dumps(told), file=out, flush=True)


# -- our sides ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ours:
    """model, precision, engine: as Predictor takes them."""

    model: str
    precision: str = "auto"
    engine: str = "auto"

    def predictor(self) -> Any:
        """A predictor that keeps no embedding: what is asked twice is worked out twice."""
        from medsam import Predictor
        from medsam.inference.embeddings import EmbeddingCache

        chosen: dict[str, Any] = {"precision": self.precision, "engine": self.engine}
        return Predictor(self.model, device="cpu", cache=EmbeddingCache(memory_bytes=0), **chosen)


def facts_of(predictor: Any) -> Callable[[], dict[str, Any]]:
    """What answered in the end: an engine may have given up on the way."""
    import torch

    return lambda: {
        "torch": torch.__version__,
        "model": predictor.name,
        "precision": predictor.precision,
        "engine": predictor.engine.name,
    }


def slice_input(scan: Any, index: int) -> Callable[[], Any]:
    """Prepares a slice for LiteMedSAM when called: (3, 256, 256)."""
    from medsam.models.specs import SPECS
    from medsam.transforms import prepare
    from medsam.transforms.intensity import resolve_window

    tensor, plane, window = prepare.scan_tensor(scan), scan.geometry.plane(), resolve_window(scan)
    recipe = SPECS["litemedsam"].preprocess
    return lambda: prepare.slice_input(tensor, plane, index, window, recipe)[0]


def machine() -> Side:
    """Matrix products; the answer is GFLOP/s by precision, the best of some. Runs in either environment."""
    import torch

    torch.set_num_threads(THREADS)
    kinds = [torch.float32]
    flags = Path("/proc/cpuinfo").read_text()
    if "amx_bf16" in flags or "avx512_bf16" in flags:
        kinds.append(torch.bfloat16)
    side = 2048
    pairs = {kind: (torch.rand(side, side).to(kind), torch.rand(side, side).to(kind)) for kind in kinds}

    def run() -> Arrays:
        found = {}
        for kind, (a, b) in pairs.items():
            best = float("inf")
            for _ in range(8):
                start = time.perf_counter()
                torch.mm(a, b)
                best = min(best, time.perf_counter() - start)
            found[str(kind).removeprefix("torch.")] = np.array(2 * side**3 / best / 1e9)
        return found

    return Side(run, lambda found: found)


def our_preprocess(inputs: Path) -> Side:
    import medsam

    with np.load(inputs) as file:
        scan, index = medsam.load_volume(str(file["scan"])), int(file["index"])
    return Side(slice_input(scan, index), lambda pixels: {"pixels": pixels.numpy()})


def our_encode(inputs: Path, ours: Ours) -> Side:
    import torch

    with np.load(inputs) as file:
        pixels = torch.from_numpy(file["pixels"])
        boxes = torch.from_numpy(file["model_boxes"])[None] if "model_boxes" in file.files else None
        if "weights" in file.files:
            ours = replace(ours, model=str(file["weights"]))
    predictor = ours.predictor()

    def run() -> torch.Tensor:
        before = predictor.encoded
        features = predictor.encode([pixels])[0]
        if predictor.encoded != before + 1:
            sys.exit("The embedding came from a cache.")
        return features

    @torch.inference_mode()
    def arrays(features: torch.Tensor) -> Arrays:
        found = {"features": features.float().numpy()}
        if boxes is not None:
            found["masks"] = (predictor.sam.decode(features.float(), boxes=boxes)[0][0, :, 0] > 0).numpy()
        return found

    return Side(run, arrays, facts_of(predictor))


def our_decode(inputs: Path, ours: Ours, count: int, first: bool, logits_for: Any = "all") -> Side:
    """count: boxes asked at once. first: on a new embedding. logits_for: see `ImagePredictor.predict`."""
    import torch

    import medsam
    from medsam.inference.image_predictor import Embedding

    with np.load(inputs) as file:
        scan, index = medsam.load_volume(str(file["scan"])), int(file["index"])
        boxes, features = file["boxes"][:count].astype(np.float64), file["features"]
    predictor = ours.predictor()
    frame = predictor.encoder_for(scan).encode(index).frame
    kept = Embedding(torch.from_numpy(features), frame)

    def run() -> Any:
        embedding = Embedding(torch.from_numpy(features.copy()), frame) if first else kept
        return predictor.predict(embedding, boxes, logits_for=logits_for)

    return Side(run, lambda found: {"logits": found.logits[:, 0].float().numpy()}, facts_of(predictor))


def our_restore(inputs: Path) -> Side:
    import torch

    import medsam
    from medsam.inference.image_predictor import Prediction
    from medsam.models.specs import SPECS
    from medsam.transforms.frame import Frame

    with np.load(inputs) as file:
        plane = medsam.load_volume(str(file["scan"])).geometry.plane()
        logits, quality = torch.from_numpy(file["logits"])[:, None], np.ones((len(file["logits"]), 1), np.float32)
    frame = Frame.of(plane, SPECS["litemedsam"].preprocess)
    return Side(lambda: Prediction(quality, logits, frame).masks, lambda masks: {"masks": masks[:, 0]})


def our_metrics(inputs: Path) -> Side:
    from medsam.metrics.measure import measure

    organs, spacing_mm, tolerance_mm = organs_of(inputs)

    def run() -> np.ndarray:
        found = [measure(reference, prediction, spacing_mm, tolerance_mm) for reference, prediction in organs]
        return np.array([[one["dice"], one["nsd"], one["hd95_mm"]] for one in found])

    return Side(run, lambda numbers: {"numbers": numbers})


def organs_of(inputs: Path) -> tuple[list[tuple[np.ndarray, np.ndarray]], tuple[float, ...], float]:
    """Reference and prediction of every organ, spacing and tolerance in mm; for both sides."""
    with np.load(inputs) as file:
        shape = tuple(file["shape"])
        unpacked = [np.unpackbits(packed, count=int(np.prod(shape))).view(bool) for packed in file["packed"]]
        masks = [one.reshape(shape) for one in unpacked]
        return (
            list(zip(masks[::2], masks[1::2], strict=True)),
            tuple(float(step) for step in file["spacing_mm"]),
            float(file["tolerance_mm"]),
        )


def our_ct(inputs: Path, ours: Ours) -> Side:
    import medsam
    from medsam.postprocess.clean import Cleanup
    from medsam.prompts.prompt import Prompt

    with np.load(inputs) as file:
        scan = medsam.load_volume(str(file["scan"]))
        asked = list(zip(file["slices"].tolist(), file["names"].tolist(), file["boxes"].tolist(), strict=True))
    prompts = [Prompt(name, box=tuple(box), slice=index) for index, name, box in asked]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name for _, name, _ in asked), start=1)}
    predictor = ours.predictor()

    def run() -> Any:
        return predictor.segment(scan, prompts, zoom="off", tidy=Cleanup(keep_islands=True)).labels

    def arrays(labels: Any) -> Arrays:
        table = np.zeros(max(labels.names) + 1, np.uint16)
        for number, name in labels.names.items():
            table[number] = numbers[name]
        return {"labels": table[labels.array]}

    return Side(run, arrays, facts_of(predictor))


def our_side(name: str, ours: Ours) -> Callable[[Path], Side]:
    return {
        "machine": lambda inputs: machine(),
        "preprocess": our_preprocess,
        "preprocess-area": our_preprocess,
        "encode": lambda inputs: our_encode(inputs, ours),
        "decode": lambda inputs: our_decode(inputs, ours, 1, first=True),
        "decode-next": lambda inputs: our_decode(inputs, ours, 1, first=False),
        "decode20": lambda inputs: our_decode(inputs, ours, 20, first=True),
        "decode20-near": lambda inputs: our_decode(inputs, ours, 20, first=True, logits_for="near_box"),
        "decode20-inside": lambda inputs: our_decode(inputs, ours, 20, first=True, logits_for="in_box"),
        "restore": our_restore,
        "metrics": our_metrics,
        "encode-vit-b": lambda inputs: our_encode(inputs, ours),
        "ct": lambda inputs: our_ct(inputs, ours),
    }[name.partition(":")[0]]


# -- inputs, made once for both sides by a process of their own ---------------------------------------------


class Maker:
    """Inputs of stages as .npz files in a folder. GFLOP of the network stages gather in `gflop`."""

    def __init__(self, data: Path, folder: Path, model: str) -> None:
        import medsam

        self.data, self.folder = data, folder
        # the operations of the eager model are counted
        self.predictor = medsam.Predictor(model, device="cpu", engine="torch")
        self.gflop: dict[str, float] = {}

    def case(self, wanted: str) -> Any:
        from zero_shot_parity import cases

        return next(case for case in cases(self.data) if case.name == wanted)

    def make(self, name: str) -> None:
        stage, _, ct = name.partition(":")
        if stage == "ct":
            self.ct(name, ct)
        elif stage.startswith("decode"):
            self.decode(name)
        elif stage != "machine":
            getattr(self, stage.replace("preprocess-area", "preprocess").replace("-", "_"))(name)

    def write(self, name: str, **arrays: Any) -> None:
        np.savez(self.folder / f"{file_name(name)}.npz", **arrays)

    def boxes_on(self, case: Any, index: int) -> list[tuple[str, tuple[int, int, int, int]]]:
        from medsam.prompts.simulate import tight_box

        plane = case.scan.geometry.plane()
        found = ((name, tight_box(plane.take(mask, index))) for name, mask in case.references.items())
        return [(name, box) for name, box in found if box is not None]

    def fine_slice(self) -> tuple[Any, int]:
        """Of a CT of 512 x 512: the slice in the middle of those where most structures are."""
        case = self.case("lung_ct_dicom_rtstruct")
        counts = [len(self.boxes_on(case, index)) for index in range(case.scan.geometry.plane().count)]
        best = [index for index, count in enumerate(counts) if count == max(counts)]
        return case, best[len(best) // 2]

    def preprocess(self, name: str) -> None:
        from medsam.transforms.intensity import resolve_window

        case, index = self.fine_slice()
        plane, window = case.scan.geometry.plane(), resolve_window(case.scan)
        self.write(
            name,
            scan=str(case.scan.source),
            index=index,
            stored=np.ascontiguousarray(plane.view.apply(plane.take(case.scan.array, index))),
            window=[window.low, window.high],
        )

    def encode(self, name: str) -> None:
        case, index = self.fine_slice()
        pixels = slice_input(case.scan, index)()
        embedding = self.predictor.encoder_for(case.scan).encode(index)
        boxes = np.array([box for _, box in self.boxes_on(case, index)])
        self.write(name, pixels=pixels.numpy(), model_boxes=embedding.frame.boxes(boxes))
        self.gflop[name] = count_gflop(lambda: self.predictor.sam.encode_image(pixels[None]))

    def decode(self, name: str) -> None:
        """20 boxes of a CT slice with more, from small to large; the first is of middle size."""
        case = self.case("totalseg_abdomen_ct/ct_slab")
        plane = case.scan.geometry.plane()
        index = max(range(plane.count), key=lambda n: len(self.boxes_on(case, n)))
        boxes = sorted(
            (box for _, box in self.boxes_on(case, index)), key=lambda b: (b[2] - b[0]) * (b[3] - b[1]), reverse=True
        )
        if len(boxes) < 20:
            raise SystemExit(f"Slice {index} of {case.name} has {len(boxes)} boxes, not 20.")
        chosen = [boxes[n] for n in np.linspace(0, len(boxes) - 1, 20).astype(int)]
        asked = np.array([chosen[10], *chosen[:10], *chosen[11:]])
        embedding = self.predictor.encoder_for(case.scan).encode(index)
        self.write(
            name,
            scan=str(case.scan.source),
            index=index,
            boxes=asked,
            # the reference's scaling, by the long side alone, moves a box by up to 0.1 pixels of the model
            model_boxes=embedding.frame.boxes(asked),
            features=embedding.features.float().numpy(),
        )
        self.gflop[name] = self.decode_gflop(embedding, 20 if name.startswith("decode20") else 1)

    def decode_gflop(self, embedding: Any, count: int) -> float:
        import torch

        boxes = torch.tensor([[20.0, 30, 120, 140]]).repeat(count, 1)[None]
        return count_gflop(lambda: self.predictor.sam.decode(embedding.features, boxes=boxes))

    def restore(self, name: str) -> None:
        """Logits of the structures of the fine slice, by boxes five times as many, moved a little each."""
        from medsam.prompts.simulate import jittered

        case, index = self.fine_slice()
        rng, shape = np.random.default_rng(0), case.scan.geometry.plane().shape
        tight = [box for _, box in self.boxes_on(case, index)]
        boxes = [jittered(tight[n % len(tight)], 20, shape, rng) for n in range(20)]
        found = self.predictor.predict(self.predictor.encoder_for(case.scan).encode(index), np.array(boxes))
        plane = case.scan.geometry.plane()
        upright = plane.view.shape(plane.shape)
        logits = found.logits[:, 0].float().numpy()
        self.write(name, scan=str(case.scan.source), logits=logits, shape=upright, view=view_of(plane))

    def metrics(self, name: str) -> None:
        from metrics import SHAPE, SPACING_MM, TOLERANCE_MM, structure

        rng, packed = np.random.default_rng(0), []
        for radius_mm in (73.0, 27.0, 10.0):
            packed += [np.packbits(mask) for mask in structure(rng, radius_mm)]
        self.write(name, packed=packed, shape=SHAPE, spacing_mm=SPACING_MM, tolerance_mm=TOLERANCE_MM)

    def encode_vit_b(self, name: str) -> None:
        from medsam.models.build import load_model

        weights = self.folder / "vit_b.pth"
        subprocess.run(
            [REFERENCE, "-W", "ignore", HERE.with_name("reference_ruler.py"), "--weights", weights], check=True
        )
        pixels = np.random.default_rng(0).standard_normal((3, 1024, 1024), np.float32)
        self.write(name, weights=str(weights), pixels=pixels)
        import torch

        sam = load_model(weights, spec="sam-vit-b")
        self.gflop[name] = count_gflop(lambda: sam.encode_image(torch.from_numpy(pixels)[None]))

    def ct(self, name: str, which: str) -> None:
        from medsam.transforms.intensity import resolve_window

        case = self.case(which)
        plane, window = case.scan.geometry.plane(), resolve_window(case.scan)
        asked = [(index, label, box) for index in range(plane.count) for label, box in self.boxes_on(case, index)]
        boxes = np.array([box for _, _, box in asked])
        if plane.array_axis:
            raise SystemExit(f"{which} is not sliced along its first axis.")
        self.write(
            name,
            scan=str(case.scan.source),
            upright_scan=np.stack([plane.view.apply(plane.take(case.scan.array, n)) for n in range(plane.count)]),
            window=[window.low, window.high],
            view=view_of(plane),
            slices=[index for index, _, _ in asked],
            names=[label for _, label, _ in asked],
            boxes=boxes,
            upright=plane.view.boxes(boxes, plane.shape),
        )
        crops = len({index for index, _, _ in asked})
        embedding = self.predictor.encoder_for(case.scan).encode(asked[0][0])
        size = self.predictor.sam.spec.image_size
        import torch

        one = count_gflop(lambda: self.predictor.sam.encode_image(torch.zeros(1, 3, size, size)))
        many = self.decode_gflop(embedding, 20) / 20
        self.gflop[name] = crops * one + len(asked) * many

    def segment(self, name: str) -> None:
        """Four structures on each of three slices."""
        case = self.case("totalseg_abdomen_ct/ct_full")
        plane = case.scan.geometry.plane()
        rows = []
        for index in (plane.count // 4, plane.count // 2, 3 * plane.count // 4):
            here = self.boxes_on(case, index)
            here.sort(key=lambda item: -(item[1][2] - item[1][0]) * (item[1][3] - item[1][1]))
            rows += [(index, label, box) for label, box in here[:4]]
        from medsam.transforms.intensity import resolve_window

        window = resolve_window(case.scan)
        boxes = np.array([box for _, _, box in rows])
        about = {
            "scan": str(case.scan.source),
            "window": [window.low, window.high],
            "prompts": [
                {"slice": index, "label": label, "stored": list(box), "upright": upright}
                for (index, label, box), upright in zip(
                    rows, plane.view.boxes(boxes, plane.shape).tolist(), strict=True
                )
            ],
        }
        (self.folder / "segment.json").write_text(json.dumps(about))


def view_of(plane: Any) -> list[bool]:
    return [plane.view.transpose, plane.view.flip_rows, plane.view.flip_columns]


def count_gflop(run: Callable[[], Any]) -> float:
    """Floating-point operations of one call, a multiply and an add being two, in units of 10^9."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # the counter does not know the fused attention of a CPU
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


def make_inputs(names: list[str], data: Path, folder: Path, model: str) -> None:
    maker = Maker(data, folder, model)
    if NETWORK & set(stages_of(names)):
        names = list(dict.fromkeys(["decode", *names]))
    for name in names:
        maker.make(name)
    (folder / "gflop.json").write_text(json.dumps(maker.gflop))


def file_name(name: str) -> str:
    return name.replace(":", "_").replace("/", "_")


# -- the measurement ----------------------------------------------------------------------------------------


def busy_seconds() -> float:
    """Core seconds that the machine has worked since it started."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Others:
    """How many cores other programs take while ours or the reference works."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def turn(self, run: Callable[[], dict[str, Any]], repeats: int) -> dict[str, Any]:
        busy, start = busy_seconds(), time.perf_counter()
        told = run()
        busy, wall = busy_seconds() - busy, time.perf_counter() - start
        self.shares.append(max(0.0, busy - told["cpu_seconds"] * repeats) / wall)
        return told


class Worker:
    """One side of a stage, alive."""

    def __init__(self, name: str, command: list[Any], log: Path, environment: dict[str, str]) -> None:
        self.name, self.log = name, log
        quiet = {"OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | quiet | environment,
            )
        self.ready = self._read()

    def ask(self, line: str) -> dict[str, Any]:
        if self.process.stdin is None:
            raise SystemExit("no pipe")
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not line:
            self.process.wait()
            tail = "\n".join(self.log.read_text().splitlines()[-15:])
            raise SystemExit(f"{self.name} ended with {self.process.returncode}:\n{tail}")
        return json.loads(line)


@contextmanager
def workers(
    name: str, arguments: argparse.Namespace, folder: Path, wanted: tuple[str, ...] = ("ours", "reference")
) -> Iterator[dict[str, Worker]]:
    inputs = folder / f"{file_name(name)}.npz"
    # graphs of random weights are not worth keeping
    cache = {"MEDSAM_CACHE": str(folder / "cache")} if name == "encode-vit-b" else {}
    ours = [sys.executable, "-W", "ignore", HERE, "--side", name, inputs]
    ours += ["--model", arguments.model, "--precision", arguments.precision, "--engine", arguments.engine]
    theirs = [REFERENCE, "-W", "ignore", HERE.with_name("reference_ruler.py"), name, inputs]
    alive: dict[str, Worker] = {}
    try:
        for side, command in (("ours", ours), ("reference", theirs)):
            if side in wanted:
                log = folder / f"{file_name(name)}.{side}.log"
                alive[side] = Worker(f"{name}, {side}", command, log, cache)
        yield alive
    finally:
        for worker in alive.values():
            worker.process.kill()
            worker.process.wait()


def write_graphs(names: list[str], arguments: argparse.Namespace, folder: Path) -> None:
    """What ours writes once a machine (exported graphs) is there before anything is measured."""
    for name in [*(["decode"] if NETWORK & set(stages_of(names)) else []), *({"encode-vit-b"} & set(names))]:
        with workers(name, arguments, folder, ("ours",)) as sides:
            sides["ours"].ask("turn 1")


def stages_of(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name.partition(":")[0] for name in names))


def limits(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """GFLOP/s by precision: the best of three turns of each side."""
    best: dict[str, float] = {}
    with workers("machine", arguments, folder) as sides:
        for turn in range(3):
            for side, worker in sides.items():
                worker.ask("turn 1")
                path = folder / f"machine.{side}.{turn}.npz"
                worker.ask(f"answer {path}")
                with np.load(path) as found:
                    for kind in found.files:
                        best[kind] = max(best.get(kind, 0.0), float(found[kind]))
    return best


def take_turns(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both sides of a stage, `pairs` times each after a warm-up, and their answers."""
    stage = STAGES[name.partition(":")[0]]
    others = Others()
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "reference": []}
    answers: dict[str, Arrays] = {}
    facts: dict[str, dict[str, Any]] = {}
    with workers(name, arguments, folder) as sides:
        for turn in range(arguments.pairs + 1):
            for side, worker in sides.items():
                if not turn:
                    worker.ask("turn 1")
                    worker.ask("reset")
                    continue
                told = others.turn(partial(worker.ask, f"turn {stage.repeats}"), stage.repeats)
                found[side].append(told)
                print(f"{name} {turn}: {side} {told['seconds']:.4f} s", file=sys.stderr)
        for side, worker in sides.items():
            path = folder / f"{file_name(name)}.{side}.npz"
            last = worker.ask(f"answer {path}")
            facts[side] = worker.ready | {"facts": last["facts"]}
            with np.load(path) as file:
                answers[side] = {key: file[key] for key in file.files}
    exact = facts["ours"]["facts"].get("precision", "float32") == "float32"
    return result(stage, found, facts, stage.compare(answers["ours"], answers["reference"], exact), others)


def take_cold_turns(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The command against a script, every turn a process from its start to its end."""
    stage = STAGES["segment"]
    asked = folder / "segment.json"
    about = json.loads(asked.read_text())
    outs = {side: folder / f"segment.{side}.nii.gz" for side in ("ours", "reference")}
    program = Path(sys.executable).with_name("medsam")
    command = [program, "segment", about["scan"], "--model", arguments.model, "--device", "cpu", "--out", outs["ours"]]
    command += ["--zoom", "off", "--keep-islands", "--precision", arguments.precision]
    if arguments.engine != "auto":
        raise SystemExit("medsam segment chooses its engine itself: leave --engine or the stage segment out.")
    for prompt in about["prompts"]:
        command += ["--box", f"{prompt['slice']}:{','.join(map(str, prompt['stored']))}={prompt['label']}"]
    commands = {
        "ours": command,
        "reference": [
            REFERENCE, "-W", "ignore", HERE.with_name("reference_ruler.py"), "--cold", asked, outs["reference"],
        ],
    }  # fmt: skip
    others = Others()
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "reference": []}
    for turn in range(arguments.pairs + 1):
        for side, line in commands.items():
            told = others.turn(partial(cold, [str(part) for part in line], folder / f"segment.{side}.log"), 1)
            if turn:
                found[side].append(told)
                print(f"segment {turn}: {side} {told['seconds']:.2f} s", file=sys.stderr)
    names = list(dict.fromkeys(prompt["label"] for prompt in about["prompts"]))
    answers = {side: {"labels": canonical(path)} for side, path in outs.items()}
    written = json.loads((folder / "segment.reference.nii.gz.json").read_text())
    if written != names:
        raise SystemExit("The label ids of the reference are not in the order of the prompts.")
    facts: dict[str, Any] = {
        "ours": {"facts": {"command": " ".join(map(str, command[1:2]))}},
        "reference": {"facts": {}},
    }
    return result(stage, found, facts, stage.compare(answers["ours"], answers["reference"], False), others)


def cold(command: list[str], log: Path) -> dict[str, Any]:
    with log.open("w") as file:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    peak = usage.ru_maxrss / 1024
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak, "working_mib": peak}


def canonical(path: Path) -> np.ndarray:
    """A label map in one orientation, however it is stored."""
    import nibabel

    return np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj).astype(np.int64)


def result(
    stage: Stage,
    found: dict[str, list[dict[str, Any]]],
    facts: dict[str, Any],
    agreement: tuple[dict[str, float], bool],
    others: Others,
) -> dict[str, Any]:
    pairs = list(zip(found["ours"], found["reference"], strict=True))
    ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in pairs]
    sides = {}
    for side, told in found.items():
        times = [one["seconds"] for one in told]
        sides[side] = {
            "seconds": statistics.median(times),
            "low": min(times),
            "high": max(times),
            "all": times,
            "cpu_seconds": statistics.median(one["cpu_seconds"] for one in told),
            "peak_mib": max(one["peak_mib"] for one in told),
            "working_mib": max(one["working_mib"] for one in told),
            **facts[side],
        }
    return {
        "what": stage.what,
        **sides,
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "cpu_ratio": statistics.median(theirs["cpu_seconds"] / ours["cpu_seconds"] for ours, theirs in pairs),
        "goal": stage.goal,
        "agreement": agreement[0],
        "agrees": bool(agreement[1]),
        "others": statistics.median(others.shares),
    }


def elsewhere(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What has a script of its own; its JSON."""
    script, extra = {
        "load": ("loading.py", ["--variants", "explicit", "--pairs"]),
        "training": ("training.py", ["--steps"]),
    }[name]
    path = folder / f"{name}.json"
    command = [sys.executable, HERE.with_name(script), *extra, str(arguments.pairs), "--json", path]
    subprocess.run([str(part) for part in command], check=True)
    return json.loads(path.read_text())


def markdown(report: dict[str, Any]) -> str:
    about = report["machine"]
    speeds = ", ".join(f"{kind} {about[f'{kind}_gflops']:.0f} GFLOP/s" for kind in about["precisions"])
    pairs = report["settings"]["pairs"]
    columns = "ours s, reference s, ratio (lowest to highest), of CPU s, goal, agreement, MiB, GFLOP, limit s, others"
    lines = [
        f"{about['processor']}, {about['threads']} threads; matrix products: {speeds}; {pairs} pairs; "
        "MiB and GFLOP: ours, reference",
        "",
        f"| stage | {columns.replace(', ', ' | ')} |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for name, row in report["stages"].items():
        precision = row["ours"]["facts"].get("precision")
        agreement = ", ".join(f"{key} {number(value)}" for key, value in row["agreement"].items())
        cells = [
            f"{name}: {row['what']}{f' ({precision})' if precision else ''}",
            number(row["ours"]["seconds"]),
            number(row["reference"]["seconds"]),
            f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})",
            f"{row['cpu_ratio']:.2f}",
            str(row["goal"] or ""),
            agreement if row["agrees"] else f"DIFFER: {agreement}",
            f"{row['ours']['peak_mib']:.0f}, {row['reference']['peak_mib']:.0f}",
            ", ".join(number(value) for value in row.get("gflop", {}).values()),
            ", ".join(f"{kind} {number(value)}" for kind, value in row.get("limit_seconds", {}).items()),
            f"{row['others']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def number(value: float) -> str:
    return f"{value:.4g}"


def processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.processor()


def failures(report: dict[str, Any]) -> list[str]:
    """What does not agree."""
    wrong = [name for name, row in report["stages"].items() if not row["agrees"]]
    for variant, row in report.get("load", {}).items():
        wrong += [f"load {variant}, {side}" for side, same in row["voxels_equal"].items() if not same]
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description="Every stage, ours beside its reference, in turn.")
    parser.add_argument("--stages", nargs="+", choices=(*STAGES, *ELSEWHERE), default=[*STAGES, *ELSEWHERE])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--precision", default="auto", help="of ours, as Predictor takes it")
    parser.add_argument("--engine", default="auto", help="of ours; the same")
    parser.add_argument("--model", default="litemedsam", help="ours: a known name, or a checkpoint of the same weights")
    parser.add_argument("--ct", nargs="+", choices=CTS, default=[CTS[0], CTS[2]], help="the CTs of the stage ct")
    default = os.environ.get("MEDSAM_DATA") or ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default, help="the folder of real scans")
    parser.add_argument("--json", type=Path, default=ROOT / "out" / "ruler.json")
    parser.add_argument("--side", nargs=2, metavar=("STAGE", "INPUTS"), help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        import torch

        torch.set_num_threads(THREADS)
        ours = Ours(arguments.model, arguments.precision, arguments.engine)
        serve(our_side(arguments.side[0], ours), Path(arguments.side[1]))
        return
    names = [
        each for name in arguments.stages for each in ([f"ct:{ct}" for ct in arguments.ct] if name == "ct" else [name])
    ]
    own = [name for name in names if name not in ELSEWHERE]
    if arguments.make:
        make_inputs(own, arguments.data, arguments.make, arguments.model)
        return
    if arguments.pairs < 1:
        parser.error("--pairs counts from 1")
    if not REFERENCE.exists():
        sys.exit("Make the reference's environment first: scripts/reference-env")

    report: dict[str, Any] = {
        "machine": {"processor": processor(), "threads": THREADS, "python": platform.python_version()},
        "settings": {name: getattr(arguments, name) for name in ("pairs", "precision", "engine", "model")},
        "stages": {},
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ruler-") as scratch:
        folder = Path(scratch)
        if own:
            repeated = ["--stages", *stages_of(own), "--ct", *arguments.ct]
            command = [sys.executable, "-W", "ignore", HERE, "--make", folder, *repeated]
            command += ["--data", arguments.data, "--model", arguments.model]
            subprocess.run([str(part) for part in command], check=True)
            gflop = json.loads((folder / "gflop.json").read_text())
            write_graphs(own, arguments, folder)
        speeds: dict[str, float] = {}
        for name in names:
            for kind, speed in (limits(arguments, folder) if own and name in gflop else {}).items():
                speeds[kind] = max(speed, speeds.get(kind, 0.0))
            if name in ELSEWHERE:
                report[name] = elsewhere(name, arguments, folder)
            else:
                row = take_cold_turns(arguments, folder) if name == "segment" else take_turns(name, arguments, folder)
                if name in gflop:
                    row["gflop"] = {"ours": gflop[name]}
                    if (theirs := row["reference"]["facts"].get("gflop")) is not None:
                        row["gflop"]["reference"] = theirs
                report["stages"][name] = row
            report["machine"] |= {"precisions": list(speeds)} | {f"{kind}_gflops": s for kind, s in speeds.items()}
            for row in report["stages"].values():
                if "gflop" in row:
                    least = min(row["gflop"].values())
                    row["limit_seconds"] = {kind: least / speed for kind, speed in speeds.items()}
            arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))
    below = [name for name, row in report["stages"].items() if row["goal"] and row["ratio"] < row["goal"]]
    if below:
        print(f"\nBelow the goal: {', '.join(below)}")
    if wrong := failures(report):
        sys.exit(f"\nAnswers do not agree: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
