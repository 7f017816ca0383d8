"""Predictor: embed a slice once, then answer any prompt on it.

Letters: P prompts, M masks a prompt (1, or 3 when ambiguous), h and w of the stored slice, S the model's side.
Gradients are switched off here and nowhere below.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medsam.errors import CheckpointError, InputError, PromptError
from medsam.geometry import Axis, SlicePlane
from medsam.models.build import load_model
from medsam.models.sam import Sam
from medsam.postprocess.merge import merge_by_quality
from medsam.prompts.prompt import Prompt, plan
from medsam.transforms.frame import Frame
from medsam.transforms.intensity import IntensityWindow, looks_like_ct, resolve_window
from medsam.transforms.reading import to_metatensor
from medsam.transforms.slicing import model_input, slice_pipeline
from medsam.volume import LabelVolume, Volume

# Prompts decoded together. More gains nothing on a CPU and lets a slice with hundreds of prompts exhaust memory.
_DECODE_CHUNK = 32


@dataclass(frozen=True)
class Embedding:
    """A slice the model has looked at. features: (1, C, h', w'). frame: its way back to stored pixels."""

    features: torch.Tensor
    frame: Frame


@dataclass(frozen=True)
class Prediction:
    """The answer to P prompts on one slice.

    masks: bool (P, M, h, w) on the stored slice. quality: predicted IoU (P, M), as the network says it, not clamped.
    logits: (P, M, s, s) of the network, fit to be a mask prompt. frame: of the slice.
    """

    masks: np.ndarray
    quality: np.ndarray
    logits: torch.Tensor
    frame: Frame


@dataclass(frozen=True)
class SliceAnswer:
    """What one prompt got.

    slice: its number. label: id. box: as prompted. quality: predicted IoU. pixels: in the mask, before merging.
    """

    slice: int
    label: int
    box: tuple[float, float, float, float]
    quality: float
    pixels: int


@dataclass(frozen=True)
class Segmentation:
    """A label map with how it came about.

    seconds: {"embed", "decode"}. notes: what a reader should know before trusting it, e.g. a slice without contrast.
    """

    labels: LabelVolume
    answers: tuple[SliceAnswer, ...]
    plane: SlicePlane
    window: IntensityWindow
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()


class Predictor:
    """A model ready to answer prompts.

    model: a known name ("litemedsam"), a checkpoint's path, or a `Sam`. device: "auto" takes CUDA, then Apple's
    MPS, then the CPU. On CUDA the encoder runs in bfloat16.
    """

    def __init__(self, model: str | Path | Sam = "litemedsam", device: str = "auto") -> None:
        self.device = pick_device(device)
        sam = load_model(model) if isinstance(model, str | Path) else model
        self.sam = sam.to(self.device).eval()

    @property
    def name(self) -> str:
        return self.sam.spec.name

    def embed(
        self,
        scan: Volume,
        index: int = 0,
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
    ) -> Embedding:
        """Encode slice `index` across `axis` (default: the acquired one). Raises PromptError for no such slice."""
        return self.embedder(scan, axis=axis, window=window)(index)

    def embedder(
        self, scan: Volume, *, axis: Axis | None = None, window: IntensityWindow | str = "auto"
    ) -> Callable[[int], Embedding]:
        """`embed` for many slices of one scan: what they share is prepared once."""
        if isinstance(window, str):
            window = resolve_window(scan, window)
        pipeline = slice_pipeline(self.sam.spec.preprocess, window, axis)
        image = to_metatensor(scan)
        return lambda index: self._encode(*model_input(pipeline, image, index))

    def predict(self, embedding: Embedding, boxes: np.ndarray, *, multimask: bool = False) -> Prediction:
        """Answer P half-open boxes (P, 4), in stored pixels, in one decode.

        multimask: three masks a prompt instead of one.
        """
        boxes = np.asarray(boxes, dtype=np.float64)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
            raise PromptError(f"Boxes have shape {boxes.shape}; expected (P, 4) with P at least 1.")
        model_boxes = torch.from_numpy(embedding.frame.boxes(boxes)).to(self.device)
        masks, logits, quality = [], [], []
        with torch.inference_mode():
            for chunk in model_boxes.split(_DECODE_CHUNK):
                chunk_logits, chunk_quality = self.sam.decode(
                    embedding.features, boxes=chunk[None], multimask=multimask
                )
                masks.append((embedding.frame.restore(chunk_logits[0]) > 0).cpu())
                logits.append(chunk_logits[0].float())
                quality.append(chunk_quality[0].float().cpu())
        return Prediction(torch.cat(masks).numpy(), torch.cat(quality).numpy(), torch.cat(logits), embedding.frame)

    def segment(
        self,
        scan: Volume,
        prompts: Sequence[Prompt],
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Segmentation:
        """Answer prompts on a scan with one label map on the scan's own grid.

        Each slice with a prompt is encoded once and all its prompts are decoded together. Masks of one label are
        united; where labels overlap, the mask with the higher predicted IoU keeps the pixel.
        window, modality: see `resolve_window`. progress: called with (slices done, slices in all).
        Raises PromptError for a prompt outside the scan.
        """
        todo = plan(prompts, scan.geometry, axis)
        chosen = resolve_window(scan, window, modality) if isinstance(window, str) else window
        notes = []
        if window == "auto" and not (modality or scan.modality) and looks_like_ct(scan):
            notes.append(
                f"The scan does not say its modality; its values look like CT, so the window is {chosen.name}."
            )
        flat = []
        plane = scan.geometry.plane(todo.axis)
        image = to_metatensor(scan)
        pipeline = slice_pipeline(self.sam.spec.preprocess, chosen, todo.axis)
        labels = np.zeros(scan.geometry.shape, dtype=np.uint16)
        answers: list[SliceAnswer] = []
        seconds = {"embed": 0.0, "decode": 0.0}
        for done, (index, on_slice) in enumerate(todo.slices.items()):
            if progress is not None:
                progress(done, len(todo.slices))
            started = time.perf_counter()
            pixels, frame = model_input(pipeline, image, index)
            if pixels.amin() == pixels.amax():
                flat.append(index)
            embedding = self._encode(pixels, frame)
            embedded = time.perf_counter()
            found = self.predict(embedding, np.array([prompt.box for prompt in on_slice]))
            masks, quality = found.masks[:, 0], found.quality[:, 0]
            if not np.isfinite(quality).all():
                raise CheckpointError(
                    f"{self.name} answers slice {index} with numbers that are not finite. The weights may be damaged: "
                    "fetch them again, or use another checkpoint."
                )
            ids = np.array([prompt.label for prompt in on_slice])
            plane.take(labels, index)[...] = merge_by_quality(masks, quality, ids)
            answers += [
                SliceAnswer(index, prompt.label, prompt.box, float(score), int(np.count_nonzero(mask)))
                for prompt, mask, score in zip(on_slice, masks, quality, strict=True)
            ]
            seconds["embed"] += embedded - started
            seconds["decode"] += time.perf_counter() - embedded
        if progress is not None:
            progress(len(todo.slices), len(todo.slices))
        if flat:
            notes.append(
                f"No contrast in the window {chosen.name} on slice{'s' if len(flat) > 1 else ''} "
                f"{', '.join(map(str, flat[:8]))}{' ...' if len(flat) > 8 else ''}: masks there mean nothing."
            )
        label_map = LabelVolume(labels, scan.geometry, todo.names)
        return Segmentation(label_map, tuple(answers), plane, chosen, seconds, tuple(notes))

    def _encode(self, pixels: torch.Tensor, frame: Frame) -> Embedding:
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"),
        ):
            features = self.sam.encode_image(pixels[None].to(self.device))
        return Embedding(features.float(), frame)


def pick_device(device: str = "auto") -> torch.device:
    """The torch device for "auto", "cpu", "cuda" or "mps"; InputError when this machine has none of that kind."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in have.items() if there))
    kind = device.split(":")[0]
    if kind not in have:
        raise InputError(f"There is no device {device!r}; use auto, cpu, cuda or mps.")
    if not have[kind]:
        raise InputError(f"This machine has no {kind} device that torch can use. Leave --device out.")
    return torch.device(device)
