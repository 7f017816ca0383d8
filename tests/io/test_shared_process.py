"""Readers leave the process they run in as it is: other threads log, warn and print while they read."""

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import pack, series, slices, write
from drawn import grid, make_rs, make_seg
from PIL import Image
from pydicom.data import get_testdata_file

from medsam.errors import InputError
from medsam.io.dicom.read import is_dicom
from medsam.io.dicom.series import list_series, read_dicom
from medsam.io.labels import load_labels
from medsam.io.load import load_volume
from medsam.silence import Rule, silence

ARRAY = np.arange(4 * 6 * 5, dtype=np.int16).reshape(4, 6, 5)


def nifti(folder: Path) -> Path:
    nib.save(nib.Nifti1Image(ARRAY, np.eye(4)), folder / "a.nii.gz")
    return folder / "a.nii.gz"


def text_nrrd(folder: Path) -> Path:
    nrrd.write(str(folder / "a.nrrd"), ARRAY, {"encoding": "ascii"})
    return folder / "a.nrrd"


def meta(folder: Path) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(folder / "a.mha"))
    return folder / "a.mha"


def picture(folder: Path, suffix: str, **options) -> Path:
    Image.fromarray(ARRAY[0].astype(np.uint8)).save(folder / f"a{suffix}", **options)
    return folder / f"a{suffix}"


def damaged_tiff(folder: Path) -> Path:
    """libtiff prints what is wrong with it, and Pillow raises."""
    path = picture(folder, ".tif", compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    data[8:20] = b"\xff" * 12
    path.write_bytes(data)
    return path


def npz(folder: Path) -> Path:
    np.savez_compressed(folder / "a.npz", imgs=ARRAY)
    return folder / "a.npz"


def lossless_jpeg(folder: Path) -> Path:
    (folder / "packed").mkdir()
    pack(write(folder / "plain.dcm", slices(1, dtype="uint16")[0]), folder / "packed" / "a.dcm")
    return folder / "packed"


def damaged_jpeg(folder: Path) -> Path:
    """GDCM prints that it is corrupt, and fills it in."""
    data = bytearray(Path(get_testdata_file("JPGExtended.dcm", download=False)).read_bytes())
    data[6000:6004] = b"\x55\xaa\x55\xaa"
    (folder / "a.dcm").write_bytes(data)
    return folder / "a.dcm"


def long_names(folder: Path) -> Path:
    """pydicom warns of values longer than they may be."""
    return series(folder / "ct", slices(3), Modality="CT" * 20)


def seg(folder: Path) -> Path:
    return make_seg(folder / "seg.dcm", np.ones((4, 6, 5, 1), np.uint8), grid())


def rtstruct(folder: Path) -> Path:
    square = grid().to_mm(np.array([(1, 1, 2), (3, 1, 2), (3, 4, 2), (1, 4, 2)], float))
    return make_rs(folder / "rs.dcm", {"liver" * 20: [square]})


def drawn_labels(path: Path) -> None:
    load_labels(path, geometry=grid())


@pytest.mark.parametrize(
    ("make", "read"),
    [
        pytest.param(nifti, load_volume, id="nifti"),
        pytest.param(text_nrrd, load_volume, id="nrrd"),
        pytest.param(meta, load_volume, id="mha"),
        pytest.param(npz, load_volume, id="npz"),
        *(
            pytest.param(lambda folder, suffix=suffix: picture(folder, suffix), load_volume, id=suffix[1:])
            for suffix in (".png", ".jpg", ".tif", ".bmp", ".gif")
        ),
        pytest.param(damaged_tiff, load_volume, id="damaged tiff"),
        pytest.param(lambda folder: series(folder / "ct", slices(5)), read_dicom, id="dicom"),
        pytest.param(lambda folder: series(folder / "ct", slices(5)), list_series, id="series"),
        pytest.param(lambda folder: write(folder / "a.dcm", slices(1)[0]), is_dicom, id="is_dicom"),
        pytest.param(lossless_jpeg, read_dicom, id="lossless jpeg"),
        pytest.param(damaged_jpeg, read_dicom, id="damaged jpeg"),
        pytest.param(long_names, read_dicom, id="long names"),
        pytest.param(seg, drawn_labels, id="seg"),
        pytest.param(rtstruct, drawn_labels, id="rtstruct"),
    ],
)
def test_other_threads_are_heard_and_nothing_is_left_changed(
    tmp_path: Path, make: Callable[[Path], Path], read: Callable[[Path], object], caplog, capfd
):
    with silence(Rule(), loggers=("pydicom",)):  # what writers of damaged files say of them
        path = make(tmp_path)
    refused = suppress(InputError) if "damaged" in make.__name__ else nullcontext()
    names = ("pydicom", "PIL", "pylibjpeg", "openjpeg", "nibabel")
    with refused:
        read(path)  # what is imported and set once is
    before = list(warnings.filters), [logging.getLogger(name).level for name in names], os.fstat(2).st_ino
    caplog.clear()
    capfd.readouterr()
    began, ended = threading.Event(), threading.Event()
    count, changed = 0, []

    def others() -> None:
        """Log, print and warn, as what is read may do itself, until reading has ended."""
        nonlocal count
        while not ended.is_set():
            for name in names:
                logging.getLogger(name).error("%s %d", name, count)
            os.write(2, b"line %d\n" % count)
            try:
                warnings.warn_explicit("of another thread", UserWarning, "a.py", count + 1, module="pydicom.misc")
                changed.append("a warning is lost")
            except UserWarning:
                pass
            count += 1
            began.set()
            time.sleep(0.0005)

    thread = threading.Thread(target=others)
    thread.start()
    assert began.wait(20)
    try:
        while count < 20:
            with refused:
                read(path)
    finally:
        ended.set()
        thread.join()
    after = list(warnings.filters), [logging.getLogger(name).level for name in names], os.fstat(2).st_ino
    assert after == before
    assert not changed
    assert [*caplog.messages] == [f"{name} {n}" for n in range(count) for name in names]
    assert capfd.readouterr().err == "".join(f"line {n}\n" for n in range(count))
