"""The network behind every answer: encode a look at a slice once, decode any number of prompts on it.

A *look* is one encoding: a slice, or a region of it, seen through one intensity window.
Letters: P prompts, M masks a prompt (1, or 3 when ambiguous), h and w of the stored slice, s the side of logits.
Gradients are switched off in `engines` and nowhere below.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch

from medsam.errors import CheckpointError, InputError, PromptError
from medsam.geometry import Axis, SlicePlane
from medsam.inference.embeddings import EmbeddingCache, embedding_key, weights_digest
from medsam.inference.engines import Engine, EngineError, EngineName, Precision, TorchEngine, choose_engine
from medsam.io.load import as_volume
from medsam.models.build import load_model
from medsam.models.sam import Sam
from medsam.prompts.prompt import SlicePrompt
from medsam.transforms.frame import Frame, Region
from medsam.transforms.intensity import IntensityWindow, fixed_window, is_hounsfield, resolve_window, window_notes
from medsam.transforms.prepare import scan_tensor, slice_input
from medsam.volume import Volume

# Prompts decoded together. More gains nothing on a CPU and lets a slice with hundreds of prompts exhaust memory.
_DECODE_CHUNK = 32
# Which logits of a box prompt will be looked at: all, those a mask around the box can reach, or those in the box.
LogitsFor = Literal["all", "near_box", "in_box"]
# How far around a box "near_box" is at first, in its sides: of 211 masks none reached a cell of the embedding beyond
# its box (scripts/studies/reach.py).
_NEAR = 0.1
_log = logging.getLogger(__name__)

# Looks encoded together on a GPU. On a CPU a batch is slower than one after the other (docs/results/README.md).
_ENCODE_BATCH = 8


@dataclass(frozen=True)
class Crop:
    """What to encode: slice `index`, or `region` of it, in `window` (None: the scan's)."""

    index: int
    region: Region | None = None
    window: IntensityWindow | None = None


@dataclass(frozen=True, eq=False)
class Embedding:
    """A look the model has taken. features: (1, C, h', w'). frame: its way back to stored pixels.

    no_contrast: the window left no contrast in it, so that masks on it mean nothing.
    """

    features: torch.Tensor
    frame: Frame
    no_contrast: bool = False


@dataclass(frozen=True)
class Prediction:
    """The answer to P prompts on one look.

    predicted_iou: (P, M), as the network says it, not clamped. logits: (P, M, s, s) of the network, fit to be
    a mask prompt. frame: of the look.
    """

    predicted_iou: np.ndarray
    logits: torch.Tensor
    frame: Frame

    @cached_property
    def masks(self) -> np.ndarray:
        """Bool (P, M, h, w) on the stored slice; made when first asked for, since not everybody thresholds at 0."""
        parts = [(self.frame.restore(part) > 0).cpu() for part in self.logits.split(_DECODE_CHUNK)]
        return torch.cat(parts).numpy()


class ImagePredictor:
    """A model ready to look and to answer.

    model: a known name ("litemedsam"), a checkpoint's path, or a `Sam`. device: "auto" takes CUDA, then Apple's
    MPS, then the CPU. cache: where embeddings are kept; default: in memory. precision: of the encoder; "auto" is
    bfloat16 on CUDA, float32 elsewhere. engine: who runs the network, see `engines.choose_engine`; "auto" is torch for
    a `Sam` that was handed in, which may still change.
    encoded, decoded: images and prompts the network has run on so far; an embedding from the cache adds none.
    seconds: {"prepare", "embed", "decode"}: making graphs and compiling them, and what was spent on images and prompts.
    Raises InputError for a device, precision or engine this machine does not have.
    """

    def __init__(
        self,
        model: str | Path | Sam = "litemedsam",
        device: str = "auto",
        cache: EmbeddingCache | None = None,
        *,
        precision: Precision = "auto",
        engine: EngineName = "auto",
    ) -> None:
        self.device = pick_device(device)
        named = isinstance(model, str | Path)
        if not named and not isinstance(model, torch.nn.Module):
            raise CheckpointError(f"A model is a name, a checkpoint's path or a Sam, not {type(model).__name__}.")
        sam = load_model(model) if isinstance(model, str | Path) else model
        self.sam = sam.to(self.device).eval()
        self.cache = EmbeddingCache() if cache is None else cache
        self.encoded = 0
        self.decoded = 0
        self.seconds = {"prepare": 0.0, "embed": 0.0, "decode": 0.0}
        self._wanted: tuple[Precision, EngineName] = precision, engine if named or engine != "auto" else "torch"
        self._engine: Engine | None = choose_engine(self.sam, self.device, *self._wanted)
        # what an embedding's prompts share, as long as somebody holds the embedding
        self._prepared: WeakKeyDictionary[Embedding, tuple[Engine, Any]] = WeakKeyDictionary()
        self._lock = threading.Lock()
        # the engine that is ready
        self._made: Engine | None = None

    @property
    def engine(self) -> Engine:
        """Who runs the network on `device`."""
        if self._engine is None or self._engine.device != self.device:
            self._engine = choose_engine(self.sam, self.device, *self._wanted)
        return self._engine

    @property
    def precision(self) -> str:
        """What the encoder computes in."""
        return self.engine.precision

    def ready(self) -> None:
        """Have everything made that answers wait for. From here on it is known which engine gives all of them.

        Where an exported graph cannot be made and the user had not asked for it, torch answers.
        """
        with self._lock:
            engine = self.engine
            if self._made is engine:
                return
            started = time.perf_counter()
            try:
                engine.ready()
            except (EngineError, ImportError, OSError) as error:
                precision, wanted = self._wanted
                # torch has no int8
                if isinstance(engine, TorchEngine) or wanted != "auto" or precision == "int8":
                    raise
                _log.warning("%s Torch answers instead, about half as fast.", error)
                self._engine = TorchEngine(self.sam, self.device, precision)
            self._made = self._engine
            self.seconds["prepare"] += time.perf_counter() - started

    def __getstate__(self) -> dict[str, Any]:
        # graphs and locks belong to a process; the copy makes its own when it is first asked
        return {**vars(self), "_engine": None, "_made": None, "_prepared": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        # weights come back on the very GPU they were pickled on, whichever this process has been given
        self.sam.to(self.device)
        self._prepared, self._lock = WeakKeyDictionary(), threading.Lock()

    @property
    def name(self) -> str:
        return self.sam.spec.name

    def encoder_for(
        self,
        scan: Volume | str | Path | np.ndarray,
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
    ) -> ScanEncoder:
        """The scan, ready to be looked at. axis: default the acquired one. window, modality: see `resolve_window`.

        scan: see `as_volume`.
        """
        scan = as_volume(scan)
        if not isinstance(window, str | IntensityWindow):
            raise PromptError(f"A window is auto, a preset, 'LEVEL,WIDTH' or an IntensityWindow, not {window!r}.")
        chosen = resolve_window(scan, window, modality) if isinstance(window, str) else window
        soft = window == "auto" and chosen.name == "soft-tissue"
        wide_window = fixed_window("wide") if soft else None
        notes = window_notes(scan, chosen, window, modality)
        return ScanEncoder(self, scan, scan.geometry.plane(axis), chosen, wide_window, notes, modality)

    def embed(
        self,
        scan: Volume | str | Path | np.ndarray,
        index: int = 0,
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
    ) -> Embedding:
        """Encode one whole slice; for several of one scan take an `encoder_for`."""
        return self.encoder_for(scan, axis=axis, window=window).encode(index)

    def predict(
        self,
        embedding: Embedding,
        boxes: np.ndarray | None = None,
        *,
        points: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        logits: torch.Tensor | None = None,
        multimask: bool = False,
        logits_for: LogitsFor = "all",
    ) -> Prediction:
        """Answer P prompts of one kind in one decode; several arguments combine into one prompt each.

        boxes: half-open (P, 4), stored pixels. points: (P, N, 2), stored pixel indices, with point_labels (P, N):
        1 inside, 0 outside, -1 padding. logits: (P, s, s), an earlier answer's or `Frame.mask_prompt`'s.
        multimask: three masks a prompt instead of one. logits_for: which logits will be looked at; those nobody wants
        need not be made (see `Engine.decode`). "near_box" gives all of a mask that leaves its box, but not what lies
        apart.
        Raises PromptError for no prompt or shapes that do not fit; CheckpointError when the answer is not finite.
        """
        frame = embedding.frame
        given: dict[str, torch.Tensor] = {}
        roi: torch.Tensor | None = None
        if boxes is not None:
            boxes = np.asarray(boxes, dtype=np.float64)
            if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
                raise PromptError(f"Boxes have shape {boxes.shape}; expected (P, 4) with P at least 1.")
            given["boxes"] = torch.from_numpy(frame.boxes(boxes))
            if logits_for != "all":
                # two pixels more, on which the end of a box may fall
                grown = _NEAR * np.tile(boxes[:, 2:] - boxes[:, :2], 2) if logits_for == "near_box" else 0
                roi = torch.from_numpy(frame.boxes(boxes + np.array([-1, -1, 1, 1]) * (grown + 2)))
        if points is not None:
            points = np.asarray(points, dtype=np.float64)
            if points.ndim != 3 or points.shape[2] != 2 or not points.size:
                raise PromptError(f"Points have shape {points.shape}; expected (P, N, 2) with P and N at least 1.")
            given["points"] = torch.from_numpy(frame.points(points))
        if point_labels is not None:
            given["point_labels"] = torch.from_numpy(np.asarray(point_labels, dtype=np.int64))
        if logits is not None:
            given["masks"] = logits
        if not given:
            raise PromptError("No prompt: give boxes, points with labels, or logits.")
        counts = {name: len(tensor) for name, tensor in given.items()}
        if len(set(counts.values())) > 1:
            raise PromptError(f"One prompt each is needed, got {counts}.")
        count = next(iter(counts.values()))
        answers, predicted_iou = [], []
        for start in range(0, count, _DECODE_CHUNK):
            part = {name: tensor[start : start + _DECODE_CHUNK] for name, tensor in given.items()}
            seen = None if roi is None else roi[start : start + _DECODE_CHUNK]
            found, scores = self.decode(
                embedding, part, multimask=multimask, roi=seen, extend_roi=logits_for == "near_box"
            )
            answers.append(found)
            predicted_iou.append(scores.cpu())
        return Prediction(torch.cat(predicted_iou).numpy(), torch.cat(answers), frame)

    def decode(
        self,
        embedding: Embedding,
        prompts: Mapping[str, torch.Tensor],
        *,
        multimask: bool = False,
        roi: torch.Tensor | None = None,
        extend_roi: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One decode of P prompts in model pixels, named and shaped as `Sam.decode` takes them but for the image axis.

        roi, extend_roi: see `Engine.decode`. Returns logits (P, M, s, s) and predicted IoU (P, M), float32, on the
        device. Raises CheckpointError when the predicted IoU is not finite.
        """
        self.ready()
        started, engine = time.perf_counter(), self.engine
        owner, prepared = self._prepared.get(embedding, (None, None))
        if owner is not engine:
            prepared = engine.prepare(embedding.features)
            self._prepared[embedding] = engine, prepared
        logits, predicted_iou = engine.decode(prepared, prompts, multimask=multimask, roi=roi, extend_roi=extend_roi)
        finite = bool(predicted_iou.isfinite().all())
        if not finite:
            raise CheckpointError(
                f"{self.name} answers with numbers that are not finite. The weights may be damaged: "
                "fetch them again, or use another checkpoint."
            )
        self.decoded += len(predicted_iou)
        self.seconds["decode"] += time.perf_counter() - started
        return logits, predicted_iou

    def ask(
        self,
        embedding: Embedding,
        prompts: Sequence[SlicePrompt],
        *,
        multimask: bool | None = None,
        logits: Sequence[torch.Tensor | None] | None = None,
        logits_for: LogitsFor = "all",
    ) -> Prediction:
        """Answer prompts of any kinds, mixed, in as few decodes as possible; in their order.

        multimask: True gives three masks a prompt, False one. None gives one each, as published: the best by predicted
        IoU of three for a single click, which is ambiguous, and the single-mask token for everything else.
        logits: (s, s) each, the answer a prompt had before its last click, or None; they stand in for its mask.
        logits_for: see `predict`.
        """
        previous = logits or [None] * len(prompts)
        groups: dict[tuple[bool, bool, int, bool], list[int]] = {}
        for number, (prompt, earlier) in enumerate(zip(prompts, previous, strict=True)):
            several = (earlier is None and is_ambiguous(prompt)) if multimask is None else multimask
            masked = prompt.mask is not None or earlier is not None
            # padded to equal lengths, a prompt's answer would depend on its neighbours: padding is a token, too
            groups.setdefault((prompt.box is not None, masked, len(prompt.points), several), []).append(number)
        answers: dict[int, tuple[np.ndarray, torch.Tensor]] = {}
        for (boxed, masked, clicks, several), members in groups.items():
            group = [prompts[number] for number in members]
            points = np.array([prompt.points for prompt in group], dtype=np.float64).reshape(len(group), clicks, 3)
            found = self.predict(
                embedding,
                np.array([prompt.box for prompt in group]) if boxed else None,
                points=points[..., :2] if clicks else None,
                point_labels=points[..., 2] if clicks else None,
                logits=torch.cat([self._mask_logits(embedding, prompts[n], previous[n]) for n in members])
                if masked
                else None,
                multimask=several,
                logits_for=logits_for,
            )
            for row, number in enumerate(members):
                chosen = slice(None)
                if several and multimask is None:
                    best = int(found.predicted_iou[row].argmax())
                    chosen = slice(best, best + 1)
                answers[number] = found.predicted_iou[row, chosen], found.logits[row, chosen]
        if not answers:
            raise PromptError("No prompt: give at least one box, click or mask.")
        predicted_iou, maps = zip(*(answers[number] for number in range(len(prompts))), strict=True)
        return Prediction(np.stack(predicted_iou), torch.stack(maps), embedding.frame)

    def _mask_logits(self, embedding: Embedding, prompt: SlicePrompt, earlier: torch.Tensor | None) -> torch.Tensor:
        """(1, s, s)."""
        if earlier is not None:
            return earlier[None].to(self.device)
        if prompt.mask is None:
            raise PromptError("A prompt without a mask has no mask logits.")
        return embedding.frame.mask_prompt(prompt.mask[None], self.logit_side).to(self.device)

    @property
    def logit_side(self) -> int:
        """s, the side of the logits in pixels."""
        return 4 * self.sam.spec.embed_side

    def encode(self, images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Prepared looks (3, S, S) -> features (1, C, h', w') each; the cache is asked first."""
        self.ready()
        engine = self.engine
        keys = [embedding_key(image, self._weights, engine.name, engine.precision) for image in images]
        features = {key: self.cache.get(key) for key in keys}
        missing = [n for n, key in enumerate(keys) if features[key] is None and keys.index(key) == n]
        size = 1 if self.device.type == "cpu" else _ENCODE_BATCH
        started = time.perf_counter()
        for start in range(0, len(missing), size):
            batch = missing[start : start + size]
            stack = torch.stack([images[n] for n in batch])
            encoded = engine.encode(stack)
            self.encoded += len(batch)
            # laid out as a kept one is: the decoder sums in another order where channels come last
            for n, one in zip(batch, encoded.contiguous(), strict=True):
                features[keys[n]] = one
                self.cache.put(keys[n], one)
        if missing:
            self.seconds["embed"] += time.perf_counter() - started
        return [features[key].to(self.device)[None] for key in keys]  # type: ignore[union-attr]

    @cached_property
    def _weights(self) -> str:
        # of the encoder alone: a decoder that was trained on shares its embeddings
        encoder = getattr(self.sam, "image_encoder", self.sam)
        # read once: an encoder that answers is not trained at the same time
        # sizes that leave no trace in the weights (heads, windows) change the answer, too
        return f"{weights_digest(encoder)} {getattr(self.sam.spec, 'encoder', '')!r}"


class ScanEncoder:
    """One scan, ready to be looked at; what its slices share is prepared once. Made by `ImagePredictor.encoder_for`.

    window: of every crop that names none. wide_window: what a crop may take instead where `window` hides the object;
    None when the user chose the window, or the scan is no CT. notes: what a reader should know about the scan and its
    window. no_contrast: slices that a look found without any contrast.
    """

    def __init__(
        self,
        image_predictor: ImagePredictor,
        scan: Volume,
        plane: SlicePlane,
        window: IntensityWindow,
        wide_window: IntensityWindow | None = None,
        notes: tuple[str, ...] = (),
        modality: str | None = None,
    ) -> None:
        self.image_predictor, self.scan, self.plane, self.window, self.wide_window = (
            image_predictor,
            scan,
            plane,
            window,
            wide_window,
        )
        self.notes = notes
        self._modality = modality
        self.no_contrast: set[int] = set()
        self._image = scan_tensor(scan)

    def encode(self, index: int, *, region: Region | None = None, window: IntensityWindow | None = None) -> Embedding:
        """Encode slice `index`, or a region of it. Raises PromptError for no such slice or region."""
        return self.encode_many([Crop(index, region, window)])[0]

    def encode_many(self, crops: Sequence[Crop]) -> list[Embedding]:
        """Several looks, encoded together where the device gains by it."""
        preprocess = self.image_predictor.sam.spec.preprocess
        prepared = [
            slice_input(self._image, self.plane, crop.index, crop.window or self.window, preprocess, crop.region)
            for crop in crops
        ]
        features = self.image_predictor.encode([pixels for pixels, _ in prepared])
        embeddings = [
            Embedding(one, frame, bool(pixels.amin() == pixels.amax()))
            for one, (pixels, frame) in zip(features, prepared, strict=True)
        ]
        self.no_contrast |= {crop.index for crop, one in zip(crops, embeddings, strict=True) if one.no_contrast}
        return embeddings

    @cached_property
    def is_ct(self) -> bool:
        """Whether the scan holds Hounsfield units, see `is_hounsfield`."""
        return is_hounsfield(self.scan, self._modality)

    @property
    def no_contrast_note(self) -> str:
        """What to say of the slices in `no_contrast`."""
        slices = sorted(self.no_contrast)
        some = f"{', '.join(map(str, slices[:8]))}{' ...' if len(slices) > 8 else ''}"
        where = f"slice{'s' if len(slices) > 1 else ''} {some}"
        return f"No contrast in the window {self.window.name} on {where}: masks there mean nothing."

    def pixels(self, index: int) -> np.ndarray:
        """The stored slice (h, w) or (h, w, 3), in the scan's units."""
        return self.plane.take(self.scan.array, index)


def is_ambiguous(prompt: SlicePrompt) -> bool:
    """Whether a prompt alone does not tell which object is meant: one click and nothing else (Kirillov et al. 2023)."""
    return prompt.box is None and prompt.mask is None and len(prompt.points) == 1


def pick_device(device: str = "auto") -> torch.device:
    """The torch device for "auto", "cpu", "cuda" or "mps"; InputError when this machine has none of that kind."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in have.items() if there))
    kind = device.split(":")[0]
    if kind not in have:
        raise InputError(f"There is no device {device!r}; use auto, cpu, cuda or mps.", parameter="device")
    if not have[kind]:
        raise InputError(
            f"This machine has no {kind} device that torch can use. Leave `device` out.", parameter="device"
        )
    return torch.device(device)
