"""What a `Predictor` is without prompts: its heads, which find structures and answer names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TypedDict

import numpy as np

from medsam.geometry import Axis
from medsam.inference.auto import AutoSettings, answering, head_for, segment_found
from medsam.inference.by_name import NameReader
from medsam.inference.detect import detect
from medsam.inference.image_predictor import ImagePredictor
from medsam.inference.organs import OrganReader, Organs, guessed_modality, segment_organs
from medsam.inference.segmentation import Segmentation
from medsam.inference.slice_request import Zoom
from medsam.inference.worker import Priority, Worker, through_worker
from medsam.io.load import as_volume
from medsam.models.heads import Head
from medsam.models.sam import Sam
from medsam.postprocess.clean import Cleanup
from medsam.progress import ProgressCallback
from medsam.prompts.limits import Limits
from medsam.transforms.intensity import IntensityWindow
from medsam.volume import Volume

# what is taken for a scan, see `as_volume`
Scan = Volume | str | Path | np.ndarray


class Seen(TypedDict):
    """How a scan is looked at."""

    axis: Axis | None
    window: IntensityWindow | str
    modality: str | None


class PredictorHeads:
    """images: what encodes slices. heads: files or names of heads, beside those of this package. clip: a folder."""

    def __init__(
        self, images: ImagePredictor, heads: tuple[str | Path, ...] = (), clip: str | Path | None = None
    ) -> None:
        self.images, self.heads, self.clip = images, heads, clip
        self._detectors: dict[tuple[object, ...], Head] = {}
        self._answering: dict[Head, ImagePredictor] = {}

    @property
    def sam(self) -> Sam:
        return self.images.sam

    @property
    def worker(self) -> Worker | None:
        """On whose thread long methods run."""
        return self.images.worker

    @cached_property
    def names(self) -> NameReader:
        """Who answers prompts by name. Raises CheckpointError for a head that does not fit the model."""
        return NameReader(self.images, self.heads, self.clip)

    @cached_property
    def organ_reader(self) -> OrganReader:
        """Who looks for structures without a prompt. Raises CheckpointError for a head that does not fit the model."""
        return OrganReader(self.images, self.names, self.heads, self.answering)

    def detector(
        self, names: Sequence[str] | None = None, modality: str | None = None, head: str | Path | None = None
    ) -> Head:
        """The head that `find` looks with, see there; read once."""
        sources = self.heads if head is None else (head,)
        key = sources or (None if names is None else tuple(names), modality)
        if key not in self._detectors:
            self._detectors[key] = head_for(sources, self.sam, names, modality)
        return self._detectors[key]

    def answering(self, head: Head) -> ImagePredictor:
        """Who answers the boxes of a head: `images`, or one with the decoder that lies beside the head; made once."""
        if head not in self._answering:
            self._answering[head] = answering(self.images, head)
        return self._answering[head]

    @through_worker(Priority.BATCH)
    def find(
        self,
        scan: Scan,
        names: Sequence[str] | None = None,
        *,
        head: str | Path | Head | None = None,
        untested: bool = False,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
        zoom: Zoom = "auto",
        tidy: Cleanup | None = None,
        limits: Limits | None = None,
        settings: AutoSettings | None = None,
        progress: ProgressCallback | None = None,
    ) -> Segmentation:
        """Segment structures without a prompt: a detector looks at every slice, and its boxes are answered.

        names: of the structures; default all that the head knows. head: a detector's name or file; default: that of
        `heads`, or the one that medsam ships for these structures, or for this modality (`auto.head_for`). untested:
        also structures that were not measured on patients the head never saw. progress: called with (slices done,
        slices), for looking and then for answering. All else as for `segment`. The segmentation's `found` tells what
        was found, how surely, and what was not; labels are numbered by what was asked for. Raises PromptError for what
        cannot be looked for.
        """
        scan, cleanup = as_volume(scan), tidy or Cleanup()
        cleanup.check(scan.geometry.calibrated)
        if not isinstance(head, Head):
            head = self.detector(names, modality or scan.modality, head)
        scan_encoder = self.answering(head).encoder_for(scan, axis=axis, window=window, modality=modality)
        found = detect(scan_encoder, head, names, untested=untested, progress=progress)
        return segment_found(
            scan_encoder, found, head, zoom=zoom, cleanup=cleanup, limits=limits, settings=settings, progress=progress
        )

    @through_worker(Priority.BATCH)
    def organs(
        self,
        scan: Scan,
        *,
        untested: bool = False,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Organs:
        """Segment every structure that heads here were measured on and learnt from such scans, without a prompt.

        Heads that answer names and detectors are asked together; who answers a structure is the one that was measured
        best (docs/names.md). modality: default the file's, else guessed by the values. untested: also what was not
        measured on patients the head never saw; labels and notes say so. progress: called once a slice, and once more
        on slices with boxes. All else as for `segment`. Raises PromptError where nothing can be looked for.
        """
        scan = as_volume(scan)
        guessed = guessed_modality(scan, modality)
        asked = self.organ_reader.asked(guessed.name, untested=untested)
        scan_encoder = self.images.encoder_for(scan, axis=axis, window=window, modality=modality)
        return segment_organs(scan_encoder, self.organ_reader, asked, guessed, progress)
