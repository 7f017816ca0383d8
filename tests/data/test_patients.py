"""Every case gets a patient: what is stated stays, what is not is found, and what looks wrong is said."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medsam.data.manifest import Case
from medsam.data.patients import assign, doubts
from medsam.io.dicom.tree import patient_digest


def case(path: str, patient: str | None = None, split=None, name: str | None = None) -> Case:
    name = name or path.replace("/", "_")
    return Case(
        id=name,
        patient=patient or name,
        image=Path("/set") / path,
        label=None,
        split=split,
        modality=None,
        window=None,
        spacing_mm=None,
        labels={},
        dataset="set",
        patient_stated=patient is not None,
    )


def patients(cases, **more) -> dict[str, str]:
    return {one.id: one.patient for one in assign(cases, **more).cases}


def dicom(path: Path, **tags: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.Rows = dataset.Columns = 1
    dataset.PixelData = np.zeros(1, np.uint16).tobytes() + b"\0\0"
    dataset["PixelData"].VR = "OW"
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_folder_of_one_person_is_one_patient():
    found = assign([case("STS_002/CT.nii"), case("STS_002/PET.nii"), case("STS_003/CT.nii")])
    assert [one.patient for one in found.cases] == ["STS_002", "STS_002", "STS_003_CT.nii"]
    assert all(one.patient_stated for one in found.cases)
    assert found.joined == {"STS_002": (0, 1)}
    assert found.remarks == (
        "2 cases joined by their folder to 1 patient, e.g. STS_002: STS_002_CT.nii, STS_002_PET.nii; where that is "
        "wrong, write `patient` into the manifest",
    )


def test_a_guess_is_called_a_guess():
    names = [f"{volume}_{number}.png" for volume in (3, 5, 12) for number in range(3)]
    assert (
        "9 cases joined by the first of two numbers in their name (a guess) to 3"
        in assign(list(map(case, names))).remarks[0]
    )


def test_what_is_stated_stays_and_takes_in_what_goes_with_it():
    found = patients([case("P1/CT.nii", "doe"), case("P1/PET.nii"), case("P2/CT.nii", "a"), case("P2/PET.nii", "b")])
    assert found == {"P1_CT.nii": "doe", "P1_PET.nii": "doe", "P2_CT.nii": "a", "P2_PET.nii": "b"}


def test_ids_are_names_too_where_files_say_nothing():
    cases = [case("a/scan.nii", name="STS_002_CT"), case("b/scan.nii", name="STS_002_PET")]
    assert set(patients(cases).values()) == {"STS_002"}
    assert len(set(patients(cases, folder=Path("/set")).values())) == 2  # made from paths, they say nothing more


def test_nobody_takes_the_name_of_another():
    found = assign([case("P1_a.nii", "P1"), case("x/P1_CT.nii"), case("x/P1_PET.nii")])
    assert [one.patient for one in found.cases] == ["P1", "x_P1", "x_P1"]
    found = assign([case("a.nii", "b.nii"), case("b.nii")])
    assert [one.patient for one in found.cases] == ["b.nii", "b.nii_2"]


def test_one_patient_id_is_one_person(tmp_path):
    files = [
        dicom(tmp_path / "x1/a.dcm", PatientID="77"),
        dicom(tmp_path / "y2/b.dcm", PatientID="77"),
        dicom(tmp_path / "P5_T1.dcm", PatientID="8"),
        dicom(tmp_path / "P5_T2.dcm", PatientID="9"),
    ]
    cases = [replace(case(f"c{n}"), image=path) for n, path in enumerate(files)]
    found = assign(cases)
    assert [one.patient for one in found.cases] == ["c0", "c0", "c2", "c3"]
    assert "2 cases joined by their Patient ID to 1 patient" in found.remarks[0]
    assert "77" not in " ".join(found.remarks)


@pytest.mark.parametrize("nobody", ["", "ANONYMOUS", "anon", "0", "000", "Anonymized^", "unknown"])
def test_an_anonymous_id_tells_nobody_apart(tmp_path, nobody):
    assert patient_digest(dicom(tmp_path / "a.dcm", PatientID=nobody)) is None
    assert patient_digest(dicom(tmp_path / "b.dcm", PatientID=nobody, PatientName="DOE^JANE")) is not None


def test_a_digest_is_of_the_first_dicom_file_and_none_of_others(tmp_path):
    dicom(tmp_path / "series/1.dcm", PatientID="ANON0012")
    (tmp_path / "series/0.txt").write_text("no scan")
    assert patient_digest(tmp_path / "series") == patient_digest(tmp_path / "series/1.dcm") is not None
    assert patient_digest(tmp_path / "series/0.txt") is None
    assert patient_digest(tmp_path / "nowhere") is None


def test_doubts_of_a_manifest_without_patients():
    cases = [case("STS_002/CT.nii", split="train"), case("STS_002/PET.nii", split="test"), case("STS_003/CT.nii")]
    assert doubts(cases) == [
        (
            "STS_002_PET.nii",
            "2 cases without `patient` look like scans of 1 person; 1 of them in several splits, e.g. STS_002: "
            "STS_002_PET.nii (test), STS_002_CT.nii (train). Each counts as a patient of its own. `medsam data split` "
            "joins them; `patient` in the manifest overrules.",
        )
    ]


def test_doubts_of_patients_that_look_like_one():
    (doubt,) = doubts([case("P1_left.nii", "a"), case("P1_right.nii", "b"), case("P2_left.nii", "c")])
    assert doubt[1].startswith("1 person, by folder and name, counted as several patients, e.g. P1: P1_left.nii, ")
    assert doubts([case("P1_left.nii", "a"), case("P1_right.nii", "a")]) == []


def test_namesakes_are_doubts_in_two_splits_only():
    cases = [case(f"{kind}/{n}/a.nii", f"{kind}{n}", "train") for kind in ("CT", "MR") for n in (1, 2)]
    assert doubts(cases) == []
    (doubt,) = doubts([*cases[:3], replace(cases[3], split="test")])
    assert "1 of them in several splits, e.g. CT_2_a.nii: MR_2_a.nii (test), CT_2_a.nii (train)" in doubt[1]


def test_no_cases_no_doubts():
    assert doubts([]) == []
    assert assign([]).cases == ()


NAMES = ["P1/CT.nii", "P1/PET.nii", "P2_T1.nii", "P2_T2.nii", "img_1.png", "img_2.png", "3_1.png", "3_2.png", "4_1.png"]


@settings(max_examples=30, deadline=None)
@given(
    stated=st.dictionaries(st.sampled_from(NAMES), st.sampled_from("abc"), max_size=4),
    names=st.sets(st.sampled_from(NAMES), min_size=1),
    seed=st.integers(0, 99),
)
def test_patients_do_not_depend_on_the_order_of_cases(stated, names, seed):
    cases = [case(name, stated.get(name)) for name in sorted(names)]
    shuffled = random.Random(seed).sample(cases, len(cases))
    assert patients(cases) == patients(shuffled)
    assert all(patients(cases)[one.id] == one.patient for one in cases if one.patient_stated)
