"""Whether a data set is all there: pydicom reads one that ends too early without a word."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.uid import DeflatedExplicitVRLittleEndian

_UNDEFINED = 0xFFFFFFFF


def is_cut_off(dataset: Dataset, size: int) -> bool:
    """Whether an element states more bytes than came. size: of the file.

    An element without a stated length that ends too early has been an error of the parser.
    """
    deflated = dataset.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    # as they were read: `get_item` would read a large one after all
    for raw in dataset.values():
        if not isinstance(raw, RawDataElement) or raw.length == _UNDEFINED:
            continue
        if raw.value is None:
            # where deflated values lie says nothing about the file; there the stream itself ends too early
            if not deflated and raw.value_tell + raw.length > size:
                return True
        elif len(raw.value) != raw.length:
            return True
    return False
