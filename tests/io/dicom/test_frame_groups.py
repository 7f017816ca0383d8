"""The end of a SEG that is encoded here is, byte for byte, what pydicom would write."""

from __future__ import annotations

from io import BytesIO

import pytest
from dicom_files import item
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SegmentationStorage

from medsam.errors import InputError
from medsam.io.dicom.frame_groups import MOST_BYTES, FrameGroups, check_size, write_seg


def head(syntax: str) -> Dataset:
    seg = item(SOPClassUID=SegmentationStorage, SOPInstanceUID="1.2.3", BitsAllocated=8, Rows=2, Columns=2)
    seg.file_meta = FileMetaDataset()
    seg.file_meta.TransferSyntaxUID = syntax
    seg.file_meta.MediaStorageSOPClassUID, seg.file_meta.MediaStorageSOPInstanceUID = SegmentationStorage, "1.2.3"
    return seg


DERIVATION = {k: item(SourceImageSequence=[item(ReferencedSOPInstanceUID=f"1.2.{k}")]) for k in (2, 5)}
POSITION = {k: item(ImagePositionPatient=["0.5", "-1", str(k)]) for k in (2, 5)}


@pytest.mark.parametrize("segments", [(None, None), (1, 1), (1, 300)])
@pytest.mark.parametrize("encapsulated", [False, True])
def test_groups_and_pixels_are_as_pydicom_writes_them(segments, encapsulated):
    syntax = RLELossless if encapsulated else ExplicitVRLittleEndian
    pixels = encapsulate([b"\1\2\3\4", b"\5\6"]) if encapsulated else b"\1\2\3"
    groups, expected = FrameGroups(DERIVATION, POSITION), head(syntax)
    expected.PerFrameFunctionalGroupsSequence = []
    for rank, (k, segment) in enumerate(zip((2, 5), segments, strict=True), start=1):
        groups.add(k, segment)
        frame = item(
            DerivationImageSequence=[DERIVATION[k]],
            FrameContentSequence=[item(DimensionIndexValues=[segment, rank] if segment else [rank])],
            PlanePositionSequence=[POSITION[k]],
        )
        if segment:
            frame.SegmentIdentificationSequence = [item(ReferencedSegmentNumber=segment)]
        expected.PerFrameFunctionalGroupsSequence.append(frame)
    expected.NumberOfFrames = 2
    expected.PixelData = pixels + bytes(len(pixels) % 2)
    expected["PixelData"].VR = "OB"
    expected["PixelData"].is_undefined_length = encapsulated
    file = BytesIO()
    dcmwrite(file, expected, enforce_file_format=True)
    parts = [pixels] if encapsulated else [pixels[:1], pixels[1:]]
    assert write_seg(head(syntax), groups, parts, encapsulated=encapsulated) == file.getvalue()


def test_what_no_element_can_hold_is_refused():
    check_size(MOST_BYTES)
    with pytest.raises(InputError, match=r"4\.0 GB of pixels"):
        check_size(MOST_BYTES + 1)
