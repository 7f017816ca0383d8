import subprocess
import sys
from pathlib import Path

import pytest

from medsam.errors import InputError
from medsam.io.formats import ENCODERS, FORMATS, META, NIFTI, NPZ, NRRD, PICTURE, check_content, format_of, suffix_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.nii", NIFTI),
        ("A.NII.GZ", NIFTI),
        ("a.hdr", NIFTI),
        ("a.seg.nrrd", NRRD),
        ("a.nhdr", NRRD),
        ("a.mhd", META),
        ("a.JPEG", PICTURE),
        ("a.npz", NPZ),
        ("a.dcm", None),
        ("a.gz", None),
        ("nii", None),
    ],
)
def test_a_name_tells_the_format(name, expected):
    assert format_of(Path(name)) is expected


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("ct.nii.gz", ".nii.gz"),
        ("CT.NII.GZ", ".NII.GZ"),
        ("ct.v2.nii", ".nii"),
        ("study.zip", ".zip"),
        ("IM.dcm", ".dcm"),
        ("1.2.840.5", ""),
        ("ct", ""),
        (".nii.gz", ""),
    ],
)
def test_a_suffix_is_one_we_know(name, suffix):
    assert suffix_of(Path(name)) == suffix


def test_a_suffix_belongs_to_one_format():
    suffixes = [suffix for one in FORMATS for suffix in one.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert set(ENCODERS) <= set(suffixes)
    assert list(ENCODERS) == [".nii.gz", ".nii", ".nrrd", ".mha", ".png"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"NRRD0005\n", r"is an NRRD file, whatever its name says\. Rename it to \*\.nrrd"),
        (bytes(344) + b"n+1\0", r"is a NIfTI file, .* Rename it to \*\.nii\."),
        (bytes(128) + b"DICM", r"is a DICOM file, .* Rename it to \*\.dcm"),
        (b"\x89HDF\r\n\x1a\n", r"is an HDF5 file \(MINC or Matlab\), .* Convert it to \.nii\.gz"),
    ],
)
def test_content_of_another_kind_is_named(tmp_path, content, said):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=said):
        check_content(tmp_path / "a.npz", NPZ)


def test_within_a_format_the_content_decides(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\xff\xd8\xff")
    check_content(tmp_path / "a.png", PICTURE)


def test_the_table_imports_no_reader():
    code = (
        "import sys, medsam.io.formats; print(*sorted(name for name in sys.modules if name.startswith('medsam.io.')))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["medsam.io.formats"]
