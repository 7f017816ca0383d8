"""Layouts of one label file a scan: our manifest, NIfTI, DICOM SEG, nnU-Net, the Medical Segmentation Decathlon.

DIR/manifest.json, labels/SCAN.nii.gz                  ours; images stay where they are
DIR/SCAN.nii.gz, or SCAN/STRUCTURE.nii.gz              NIfTI: the latter where structures share voxels
DIR/SCAN.dcm                                           SEG, for scans that are DICOM
DIR/imagesTr/SCAN_0000.nii.gz, labelsTr/SCAN.nii.gz    nnU-Net, with dataset.json; the test side in imagesTs, labelsTs
DIR/imagesTr/SCAN.nii.gz, labelsTr/SCAN.nii.gz         Decathlon, likewise

The latter two have images of their own, written from the voxels: headers of the originals may say whose they are.
Sources: the nnU-Net documentation, dataset format; Antonelli et al. 2022 (Decathlon).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medsam.annotation.exporting.content import Asked, ScanContent
from medsam.annotation.label_files import drawn_case, label_map, write_label
from medsam.data.manifest import Case, Manifest
from medsam.data.manifest_json import case_of, document_of, manifest_text
from medsam.errors import InputError, counted
from medsam.files import write_text, write_whole
from medsam.io.algorithm import Algorithm, DicomOptions, Kind
from medsam.io.nifti import encode_nifti
from medsam.io.save import save_labels
from medsam.store.project_records import StoredScan
from medsam.volume import LabelVolume, Volume


class ManifestLayout:
    """Ours, which holds everything: overlaps, windows, attributes."""

    def suits(self, scan: StoredScan, case: Case) -> None:
        """Any."""

    def write(self, content: ScanContent, folder: Path) -> dict[str, Any]:
        stem = folder / "labels" / content.scan.name
        geometry, source = content.image.geometry, content.case.image
        written = write_label(content.masks, content.asked.numbers, geometry, source, stem)
        case = drawn_case(content.case, written.label, content.asked.numbers)
        return {"case": document_of(replace(case, notes=None))}

    def finish(self, parts: Iterable[dict[str, Any]], asked: Asked, folder: Path) -> list[str]:
        name = asked.project.asked.name
        cases = tuple(case_of(part["case"], folder, name, "a case") for part in parts)
        manifest = Manifest(name, None, dict(asked.numbers), cases, "Masks of a project of the data engine.")
        write_text(folder / "manifest.json", manifest_text(manifest, folder / "manifest.json"))
        return []


class NiftiLayout:
    """Label maps alone."""

    def suits(self, scan: StoredScan, case: Case) -> None:
        """Any."""

    def write(self, content: ScanContent, folder: Path) -> dict[str, Any]:
        geometry, source = content.image.geometry, content.case.image
        write_label(content.masks, content.asked.numbers, geometry, source, folder / content.scan.name)
        return {}

    def finish(self, parts: Iterable[dict[str, Any]], asked: Asked, folder: Path) -> list[str]:
        for _ in parts:
            pass
        return []


class SegLayout:
    """A DICOM SEG a scan, as `medsam segment` writes it, which says who made each segment."""

    def suits(self, scan: StoredScan, case: Case) -> None:
        from medsam.io.dicom.read import is_dicom

        if not case.image.is_dir() and not is_dicom(case.image):
            raise InputError(
                f"Scan {scan.name} is no DICOM, which a SEG refers to. Take `format` nifti or manifest.",
                parameter="format",
            )

    def write(self, content: ScanContent, folder: Path) -> dict[str, Any]:
        options = DicomOptions(algorithm_of(content), series=content.case.series)
        path = folder / f"{content.scan.name}.dcm"
        save_labels(content.masks, path, content.image, geometry=content.image.geometry, format="seg", options=options)
        return {}

    def finish(self, parts: Iterable[dict[str, Any]], asked: Asked, folder: Path) -> list[str]:
        for _ in parts:
            pass
        return []


def algorithm_of(content: ScanContent) -> Algorithm:
    """Who made the masks of a scan: the model of most of them; structures without any model were drawn by hand."""
    made = [(row.structure, content.makers[row.id]) for row in content.rows]
    by_model = [(name, maker) for name, maker in made if maker.model is not None]
    drawn = frozenset(name for name, _ in made) - {name for name, _ in by_model}
    if not by_model:
        return Algorithm(drawn=drawn)
    # of a model that was left alone nobody has said anything
    kind: Kind = "AUTOMATIC" if all(maker.reader is None for _, maker in by_model) else "SEMIAUTOMATIC"
    models = [(maker.model or "", maker.weights or "") for _, maker in by_model]
    name, digest = max(sorted(set(models)), key=models.count)
    return Algorithm(name, digest=digest, kind=kind, drawn=drawn)


@dataclass(frozen=True)
class _Dense:
    """What nnU-Net and the Decathlon have in common: images and label maps in folders by side.

    channel: whether names of images say which channel they are. ignored: whether slices that nobody looked at have a
    number of their own, the one after the structures'.
    """

    channel: bool
    ignored: bool

    def suits(self, scan: StoredScan, case: Case) -> None:
        """Any; overlaps and colour are found when it is read."""

    def write(self, content: ScanContent, folder: Path) -> dict[str, Any]:
        name, numbers = content.scan.name, content.asked.numbers
        labels = label_map(content.masks, numbers, content.image.geometry, content.asked.request.overlap)
        if labels is None:
            raise InputError(
                f"Scan {name}: structures share voxels, and this layout has one number a voxel. Say which of them has "
                "it, the first or the last, with `overlap`; or export them one by one (`structures`), or take `format` "
                "manifest.",
                parameter=("overlap", "structures", "format"),
            )
        shared = sum(content.masks.compact(one).area for one in content.masks) - int(np.count_nonzero(labels.array))
        known = content.known_slices()
        if known is not None and len(known) == content.image.geometry.plane(content.rows[0].axis).count:
            known = None
        if known is not None and self.ignored:
            labels = _with_ignored(labels, content, known, max(numbers.values()) + 1)
        side = "Ts" if content.scan.side == "test" else "Tr"
        images, targets = folder / f"images{side}", folder / f"labels{side}"
        images.mkdir(exist_ok=True)
        targets.mkdir(exist_ok=True)
        channels = _channels(content.image)
        if len(channels) > 1 and not self.channel:
            raise InputError(
                f"Scan {name} is in colour, which this layout has no place for. Take `format` nnunet.",
                parameter="format",
            )
        for number, array in enumerate(channels):
            image = LabelVolume(array, content.image.geometry, {})
            file = f"{name}_{number:04}.nii.gz" if self.channel else f"{name}.nii.gz"
            _write(images / file, encode_nifti(image, None, packed=True))
        _write(targets / f"{name}.nii.gz", encode_nifti(labels, None, packed=True))
        return {
            "name": name,
            "side": content.scan.side,
            "modality": content.image.modality,
            "channels": len(channels),
            "partial": known is not None,
            "shared": shared,
        }


class NnunetLayout(_Dense):
    """nnU-Net raw data, version 2. Slices that a task did not ask for have its "ignore" label."""

    def __init__(self) -> None:
        super().__init__(channel=True, ignored=True)

    def finish(self, parts: Iterable[dict[str, Any]], asked: Asked, folder: Path) -> list[str]:
        about = list(parts)
        channels = {part["channels"] for part in about}
        if len(channels) > 1:
            raise InputError(
                "Some scans are in colour and some are not; nnU-Net has one number of channels. Export them apart."
            )
        names = ["R", "G", "B"] if channels == {3} else [_one_modality(about) or "unknown"]
        labels = {"background": 0, **asked.numbers}
        if any(part["partial"] for part in about):
            labels["ignore"] = max(labels.values()) + 1
        training = [part["name"] for part in about if part["side"] != "test"]
        document = {
            "name": asked.project.asked.name,
            "channel_names": {str(number): name for number, name in enumerate(names)},
            "labels": labels,
            "numTraining": len(training),
            "file_ending": ".nii.gz",
        }
        write_text(folder / "dataset.json", json.dumps(document, indent=1) + "\n")
        val = {part["name"] for part in about if part["side"] == "val"}
        if val:
            # its own folds would put scans of one patient on two sides
            split = {"train": [name for name in training if name not in val], "val": sorted(val)}
            write_text(folder / "splits_final.json", json.dumps([split], indent=1) + "\n")
        return _shared(about, asked)


class DecathlonLayout(_Dense):
    """A Decathlon task. It has no word for slices that nobody looked at: they count as background."""

    def __init__(self) -> None:
        super().__init__(channel=False, ignored=False)

    def finish(self, parts: Iterable[dict[str, Any]], asked: Asked, folder: Path) -> list[str]:
        about = list(parts)

        def of(side: str) -> list[dict[str, str]]:
            tail = "Ts" if side == "test" else "Tr"
            return [
                {kind: f"./{kind}s{tail}/{part['name']}.nii.gz" for kind in ("image", "label")}
                for part in about
                if part["side"] == side
            ]

        document = {
            "name": asked.project.asked.name,
            "modality": {"0": _one_modality(about) or "unknown"},
            "labels": {"0": "background", **{str(number): name for name, number in asked.numbers.items()}},
            "licence": asked.request.licence or "not stated",
            "tensorImageSize": "3D",
            "numTraining": len(of("train")),
            "numTest": len(of("test")),
            "training": of("train"),
            "validation": of("val"),
            "test": of("test"),
        }
        write_text(folder / "dataset.json", json.dumps(document, indent=1) + "\n")
        partial = sum(part["partial"] for part in about)
        if not partial:
            return _shared(about, asked)
        return [
            *_shared(about, asked),
            f"{counted(partial, 'scan')} of {len(about)} {'was' if partial == 1 else 'were'} looked at on some slices "
            "alone, and this layout has no word for the others: they count as background though structures may be "
            "there. Do not train on whole volumes of it; nnU-Net's layout has such slices ignored.",
        ]


def _shared(about: Sequence[Mapping[str, Any]], asked: Asked) -> list[str]:
    """A remark on voxels that are in several structures, where there are any."""
    voxels, scans = sum(part["shared"] for part in about), sum(part["shared"] > 0 for part in about)
    if not voxels:
        return []
    lie = "is" if voxels == 1 else "are"
    return [
        f"{counted(voxels, 'voxel')} of {counted(scans, 'scan')} {lie} in several structures: "
        f"the {asked.request.overlap} of them, in the project's order, has them here."
    ]


def _with_ignored(labels: LabelVolume, content: ScanContent, known: frozenset[int], number: int) -> LabelVolume:
    plane = content.image.geometry.plane(content.rows[0].axis)
    array = labels.array.copy()
    for index in range(plane.count):
        if index not in known:
            plane.take(array, index)[...] = number
    return replace(labels, array=array)


def _channels(image: Volume) -> list[np.ndarray]:
    """(K, J, I) of each channel, in a type that NIfTI has."""
    array = image.array
    if array.dtype.kind in "iu" and array.dtype.itemsize > 4:
        array = array.astype(np.int32 if abs(array).max(initial=0) < 2**31 else np.float64)
    elif array.dtype.kind == "f" and array.dtype.itemsize < 4:
        array = array.astype(np.float32)
    array = array.astype(array.dtype.newbyteorder("="))
    return [array] if array.ndim == 3 else [array[..., channel] for channel in range(3)]


def _one_modality(about: Iterable[Mapping[str, Any]]) -> str | None:
    """The modality that all scans have, as these data sets call it."""
    found = {part["modality"] for part in about}
    only = found.pop() if len(found) == 1 else None
    return "MRI" if only == "MR" else only


def _write(path: Path, content: bytes) -> None:
    with write_whole(path) as part:
        part.write_bytes(content)
