"""A segmentation: a label map, how each prompt fared, and how it came about; into JSON and back.

Letters: h, w rows and columns of the stored slice; s the side of the network's logits.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medsam.errors import InputError, counted
from medsam.geometry import SlicePlane, VolumeGeometry
from medsam.inference.detect import Detections
from medsam.inference.documents import headed, reading, whole
from medsam.inference.image_predictor import Crop, ImagePredictor
from medsam.inference.trust import Doubt, ExpectedDice, described
from medsam.inference.usage import Usage
from medsam.io.algorithm import Algorithm, DicomFormat, DicomOptions
from medsam.io.save import save_labels
from medsam.masks import RLE, PackedMasks
from medsam.prompts.entries import drawn_entry, from_drawn_entry
from medsam.prompts.prompt import Box, Point, Prompt
from medsam.prompts.strokes import Scribble
from medsam.prompts.values import Line, Position
from medsam.transforms.frame import Frame
from medsam.transforms.intensity import IntensityWindow
from medsam.volume import LabelVolume

KIND, VERSION = "medsam segmentation", 1


@dataclass(frozen=True, eq=False, repr=False)
class CropPrediction:
    """What the network alone said of a prompt in one crop: without priors, bounds and cleaning.

    crop: the part of the slice. logits: (s, s) float32, log-odds of being inside. frame: the way back to the slice.
    """

    crop: Crop
    logits: np.ndarray
    frame: Frame

    def __repr__(self) -> str:
        return f"CropPrediction({self.crop})"

    @property
    def probabilities(self) -> np.ndarray:
        """Of each pixel of the stored slice: (h, w) float32 in [0, 1]; nan outside the crop."""
        logits = self.frame.restore(torch.from_numpy(self.logits)[None])[0]
        return torch.where(logits.isfinite(), logits.sigmoid(), torch.nan).numpy()


@dataclass(frozen=True)
class PromptResult:
    """What one prompt got, or what it spread to.

    slice: its number. label: id. box, points, scribbles, lines, lasso, ellipse: as prompted; None and () where the mask
    came by propagation.
    predicted_iou: nan where a drawn mask was taken as it is, or nothing was found. pixels: in the mask, before merging.
    confidence: of a propagated mask, see `propagate.propagate`; None for others. candidates: predicted IoU of the three
    masks, with `all_masks`. crops: with `keep_probabilities`, what the network said in each crop. expected_dice: of an
    answer to a box alone, see `trust`; None for others, and where nothing was learnt of the model.
    """

    slice: int
    label: int
    box: Box | None
    predicted_iou: float
    pixels: int
    points: tuple[Point, ...] = ()
    confidence: float | None = None
    candidates: tuple[float, ...] = ()
    crops: tuple[CropPrediction, ...] = field(default=(), compare=False, repr=False)
    scribbles: tuple[Scribble, ...] = ()
    lines: tuple[Line, ...] = ()
    lasso: tuple[Position, ...] | None = None
    ellipse: Box | None = None
    expected_dice: ExpectedDice | None = None

    @property
    def asked(self) -> bool:
        """Whether something was prompted here, but for a mask."""
        return self.box is not None or bool(self.points or self.scribbles or self.lasso)

    @property
    def quality(self) -> float:
        """`predicted_iou`, by its earlier name."""
        return self.predicted_iou


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """A label map with how it came about.

    usage: what was run for it. engine, precision: who computed, and in what the encoder did; the same ones give the
    same masks. notes: what a reader should know before trusting it, e.g. a slice without contrast. alternatives: with
    `all_masks`, three label maps, of every prompt's best, second and third mask by predicted IoU. stop_reasons: with
    `propagate`, label id -> {slice: why it ended there}. model: its name. modality, source, series: of the scan, the
    last where it is DICOM. algorithm: the model with the digest and the licence of its weights. kept: of labels that
    were there before, label id -> slices that stay as they were (see `prompts.standing`). structures: where those
    overlap, every label as a mask of its own, which `labels` cannot hold; else None. said: label -> what every output
    has to say of it, such as that a head was not tested. found: what was found without a prompt (`Predictor.find`), and
    what was not; None where prompts were given.
    """

    labels: LabelVolume
    results: tuple[PromptResult, ...]
    plane: SlicePlane
    window: IntensityWindow
    usage: Usage
    engine: str
    precision: str
    notes: tuple[str, ...] = ()
    alternatives: tuple[LabelVolume, ...] = ()
    stop_reasons: Mapping[int, Mapping[int, str]] = field(default_factory=dict)
    model: str = ""
    modality: str | None = None
    source: Path | None = None
    series: str | None = None
    algorithm: Algorithm = field(default_factory=Algorithm)
    kept: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    structures: PackedMasks | None = None
    said: Mapping[str, str] = field(default_factory=dict)
    found: Detections | None = None

    def __repr__(self) -> str:
        counts = ", ".join(counted(len(some), one) for some, one in ((self.results, "result"), (self.notes, "note")))
        return f"Segmentation({self.labels}, {counts})"

    @property
    def stopped(self) -> Mapping[int, Mapping[int, str]]:
        """`stop_reasons`, by their earlier name."""
        return self.stop_reasons

    @property
    def answers(self) -> tuple[PromptResult, ...]:
        """`results`, by their earlier name."""
        return self.results

    @property
    def seconds(self) -> dict[str, float]:
        """{"prepare", "embed", "decode"}, see `Usage`."""
        return self.usage.seconds

    @property
    def encoded(self) -> int:
        """Images that the network has encoded for it."""
        return self.usage.encoded

    @property
    def expected(self) -> dict[str, list[ExpectedDice]]:
        """What is expected of each label's answers, by name; without labels of which nothing is."""
        found: dict[str, list[ExpectedDice]] = {}
        for one in self.results:
            if one.expected_dice is not None:
                found.setdefault(self.labels.names[one.label], []).append(one.expected_dice)
        return found

    @property
    def doubtful(self) -> dict[tuple[str, Doubt], list[int]]:
        """Label and what to say of it -> the slices to say it of."""
        found: dict[tuple[str, Doubt], list[int]] = {}
        for one in self.results:
            if one.expected_dice is not None and (doubt := one.expected_dice.doubt):
                found.setdefault((self.labels.names[one.label], doubt), []).append(one.slice)
        return found

    @property
    def remarks(self) -> dict[str, str]:
        """`expected` as files say it, by label, and what is `said`."""
        numbers = {name: number for number, name in self.labels.names.items()}
        expected = {name: described(some, len(self._slices(numbers[name]))) for name, some in self.expected.items()}
        return {
            **expected,
            **{name: " ".join(filter(None, (said, expected.get(name)))) for name, said in self.said.items()},
        }

    def _slices(self, number: int) -> list[int]:
        """Those that a label is on, in order."""
        found = {one.slice for one in self.results if one.label == number and one.pixels}
        return sorted(found.union(self.kept.get(number, ())))

    def save(
        self,
        path: str | Path,
        *,
        format: DicomFormat | None = None,  # noqa: A002
        options: DicomOptions | None = None,
    ) -> Path:
        """Write the label map, in the format that the name asks for (`save_labels`). Returns the path written.

        format: of a .dcm, which only a DICOM scan has: "seg" (default), "seg-labelmap" or "rtstruct". options: what
        else it says; default: `algorithm` as its maker, and `remarks`.
        """
        options = options or DicomOptions(self.algorithm, remarks=self.remarks)
        options = options if options.series else replace(options, series=self.series)
        there = self.source is not None and self.source.exists()
        source, labels = self.source if there else None, self.written_as(Path(path), format)
        return save_labels(labels, path, source, geometry=self.labels.geometry, format=format, options=options)

    def written_as(
        self,
        path: Path,
        format: DicomFormat | None = None,  # noqa: A002
    ) -> LabelVolume | Mapping[str, np.ndarray]:
        """What goes into a file: `structures` that overlap into a .dcm that holds them, else `labels`."""
        holds = path.name.lower().endswith(".dcm") and format in (None, "seg", "rtstruct")
        return self.structures if holds and self.structures is not None else self.labels

    def to_dict(self, masks: bool = True) -> dict[str, Any]:
        """All of it as JSON, but for `source`, `structures` and `crops`: as `medsam segment --json` has it, with masks.

        masks: False leaves out the label maps, which `from_dict` then needs beside it.
        A predicted IoU is null where nothing was found or a drawn mask was taken as it is; millilitres are null
        for a picture, which has no millimetres. Masks: {"label": id, "slice", "size", "counts"}, COCO's RLE of slices
        across `axis`.
        """
        geometry, names = self.labels.geometry, self.labels.names
        counts = np.bincount(self.labels.array.ravel(), minlength=max(names, default=0) + 1)
        content: dict[str, Any] = {
            "model": self.model,
            "weights": self.algorithm.digest,
            "licence": self.algorithm.licence,
            "engine": self.engine,
            "precision": self.precision,
            "scan": {
                "shape": list(geometry.shape[::-1]),
                "spacing_mm": list(geometry.spacing_mm[::-1]) if geometry.calibrated else None,
                "orientation": geometry.axcodes,
                "modality": self.modality,
            },
            "axis": self.plane.axis,
            "window": self.window.to_dict(),
            "labels": [self._label_to_dict(number, int(counts[number])) for number in names],
            "prompts": [_result_to_dict(one, names[one.label]) for one in self.results],
            **({} if self.found is None else {"auto": self.found.to_dict()}),
            "notes": list(self.notes),
            "encoder_calls": self.usage.encoded,
            "decoded": self.usage.decoded,
            "seconds": self.usage.seconds,
        }
        if masks:
            content |= {
                "geometry": geometry.to_dict(),
                "masks": list(_masks_to_dicts(self.labels, self.plane)),
                "alternative_masks": [list(_masks_to_dicts(one, self.plane)) for one in self.alternatives],
            }
        return headed(KIND, VERSION, content)

    @classmethod
    def from_dict(cls, document: Any, labels: LabelVolume | None = None) -> Segmentation:
        """The other way. labels: the label map, where the document was made without masks.

        Raises InputError for a document of another kind or version, a damaged one, or one without masks and labels.
        """
        with reading(document, KIND, VERSION) as found:
            names = {whole(one["id"], 1, 2**16): str(one["name"]) for one in found["labels"]}
            if labels is None and "masks" not in found:
                raise InputError(f"This {KIND} was made without masks: give its label map as well.")
            geometry = VolumeGeometry.from_dict(found["geometry"]) if labels is None else labels.geometry
            plane = geometry.plane(found["axis"])
            if labels is None:
                labels = LabelVolume(_masks_from_dicts(found["masks"], geometry, plane, names), geometry, names)
            several = found.get("alternative_masks", ())
            if len(several) not in (0, 3):
                raise ValueError("alternative_masks")
            alternatives = [_masks_from_dicts(some, geometry, plane, names) for some in several]
            ids = {name: number for number, name in names.items()}
            return cls(
                labels=labels,
                results=tuple(_result_from_dict(one, ids) for one in found["prompts"]),
                plane=plane,
                window=IntensityWindow.from_dict(found["window"]),
                usage=Usage.from_report(found["encoder_calls"], found["decoded"], found["seconds"]),
                engine=str(found["engine"]),
                precision=str(found["precision"]),
                notes=tuple(map(str, found["notes"])),
                alternatives=tuple(LabelVolume(array, geometry, names) for array in alternatives),
                stop_reasons={
                    int(one["id"]): {int(index): str(why) for index, why in one["stopped"].items()}
                    for one in found["labels"]
                    if "stopped" in one
                },
                kept=_kept_from_dicts(found["labels"], plane.count),
                model=str(found["model"]),
                algorithm=Algorithm(
                    str(found["model"]), digest=str(found.get("weights", "")), licence=str(found.get("licence", ""))
                ),
                modality=found["scan"]["modality"],
            )

    def _label_to_dict(self, number: int, voxels: int) -> dict[str, Any]:
        geometry, results = self.labels.geometry, [one for one in self.results if one.label == number]
        kept = self.kept.get(number, ())
        stopped = {str(index): why for index, why in self.stop_reasons.get(number, {}).items()}
        return {
            "id": number,
            "name": self.labels.names[number],
            "voxels": voxels,
            "ml": voxels * geometry.voxel_ml if geometry.calibrated else None,
            "slices": self._slices(number),
            **({"kept": list(kept)} if kept else {}),
            "predicted_iou": _mean([one.predicted_iou for one in results]),
            **({"stopped": stopped} if stopped else {}),
        }


