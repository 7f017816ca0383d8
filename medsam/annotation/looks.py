"""What the network makes of slices, kept small: by it scans are told apart, ordered, and boxes are guessed.

PROJECT/embeddings/looks/SCAN-DIGEST.npz holds a scan's slices as far as they were looked at, under a digest of all that
an embedding depends on but the pixels. A slice is looked at once for as long as the encoder stays the same.

Letters: n slices, C channels of an embedding, G cells along a side of what is kept of it.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from medsam.annotation.project import AnnotationProject
from medsam.annotation.starting import spread_slices
from medsam.files import write_whole
from medsam.geometry import Axis, View
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.image_predictor import Embedding, ScanEncoder
from medsam.inference.predictor import Predictor
from medsam.models.name_head import slice_places
from medsam.store.project_records import StoredScan
from medsam.transforms.frame import Frame

# slices by which a scan is told from others, over its middle
SLICES = 3
# cells along a side: where something lies on a slice, to a quarter of it
CELLS = 4


@dataclass(frozen=True, eq=False)
class Look:
    """A scan, as far as it was looked at.

    slices: (n,), ascending. grid: (n, C, G, G) float32, means of the embedding's parts that are no padding. blank:
    bool (n,), slices that the window left without contrast. places: (all slices, 4), see `slice_places`. frame: of
    every slice. axis: along which they are counted.
    """

    slices: np.ndarray
    grid: np.ndarray
    blank: np.ndarray
    places: np.ndarray
    frame: Frame
    axis: Axis

    def at(self, slices: Sequence[int]) -> Look:
        """Only these of the slices."""
        rows = np.searchsorted(self.slices, np.array(slices, dtype=np.int64))
        return Look(self.slices[rows], self.grid[rows], self.blank[rows], self.places, self.frame, self.axis)

    @property
    def mean(self) -> np.ndarray:
        """(C,): what kind of scan it is."""
        seen = self.grid[~self.blank] if not self.blank.all() else self.grid
        mean: np.ndarray = seen.mean(axis=(0, 2, 3))
        return mean


class Looks:
    """Looks at the scans of a project with one model; each slice is encoded at most once."""

    def __init__(self, project: AnnotationProject, predictor: Predictor) -> None:
        self.project, self.predictor = project, predictor
        self._folder = project.folder / "embeddings" / "looks"
        images = predictor.images
        told = (images.encoder_weights, predictor.engine.name, predictor.precision, project.settings.axis, CELLS)
        self.digest = hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    def encoder(self, scan: StoredScan) -> ScanEncoder:
        """The scan, read and ready to be encoded."""
        return encoder_of(self.project, scan, self.predictor)

    def of(self, scan: StoredScan, slices: Sequence[int] | None = None, encoder: ScanEncoder | None = None) -> Look:
        """These slices of a scan, by default some over its middle. encoder: of the scan, where it is at hand.

        Raises InputError where the scan cannot be read.
        """
        path = self._folder / f"{scan.key}-{self.digest}.npz"
        known = _read(path, self.predictor)
        if known is not None:
            wanted = spread_slices(len(known.places), SLICES) if slices is None else sorted(set(slices))
            if set(wanted) <= set(known.slices.tolist()):
                return known.at(wanted)
        encoder = encoder or self.encoder(scan)
        wanted = spread_slices(encoder.plane.count, SLICES) if slices is None else sorted(set(slices))
        there = set() if known is None else set(known.slices.tolist())
        new = _looked(encoder, [index for index in wanted if index not in there])
        whole = new if known is None else _together(known, new)
        self._folder.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as part:
            _write(part, whole)
        # as it will be read the next time: what is kept has fewer digits
        return (_read(path, self.predictor) or whole).at(wanted)


def encoder_of(project: AnnotationProject, scan: StoredScan, predictor: Predictor) -> ScanEncoder:
    """A scan of a project, read and ready to be encoded. Raises InputError where it cannot be read."""
    case = project.case(scan)
    return predictor.encoder_for(case.load_image(), axis=project.settings.axis, window=case.window or "auto")


def project_predictor(project: AnnotationProject, **options: Any) -> Predictor:
    """The model that answers in a project now; embeddings are kept in its folder. options: of `Predictor`."""
    name, _ = project.model()
    cache = EmbeddingCache(folder=project.folder / "embeddings")
    return Predictor(name, cache=cache, **options)


def _looked(encoder: ScanEncoder, slices: Sequence[int]) -> Look:
    preprocess = encoder.image_predictor.sam.spec.preprocess
    grids, blank = [], []
    for index in slices:
        embedding = encoder.encode(index)
        grids.append(_cells(embedding))
        blank.append(embedding.no_contrast)
    return Look(
        np.array(slices, dtype=np.int64),
        np.array(grids, dtype=np.float32),
        np.array(blank, dtype=bool),
        slice_places(encoder.scan.geometry, encoder.plane.axis),
        Frame.of(encoder.plane, preprocess),
        encoder.plane.axis,
    )


def _cells(embedding: Embedding) -> np.ndarray:
    """(C, G, G): means over equal parts of what is no padding."""
    size, (rows, columns) = embedding.frame.preprocess.size, embedding.frame.resized
    down, across = (side / size for side in embedding.features.shape[-2:])
    part = embedding.features[0, :, : max(1, math.ceil(rows * down)), : max(1, math.ceil(columns * across))]
    cells: np.ndarray = torch.nn.functional.adaptive_avg_pool2d(part.float(), CELLS).cpu().numpy()
    return cells


def _together(one: Look, other: Look) -> Look:
    slices = np.concatenate([one.slices, other.slices])
    order = np.argsort(slices, kind="stable")
    grid = np.concatenate([one.grid, other.grid])[order]
    return replace(one, slices=slices[order], grid=grid, blank=np.concatenate([one.blank, other.blank])[order])


def _write(path: Path, look: Look) -> None:
    view = look.frame.view
    with path.open("wb") as file:
        np.savez(
            file,
            slices=look.slices,
            grid=look.grid.astype(np.float16),
            blank=look.blank,
            places=look.places,
            stored=np.array(look.frame.stored),
            spacing_mm=np.array(look.frame.spacing_mm),
            view=np.array([view.transpose, view.flip_rows, view.flip_columns]),
            axis=np.array(look.axis),
        )


def _read(path: Path, predictor: Predictor) -> Look | None:
    """None where there is none, or none that can be read: it is made anew."""
    try:
        with np.load(path) as file:
            rows, columns = map(int, file["stored"])
            row_mm, column_mm = map(float, file["spacing_mm"])
            transpose, flip_rows, flip_columns = map(bool, file["view"])
            view = View(transpose, flip_rows, flip_columns)
            frame = Frame((rows, columns), (row_mm, column_mm), view, predictor.sam.spec.preprocess)
            grid, axis = file["grid"].astype(np.float32), cast(Axis, str(file["axis"]))
            return Look(file["slices"], grid, file["blank"], file["places"], frame, axis)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
