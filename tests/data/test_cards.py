"""Cards: all of them are sound, and recipes build the manifests of real folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_sets as scans
import yaml

from medsam.data import cards
from medsam.data.cards import build, find_card, list_cards, read_card
from medsam.data.check import check_manifest
from medsam.data.manifest_json import write_manifest
from medsam.errors import InputError

ROOT = Path(__file__).parents[2] / "datasets"
FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/card.yaml"))
CARD = {
    "name": "mine",
    "title": "Mine",
    "modality": "CT",
    "labels": {"liver": 1, "spleen": 2},
    "source": {"citation": "me"},
    "licence": "CC0",
    "cases": "2",
}


def card(folder: Path, **keys):
    path = folder / "mine/card.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({k: v for k, v in (CARD | keys).items() if v is not None}))
    return read_card(path)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_card_is_sound(folder):
    found = read_card(ROOT / folder / "card.yaml")
    assert found.name == folder
    assert found.licence
    assert found.source["citation"]
    assert len(set(found.labels.values())) == len(found.labels)
    for modality in found.modalities:
        assert modality.isupper(), modality


def test_every_card_is_in_the_index():
    index = (ROOT / "README.md").read_text()
    for folder in FOLDERS:
        assert f"`{folder}`" in index, folder


def test_every_real_folder_has_a_card_and_a_sound_manifest(data, tmp_path):
    sets = {path.name for path in data.iterdir() if path.is_dir() and path.name != "parity"}
    built = set()
    for found in list_cards():
        if not (data / found.folder).is_dir():
            continue
        result = build(found, data)
        assert result.without_label == ()
        # 130 hippocampi and 33 sarcomas are checked by hand now and then; the first three stand for them here
        cases = result.manifest.cases[:3]
        from dataclasses import replace

        write_manifest(replace(result.manifest, cases=cases), tmp_path / "m.json", force=True)
        told = check_manifest(tmp_path / "m.json").problems
        problems = [p for p in told if p.kind != "never-present" and p.level != "note"]
        assert problems == [], found.name
        built.add(found.folder)
    assert built == sets


def test_hippocampi_come_in_pairs(data):
    cases = build(find_card("msd_hippocampus_mr"), data).manifest.cases
    assert len(cases) == 130
    patients = {case.id: case.patient for case in cases}
    numbers = {int(name[-3:]) for name in patients}
    twins = [(n, n + 1) for n in numbers if n % 2 == 1 and n + 1 in numbers]
    assert twins
    for odd, even in twins:
        assert patients[f"hippocampus_{odd:03d}"] == patients[f"hippocampus_{even:03d}"]
    assert len(set(patients.values())) == 130 - len(twins)


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        (
            "amos22",
            [
                "imagesTr/amos_0001",
                "labelsTr/amos_0001",
                "imagesVa/amos_0507",
                "labelsVa/amos_0507",
                "imagesTs/amos_0003",
            ],
            [("amos_0001", "amos_0001", "CT", "train"), ("amos_0507", "amos_0507", "MR", "val")],
        ),
        (
            "acdc",
            [
                f"{part}_frame{frame}{gt}"
                for part in ("training/patient001/patient001", "testing/patient101/patient101")
                for frame in ("01", "12")
                for gt in ("", "_gt")
            ]
            + ["training/patient001/patient001_4d"],
            [
                ("patient101_frame01", "patient101", "MR", "test"),
                ("patient101_frame12", "patient101", "MR", "test"),
                ("patient001_frame01", "patient001", "MR", "train"),
                ("patient001_frame12", "patient001", "MR", "train"),
            ],
        ),
        (
            "btcv",
            ["Training/img/img0001", "Training/label/label0001", "Testing/img/img0061"],
            [("btcv_0001", "btcv_0001", "CT", None)],
        ),
        (
            "flare22",
            ["images/FLARE22_Tr_0001_0000", "labels/FLARE22_Tr_0001"],
            [("FLARE22_Tr_0001", "FLARE22_Tr_0001", "CT", None)],
        ),
        (
            "kits23",
            ["dataset/case_00003/imaging", "dataset/case_00003/segmentation"],
            [("case_00003",) * 2 + ("CT", None)],
        ),
        (
            "totalsegmentator",
            ["s0011/ct", "s0011/segmentations/liver", "s0011/segmentations/rib_left_10"],
            [("s0011", "s0011", "CT", None)],
        ),
        (
            "msd_04_hippocampus",
            [f"{kind}Tr/hippocampus_{n:03d}" for kind in ("images", "labels") for n in (3, 4)],
            [("hippocampus_003", "pair2", "MR", None), ("hippocampus_004", "pair2", "MR", None)],
        ),
    ],
)
def test_recipes_of_public_sets_follow_their_layout(tmp_path, name, files, expected):
    for file in files:
        path = tmp_path / f"{file}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = build(find_card(name), tmp_path)
    assert [(c.id, c.patient, c.modality, c.split) for c in found.manifest.cases] == expected
    assert found.without_label == ()
    assert all(path.exists() for c in found.manifest.cases for path in c.files)


def test_recipes_of_picture_sets_follow_their_layout(tmp_path):
    busi, montgomery = tmp_path / "Dataset_BUSI_with_GT", tmp_path / "MontgomerySet"
    for path in (
        busi / "benign/benign (4).png",
        busi / "benign/benign (4)_mask.png",
        busi / "benign/benign (4)_mask_1.png",
        montgomery / "CXR_png/MCUCXR_0001_0.png",
        montgomery / "ManualMask/leftMask/MCUCXR_0001_0.png",
        montgomery / "ManualMask/rightMask/MCUCXR_0001_0.png",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    case = build(find_card("busi"), tmp_path).manifest.cases[0]
    assert case.id == "benign_4"
    assert [path.name for path in case.label["lesion"]] == ["benign (4)_mask.png", "benign (4)_mask_1.png"]
    case = build(find_card("montgomery"), tmp_path).manifest.cases[0]
    assert list(case.label) == ["lung_left", "lung_right"]


def test_a_recipe_pairs_by_template(tmp_path):
    for n in (1, 2, 3):
        scans.scan(tmp_path / f"set/img/p{n}_T1.nii.gz")
        scans.label(tmp_path / f"set/gt/p{n}.nii.gz")
    (tmp_path / "set/gt/p3.nii.gz").unlink()
    rule = {
        "image": "img/{who:p\\d+}_{kind}.nii.gz",
        "label": "gt/{who}.nii.gz",
        "id": "{who}",
        "patient": "patient-{who}",
        "modality": "{code}",
        "fields": {"code": {"of": "kind", "values": {"T1": "MR"}}},
    }
    found = build(card(tmp_path, recipe=[rule]), tmp_path / "set")
    assert [(c.id, c.patient, c.modality, c.label.name) for c in found.manifest.cases] == [
        ("p1", "patient-p1", "MR", "p1.nii.gz"),
        ("p2", "patient-p2", "MR", "p2.nii.gz"),
    ]
    assert [path.name for path in found.without_label] == ["p3_T1.nii.gz"]
    everything = build(card(tmp_path, recipe=[rule | {"unlabelled": True}]), tmp_path / "set").manifest.cases
    assert [c.label is None for c in everything] == [False, False, True]


def test_a_structure_field_makes_a_mapping_and_a_star_joins(tmp_path):
    scans.scan(tmp_path / "set/a.nii.gz")
    for name in ("a_liver", "a_spleen", "a_spleen_1"):
        scans.label(tmp_path / f"set/{name}.nii.gz", (1,))
    rule = {"image": "{n:[a-z]}.nii.gz", "label": "{n}_{structure:[a-z]+}*.nii.gz"}
    case = build(card(tmp_path, recipe=[rule]), tmp_path / "set").manifest.cases[0]
    assert {name: [p.name for p in paths] for name, paths in case.label.items()} == {
        "liver": ["a_liver.nii.gz"],
        "spleen": ["a_spleen.nii.gz", "a_spleen_1.nii.gz"],
    }


def test_a_manifest_rule_reads_a_foreign_manifest(tmp_path):
    scans.scan(tmp_path / "set/x.nii.gz")
    scans.write(
        tmp_path / "set/dataset.json", {"labels": {"1": "a"}, "training": [{"image": "x.nii.gz", "label": "y.nii.gz"}]}
    )
    found = build(card(tmp_path, recipe=[{"manifest": "dataset.json"}]), tmp_path / "set").manifest
    assert (found.labels, found.cases[0].labels, found.cases[0].dataset) == (CARD["labels"], CARD["labels"], "mine")


def test_names_with_the_signs_of_a_template_are_taken_as_they_are(tmp_path):
    scans.scan(tmp_path / "set/a*{n}_image.nii.gz")
    scans.label(tmp_path / "set/a*{n}_mask.nii.gz")
    scans.label(tmp_path / "set/abc{n}_mask.nii.gz")
    rule = {"image": "{case}_image.nii.gz", "label": "{case}_mask.nii.gz", "id": "one"}
    case = build(card(tmp_path, recipe=[rule]), tmp_path / "set").manifest.cases[0]
    assert case.label.name == "a*{n}_mask.nii.gz"


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"licence": None}, "lacks licence"),
        ({"labels": {"a": 1, "b": 1}}, "two structures have the same label value"),
        ({"labels": {"a": 0}}, "whole number from 1"),
        ({"source": {"url": "x"}}, "needs a `citation`"),
        ({"licences": "x"}, "unknown key licences"),
        ({"recipe": [{"label": "x"}]}, "needs an `image`"),
        ({"recipe": [{"image": "x", "lable": "y"}]}, "unknown key lable"),
        ({"recipe": [{"image": "x", "fields": {"k": {"of": "n"}}}]}, "`fields` needs"),
        ({"recipe": [{"image": "x", "exclude": "a"}]}, "`exclude` is no list"),
        ({"recipe": [{"image": "x", "labels_from": {"file": "y"}}]}, "`labels_from` needs"),
        ({"recipe": [{"image": "x", "label": 3}]}, "`label` is no template"),
        ({"recipe": [{"image": "../x"}]}, "no path inside the data set"),
        ({"recipe": [{"image": "{n:[}"}]}, "faulty expression"),
    ],
)
def test_what_a_card_may_not_say(tmp_path, keys, why):
    with pytest.raises(InputError, match=why):
        card(tmp_path, **keys)


def test_what_a_recipe_cannot_build(tmp_path):
    scans.scan(tmp_path / "set/a.nii.gz")
    scans.scan(tmp_path / "set/b.nii.gz")
    folder = tmp_path / "set"
    for rule, why in [
        ({"image": "{n}.mha", "label": "x"}, r"nothing in .* fits the recipe \(\{n\}\.mha\)"),
        ({"image": "{n}.nii.gz", "label": "{n}.mha"}, "2 images have no label"),
        ({"image": "{n}.nii.gz", "id": "{m}", "unlabelled": True}, "uses 'm'; the image has n"),
        ({"image": "{n}.nii.gz", "id": "same", "unlabelled": True}, "several cases with the id 'same'"),
        ({"image": "{n}.nii.gz", "label": "*.nii.gz"}, "2 labels fit one image"),
        ({"image": "{n}.nii.gz", "split": "{n}", "unlabelled": True}, "`split` is 'a'"),
        ({"image": "{n}.nii.gz", "spacing_mm": [1, {}, 1], "unlabelled": True}, "`spacing_mm` is"),
        (
            {"image": "{n}.nii.gz", "fields": {"k": {"of": "n", "size": 2}}, "unlabelled": True},
            "'k' numbers blocks of 'n'",
        ),
    ]:
        with pytest.raises(InputError, match=why):
            build(card(tmp_path, recipe=[rule]), folder)
    with pytest.raises(InputError, match="has no recipe"):
        build(card(tmp_path), folder)
    with pytest.raises(InputError, match="is not a folder"):
        build(card(tmp_path), tmp_path / "none")


def test_cards_are_looked_for_and_their_absence_is_told(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="There is no card 'none'. There are: .*vertebra_ct"):
        find_card("none")
    monkeypatch.setattr(cards, "__file__", str(tmp_path / "site-packages/medsam/data/cards.py"))
    with pytest.raises(InputError, match="installed without the `datasets` folder.*as `card`"):
        list_cards()
    inside = tmp_path / "site-packages/medsam/data/cards/mine"
    inside.mkdir(parents=True)
    (inside / "card.yaml").write_text(yaml.safe_dump(CARD))
    assert [found.name for found in list_cards()] == ["mine"]
