"""DICOM files: which are, how often one is opened and parsed, and what damage, bombs and locked files lead to."""

from __future__ import annotations

import errno
import os
import random
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from dicom_files import SERIES, compressed, dataset, enhanced, message, numbered, save, series, slices, write
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medsam.errors import InputError
from medsam.io.dicom import read
from medsam.io.dicom.read import is_dicom
from medsam.io.dicom.series import read_dicom
from medsam.io.dicom.tree import list_tree
from medsam.volume import Volume


def test_each_header_is_parsed_once(tmp_path, monkeypatch):
    folder = series(tmp_path / "ct", slices(4))
    (folder / "notes.txt").write_text("no scan")
    parsed = []
    real = read._parse
    monkeypatch.setattr(read, "_parse", lambda file, source: parsed.append(source.path) or real(file, source))
    read_dicom(folder)
    assert len(parsed) == len(set(parsed)) == 4


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda uid: uid.keyword)
@pytest.mark.parametrize("length", [1000, 65000, 65300, 2**16, 10**6])
def test_a_header_of_any_length_is_read(tmp_path, syntax, length):
    pixels = slices(1)[0]
    ds = dataset(pixels, syntax=syntax, RescaleSlope=1, RescaleIntercept=-7)
    ds.private_block(0x0009, "SOMEBODY", create=True).add_new(1, "OB", bytes(length))
    # behind it, what places the slice; also the first bytes may end in the middle of it
    np.testing.assert_array_equal(read_dicom(save(ds, tmp_path / "a.dcm")).array[0], pixels - 7)


def test_each_file_is_opened_at_most_twice(tmp_path, monkeypatch):
    folder = series(tmp_path / "ct", slices(4))
    opened: list[Path] = []
    real = Path.open

    def spy(self, *args, **kwargs):
        opened.append(self)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", spy)
    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: pytest.fail("opened behind our back"))
    read_dicom(folder)
    assert len(opened) == 8
    assert len(set(opened)) == 4


def test_what_is_dicom(tmp_path):
    assert is_dicom(write(tmp_path / "a", slices(1)[0]))
    for name in ("ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm"):
        assert is_dicom(Path(get_testdata_file(name, download=False)))
    (tmp_path / "text").write_text("DICM is not enough, and neither is a file of more than 132 bytes. " * 5)
    (tmp_path / "short").write_bytes(b"\x08\x00\x16\x00")
    (tmp_path / "raw").write_bytes(b"\x08\x00" * 500)
    assert not any(is_dicom(tmp_path / name) for name in ("text", "short", "raw", "missing", "."))


def test_not_dicom_and_nothing_there(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 500)
    assert message(tmp_path / "a.txt") == "a.txt is not a DICOM file."
    assert "holds no DICOM image (1 file looked at)" in message(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "empty/ holds no DICOM image (0 files looked at)" in message(tmp_path / "empty")
    assert "nowhere.dcm cannot be read" in message(tmp_path / "nowhere.dcm")


def test_an_index_is_not_a_scan():
    said = message(Path(get_testdata_file("dicomdirtests/DICOMDIR", download=False)))
    assert "DICOMDIR is a DICOMDIR, an index of other files" in said


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda uid: uid.keyword)
@pytest.mark.parametrize("name", ["im{}.dcm", "IM{:04d}"])
def test_wherever_a_slice_is_cut_off_it_is_named(tmp_path, syntax, name):
    pixels = slices(3)
    paths = [
        write(tmp_path / name.format(k), pixels[k], ImagePositionPatient=[0, 0, k], syntax=syntax) for k in range(3)
    ]
    whole = paths[-1].read_bytes()
    for size in range(0, len(whole), 3):
        paths[-1].write_bytes(whole[:size])
        for chosen in (None, SERIES):
            assert message(tmp_path, series=chosen).startswith(paths[-1].name), size


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    locked = numbered(tmp_path / "ct", "IM{:04d}")[-1]
    real = Path.open

    def denied(self, *args, **kwargs):
        if self == locked:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", denied)
    assert message(tmp_path / "ct") == "IM0005 cannot be read: Permission denied."
    with pytest.raises(InputError, match="^IM0005 cannot be read: Permission denied.$"):
        is_dicom(locked)
    tree = list_tree(tmp_path)
    assert tree.refused == ("IM0005 cannot be read: Permission denied.",)
    assert locked not in tree.series[0].files


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    numbered(tmp_path / "ct" / "a", "IM{:04d}")
    numbered(tmp_path / "ct" / "b", "IM{:04d}")
    real = os.scandir

    def denied(path):
        if Path(path).name == "b":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert message(tmp_path / "ct") == "b cannot be read: Permission denied."
    with pytest.raises(InputError, match="^b cannot be read: Permission denied.$"):
        list_tree(tmp_path / "ct")


def test_a_deflated_bomb_is_not_inflated(tmp_path):
    import zlib

    path = write(tmp_path / "a.dcm", slices(1)[0], syntax=DeflatedExplicitVRLittleEndian)
    whole = path.read_bytes()
    meta_end = 144 + int.from_bytes(whole[140:144], "little")
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = b"".join(deflate.compress(b"\0" * 2**24) for _ in range(40)) + deflate.flush()
    path.write_bytes(whole[:meta_end] + bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "made to fill the memory" in message(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


@pytest.mark.parametrize(
    "make",
    [
        lambda: dataset(slices(1, 40, 40)[0]),
        lambda: dataset(slices(1, 40, 40)[0], syntax=DeflatedExplicitVRLittleEndian),
        lambda: enhanced(slices(3, 8, 8), [(0, 0, z) for z in range(3)]),
        *(lambda syntax=syntax: compressed(syntax) for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless)),
    ],
    ids=["plain", "deflated", "enhanced", "rle", "jpegls", "jpeg2000"],
)
def test_whatever_happens_to_its_bytes_a_file_is_read_or_refused(tmp_path, make, capfd):
    whole = save(make(), tmp_path / "a.dcm").read_bytes()
    path, rng, began = tmp_path / "b.dcm", random.Random(0), time.monotonic()
    outcomes: dict[str, int] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3, 20))):
            broken[rng.randrange(132, len(broken))] = rng.choice((0, 255, rng.randrange(256)))
        if rng.random() < 0.25:
            start = rng.randrange(132, len(broken))
            del broken[start : start + rng.choice((1, 2, 50, len(broken)))]
        path.write_bytes(broken)
        try:
            outcome = type(read_dicom(path)).__name__
        except InputError as error:
            outcome = "a name" if "DOE" in str(error) else "InputError"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert set(outcomes) == {"InputError", Volume.__name__}
    assert time.monotonic() - began < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000
    assert capfd.readouterr() == ("", "")
