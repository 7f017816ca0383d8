"""A manifest: the list of cases that training and evaluation work through.

Here is what one is; `manifest_json` reads and writes it, and reads other layouts through `foreign`.
No manifest may have train, validation and test cases that share a patient: a number measured on such a split means
nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from medsam.errors import InputError, counted
from medsam.geometry import VolumeGeometry
from medsam.io.label_map import Ignore
from medsam.io.labels import load_labels, read_mask
from medsam.io.load import load_volume
from medsam.masks import PackedMasks
from medsam.volume import Volume

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Label = Path | dict[str, tuple[Path, ...]]


@dataclass(frozen=True)
class Case:
    """One scan and its reference.

    id: unique in the manifest and fit for a file name. patient: whose scan it is; the id when none is given, and then
        patient_stated is False.
    label: a file, or structure -> files of binary masks (several files of one structure are joined).
    split: None when not assigned. modality: DICOM code; overrides what the file says. window: as for
        `medsam segment --window`. spacing_mm: (i, j, k); overrides the file's.
    labels: structure -> value in the label map. dataset: the manifest's name.
    attributes: of the scan or the person, by which results can be told apart, see `medsam.data.attributes`.
    threshold, ignore, aliases: see `medsam.io.labels.load_labels`. series, frame: see `load_volume`.
    """

    id: str
    patient: str
    image: Path
    label: Label | None
    split: Split | None
    modality: str | None
    window: str | None
    spacing_mm: tuple[float, float, float] | None
    labels: dict[str, int]
    dataset: str
    threshold: float | None = None
    ignore: Ignore = ()
    aliases: dict[str, str] = field(default_factory=dict)
    series: str | None = None
    frame: int | None = None
    label_frame: int | None = None
    notes: str | None = None
    # in no `repr`: a case whose attributes change is not measured again
    attributes: Mapping[str, str | float] = field(default_factory=dict, repr=False)
    patient_stated: bool = field(default=True, compare=False, repr=False)

    def load_image(self) -> Volume:
        """The scan, with the case's modality and spacing in place of the file's. Raises InputError naming the case."""
        try:
            volume = load_volume(self.image, series=self.series, frame=self.frame)
            if self.spacing_mm is not None:
                volume = replace(volume, geometry=respaced(volume.geometry, self.spacing_mm))
        except InputError as error:
            raise error.within(f"Case {self.id}, image") from error
        return replace(volume, modality=self.modality) if self.modality else volume

    def load_references(self, scan: Volume) -> Mapping[str, np.ndarray]:
        """Structure -> bool (K, J, I) on the grid of `scan`, as `load_image` returned it.

        Every structure of `labels` (of a mapping: every structure it names) is there; one the file does not hold
        is all False. Masks are made when asked for: a hundred organs need the memory of one. What the user should
        know of the reading is in `medsam.io.labels.notes_on` the answer.
        Raises InputError naming the case.
        """
        geometry = scan.geometry
        if self.spacing_mm is not None:
            # the header is declared wrong, so only shapes can be compared
            geometry = VolumeGeometry.uncalibrated(geometry.shape)
        frame_of_reference = scan.uids.get("frame_of_reference")
        try:
            if self.label is None:
                raise InputError("it has no label.")
            if not isinstance(self.label, dict):
                return load_labels(
                    self.label,
                    geometry,
                    self.labels or None,
                    frame_of_reference=frame_of_reference,
                    images=scan.images,
                    threshold=self.threshold,
                    ignore=self.ignore,
                    aliases=self.aliases,
                    frame=self.label_frame,
                )
            return self._masks_of_files(self.label, geometry, scan)
        except InputError as error:
            raise error.within(f"Case {self.id}, label") from error

    def _masks_of_files(
        self, label: Mapping[str, tuple[Path, ...]], geometry: VolumeGeometry, scan: Volume
    ) -> PackedMasks:
        """A mask a structure, of files that hold one each. geometry: what their grids are compared with."""
        masks, opened = PackedMasks(scan.geometry.shape), dict[Path, PackedMasks]()
        for name, paths in label.items():
            for path in paths:
                notes: list[str] = []
                mask = read_mask(
                    path,
                    geometry,
                    structure=name,
                    frame_of_reference=scan.uids.get("frame_of_reference"),
                    images=scan.images,
                    threshold=self.threshold,
                    aliases=self.aliases,
                    frame=self.label_frame,
                    notes=notes,
                    opened=opened,
                )
                masks.add(name, mask, notes)
            if len(paths) > 1:
                masks.add(name, None, [f"{name!r} is joined from {len(paths)} files."])
        return masks

    def fingerprint(self) -> str:
        """A digest of all that may change what is read: this entry, and its files' names, sizes and times."""
        files = [file for path in self.files for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
        marks = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
        return hashlib.sha256(repr((self, marks)).encode()).hexdigest()

    @property
    def files(self) -> tuple[Path, ...]:
        """The image and every label file."""
        return (self.image, *self.label_files)

    @property
    def label_files(self) -> tuple[Path, ...]:
        """Every file its label is in."""
        if self.label is None:
            return ()
        return (
            tuple(path for paths in self.label.values() for path in paths)
            if isinstance(self.label, dict)
            else (self.label,)
        )

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures this case's label may hold."""
        if isinstance(self.label, dict):
            return tuple(self.label)
        return tuple(name for name, value in self.labels.items() if value != 0)


@dataclass(frozen=True)
class Manifest:
    """Cases of one data set. modality: of all its cases, or None. labels: structure -> value, of all its cases."""

    name: str
    modality: str | None
    labels: dict[str, int]
    cases: tuple[Case, ...]
    notes: str | None = None

    def in_split(self, split: Split) -> tuple[Case, ...]:
        """The cases of one side of the split."""
        return tuple(case for case in self.cases if case.split == split)


def check_files(needed: Iterable[tuple[str, Path]]) -> None:
    """Raise InputError naming the files that are not there. needed: (case, file)."""
    missing = [f"{case}: {path}" for case, path in needed if not path.exists()]
    if missing:
        files = counted(len(missing), "file of the manifest is", "files of the manifest are")
        raise InputError(
            f"{files} missing: {'; '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}. See medsam data check."
        )


def cross_case_problems(manifest: Manifest) -> Iterator[str]:
    """Sentences on ids used twice and patients in two splits."""
    seen: dict[str, Case] = {}
    for case in manifest.cases:
        if case.id in seen:
            yield f"two cases have the id {case.id!r} (images {seen[case.id].image.name} and {case.image.name})."
        seen.setdefault(case.id, case)
    # ids become file names, and some disks do not tell case apart
    folded: dict[str, str] = {}
    for name in seen:
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            yield f"the ids {other!r} and {name!r} differ in case only; on some disks that is one file."
    splits: dict[str, dict[str, Case]] = {}
    for case in manifest.cases:
        if case.split is not None:
            splits.setdefault(case.patient, {}).setdefault(case.split, case)
    for patient, parts in splits.items():
        if len(parts) > 1:
            where = ", ".join(f"{split} (case {case.id})" for split, case in parts.items())
            yield (
                f"patient {patient!r} is in {len(parts)} splits: {where}. "
                "Train, validation and test must not share a patient; `medsam data split` keeps them apart."
            )


def respaced(geometry: VolumeGeometry, spacing_mm: tuple[float, float, float]) -> VolumeGeometry:
    """A grid with another distance (i, j, k) between its voxels, whose first one stays where it is."""
    affine = geometry.affine.copy()
    affine[:3, :3] *= np.asarray(spacing_mm) / geometry.spacing_mm[::-1]
    return VolumeGeometry(geometry.shape, affine)
