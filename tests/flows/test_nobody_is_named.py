"""No name, number, date or description of a patient in anything the program says or writes, but in DICOM itself.

The scans hold a marker in every element of text, date or age that the standard has. Names of structures are no secret:
who draws them is asked for names, and they are what a manifest is made of. A SEG or RTSTRUCT made from a series belongs
to its patient, and says whose it is: DICOM demands it.
"""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import drawn
import numpy as np
import pydicom
import pytest
from drawn import grid, loop, make_rs, make_seg, make_series, rectangle
from markers import DATE, MARKER, NAME, NUMBER, found_in, raw, text_elements, value_of
from pydicom.tag import Tag
from tiny_training import tiny_model

from medsam.cli.main import main
from medsam.data.index import index_folder
from medsam.errors import MedSAMError
from medsam.io.dicom.read import quiet
from medsam.io.dicom.series import list_series, read_dicom

SHAPE = (3, 24, 28)
BOX = ("--box", "1:8,6,20,16=liver")
# of all kinds that can hold a sentence, a name or a date
KINDS = ("LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE", "UR", "DA", "TM", "DT", "AS")
# what a person calls a structure
SPOKEN = frozenset(Tag(keyword) for keyword in ("SegmentLabel", "ROIName", "SpecificCharacterSet"))


def plant(ds: pydicom.Dataset, patient: str = NUMBER, *, everywhere: bool = True) -> pydicom.Dataset:
    with quiet():
        for element in text_elements(SPOKEN) if everywhere else ():
            if element.VR in KINDS:
                ds[element.tag] = element
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.StudyDate = NAME, patient, DATE, DATE
        ds.private_block(0x0029, "MAKER", create=True).add_new(1, "LO", MARKER)
    return ds


def one_patient(folder: Path, patient: str) -> None:
    """A series with its SEG and its RTSTRUCT, a bright box in it."""
    here, mask = grid(SHAPE), np.zeros(SHAPE, bool)
    mask[:2, 6:16, 8:20] = True
    images = make_series(folder / "ct", here)
    for k, image in enumerate(images):
        image.PixelData = (mask[k] * 200 + np.random.default_rng(k).integers(0, 20, SHAPE[1:])).astype("<u2").tobytes()
        # the first of a series speaks for it
        plant(image, patient, everywhere=k < 1).save_as(folder / "ct" / f"{k}.dcm", enforce_file_format=True)
    make_seg(folder / "seg.dcm", mask[..., None].astype(np.uint8), here, images=drawn_from(images))
    contours = [loop(here, rectangle(7.5, 5.5, 19.5, 15.5), k) for k in (0, 1)]

    def cite(rs: pydicom.Dataset) -> None:
        cited = pydicom.Dataset()
        cited.ReferencedSOPClassUID, cited.ReferencedSOPInstanceUID = images[1].SOPClassUID, images[1].SOPInstanceUID
        rs.StudyInstanceUID, rs.SeriesInstanceUID = images[0].StudyInstanceUID, "1.2.3.4"
        rs.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [cited]
        plant(rs, patient)

    drawn.change(make_rs(folder / "rs.dcm", {"liver": contours}), cite)


def drawn_from(images: list[pydicom.Dataset]) -> list[pydicom.Dataset]:
    """As highdicom takes them: it checks the ages and dates that are copied."""
    for image in images:
        image.PatientAge, image.PatientBirthDate = "040Y", DATE
    return images


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    with quiet():
        for number in range(2):
            one_patient(folder / f"case{number}", f"{NUMBER}{number}")
    return folder


