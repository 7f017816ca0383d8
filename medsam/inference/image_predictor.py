"""The network behind every result: encode a crop of a slice once, decode any number of prompts on it.

A *crop* is what is encoded at once: a slice, or a region of it, seen through one intensity window.
Letters: P prompts, M masks a prompt (1, or 3 when ambiguous), h and w of the stored slice, s the side of logits.
Gradients are switched off in `engines` and nowhere below.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

from medsam.errors import CheckpointError, PromptError, slices_named
from medsam.geometry import Axis, SlicePlane
from medsam.inference.embeddings import EmbeddingCache, Kept, Precomputed, embedding_key
from medsam.inference.engines.base import AT_ONCE, Engine, EngineName, Precision
from medsam.inference.engines.choose import choose_engine, pick_device
from medsam.inference.usage import Usage
from medsam.inference.worker import Worker
from medsam.io.load import as_volume
from medsam.models.build import load_model
from medsam.models.mask_decoder import ImageTokens
from medsam.models.sam import Sam
from medsam.models.weights_file import weights_digest
from medsam.prompts.prompt import SlicePrompt
from medsam.transforms.frame import Frame, Region
from medsam.transforms.intensity import IntensityWindow, fixed_window, is_hounsfield, resolve_window, window_notes
from medsam.transforms.prepare import scan_tensor, slice_input
from medsam.volume import Volume

if TYPE_CHECKING:
    from medsam.inference.trust import TrustModel

# Which logits of a box prompt are needed: all, those a mask around the box can reach, or those in the box.
LogitsFor = Literal["all", "near_box", "in_box"]
# How far around a box "near_box" is at first, in its sides: of 211 masks none reached a cell of the embedding beyond
# its box (scripts/studies/reach.py).
_NEAR = 0.1

# Crops encoded together on a GPU. On a CPU a batch is slower than one after the other (docs/results/README.md).
_ENCODE_BATCH = 8


@dataclass(frozen=True)
class Crop:
    """What to encode: slice `index`, or `region` of it, in `window` (None: the scan's)."""

    index: int
    region: Region | None = None
    window: IntensityWindow | None = None


@dataclass(frozen=True, eq=False)
class Embedding:
    """A crop the model has encoded. features: (1, C, h', w'), shared with the cache. frame: its way back to stored
    pixels.

    no_contrast: the window left no contrast in it, so that masks on it mean nothing. usage: what this embedding has
    cost its caller. precomputed: what all prompts on it share.
    """

    features: torch.Tensor
    frame: Frame
    no_contrast: bool = False
    usage: Usage = field(default_factory=Usage)
    precomputed: Precomputed = field(default_factory=Precomputed)


@dataclass(frozen=True)
class Prediction:
    """The masks of P prompts on one crop.

    predicted_iou: (P, M), as the network says it, not clamped. logits: (P, M, s, s) less the model's `mask_threshold`,
    fit to be a mask prompt. frame: of the crop. usage: of decoding.
    """

    predicted_iou: np.ndarray
    logits: torch.Tensor
    frame: Frame
    usage: Usage = field(default_factory=Usage)

    @cached_property
    def masks(self) -> np.ndarray:
        """Bool (P, M, h, w) on the stored slice; made when first asked for, since not everybody thresholds at 0."""
        parts = [(self.frame.restore(part) > 0).cpu() for part in self.logits.split(AT_ONCE)]
        return torch.cat(parts).numpy()


class _Batch(NamedTuple):
    """Prompts of one kind. members: their numbers. given: as `Engine.decode` takes them. roi: likewise.

    several: three masks each. best: of which the one with the highest predicted IoU is wanted.
    """

    members: list[int]
    given: dict[str, torch.Tensor]
    roi: torch.Tensor | None
    several: bool
    best: bool


class ImagePredictor:
    """A model ready to encode crops and to decode prompts on them. Any number of threads may share one.

    model: a known name ("litemedsam"), a checkpoint's path, or a `Sam`. device: "auto" takes CUDA, then Apple's
    MPS, then the CPU. cache: where embeddings are kept; default: in memory. precision: of the encoder; "auto" is
    bfloat16 on CUDA, float32 elsewhere. engine: who runs the network, see `engines.choose_engine`; "auto" is torch for
    a `Sam` that was handed in, which may still change.
    worker: on whose thread sessions, `Predictor.segment` and its like run; default: on the caller's own.
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
        worker: Worker | None = None,
    ) -> None:
        self.worker = worker
        self.trust: TrustModel | None = None  # where not what is shipped for its weights
        self.device = pick_device(device)
        named = isinstance(model, str | Path)
        if not named and not isinstance(model, torch.nn.Module):
            raise CheckpointError(f"A model is a name, a checkpoint's path or a Sam, not {type(model).__name__}.")
        sam = load_model(model) if isinstance(model, str | Path) else model
        self.sam = sam.to(self.device).eval()
        self.cache = EmbeddingCache() if cache is None else cache
        self._wanted: tuple[Precision, EngineName] = precision, engine if named or engine != "auto" else "torch"
        self._engine: Engine | None = choose_engine(self.sam, self.device, *self._wanted)
        self._lock = threading.RLock()
        # the engine that is warm
        self._warm: Engine | None = None

    @property
    def engine(self) -> Engine:
        """Who runs the network on `device`."""
        engine = self._engine
        if engine is None or engine.device != self.device:
            with self._lock:  # of several threads one makes it
                engine = self._engine
                if engine is None or engine.device != self.device:
                    engine = self._engine = choose_engine(self.sam, self.device, *self._wanted)
        return engine

    @property
    def precision(self) -> str:
        """What the encoder computes in."""
        return self.engine.precision

    def warm_up(self) -> Usage:
        """Have everything made that results wait for. From here on it is known which engine gives all of them."""
        with self._lock:
            engine = self.engine
            if self._warm is engine:
                return Usage()
            started = time.perf_counter()
            engine.warm_up()
            self._warm = engine
            return Usage(prepare_s=time.perf_counter() - started)

    def __getstate__(self) -> dict[str, Any]:
        # graphs, locks and threads belong to a process; the copy makes its own when it is first asked
        return {**vars(self), "_engine": None, "_warm": None, "_lock": None, "worker": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        # weights come back on the very GPU they were pickled on, whichever this process has been given
        self.sam.to(self.device)
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        return self.sam.spec.name

    @property
    def logit_side(self) -> int:
        """s, the side of the logits in pixels."""
        return 4 * self.sam.spec.embed_side

    def encoder_for(
        self,
        scan: Volume | str | Path | np.ndarray,
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
    ) -> ScanEncoder:
        """The scan, ready to be encoded. axis: default the acquired one. window, modality: see `resolve_window`.

        scan: see `as_volume`; its voxels must not change from here on.
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
        """Encode one whole slice; for several of one scan take `encoder_for`."""
        return self.encoder_for(scan, axis=axis, window=window).encode(index)

    def predict(
        self,
        embedding: Embedding,
        prompts: Sequence[SlicePrompt],
        *,
        multimask: bool | None = None,
        previous: Sequence[torch.Tensor | None] | None = None,
        logits_for: LogitsFor = "all",
        at_once: int = AT_ONCE,
    ) -> Prediction:
        """The masks of P prompts of any kinds, mixed, in as few decodes as possible; in their order.

        multimask: True gives three masks a prompt, False one. None gives one each, as published: the best by predicted
        IoU of three for a single click, which is ambiguous, and the single-mask token for everything else.
        previous: (s, s) each, the logits a prompt had before its last click, or None; they stand in for its mask.
        logits_for: which logits are needed; the others need not be made (see `Engine.decode`).
        "near_box" gives all of a mask that leaves its box, but not what lies apart.
        at_once: prompts that go through the decoder together, at most.
        Raises PromptError for no prompt; CheckpointError when the predicted IoU is not finite.
        """
        usage = self.warm_up()
        started, engine = time.perf_counter(), self.engine
        found: dict[int, tuple[np.ndarray, torch.Tensor]] = {}
        for batch in self._batches(embedding, prompts, previous, multimask, logits_for):
            logits, scores = engine.decode(
                embedding.features,
                batch.given,
                multimask=batch.several,
                # of a prompt with a mask nothing is known beforehand
                image=None if "masks" in batch.given else self._image_tokens(embedding, engine),
                roi=batch.roi,
                extend_roi=logits_for == "near_box",
                at_once=at_once,
            )
            if not scores.isfinite().all():
                raise CheckpointError(
                    f"{self.name} answers with numbers that are not finite. The weights may be damaged: "
                    "fetch them again, or use another checkpoint."
                )
            predicted_iou, logits = scores.cpu().numpy(), logits - self.sam.spec.mask_threshold
            for row, number in enumerate(batch.members):
                best = int(predicted_iou[row].argmax())
                chosen = slice(best, best + 1) if batch.best else slice(None)
                found[number] = predicted_iou[row, chosen], logits[row, chosen]
        if not found:
            raise PromptError("No prompt: give at least one box, click or mask.")
        each = [found[number] for number in range(len(prompts))]
        return Prediction(
            np.stack([scores for scores, _ in each]),
            torch.stack([logits for _, logits in each]),
            embedding.frame,
            usage + Usage(decoded=len(prompts), decode_s=time.perf_counter() - started),
        )

    def _image_tokens(self, embedding: Embedding, engine: Engine) -> ImageTokens | None:
        tokens, new = embedding.precomputed.of(engine, embedding.features)
        if new:
            self.cache.make_room()
        return tokens

    def _batches(
        self,
        embedding: Embedding,
        prompts: Sequence[SlicePrompt],
        previous: Sequence[torch.Tensor | None] | None,
        multimask: bool | None,
        logits_for: LogitsFor,
    ) -> Iterator[_Batch]:
        """Prompts in the order in which their kinds appear, in model pixels."""
        frame, earlier = embedding.frame, previous or [None] * len(prompts)
        kinds: dict[tuple[bool, bool, int, bool], list[int]] = {}
        for number, (prompt, logits) in enumerate(zip(prompts, earlier, strict=True)):
            several = (logits is None and is_ambiguous(prompt)) if multimask is None else multimask
            masked = prompt.mask is not None or logits is not None
            # padded to equal lengths, a prompt's result would depend on its neighbours: padding is a token, too
            kinds.setdefault((prompt.box is not None, masked, len(prompt.points), several), []).append(number)
        for (boxed, masked, clicks, several), members in kinds.items():
            group = [prompts[number] for number in members]
            given: dict[str, torch.Tensor] = {}
            roi: torch.Tensor | None = None
            if boxed:
                boxes = np.array([prompt.box for prompt in group], dtype=np.float64)
                given["boxes"], roi = torch.from_numpy(frame.boxes(boxes)), _roi(boxes, frame, logits_for)
            if clicks:
                points = np.array([prompt.points for prompt in group], dtype=np.float64)
                given["points"] = torch.from_numpy(frame.points(points[..., :2]))
                given["point_labels"] = torch.from_numpy(points[..., 2].astype(np.int64))
            if masked:
                given["masks"] = torch.cat(
                    [self._mask_logits(frame, prompt, earlier[n]) for prompt, n in zip(group, members, strict=True)]
                )
            if not given:
                raise PromptError("No prompt: give at least one box, click or mask.")
            yield _Batch(members, given, roi, several, several and multimask is None)

    def _mask_logits(self, frame: Frame, prompt: SlicePrompt, earlier: torch.Tensor | None) -> torch.Tensor:
        """(1, s, s)."""
        if earlier is not None:
            return earlier[None].to(self.device) + self.sam.spec.mask_threshold
        if prompt.mask is None:
            raise PromptError("A prompt without a mask has no mask logits.")
        return frame.mask_prompt(prompt.mask[None], self.logit_side).to(self.device)

    def encode(self, images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Model inputs (3, S, S) -> features (1, C, h', w') each; the cache is asked first."""
        self.warm_up()
        keys = [self.key_of(image) for image in images]
        kept, _ = self.fetch(keys, dict(zip(keys, images, strict=True)).__getitem__)
        return [kept[key].features.to(self.device)[None] for key in keys]

    def key_of(self, image: torch.Tensor) -> str:
        """What the embedding of a model input (3, S, S) is filed under."""
        return embedding_key(image, self.encoder_weights, self.engine.name, self.engine.precision)

    def fetch(self, keys: Sequence[str], image_of: Callable[[str], torch.Tensor]) -> tuple[dict[str, Kept], set[str]]:
        """Embeddings by key, and which of them were encoded for it. image_of: key -> model input (3, S, S)."""
        engine, encoded = self.engine, set[str]()

        def encode(missing: list[str]) -> Iterator[torch.Tensor]:
            size = 1 if self.device.type == "cpu" else _ENCODE_BATCH
            for start in range(0, len(missing), size):
                batch = missing[start : start + size]
                yield from engine.encode(torch.stack([image_of(key) for key in batch]))
                encoded.update(batch)

        return self.cache.fetch(keys, encode), encoded

    @cached_property
    def weights(self) -> str:
        """A digest of all weights of the model, 64 hexadecimal digits; read once."""
        return weights_digest(self.sam)

    @cached_property
    def encoder_weights(self) -> str:
        """A digest of the encoder, by which embeddings are kept: a decoder that was trained on shares them."""
        # of the encoder alone
        encoder = getattr(self.sam, "image_encoder", self.sam)
        # read once: an encoder that answers is not trained at the same time
        # sizes that leave no trace in the weights (heads, windows) change the answer, too
        return f"{weights_digest(encoder)} {getattr(self.sam.spec, 'encoder', '')!r}"


class _Prepared(NamedTuple):
    """What is known of a crop once it was prepared. key: of its embedding."""

    key: str
    frame: Frame
    no_contrast: bool


class ScanEncoder:
    """One scan, ready to be encoded; what its slices share is prepared once. Made by `ImagePredictor.encoder_for`.

    window: of every crop that names none. wide_window: what a crop may take instead where `window` hides the object;
    None when the user chose the window, or the scan is no CT. notes: what a reader should know about the scan and its
    window. Any number of threads may share one.
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
        self.image_predictor, self.scan, self.plane = image_predictor, scan, plane
        self.window, self.wide_window, self.notes = window, wide_window, notes
        self.modality = modality
        self._image = scan_tensor(scan)
        # crop, engine, precision -> what became of it: asked for again, it is neither resampled nor digested again
        self._prepared: dict[tuple[Crop, str, str], _Prepared] = {}
        # seconds each crop took when it was first encoded
        self._seconds: dict[Crop, float] = {}

    def encode(self, index: int, *, region: Region | None = None, window: IntensityWindow | None = None) -> Embedding:
        """Encode slice `index`, or a region of it. Raises PromptError for no such slice or region."""
        return self.encode_many([Crop(index, region, window)])[0]

    __call__ = encode

    def encode_many(self, crops: Sequence[Crop]) -> list[Embedding]:
        """Several crops, encoded together where the device gains by it."""
        predictor = self.image_predictor
        usage = predictor.warm_up()
        started, engine = time.perf_counter(), predictor.engine
        # the scan's own window by its name or by default is one crop
        asked = [replace(crop, window=crop.window or self.window) for crop in crops]
        images: dict[str, torch.Tensor] = {}
        prepared: list[_Prepared] = []
        for crop in asked:
            request = crop, engine.name, engine.precision
            if request not in self._prepared:
                pixels, frame = self._input(crop)
                key = predictor.key_of(pixels)
                images[key] = pixels
                self._prepared[request] = _Prepared(key, frame, bool(pixels.amin() == pixels.amax()))
            prepared.append(self._prepared[request])
        crop_of = {one.key: crop for one, crop in zip(prepared, asked, strict=True)}

        def image_of(key: str) -> torch.Tensor:
            # known from before, but no longer kept
            return images[key] if key in images else self._input(crop_of[key])[0]

        kept, encoded = predictor.fetch([one.key for one in prepared], image_of)
        spent_s = time.perf_counter() - started
        new = dict.fromkeys(crop for crop in asked if crop not in self._seconds)
        for crop in new:
            self._seconds.setdefault(crop, spent_s / len(new))
        embeddings = []
        for one, crop in zip(prepared, asked, strict=True):
            here = Usage(int(one.key in encoded), embed_s=spent_s / len(asked), crops={crop: self._seconds[crop]})
            encoded.discard(one.key)
            there = kept[one.key]
            features = there.features.to(predictor.device)[None]
            embeddings.append(Embedding(features, one.frame, one.no_contrast, usage + here, there.precomputed))
            usage = Usage()
        return embeddings

    def make_ready(self, index: int) -> Embedding:
        """Encode a slice, and make what all prompts on it share: the first one waits for its decode alone."""
        embedding, predictor = self.encode(index), self.image_predictor
        predictor._image_tokens(embedding, predictor.engine)
        return embedding

    def at_hand(self, crop: Crop) -> bool:
        """Whether the embedding of a crop is in memory: it was encoded, and the cache keeps it."""
        predictor = self.image_predictor
        asked = replace(crop, window=crop.window or self.window)
        prepared = self._prepared.get((asked, predictor.engine.name, predictor.engine.precision))
        return prepared is not None and predictor.cache.holds(prepared.key)

    def _input(self, crop: Crop) -> tuple[torch.Tensor, Frame]:
        preprocess = self.image_predictor.sam.spec.preprocess
        return slice_input(self._image, self.plane, crop.index, crop.window or self.window, preprocess, crop.region)

    @cached_property
    def is_ct(self) -> bool:
        """Whether the scan holds Hounsfield units, see `is_hounsfield`."""
        return is_hounsfield(self.scan, self.modality)

    def no_contrast_note(self, indices: Iterable[int]) -> str:
        """What to say of slices that `window` left without any contrast."""
        return f"No contrast in the window {self.window.name} on {slices_named(indices)}: masks there mean nothing."

    @cached_property
    def voxels(self) -> str:
        """A digest of the scan's voxels, see `Volume.voxel_digest`; read once."""
        return self.scan.voxel_digest()

    def pixels(self, index: int) -> np.ndarray:
        """The stored slice (h, w) or (h, w, 3), in the scan's units."""
        return self.plane.take(self.scan.array, index)


def _roi(boxes: np.ndarray, frame: Frame, logits_for: LogitsFor) -> torch.Tensor | None:
    """Where the logits of boxes (P, 4) in stored pixels will be looked at, (P, 4) in model pixels; None: everywhere."""
    if logits_for == "all":
        return None
    # two pixels more, on which the end of a box may fall
    grown = _NEAR * np.tile(boxes[:, 2:] - boxes[:, :2], 2) if logits_for == "near_box" else 0
    return torch.from_numpy(frame.boxes(boxes + np.array([-1, -1, 1, 1]) * (grown + 2)))


def box_prompts(boxes: np.ndarray) -> list[SlicePrompt]:
    """Half-open boxes (P, 4) in stored pixels, a prompt each. Raises PromptError for another shape or none."""
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise PromptError(f"Boxes have shape {boxes.shape}; expected (P, 4) with P at least 1.")
    return [SlicePrompt(1, (x0, y0, x1, y1)) for x0, y0, x1, y1 in boxes.tolist()]


def is_ambiguous(prompt: SlicePrompt) -> bool:
    """Whether a prompt alone does not tell which object is meant: one click and nothing else (Kirillov et al. 2023)."""
    return prompt.box is None and prompt.mask is None and len(prompt.points) == 1
