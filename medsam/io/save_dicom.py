"""Labels -> DICOM SEG or RTSTRUCT, derived from the DICOM scan they were drawn on. pydicom waits until it is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.algorithm import DICOM_FORMATS, DicomFormat, DicomOptions
from medsam.io.structure_names import plain_name, structure_of_each
from medsam.masks import CompactMask, PackedMasks
from medsam.volume import LabelVolume

if TYPE_CHECKING:
    from medsam.io.dicom.derive import DicomSource, SourceImages


def images_for(
    source: DicomSource | None, geometry: VolumeGeometry, kind: DicomFormat, options: DicomOptions
) -> SourceImages:
    """The images that the object will refer to.

    Raises InputError when there is no source, it is not DICOM, its images lie on another grid or have no place in the
    patient, for an unknown format, and for options that the format has not.
    """
    if kind not in DICOM_FORMATS:
        raise InputError(f"A .dcm is written as {', '.join(DICOM_FORMATS)}, not as {kind!r}.", parameter="format")
    if kind != "rtstruct" and (options.keyhole or options.tps):
        name = "keyhole" if options.keyhole else "tps"
        raise InputError(
            f"`{name}` is about the contours of an RTSTRUCT: `format` rtstruct.", parameter=(name, "format")
        )
    if source is None:
        raise InputError(
            "A .dcm refers to the images that the labels were drawn on, and none are known: give `save_labels` the "
            "DICOM scan as `source`, or write .nii.gz, .nrrd or .mha.",
            parameter="source",
        )
    from medsam.io.dicom.derive import source_images
    from medsam.io.dicom.tags import named

    images = source_images(source, geometry, options.series)
    if images.plane is None:
        raise InputError(
            f"A DICOM SEG or RTSTRUCT lies in the patient, and the images of this scan state no place there "
            f"({named('ImagePositionPatient')}), as radiographs and ultrasound clips do not. Write .nii.gz, or .png "
            "for one picture."
        )
    return images


def encode_dicom(
    masks: Mapping[str, CompactMask], images: SourceImages, kind: DicomFormat, options: DicomOptions
) -> bytes:
    """The file. masks: (K, J, I) of the images, by name; all else as `images_for` has checked it."""
    if kind == "rtstruct":
        from medsam.io.dicom.rtstruct_write import RtstructOptions, encode_rtstruct

        rtstruct = RtstructOptions(options.keyhole, options.tps, options.remarks)
        return encode_rtstruct(masks, images, options.algorithm, rtstruct)
    from medsam.io.dicom.seg_write import SegOptions, encode_seg

    return encode_seg(masks, images, options.algorithm, SegOptions(kind == "seg-labelmap", options.remarks))


def naming_notes(
    names: Iterable[str], images: SourceImages, kind: DicomFormat, options: DicomOptions
) -> tuple[str, ...]:
    """What to know of the object before it is written: what was made up, whose name is another there, or one of two."""
    listed = [*names]
    if kind == "rtstruct":
        from medsam.io.dicom.rtstruct_write import RtstructOptions, naming_notes

        return (*images.notes, *naming_notes(listed, RtstructOptions(options.keyhole, options.tps)))
    from medsam.io.dicom.seg_write import naming_notes as segment_notes

    return (*images.notes, *segment_notes(listed), *_alike(listed))


def _alike(names: Sequence[str]) -> list[str]:
    """What to know of segments that readers join."""
    pairs = dict.fromkeys(zip(names, structure_of_each(names), strict=True))
    return [
        f"{name!r} and {other!r} are one name to readers (case, spaces, - and _ aside), and so one structure."
        for name, other in pairs
        if plain_name(name) and name.strip() != other
    ]


# -- labels of either kind ----------------------------------------------------------------------------------


def compact_masks(
    labels: LabelVolume | Mapping[str, np.ndarray], shape: tuple[int, int, int]
) -> dict[str, CompactMask]:
    """Structure -> mask, by number, or in the order of the mapping. Numbers of one name are one structure.

    shape: (K, J, I) of the grid. Raises InputError for a mask that does not fit it.
    """
    if isinstance(labels, LabelVolume):
        return _by_number(labels)
    masks: dict[str, CompactMask] = {}
    for name in labels:
        if isinstance(labels, PackedMasks):
            masks[name] = labels.compact(name)
            check_shape(name, masks[name].shape, shape)
        else:
            mask = labels[name]
            check_mask(name, mask, shape)
            masks[name] = CompactMask.of(mask)
    return masks


def check_mask(name: str, mask: np.ndarray, shape: tuple[int, int, int]) -> None:
    """Raise InputError when a mask is not bool of this shape."""
    check_shape(name, np.shape(mask), shape)
    if np.asarray(mask).dtype != bool:
        raise InputError(f"The mask of {name!r} is {np.asarray(mask).dtype}, not bool.")


def check_shape(name: str, found: tuple[int, ...], shape: tuple[int, int, int]) -> None:
    if found != shape:
        raise InputError(f"The mask of {name!r} has the shape {found}, its grid {shape} (K, J, I).")


def _by_number(labels: LabelVolume) -> dict[str, CompactMask]:
    masks: dict[str, CompactMask] = {}
    shape = labels.geometry.shape
    parts = dict(enumerate(ndimage.find_objects(labels.array), start=1))
    for number in sorted({*labels.names, *(number for number, part in parts.items() if part is not None)}):
        name, part = labels.names.get(number, f"label {number}"), parts.get(number)
        mask = CompactMask.empty(shape)
        if part is not None:
            mask = CompactMask.of(labels.array[part] == number, shape, tuple(at.start for at in part))
        masks[name] = masks[name] | mask if name in masks else mask
    return masks
