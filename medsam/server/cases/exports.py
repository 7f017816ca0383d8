"""The masks of a session as a file: encoded in a process, with a digest, under a name that says nothing of anybody."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.algorithm import DicomFormat, DicomOptions
from medsam.io.save import encode_labels
from medsam.masks import PackedMasks
from medsam.server.cases.found import ScanFiles, as_shown
from medsam.volume import LabelVolume

ExportFormat = Literal["raw", "nifti", "nrrd", "mha", "png", "seg", "seg-labelmap", "rtstruct", "csv"]
_SUFFIXES: Mapping[str, str] = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha", "png": ".png"}
_MEDIA: Mapping[str, str] = {
    ".nii.gz": "application/gzip",
    ".png": "image/png",
    ".dcm": "application/dicom",
    ".csv": "text/csv",
}
# of every format
MEDIA_TYPES = ("application/octet-stream", *_MEDIA.values())


@dataclass(frozen=True)
class Export:
    """A file. digest: sha256 of its content, hexadecimal."""

    content: bytes
    suffix: str
    digest: str

    @property
    def media_type(self) -> str:
        return _MEDIA.get(self.suffix, "application/octet-stream")

    def headers(self, session: str) -> dict[str, str]:
        """Its name, of which the session's key is a part, and its digest (RFC 9530)."""
        packed = base64.b64encode(bytes.fromhex(self.digest)).decode()
        return {
            "Content-Disposition": f'attachment; filename="labels-{session[:8]}{self.suffix}"',
            "Repr-Digest": f"sha-256=:{packed}:",
        }


def table(text: str) -> Export:
    """A table as a file."""
    content = text.encode()
    return Export(content, ".csv", hashlib.sha256(content).hexdigest())


def encode(
    files: ScanFiles,
    labels: LabelVolume | PackedMasks,
    geometry: VolumeGeometry,
    format: ExportFormat,  # noqa: A002
    options: DicomOptions,
) -> Export:
    """Labels as a file of a format, made from the case's own files, in a process. geometry: of the labels.

    Raises InputError as `encode_labels` does, also where a DICOM format is asked for and the case is none.
    """
    try:
        content, suffix = _encoded(files, labels, geometry, format, options)
    except InputError as error:
        raise as_shown(error, files) from None
    return Export(content, suffix, hashlib.sha256(content).hexdigest())


def _encoded(
    files: ScanFiles,
    labels: LabelVolume | PackedMasks,
    geometry: VolumeGeometry,
    format: ExportFormat,  # noqa: A002
    options: DicomOptions,
) -> tuple[bytes, str]:
    paths = files.checked()
    if format in _SUFFIXES:
        suffix = _SUFFIXES[format]
        return encode_labels(labels, suffix, _one_file(paths)), suffix
    if files.case.kind != "dicom":
        raise InputError(
            "A DICOM SEG or RTSTRUCT refers to the DICOM images it was drawn on, and this case is none. Take `format` "
            "nifti, nrrd or mha.",
            parameter="format",
        )
    kind: DicomFormat = format  # type: ignore[assignment]
    names = files.case.files
    source = paths[0] if names is None else dict(zip(names, paths, strict=True))
    options = replace(options, series=files.case.series)
    return encode_labels(labels, ".dcm", source, geometry=geometry, format=kind, options=options), ".dcm"


def _one_file(paths: list[Path]) -> Path | None:
    return paths[0] if len(paths) == 1 and paths[0].is_file() else None
