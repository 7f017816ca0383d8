"""Masks of a scan as label files on its own grid, and the case of a manifest that they make of it.

A label map where no two structures share a voxel, else a file for each structure: nothing is lost.
Letters: K, J, I of the scan's grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from medsam.data.manifest import Case, Label
from medsam.errors import InputError
from medsam.evaluation.tables import file_name
from medsam.geometry import VolumeGeometry
from medsam.io.label_sets import Overlap, painted
from medsam.io.save import save_labels
from medsam.io.structure_names import plain_name
from medsam.masks import PackedMasks
from medsam.store.project_records import Annotation
from medsam.volume import LabelVolume

# files of labels whose structures are found by name, not by number
_NAMED = (".dcm", ".seg.nrrd")


@dataclass(frozen=True)
class LabelFiles:
    """What was written of a scan. label: as a `Case` has it. files: all of them, without their sidecars."""

    label: Label
    files: tuple[Path, ...]


def joined_masks(annotations: Iterable[Annotation], geometry: VolumeGeometry, scan: str) -> PackedMasks:
    """Structure -> bool (K, J, I), of masks in the order of their structures. scan: its name, for messages.

    Raises InputError for a mask that does not lie on the grid.
    """
    masks = PackedMasks(geometry.shape)
    for structure, ones in groupby(annotations, key=lambda one: one.structure):
        whole = np.zeros(geometry.shape, dtype=bool)
        for one in ones:
            plane = geometry.plane(one.axis)
            if one.mask.shape != plane.shape or one.slice >= plane.count:
                raise InputError(
                    f"Scan {scan}: a mask of {structure!r} has {' x '.join(map(str, one.mask.shape))} pixels, its "
                    f"slice {one.slice} along {one.axis} {' x '.join(map(str, plane.shape))} of {plane.count}. The "
                    "scan's file is another one than it was when it was drawn on."
                )
            part = plane.take(whole, one.slice)
            part |= one.mask.to_array()
        masks.add(structure, whole)
    return masks


def write_label(
    masks: PackedMasks, numbers: Mapping[str, int], geometry: VolumeGeometry, source: Path | None, stem: Path
) -> LabelFiles:
    """STEM.nii.gz with its sidecar; of structures that share voxels STEM/STRUCTURE.nii.gz each.

    numbers: structure -> its value in the label map. source: the scan's own file or folder.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    labels = label_map(masks, numbers, geometry)
    if labels is not None:
        path = save_labels(labels, stem.with_name(f"{stem.name}.nii.gz"), source)
        return LabelFiles(path, (path,))
    stem.mkdir(exist_ok=True)
    label: dict[str, tuple[Path, ...]] = {}
    for name in masks:
        alone = LabelVolume(masks[name].astype(np.uint8), geometry, {1: name})
        label[name] = (save_labels(alone, stem / f"{file_name(name)}.nii.gz", source),)
    return LabelFiles(label, tuple(path for paths in label.values() for path in paths))


def label_map(
    masks: PackedMasks, numbers: Mapping[str, int], geometry: VolumeGeometry, overlap: Overlap = "error"
) -> LabelVolume | None:
    """One number a voxel. Every structure of `numbers` has its name there.

    overlap: which of several structures has a voxel that they share, by their numbers; with "error" there is no map of
    such, and None comes back.
    """
    array, shared = painted(masks, sorted(masks, key=lambda one: numbers[one]), numbers, geometry, overlap)
    if shared and overlap == "error":
        return None
    return LabelVolume(array, geometry, {number: name for name, number in numbers.items()})


def drawn_case(case: Case, label: Label, numbers: Mapping[str, int]) -> Case:
    """A scan's case with masks of the project in place of what it came with."""
    plain = replace(case, threshold=None, ignore=(), aliases={}, label_frame=None)
    return replace(plain, label=label, labels=dict(numbers))


def asked_case(case: Case, numbers: Mapping[str, int]) -> Case | None:
    """A labelled case with the project's structures alone, in the project's spelling; None where it has none of them.

    numbers: structure -> its value in the project's label maps.
    """
    asked = {plain_name(name): name for name in numbers}
    if isinstance(case.label, dict):
        kept = {asked[plain_name(name)]: paths for name, paths in case.label.items() if plain_name(name) in asked}
        return replace(case, label=kept, labels=dict(numbers)) if kept else None
    labels = {
        asked[plain_name(name)]: value for name, value in case.labels.items() if value and plain_name(name) in asked
    }
    if not labels or case.label is None:
        return None
    # a mask above a threshold holds no numbers, and a file with names of its own is asked by name
    numbered = case.threshold is None and not case.label.name.lower().endswith(_NAMED)
    if len(labels) < sum(value != 0 for value in case.labels.values()) and numbered:
        return replace(case, labels=labels, ignore="others")
    return replace(case, labels=labels)
