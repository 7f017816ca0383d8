"""Whether a data set is all there: pydicom reads one that ends too early without a word."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medsam.errors import InputError

_UNDEFINED = 0xFFFFFFFF


def cut_off_within(dataset: Dataset, size: int | None = None) -> BaseTag | None:
    """The element that states more bytes than came; None when all is there.

    size: of the file, where large values were left in it (`defer_size`). An element without a stated length that ends
    too early has been an error of the parser.
    """
    # as they were read: `get_item` would read a large one after all
    for raw in dataset.values():
        if not isinstance(raw, RawDataElement) or raw.length == _UNDEFINED:
            continue
        if raw.value is not None:
            if len(raw.value) != raw.length:
                return raw.tag
        # where deflated values lie says nothing about the file; there the stream itself ends too early
        elif size is not None and raw.value_tell + raw.length > size and not _is_deflated(dataset):
            return raw.tag
    return None


def check_whole(dataset: Dataset, whose: str) -> None:
    """Raise InputError when a data set ends before its last element does."""
    if (tag := cut_off_within(dataset)) is not None:
        raise InputError(f"An image of {whose} is cut off within {tag}.")


def _is_deflated(dataset: Dataset) -> bool:
    return bool(dataset.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian)
