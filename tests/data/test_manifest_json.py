"""Manifests: what is read, what is refused and with which words, and that writing one loses nothing."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_sets as scans
from PIL import Image

from medsam.data.cards import read_card
from medsam.data.manifest import Manifest
from medsam.data.manifest_json import parse_manifest, read_manifest, write_manifest
from medsam.errors import InputError

# -- ours ---------------------------------------------------------------------------------------------------


def test_our_layout_is_read(tmp_path):
    path = scans.edit(scans.manifest(tmp_path), patient="p7", split="validation", window="liver", spacing_mm=[1, 2, 3])
    found = read_manifest(path)
    assert (found.name, found.modality, found.labels) == ("tiny", "CT", {"liver": 1, "spleen": 2})
    first, second = found.cases
    assert (first.id, first.patient, first.split, first.window) == ("a0", "p7", "val", "liver")
    assert first.image == tmp_path / "images/a0.nii.gz"
    assert first.spacing_mm == (1.0, 2.0, 3.0)
    assert (second.patient, second.split, second.modality, second.dataset) == ("a1", None, "CT", "tiny")
    assert read_manifest(tmp_path) == found


def test_a_threshold_for_the_whole_manifest(tmp_path):
    inside = np.zeros((4, 5), bool)
    inside[1:3, 2:] = True
    Image.fromarray(np.full((4, 5), 9, np.uint8)).save(tmp_path / "x.png")
    Image.fromarray((inside[..., None] * np.array([0, 200, 0])).astype(np.uint8)).save(tmp_path / "y.png")
    cases = [{"id": "x", "image": "x.png", "label": "y.png"}]
    path = scans.write(tmp_path / "m.json", {"labels": {"lesion": 1}, "threshold": 127, "cases": cases})
    case = read_manifest(path).cases[0]
    np.testing.assert_array_equal(case.load_references(case.load_image())["lesion"][0], inside)


def test_a_cases_own_labels_replace_the_manifests(tmp_path):
    path = scans.edit(scans.manifest(tmp_path), labels={"kidney": 1, "aorta": 2})
    case = read_manifest(path).cases[0]
    assert list(case.load_references(case.load_image())) == ["kidney", "aorta"]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"image": None}, "case 'a0' has no `image`"),
        ({"id": None}, "has no `id`"),
        ({"id": "a/b"}, "fit for a file name"),
        ({"id": ""}, "fit for a file name"),
        ({"image": 3}, "'a0': `image` is 3, not a path"),
        ({"label": {}}, "`label` is empty"),
        ({"label": {"liver": []}}, "lists no file for 'liver'"),
        ({"split": "tests"}, "`split` is 'tests'; expected train, val or test"),
        ({"spacing_mm": [1, 2]}, r"`spacing_mm` is \[1, 2\]"),
        ({"spacing_mm": [1, 2, 0]}, "three numbers above 0"),
        ({"lable": "x"}, "unknown key 'lable'. Did you mean 'label'"),
        ({"threshold": "high"}, "`threshold` is 'high', not a number"),
        ({"labels": {"a": 1, "b": 1}}, "'a' and 'b' have the same label value 1"),
        ({"labels": {"whole": [1, 2]}}, "regions are not supported"),
        ({"labels": {"a": -1}}, "has the value -1"),
        ({"frame": -1}, "`frame` is -1"),
        ({"ignore": "some"}, "`ignore` is 'some'"),
        ({"patient": ""}, "`patient` is empty"),
    ],
)
def test_what_a_case_may_not_say(tmp_path, keys, why):
    with pytest.raises(InputError, match=why) as error:
        read_manifest(scans.edit(scans.manifest(tmp_path), **keys))
    assert str(error.value).startswith("manifest.json: ")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([], "empty, not an object with `cases`"),
        ({}, "neither `cases`"),
        ({"cases": {}}, "not a list"),
        ({"cases": [3]}, "case 0 .* is 3, not an object"),
        ({"cases": [], "casess": 1}, "unknown key 'casess'"),
        ({"cases": [], "labels": ["a"]}, "`labels` is a list"),
    ],
)
def test_what_is_no_manifest(tmp_path, content, why):
    with pytest.raises(InputError, match=why):
        read_manifest(scans.write(tmp_path / "m.json", content))


def test_files_that_are_no_json(tmp_path):
    (tmp_path / "m.json").write_text('{"cases": [')
    with pytest.raises(InputError, match=r"m\.json is not JSON"):
        read_manifest(tmp_path / "m.json")
    (tmp_path / "b.json").write_bytes(b"\x93NUMPY\xff")
    with pytest.raises(InputError, match=r"b\.json is not JSON"):
        read_manifest(tmp_path / "b.json")
    with pytest.raises(InputError, match="does not exist"):
        read_manifest(tmp_path / "none.json")
    with pytest.raises(InputError, match="holds neither manifest.json nor dataset.json"):
        read_manifest(tmp_path)


def test_a_patient_in_two_splits_is_refused(tmp_path):
    path = scans.edit(scans.manifest(tmp_path), patient="x", split="train")
    content = json.loads(path.read_text())
    content["cases"][1] |= {"patient": "x", "split": "test"}
    scans.write(path, content)
    with pytest.raises(InputError, match=r"patient 'x' is in 2 splits: train \(case a0\), test \(case a1\)"):
        read_manifest(path)
    assert len(parse_manifest(path).cases) == 2
    content["cases"][1]["split"] = "train"
    assert len(read_manifest(scans.write(path, content)).in_split("train")) == 2


def test_an_id_is_used_once(tmp_path):
    with pytest.raises(InputError, match="two cases have the id 'a1'"):
        read_manifest(scans.edit(scans.manifest(tmp_path), id="a1"))
    with pytest.raises(InputError, match="differ in case only"):
        read_manifest(scans.edit(scans.manifest(tmp_path), id="A1"))


# -- writing ------------------------------------------------------------------------------------------------


def test_writing_loses_nothing(tmp_path):
    keys = {
        "patient": "ä",
        "split": "test",
        "modality": "PT",
        "window": "40,400",
        "spacing_mm": [0.1, 2, 3.5],
        "labels": {"x": 3},
        "threshold": 0.5,
        "ignore": [4, 5],
        "aliases": {"GTV": "x"},
        "series": "1.2.3",
        "frame": 1,
        "label_frame": 0,
        "notes": "n",
        "label": {"x": ["a.png", "b.png"]},
    }
    found = read_manifest(scans.edit(scans.manifest(tmp_path, notes="all"), **keys))
    (tmp_path / "deep/er").mkdir(parents=True)
    out = tmp_path / "deep/er/out.json"
    write_manifest(found, out)
    assert read_manifest(out) == found
    assert json.loads(out.read_text())["cases"][0]["image"] == "../../images/a0.nii.gz"
    assert [p.name for p in out.parent.iterdir()] == ["out.json"]


def test_what_all_cases_share_is_written_once(tmp_path):
    found = read_manifest(scans.manifest(tmp_path, threshold=3, ignore="others"))
    write_manifest(found, tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["threshold"] == 3
    assert content["ignore"] == "others"
    assert set(content["cases"][0]) == {"id", "patient", "image", "label"}
    assert read_manifest(tmp_path / "out.json") == found


def test_a_manifest_without_cases_can_be_written(tmp_path):
    write_manifest(Manifest("none", None, {}, ()), tmp_path / "m.json")
    assert parse_manifest(tmp_path / "m.json").cases == ()


def test_a_manifest_in_the_folder_one_stands_in_is_called_like_it(tmp_path, monkeypatch):
    (tmp_path / "liver").mkdir()
    monkeypatch.chdir(tmp_path / "liver")
    scans.write(Path("m.json"), {"cases": [{"id": "a", "image": "a.nii.gz"}]})
    found = read_manifest("m.json")
    assert found.name == "liver"
    write_manifest(found, "n.json")
    assert read_manifest("n.json") == found


def test_writing_into_no_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        write_manifest(Manifest("none", None, {}, ()), tmp_path / "no/m.json")


NASTY = [
    *("\u00b2", "\u0663", "1e400", "a\x00b", "a\x1bb", "\ud800", "a\nb", "", " ", "../../etc/passwd", "x" * 5000),
    *(10**17, -1, 1.5, float("inf"), float("nan"), True, None, [], {}, [[]], {"a": {}}, ["a", 1], [1, 2, 3], [1e400]),
    *({"\u00b2": "a"}, {"a": "\u00b2"}, {"a": 10**17}, {"\ud800": 1}, {"": 1}, {"1": "a", "2": "a"}, {"a": [1, 2]}),
]  # fmt: skip
FIELDS = ["id", "patient", "image", "label", "split", "series", "frame", "label_frame", "modality", "window"]
FIELDS += ["spacing_mm", "labels", "threshold", "ignore", "aliases", "notes"]


def told(path: Path) -> str | None:
    """What is wrong with a manifest; None when it can be read, and then written and read again."""
    try:
        found = read_manifest(path)
    except InputError as error:
        return str(error)
    write_manifest(found, path.with_name("again.json"), force=True)
    assert read_manifest(path.with_name("again.json")) == found
    return None


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("where", ["case", "manifest"])
def test_whatever_a_field_holds_is_read_or_one_error_that_names_it(tmp_path, field, where):
    for value in NASTY:
        content = {"name": "n", "cases": [{"id": "a", "image": "a.nii", "label": "b.nii", "labels": {"a": 1}}]}
        (content if where == "manifest" else content["cases"][0])[field] = value
        said = told(scans.write(tmp_path / "m.json", content))
        assert said is None or field in said or (field == "labels" and "label" in said), (value, said)
        assert said is None or said.encode()


@pytest.mark.parametrize("key", ["name", "cases", "labels", "training", "modality", "channel_names", "dataset", "test"])
def test_whatever_the_manifest_holds_is_read_or_one_error(tmp_path, key):
    training = [{"image": "a.nii", "label": "b.nii"}]
    for value in [*NASTY, [1], [{"id": []}], [{"image": {}}], {"0": []}]:
        for base in ({"cases": []}, {"training": training}, {"channel_names": {"0": "CT"}}):
            told(scans.write(tmp_path / "m.json", {**base, key: value}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"cases": [], "cases": []}', "the key 'cases' twice"),
        (b'{"cases": [{"id": "a", "id": "b", "image": "c"}]}', "the key 'id' twice"),
        ('{"name": "é", "cases": []}'.encode("latin-1"), "is not JSON: 'utf-8'"),
        ('{"cases": []}'.encode("utf-16"), "is not JSON"),
        (b"[" * 100_000, "nested"),
        (b'{"cases": [{"id": "a", "image": "b", "labels": {"a": "\xc2\xb2"}}]}', "the label 'a' has the value '²'"),
        (b'{"cases": [{"id": "a", "image": "b", "labels": {"\xc2\xb2": "a"}}]}', "the label '²' has the value 'a'"),
        (b'{"cases": [{"id": "a", "image": "b", "patient": "x\\ud800"}]}', "`patient` holds control characters"),
        (b'{"cases": [{"id": "a", "image": "b\\ud800"}]}', "`image` holds a letter that no file name can have"),
    ],
)
def test_a_malformed_manifest_is_one_error(tmp_path, content, said):
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(said)):
        read_manifest(tmp_path / "m.json")


def test_a_mark_of_byte_order_is_read(tmp_path):
    (tmp_path / "m.json").write_bytes(b'\xef\xbb\xbf{"cases": []}')
    assert read_manifest(tmp_path / "m.json").cases == ()


def test_a_file_name_that_is_no_utf_8_is_written_and_read_again(tmp_path):
    image = tmp_path / os.fsdecode(b"caf\xe9.nii")
    found = replace(read_manifest(scans.manifest(tmp_path, 1)).cases[0], image=image)
    write_manifest(Manifest("m", None, found.labels, (found,)), tmp_path / "out.json")
    assert read_manifest(tmp_path / "out.json").cases[0].image == image


def test_the_examples_of_the_docs_are_read(tmp_path):
    text = (Path(__file__).parents[2] / "docs/manifests.md").read_text()
    manifest = re.search(r"```json\n(.*?)```", text, re.DOTALL).group(1)
    (tmp_path / "m.json").write_text(manifest)
    assert read_manifest(tmp_path / "m.json").cases[0].split == "test"
    card = re.search(r"```yaml\n(.*?)```", text, re.DOTALL).group(1)
    (tmp_path / "card.yaml").write_text(card)
    assert read_card(tmp_path / "card.yaml").recipe


@pytest.mark.parametrize("number", ["²", "٣²", "9" * 5000])
@pytest.mark.parametrize("turned", [False, True])
def test_digits_that_are_no_number_are_no_label(tmp_path, number, turned):
    labels = {number: "liver"} if turned else {"liver": number}
    (tmp_path / "m.json").write_text(json.dumps({"name": "a", "labels": labels, "cases": []}))
    with pytest.raises(InputError, match=r"m\.json: .*expected a whole number from 0"):
        read_manifest(tmp_path / "m.json")
