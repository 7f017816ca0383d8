"""Structures of many files under one name: by what they are called, by what they are coded as, never by a guess."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hospital import code, scan, segments, structures

from medsam.cli.main import main
from medsam.data.check import check_manifest
from medsam.data.index import IndexResult, index_folder
from medsam.data.index_dicom import TreeOptions
from medsam.data.manifest_json import read_manifest, write_manifest

LIVER, SPLEEN, KIDNEY, LUNG = "10200004", "78961009", "64033007", "39607008"
LEFT, RIGHT = "7771000", "24028007"
STANDARD = TreeOptions(vocabulary="standard")


def sided(value: str, side: str):
    return code(value, SegmentedPropertyTypeModifierCodeSequence=[code(side)])


def tree(tmp_path: Path, *files: tuple) -> Path:
    """A patient each: (kind, names, codes)."""
    for n, (kind, names, *codes) in enumerate(files):
        scan(tmp_path / f"{n}/ct", f"1.2.3.{n + 1}", patient=f"p{n}", FrameOfReferenceUID=f"1.7.{n}")
        draw = {"rs": structures, "seg": segments}[kind]
        draw(
            tmp_path / f"{n}/{kind}.dcm",
            f"1.9.{n + 1}",
            names,
            cites=[f"1.2.3.{n + 1}"],
            patient=f"p{n}",
            codes=codes[0] if codes else (),
            FrameOfReferenceUID=f"1.7.{n}",
        )
    return tmp_path


def read(found: IndexResult, tmp_path: Path) -> list[dict[str, int]]:
    """Of each case the voxels of what is there, read from the manifest as written; nothing may be wrong with it."""
    out = tmp_path / "m.json"
    write_manifest(found.manifest, out, force=True)
    assert [problem.message for problem in check_manifest(out).problems if problem.level == "error"] == []
    cases = []
    for case in read_manifest(out).cases:
        masks = case.load_references(case.load_image())
        cases.append({name: int(mask.sum()) for name, mask in masks.items() if mask.any()})
    return cases


def test_names_of_one_structure_are_one_called_as_first_met(tmp_path):
    folder = tree(
        tmp_path,
        ("rs", ["Lt Kidney", "Nier links"]),
        ("rs", ["kidney_left"]),
        ("seg", ["Left Kidney", "GTV-1"]),
        ("seg", ["LK", "gtv 1"]),
    )
    found = index_folder(folder)
    assert list(found.manifest.labels) == ["Lt Kidney", "Nier links", "GTV-1"]
    assert [sorted(case) for case in read(found, tmp_path)] == [
        ["Lt Kidney", "Nier links"],
        ["Lt Kidney"],
        *[["GTV-1", "Lt Kidney"]] * 2,
    ]
    (said,) = (remark for remark in found.remarks if "Lt Kidney" in remark)
    assert said == ("'LK' (3/seg.dcm), 'Left Kidney' (2/seg.dcm), 'kidney_left' (1/rs.dcm) are 'Lt Kidney' here")


def test_standard_names_are_those_of_the_labels_and_unknown_ones_stay(tmp_path):
    folder = tree(
        tmp_path,
        ("rs", ["Lt Kidney", "Nier links"]),
        ("rs", ["KIDNEY_L", "Heart"]),
        ("rs", ["Lt Kidney", "nier links"]),
    )
    found = index_folder(folder, tree=STANDARD)
    assert list(found.manifest.labels) == ["kidney_left", "Nier links", "heart"]
    assert [sorted(case) for case in read(found, tmp_path)] == [
        ["Nier links", "kidney_left"],
        ["heart", "kidney_left"],
        ["Nier links", "kidney_left"],
    ]
    said = " | ".join(found.remarks)
    assert "'KIDNEY_L' (1/rs.dcm), 'Lt Kidney' (2 files, e.g. 0/rs.dcm) are 'kidney_left' here" in said
    assert "2 structures, 'Nier links' (0/rs.dcm), 'nier links' (2/rs.dcm): no standard name is known" in said


@pytest.mark.parametrize("kind", ["rs", "seg"])
def test_a_code_names_what_its_name_does_not(tmp_path, kind):
    """ "Nier links" by its code and side; an old SRT code; in the SEG's sequence and the RTSTRUCT's."""
    folder = tree(
        tmp_path,
        (kind, ["Nier links", "Leber"], [sided(KIDNEY, LEFT), code("T-62000", "SRT")]),
        (kind, ["kidney_left"]),
    )
    found = index_folder(folder, tree=STANDARD)
    assert list(found.manifest.labels) == ["kidney_left", "liver"]
    assert [sorted(case) for case in read(found, tmp_path)] == [["kidney_left", "liver"], ["kidney_left"]]
    # without being asked for, a code is only told of
    plain = index_folder(folder)
    assert list(plain.manifest.labels) == ["Nier links", "Leber", "kidney_left"]
    assert any("'Leber'" in remark and "coded as liver; `vocabulary` standard" in remark for remark in plain.remarks)


@pytest.mark.parametrize("mode", ["written", "standard"])
def test_a_name_and_a_code_that_contradict_each_other_are_said_and_united_with_neither(tmp_path, mode):
    folder = tree(tmp_path, ("seg", ["liver"], [code(SPLEEN)]), ("seg", ["liver"], [code(LIVER)]), ("seg", ["spleen"]))
    found = index_folder(folder, tree=TreeOptions(vocabulary=mode))
    assert list(found.manifest.labels) == ["liver (coded as spleen)", "liver", "spleen"]
    assert [list(case) for case in read(found, tmp_path)] == [["liver (coded as spleen)"], ["liver"], ["spleen"]]
    assert found.remarks[0].startswith("0/seg.dcm: 'liver' is coded as spleen ((0062,000F)")


def test_left_and_right_contradict_each_other_too(tmp_path):
    folder = tree(tmp_path, ("seg", ["Left Kidney"], [sided(KIDNEY, RIGHT)]))
    assert list(index_folder(folder).manifest.labels) == ["Left Kidney (coded as kidney_right)"]


@pytest.mark.parametrize(
    ("name", "coded", "standard"),
    [
        ("Kidney", sided(KIDNEY, LEFT), "kidney_left"),  # the code knows the side
        ("kidney_left", code(KIDNEY), "kidney_left"),  # the name does
        ("lung_upper_lobe_left", sided(LUNG, LEFT), "lung_upper_lobe_left"),  # coded by the whole
        ("Lesion", code(LIVER), "lesion"),  # coded by where it is
        ("GTV-1", code("108369006"), "gtv_1"),  # coded by what it is, neoplasm
        ("Tumour 2", code("52988006"), "tumor_2"),  # and by what it is, more generally
        ("Segment_1", code("85756007"), "Segment_1"),  # tissue: says nothing
        ("Segment_1", code("no such code", "99LOCAL"), "Segment_1"),
    ],
)
def test_a_code_that_says_less_or_more_is_no_contradiction(tmp_path, name, coded, standard):
    folder = tree(tmp_path, ("seg", [name], [coded]))
    assert list(index_folder(folder, tree=STANDARD).manifest.labels) == [standard]
    assert list(index_folder(folder).manifest.labels) == [name]


def test_a_code_that_a_whole_file_shares_is_ignored_and_said(tmp_path):
    """As where nobody changed the default of the program."""
    folder = tree(tmp_path, ("seg", ["eins", "zwei", "spleen"], [code(LIVER)] * 3))
    found = index_folder(folder, tree=STANDARD)
    assert list(found.manifest.labels) == ["eins", "zwei", "spleen"]
    assert "are all coded as liver" in found.remarks[0]
    assert "these codes are ignored" in found.remarks[0]


def test_labels_are_a_vocabulary_by_name_and_by_code_and_all_else_is_left_out(tmp_path):
    folder = tree(
        tmp_path,
        ("rs", ["Lt Kidney", "PTV", "Leber"], [None, None, code(LIVER)]),
        ("seg", ["KIDNEY_L", "spleen"]),
        ("seg", ["spleen"]),
    )
    found = index_folder(folder, labels={"kidney_left": 7, "Liver": 3})
    assert found.manifest.labels == {"kidney_left": 7, "Liver": 3}
    assert [case.label is not None for case in found.manifest.cases] == [True, True, False]
    write_manifest(found.manifest, tmp_path / "m.json")
    cases = read_manifest(tmp_path / "m.json").cases
    drawn = [case.load_references(case.load_image()) for case in cases if case.label]
    assert [{name for name, mask in masks.items() if mask.any()} for masks in drawn] == [
        {"kidney_left", "Liver"},
        {"kidney_left"},
    ]
    said = " | ".join(found.remarks)
    assert "2 structures, 'PTV' (0/rs.dcm), 'spleen' (2 files, e.g. 1/seg.dcm): not in `labels`, left out" in said
    assert "2/seg.dcm holds no structure to keep; left out" in said


def test_a_contradiction_is_not_read_as_what_labels_ask_for(tmp_path):
    folder = tree(tmp_path, ("seg", ["liver", "spleen"], [code(SPLEEN), None]), ("seg", ["liver"]))
    found = index_folder(folder, labels={"liver": 1})
    assert [list(case) for case in read(found, tmp_path)] == [["liver (coded as spleen)"], ["liver"]]


def test_files_of_one_series_are_united_by_the_vocabulary(tmp_path):
    scan(tmp_path / "ct", "1.2.3.1")
    structures(tmp_path / "a.dcm", "1.9.1", ["Lt Kidney", "Heart"], cites=["1.2.3.1"])
    segments(tmp_path / "b.dcm", "1.9.2", ["Nier"], cites=["1.2.3.1"], codes=[sided(KIDNEY, LEFT)])
    found = index_folder(tmp_path, tree=STANDARD)
    (case,) = found.manifest.cases
    assert {name: len(paths) for name, paths in case.label.items()} == {"kidney_left": 2, "heart": 1}
    # row 1 is in both: 6 pixels of the contour, and the 8 of a row less the 3 that both have
    assert read(found, tmp_path) == [{"kidney_left": 6 + 8 - 3, "heart": 6}]


def test_on_the_command_line_with_attributes_and_a_key(tmp_path, capsys):
    folder = tree(tmp_path / "set", ("rs", ["Lt Kidney"]), ("seg", ["Leber"], [code(LIVER)]))
    out, key = tmp_path / "m.json", tmp_path / "key"
    key.write_text("ab" * 32)
    run = ["data", "index", str(folder), "--out", str(out), "--force"]
    assert (
        main([*run, "--vocabulary", "standard", "--keep", "modality,slice_thickness", "--keep", "age,institution"]) == 0
    )
    content = json.loads(out.read_text())
    assert content["labels"] == {"kidney_left": 1, "liver": 2}
    assert [case["attributes"] for case in content["cases"]] == [{"modality": "CT", "slice_thickness": 2.0}] * 2
    assert "'Leber' (1/seg.dcm) is 'liver' here" in capsys.readouterr().err
    assert main([*run, "--key", str(key)]) == 0
    assert "--vocabulary standard calls it so" in capsys.readouterr().err
    first = [case["patient"] for case in json.loads(out.read_text())["cases"]]
    assert len(set(first)) == 2
    assert all(len(name) == 16 for name in first)
    # the same person in another tree
    scan(tmp_path / "other/ct", "1.2.3.77", patient="p1")
    assert main(["data", "index", str(tmp_path / "other"), "--out", str(out), "--force", "--key", str(key)]) == 0
    assert [case["patient"] for case in json.loads(out.read_text())["cases"]] == first[1:]
    key.write_text("cd" * 32)
    assert main([*run, "--key", str(key)]) == 0
    assert not set(first) & {case["patient"] for case in json.loads(out.read_text())["cases"]}
    assert main([*run, "--keep", "PatientName"]) == 2
    capsys.readouterr()


def test_a_pseudonym_is_that_of_the_files_de_identified_with_the_same_key(tmp_path):
    from medsam.io.dicom.deidentify.keys import Pseudonyms

    scan(tmp_path / "a", "1.2.3.1", patient="4711", IssuerOfPatientID="North")
    tree_ = TreeOptions(key=b"k" * 32)
    (case,) = index_folder(tmp_path, tree=tree_).manifest.cases
    assert case.patient == Pseudonyms(b"k" * 32).name("patient", "PatientID\x004711")
    scan(tmp_path / "b", "1.2.3.2", patient="4711", IssuerOfPatientID="South")
    two = {case.patient for case in index_folder(tmp_path, tree=tree_).manifest.cases}
    assert len(two) == 2