@pytest.fixture
def medsam(tmp_path, monkeypatch, capsys, caplog):
    """Runs a command in a folder of its own; what it says names nobody. Returns its exit status."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MEDSAM_CACHE", str(tmp_path / "here" / "cache"))
    caplog.set_level(logging.DEBUG)

    def run(*words: object) -> int:
        status = main([*map(str, words)])
        said = capsys.readouterr()
        assert found_in(f"{said.out}{said.err}{caplog.text}".encode(errors="replace")) == [], words
        return status

    return run


def named_below(folder: Path) -> list[str]:
    """Files that name somebody, in their name or their content, packed or not."""
    found = []
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        content += gzip.decompress(content) if path.suffix == ".gz" else b""
        if found_in(path.relative_to(folder).as_posix().encode() + content):
            found.append(path.relative_to(folder).as_posix())
    return found


@pytest.mark.slow
def test_commands_that_read_scans_name_nobody(medsam, data, tmp_path):
    model = ("--model", tiny_model(tmp_path / "tiny.safetensors"), "--engine", "torch", "--device", "cpu")
    ct = data / "case0" / "ct"
    assert medsam("segment", ct, *BOX, "--out", "a.nii.gz", "--preview", "a.png", "--embeddings", "e", *model) == 0
    assert medsam("segment", ct, *BOX, "--out", "a.nrrd", "--json", *model) == 0
    assert medsam("segment", ct / "1.dcm", "--box", "0:8,6,20,16=liver", "--out", "a.mha", *model) == 0
    assert medsam("segment", ct, "--prompts", data / "case0" / "rs.dcm", "--out", "b.nii.gz", *model) == 0
    convert = ("convert", data / "case0" / "seg.dcm", "--source", ct, "--out")
    assert medsam(*convert, "e.nii.gz") == 0
    assert medsam(*convert, "f.mha", "--json") == 0
    everything = ("everything", ct, "--slice", 1, "--points-per-side", 2, "--labels", "c.nii.gz", "--json")
    assert medsam(*everything, *model) == 0
    assert medsam("data", "index", data, "--out", "set.json") == 0
    assert medsam("data", "check", "set.json") == 0
    assert medsam("data", "split", "set.json", "--out", "split.json", "--test", 0.5, "--val", 0) == 0
    # a manufacturer would be told: it is what was asked for
    groups = ("--by", "sex,age,slice_thickness")
    assert medsam("evaluate", "--manifest", "set.json", "--out", "ev", "--save-masks", *groups, *model) == 0
    assert medsam("embed", "--manifest", "set.json", "--out", "e2", *model) == 0
    # wrong: several series, another patient's masks, a slice that is not there
    assert medsam("segment", data, *BOX, "--out", "d.nii.gz", *model) == 2
    assert medsam("segment", ct, "--box", "9:8,6,20,16=liver", "--out", "d.nii.gz", *model) == 2
    here = Path()
    assert {"a.nii.gz", "a.png", "set.json", "ev", "e", "e2"} <= {path.name for path in here.iterdir()}
    assert named_below(here.resolve()) == []
    # the patient in order of appearance, never a number of the hospital's
    assert {case["patient"] for case in json.loads(Path("set.json").read_text())["cases"]} == {"p001", "p002"}


def said_of(work: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> str:
    """All that reading a folder says: results, errors, warnings and logs."""
    caplog.clear()
    recwarn.clear()
    said = []
    for ask in (read_dicom, list_series, index_folder):
        try:
            said.append(repr(ask(work)))
        except MedSAMError as error:
            said.append(str(error))
    return "\n".join([*said, caplog.text, *(str(one.message) for one in recwarn)])


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "keyword",
    [
        *("Modality", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
        *(
            "Rows",
            "PhotometricInterpretation",
            "ImagePositionPatient",
            "NumberOfFrames",
            "PixelSpacing",
            "RescaleSlope",
        ),
        *("SpecificCharacterSet", "ImageType", "PatientID", "RescaleType", "SeriesNumber", "BitsAllocated"),
    ],
)
def test_a_text_where_none_belongs_is_never_shown(tmp_path, caplog, recwarn, keyword):
    images = make_series(tmp_path / "ct", grid((3, 4, 5)))
    vr = pydicom.datadict.dictionary_VR(keyword)
    with quiet():
        images[1][Tag(keyword)] = raw(Tag(keyword), vr, value_of(vr))
        images[1].save_as(tmp_path / "ct" / "1.dcm")
    assert found_in(said_of(tmp_path, caplog, recwarn).encode(errors="replace")) == []


def test_a_series_whose_uid_is_a_text_is_picked_by_what_is_shown_for_it(tmp_path):
    for number, uid in enumerate(("1.2.3", MARKER)):
        images = make_series(tmp_path / str(number), grid((3, 4, 5)))
        for k, image in enumerate(images):
            with quiet():
                image[0x0020000E] = raw(0x0020000E, "UI", uid.encode() + b"\0" * (len(uid) % 2))
                image.save_as(tmp_path / str(number) / f"{k}.dcm")
    shown = {one.uid for one in list_series(tmp_path)} - {"1.2.3"}
    (stand_in,) = shown
    assert MARKER not in stand_in
    assert read_dicom(tmp_path, stand_in).array.shape == (3, 4, 5)
