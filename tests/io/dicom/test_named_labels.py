"""What SEG and RTSTRUCT have in common: which files are refused, and how that is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from drawn import FRAME_OF_REFERENCE, PATIENT, change, grid, loop, make_rs, make_seg, rectangle, source

from medsam.errors import InputError
from medsam.io.dicom.rtstruct import read_rtstruct
from medsam.io.dicom.seg import read_seg
from medsam.io.dicom.tree import structure_names
from medsam.masks import PackedMasks


@dataclass(frozen=True)
class Kind:
    """read: its reader. make: writes structures of these names, of equal masks. what: the file in messages."""

    read: Callable[..., PackedMasks]
    make: Callable[[Path, tuple[str, ...]], Path]
    what: str


def _seg(path: Path, names: tuple[str, ...]) -> Path:
    mask = np.random.default_rng(0).random((4, 6, 5)) < 0.4
    return make_seg(path, np.stack([mask] * len(names), axis=-1).astype(np.uint8), grid(), names)


def _rtstruct(path: Path, names: tuple[str, ...]) -> Path:
    return make_rs(path, [(name, [loop(grid(), rectangle(0.5, 1.5, 3.5, 4.5), k) for k in range(3)]) for name in names])


@pytest.fixture(
    params=[
        pytest.param(Kind(read_seg, _seg, "a DICOM SEG"), id="seg"),
        pytest.param(Kind(read_rtstruct, _rtstruct, "an RTSTRUCT"), id="rtstruct"),
    ]
)
def kind(request) -> Kind:
    return request.param


def refusal(kind: Kind, path: Path, **more) -> str:
    with pytest.raises(InputError) as caught:
        kind.read(path, grid(), **more)
    message = str(caught.value)
    assert str(path) in message
    assert not any(secret in message for secret in (PATIENT, "Secret", "4711", "19700101"))
    return message


def test_one_in_another_frame_of_reference_is_refused(kind, tmp_path):
    path = kind.make(tmp_path / "a.dcm", ("liver",))
    assert list(kind.read(path, grid(), frame_of_reference=FRAME_OF_REFERENCE)) == ["liver"]
    assert "(0020,0052) Frame of Reference UID is not the scan's" in refusal(kind, path, frame_of_reference="1.2.3")


def test_names_that_differ_by_case_and_spaces_are_one_structure(kind, tmp_path):
    path = kind.make(tmp_path / "a.dcm", ("left kidney", "spleen", "Left_Kidney "))
    read = kind.read(path, grid())
    assert list(read) == ["left kidney", "spleen"] == structure_names(path)
    assert np.array_equal(read["left kidney"], read["spleen"])
    assert len(read.notes) == 1
    assert "named 'left kidney' are read as one structure" in read.notes[0]


def test_another_kind_of_dicom_file_is_named(kind, tmp_path):
    image = source(grid())[0]
    path = tmp_path / "image.dcm"
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.save_as(path, enforce_file_format=True)
    assert f"(0008,0016) SOP Class UID is CT Image Storage; {kind.what} (" in refusal(kind, path)


def test_each_is_refused_as_the_other(tmp_path):
    seg, rtstruct = _seg(tmp_path / "seg.dcm", ("a",)), _rtstruct(tmp_path / "rs.dcm", ("a",))
    assert "is Segmentation Storage; an RTSTRUCT (" in refusal(Kind(read_rtstruct, _rtstruct, ""), seg)
    assert "is RT Structure Set Storage; a DICOM SEG (" in refusal(Kind(read_seg, _seg, ""), rtstruct)


def test_an_unknown_kind_is_not_quoted(kind, tmp_path):
    path = kind.make(tmp_path / "a.dcm", ("liver",))
    assert "SOP Class UID is unknown;" in refusal(kind, change(path, lambda d: d.__setattr__("SOPClassUID", "1.4711")))


def test_what_is_not_dicom_is_said_so(kind, tmp_path):
    path = tmp_path / "notes.dcm"
    path.write_text("not an image" * 50)
    assert f"not a DICOM file, so not {kind.what}" in refusal(kind, path)
    assert "No such file" in refusal(kind, tmp_path / "nowhere.dcm")


def test_a_file_cut_off_anywhere_is_refused(kind, tmp_path):
    whole = kind.make(tmp_path / "a.dcm", ("liver",)).read_bytes()
    cut = tmp_path / "cut.dcm"
    # the very last byte may be padding to an even length
    for length in np.linspace(0, len(whole) - 2, 70).astype(int):
        cut.write_bytes(whole[:length])
        refusal(kind, cut)
