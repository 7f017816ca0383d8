"""Elements of headers as text, whatever a damaged file has put there."""

from __future__ import annotations

import pytest
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from medsam.io.dicom.tags import modality_of, text


def with_item(item: Dataset) -> Dataset:
    found = Dataset()
    found.add(DataElement("Modality", "SQ", [item]))
    return found


def test_a_text_is_stripped_and_an_empty_one_is_none():
    found = Dataset()
    found.Modality = " CT "
    found.StudyDescription = "  "
    assert text(found, "Modality") == "CT"
    assert text(found, "StudyDescription") is None
    assert text(found, "PatientID") is None


def damaged() -> Dataset:
    """An item with an element of a kind that there is not, which is parsed when it is looked at."""
    item = Dataset()
    item[0x00200011] = RawDataElement(Tag(0x00200011), "IW", 2, b"1 ", 0, False, True)
    return item


@pytest.mark.parametrize("item", [Dataset, damaged])
def test_a_sequence_where_a_text_belongs_is_no_text(item):
    assert text(with_item(item()), "Modality") is None
    assert modality_of(with_item(item())) is None
