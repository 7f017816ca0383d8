"""Labels of whole scans: manifests, label files, and what MONAI Label keeps beside its images.

MONAI Label's local datastore is DIR/datastore_v2.json: {"objects": {ID: {"image": {"ext"}, "labels": {TAG: {"ext",
"info"}}}}}, with labels in DIR/labels/TAG/ID + ext. "final" is what people submitted, "original" what it was before.
Where a client told names, they are in "info": {"label_info": [{"name", "idx"}]}.
Source: MONAI Label 0.8, monailabel/datastore/local.py (read for the format, no code taken).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from medsam.annotation.importing.matching import stem_of
from medsam.data.manifest import Case
from medsam.data.manifest_json import read_manifest
from medsam.errors import InputError
from medsam.geometry import Axis
from medsam.io.files import read_json
from medsam.io.label_sets import masks_in
from medsam.io.labels import label_kind
from medsam.masks import CompactMask
from medsam.volume import Volume

DATASTORE = "datastore_v2.json"


@dataclass(frozen=True)
class SliceMask:
    """A mask (rows, columns) of what its file calls `name`."""

    name: str
    axis: Axis
    slice: int
    mask: CompactMask


class Source(Protocol):
    """A label of a scan. where: its files, for messages. image, names, series: by which its scan is found.

    whole: whether it speaks of all slices, so that one without a mask has none.
    """

    @property
    def where(self) -> str: ...
    @property
    def image(self) -> Path | None: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def series(self) -> frozenset[str]: ...
    @property
    def whole(self) -> bool: ...

    def masks(self, scan: Volume, axis: Axis | None) -> Iterator[SliceMask]:
        """All slices that have a mask. Raises InputError, naming the file, where they do not fit the scan."""
        ...


@dataclass(frozen=True)
class ManifestSource:
    """A case of a manifest, in our layout or another's."""

    case: Case

    @property
    def where(self) -> str:
        return f"case {self.case.id}"

    @property
    def image(self) -> Path | None:
        return self.case.image

    @property
    def names(self) -> tuple[str, ...]:
        return (self.case.id,)

    @property
    def series(self) -> frozenset[str]:
        return frozenset()

    @property
    def whole(self) -> bool:
        """Not where it has a number for what nobody looked at."""
        return not self.case.ignore

    def masks(self, scan: Volume, axis: Axis | None) -> Iterator[SliceMask]:
        yield from _slices(self.case.load_references(scan), scan, axis)


@dataclass(frozen=True)
class FileSource:
    """Label files of one scan. numbers: structure -> value, where somebody said so."""

    files: tuple[Path, ...]
    numbers: Mapping[str, int] | None
    image: Path | None
    names: tuple[str, ...]

    @property
    def where(self) -> str:
        return self.files[0].name if len(self.files) == 1 else f"{self.files[0].parent.name}/"

    @property
    def series(self) -> frozenset[str]:
        """That it cites, of DICOM."""
        if label_kind(self.files[0]) not in ("seg", "rtstruct"):
            return frozenset()
        from medsam.io.dicom.tree import label_header

        header = label_header(self.files[0])
        return frozenset() if header is None else header.series

    @property
    def whole(self) -> bool:
        return True

    def masks(self, scan: Volume, axis: Axis | None) -> Iterator[SliceMask]:
        for path in self.files:
            try:
                found, _ = masks_in(path, scan, self.numbers)
            except InputError as error:
                raise error if path.name in str(error) else error.within(path.name) from error
            yield from _slices(found, scan, axis)


def manifest_sources(path: Path) -> Iterator[Source]:
    """Cases with a label."""
    for case in read_manifest(path).cases:
        if case.label is not None:
            yield ManifestSource(case)


def file_sources(paths: Sequence[Path], numbers: Mapping[str, int] | None) -> Iterator[Source]:
    """SCAN.nii.gz, SCAN.dcm, ...: called as the scan is; files in a folder of their own, SCAN/STRUCTURE.nii.gz."""
    for path in paths:
        yield FileSource((path,), numbers, None, (stem_of(path), path.parent.name))


def datastore_sources(path: Path, original: bool, numbers: Mapping[str, int] | None) -> Iterator[Source]:
    """Labels of a MONAI Label datastore. original: those of before people changed them, where there are any."""
    document = read_json(path)
    objects = document.get("objects") if isinstance(document, dict) else None
    if not isinstance(objects, dict):
        raise InputError(f'{path.name} is no datastore of MONAI Label: it has no "objects".')
    tags = ("original", "final") if original else ("final",)
    for name, entry in objects.items():
        labels = entry.get("labels") if isinstance(entry, dict) else None
        tag = next((tag for tag in tags if isinstance(labels, dict) and isinstance(labels.get(tag), dict)), None)
        if tag is None or not isinstance(labels, dict):
            continue
        label = labels[tag]
        file = _inside(path.parent / str(document.get("labels_dir") or "labels") / tag, f"{name}{label.get('ext', '')}")
        ext = entry["image"].get("ext", "") if isinstance(entry.get("image"), dict) else ""
        image = _inside(path.parent / str(document.get("images_dir") or "."), f"{name}{ext}")
        yield FileSource((file,), _told_names(label) or numbers, image, (name,))


def _told_names(label: Mapping[str, Any]) -> dict[str, int] | None:
    """The i-th name is the number i + 1 where it has none of its own."""
    info = label.get("info")
    told = info.get("label_info") if isinstance(info, dict) else None
    found: dict[str, int] = {}
    for place, one in enumerate(told if isinstance(told, list) else (), start=1):
        if isinstance(one, dict) and isinstance(one.get("name"), str) and one["name"].strip():
            number = next((one[key] for key in ("idx", "id", "labelID") if isinstance(one.get(key), int)), place)
            found[one["name"].strip()] = number
    return found or None


def _inside(folder: Path, name: str) -> Path:
    """A file of a folder, whatever a document says. Raises InputError for a name that leads out of it."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InputError(f"The name {name[:60]!r} leads out of its folder.")
    return path


def _slices(masks: Mapping[str, Any], scan: Volume, axis: Axis | None) -> Iterator[SliceMask]:
    plane = scan.geometry.plane(axis)
    for name in masks:
        mask = masks[name]
        for index in plane.touched(mask):
            yield SliceMask(name, plane.axis, index, CompactMask.of(plane.take(mask, index)))
