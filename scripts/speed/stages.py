"""The stages, and our side of each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from agreement import (
    compare_features,
    compare_labels,
    compare_logits,
    compare_masks,
    compare_numbers,
    compare_other_pixels,
    compare_pixels,
)
from turns import Arrays, Side, machine, organs_of

# torch and medsam only in functions: the coordinator imports this file and stays small
CTS = ("totalseg_abdomen_ct/ct_slab", "totalseg_abdomen_ct/ct_full", "lung_ct_dicom_rtstruct", "liver_ct_dicom_seg")


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
        before = predictor.cache.misses
        features = predictor.images.encode([pixels])[0]
        if predictor.cache.misses != before + 1:
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
    from medsam.inference.image_predictor import Embedding, box_prompts

    with np.load(inputs) as file:
        scan, index = medsam.load_volume(str(file["scan"])), int(file["index"])
        boxes, features = file["boxes"][:count].astype(np.float64), file["features"]
    predictor = ours.predictor()
    frame = predictor.encoder_for(scan).encode(index).frame
    kept = Embedding(torch.from_numpy(features), frame)

    def run() -> Any:
        embedding = Embedding(torch.from_numpy(features.copy()), frame) if first else kept
        return predictor.predict(embedding, box_prompts(boxes), logits_for=logits_for)

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


def stages_of(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name.partition(":")[0] for name in names))