def algorithm_of(image_predictor: ImagePredictor) -> Algorithm:
    """Who segments, with the digest and the licence of the weights."""
    licence = getattr(image_predictor.sam.spec, "licence", "")
    return Algorithm(image_predictor.name, digest=image_predictor.weights, licence=licence)


def _mean(values: Sequence[float]) -> float | None:
    """Of the numbers among them; None where there is none."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else None


def _result_to_dict(result: PromptResult, name: str) -> dict[str, Any]:
    return {
        "label": name,
        "slice": result.slice,
        "box": None if result.box is None else list(result.box),
        "points": [list(point) for point in result.points],
        **drawn_entry(result),
        "predicted_iou": _mean([result.predicted_iou]),
        "pixels_before_merging": result.pixels,
        **({} if result.confidence is None else {"confidence": result.confidence}),
        **({"candidates": list(result.candidates)} if result.candidates else {}),
        **({} if result.expected_dice is None else {"expected_dice": asdict(result.expected_dice)}),
    }


def _result_from_dict(document: Mapping[str, Any], ids: Mapping[str, int]) -> PromptResult:
    box, predicted_iou = document["box"], document["predicted_iou"]
    # a point more, so that it says something where nothing was drawn
    drawn = Prompt(points=((0, 0, 1),), **from_drawn_entry(document))
    x0, y0, x1, y1 = (0.0, 0.0, 0.0, 0.0) if box is None else map(float, box)
    return PromptResult(
        slice=int(document["slice"]),
        label=ids[document["label"]],
        box=None if box is None else (x0, y0, x1, y1),
        predicted_iou=math.nan if predicted_iou is None else float(predicted_iou),
        pixels=int(document["pixels_before_merging"]),
        points=tuple((float(x), float(y), int(inside)) for x, y, inside in document["points"]),
        confidence=None if document.get("confidence") is None else float(document["confidence"]),
        candidates=tuple(map(float, document.get("candidates", ()))),
        scribbles=drawn.scribbles,
        lines=drawn.lines,
        lasso=drawn.lasso,
        ellipse=drawn.ellipse,
        expected_dice=ExpectedDice.from_dict(document.get("expected_dice")),
    )


def _kept_from_dicts(documents: Sequence[Mapping[str, Any]], count: int) -> dict[int, tuple[int, ...]]:
    """The slices of each label that stay as they were. count: of slices."""
    return {
        int(one["id"]): tuple(whole(index, 0, count) for index in one["kept"]) for one in documents if "kept" in one
    }


def _masks_to_dicts(labels: LabelVolume, plane: SlicePlane) -> Iterator[dict[str, Any]]:
    """The label map as one mask a label and slice."""
    for index in range(plane.count):
        on_slice = plane.take(labels.array, index)
        for number in np.unique(on_slice[on_slice > 0]).tolist():
            yield {"label": number, "slice": index, **RLE.of(on_slice == number).to_dict()}


def _masks_from_dicts(
    documents: Any, geometry: VolumeGeometry, plane: SlicePlane, names: Collection[int]
) -> np.ndarray:
    """The label map (K, J, I), uint16."""
    array = np.zeros(geometry.shape, dtype=np.uint16)
    for one in documents:
        rle, index, label = RLE.from_dict(one), whole(one["slice"], 0, 2**53), whole(one["label"], 1, 2**16)
        if rle.size != plane.shape or index >= plane.count or label not in names:
            raise InputError(f"A mask of {rle.size} pixels on slice {index} with label {label} does not fit the scan.")
        plane.take(array, index)[rle.to_array()] = label
    return array
