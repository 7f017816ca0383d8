"""A folder of many series."""

from __future__ import annotations

from dicom_files import SERIES, numbered, slices, write
from pydicom.uid import CTImageStorage

from medsam.io.dicom.series import list_series
from medsam.io.dicom.tree import list_tree


def test_a_tree_and_a_folder_agree_on_what_is_a_scan(tmp_path):
    numbered(tmp_path / "ct", "im{}.dcm")
    for n, (uid, modality) in enumerate(
        [
            ("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE"),
            ("1.2.840.10008.5.1.4.1.1.4.2", "MR"),
            ("1.2.840.10008.5.1.4.1.1.77.1.6", "SM"),
            (CTImageStorage, "SEG"),
        ]
    ):
        tags = {"SOPClassUID": uid, "Modality": modality, "SeriesInstanceUID": f"1.9.{n}"}
        write(tmp_path / "other" / f"{n}.dcm", slices(1)[0], **tags)
    assert [summary.uid for summary in list_series(tmp_path)] == [SERIES]
    assert [(one.kind, one.uid) for one in list_tree(tmp_path).series] == [("image", SERIES)]
