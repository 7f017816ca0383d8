"""A session beside another one, and beside a file of labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dicom_files
import numpy as np
import pytest
from starlette.testclient import TestClient

from medsam.geometry import VolumeGeometry
from medsam.io.load import load_volume
from medsam.io.save import save_labels
from medsam.masks import CompactMask
from medsam.metrics.measure import measure
from medsam.server.app import create_app
from medsam.server.cases.references import References, compared, matched, usual_name
from medsam.server.joining import joined
from medsam.server.settings import ServerSettings
from medsam.volume import LabelVolume, Volume
from medsam.wire import read_frames

API = "/api/v1"


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    return dicom_files.series(tmp_path_factory.mktemp("scan") / "ct", dicom_files.slices(5, 40, 48))


@pytest.fixture(scope="module")
def client(tmp_path_factory, tiny_predictor) -> Iterator[TestClient]:
    settings = ServerSettings(tmp_path_factory.mktemp("served") / "store", loaders=1)
    with TestClient(
        create_app(settings, tiny_predictor), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)
    ) as client:
        yield client


@pytest.fixture(scope="module")
def case(client, series) -> str:
    files = [("file", (path.name, path.read_bytes())) for path in sorted(series.iterdir())]
    return client.post(f"{API}/cases", files=files).json()["cases"][0]["id"]


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((40, 48), bool)
    mask[y0:y1, x0:x1] = True
    return mask


LIVER, SPLEEN = rectangle(8, 8, 30, 30), rectangle(32, 10, 40, 20)


@pytest.fixture
def session(client, case) -> Iterator[str]:
    """With a liver on slices 1 and 2, a spleen on slice 2, and a thing that has no mask."""
    key = client.post(f"{API}/sessions", json={"case": case, "label": "Liver"}).json()["id"]
    for name in ("spleen", "thing"):
        client.post(f"{API}/sessions/{key}/objects", json={"name": name})
    for number, index, mask in ((1, 1, LIVER), (1, 2, LIVER), (2, 2, SPLEEN)):
        step = {"object": number, "slice": index, "drawn": CompactMask.of(mask).to_dict()}
        assert client.post(f"{API}/sessions/{key}/prompts", json=step).status_code == 200
    yield key
    client.delete(f"{API}/sessions/{key}")


def solid(*masks: tuple[int, np.ndarray]) -> np.ndarray:
    found = np.zeros((5, 40, 48), bool)
    for index, mask in masks:
        found[index] |= mask
    return found


def by_name(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in told["structures"]}


def test_a_session_is_compared_with_a_file_in_any_format(client, session, series, tmp_path):
    scan = load_volume(series)
    theirs = {"liver": solid((1, LIVER), (2, np.roll(LIVER, 3, axis=1)), (3, LIVER)), "kidney": solid((0, SPLEEN))}
    save_labels(theirs, tmp_path / "seg.dcm", series, geometry=scan.geometry)
    save_labels(theirs, tmp_path / "rt.dcm", series, geometry=scan.geometry, format="rtstruct")
    array = sum((number * mask.astype(np.uint8) for number, mask in enumerate(theirs.values(), start=1)))
    save_labels(LabelVolume(array, scan.geometry, {1: "liver", 2: "kidney"}), tmp_path / "map.nii.gz")
    ours = solid((1, LIVER), (2, LIVER))
    expected = measure(theirs["liver"], ours, scan.geometry.spacing_mm, 2.0)
    for name in ("seg.dcm", "map.nii.gz"):
        files = [("file", (name, (tmp_path / name).read_bytes()))]
        if name == "map.nii.gz":
            files.append(("file", ("map.json", (tmp_path / "map.json").read_bytes())))
        answer = client.post(f"{API}/sessions/{session}/compare", files=files)
        assert answer.status_code == 200, answer.text
        told = by_name(answer.json())
        assert set(told) == {"Liver", "spleen", "thing", "kidney"}
        liver = told["Liver"]
        assert liver["object"] == 1
        for key in ("dice", "hd95_mm", "assd_mm", "volume_ml", "volume_ref_ml"):
            assert liver[key] == pytest.approx(expected[key]), key
        assert (told["kidney"]["object"], told["kidney"]["dice"], told["kidney"]["volume_ml"]) == (None, None, None)
        assert told["kidney"]["volume_ref_ml"] == pytest.approx(SPLEEN.sum() * scan.geometry.voxel_ml)
        assert (told["spleen"]["object"], told["spleen"]["dice"]) == (2, None)
    raw = client.post(
        f"{API}/sessions/{session}/compare",
        content=(tmp_path / "rt.dcm").read_bytes(),
        headers={"X-Filename": "rt.dcm", "Content-Type": "application/octet-stream"},
    )
    assert by_name(raw.json())["Liver"]["dice"] == pytest.approx(expected["dice"], abs=0.02)


def test_the_masks_of_the_reference_come_as_frames(client, session, series, tmp_path):
    scan, moved = load_volume(series), np.roll(LIVER, 3, axis=1)
    save_labels({"liver": solid((2, moved), (3, LIVER))}, tmp_path / "seg.dcm", series, geometry=scan.geometry)
    files = {"file": ("seg.dcm", (tmp_path / "seg.dcm").read_bytes())}
    key = client.post(f"{API}/sessions/{session}/compare", files=files).json()["reference"]
    path = f"{API}/sessions/{session}/compare/{key}/masks"
    frames = list(read_frames(client.get(path, params={"object": 1}).content))
    assert [(frame.object, frame.slice, frame.status, frame.base) for frame in frames] == [
        (1, 2, "candidate", 0),
        (1, 3, "candidate", 0),
    ]
    mask = np.ones((40, 48), bool)
    frames[0].paint(mask)
    np.testing.assert_array_equal(mask, moved)
    assert client.get(path).content == client.get(path, params={"object": 1}).content
    assert client.get(path, params={"object": 2}).content == b""
    assert client.get(f"{API}/sessions/{session}/compare/nosuch/masks").status_code == 404


def test_two_sessions_are_compared_also_a_closed_one_along_another_axis(client, case, session):
    client.delete(f"{API}/sessions/{session}")
    other = client.post(f"{API}/sessions", json={"case": case, "axis": "j", "start": {"session": session}}).json()["id"]
    told = by_name(client.post(f"{API}/sessions/{other}/compare", json={"session": session}).json())
    assert (told["Liver"]["dice"], told["Liver"]["hd95_mm"], told["spleen"]["dice"]) == (1.0, 0.0, 1.0)
    assert client.post(f"{API}/sessions/{other}/compare", json={"session": "nosuch"}).status_code == 404
    client.delete(f"{API}/sessions/{other}")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"json": {}}, 422, "session"),
        ({"json": {"session": "a b"}}, 422, "session"),
        ({"files": {"file": ("notes.txt", b"hello")}}, 422, "notes.txt"),
        ({"files": {"file": ("labels.nii.gz", b"\x1f\x8b nothing")}}, 422, "labels.nii.gz"),
        ({"files": [("file", ("a.dcm", b"1")), ("file", ("b.dcm", b"2"))]}, 422, "one file of labels"),
        ({"content": b"", "headers": {"X-Filename": "a.nii"}}, 422, "no file"),
    ],
)
def test_what_cannot_be_compared_is_said_without_places(client, session, tmp_path, body, status, said):
    answer = client.post(f"{API}/sessions/{session}/compare", **body)
    assert answer.status_code == status
    assert said in answer.text
    assert "uploads" not in answer.text
    assert "/" not in answer.json()["detail"].replace("multipart/form-data", "")


def test_labels_of_another_grid_are_refused(client, session, tmp_path):
    grid = VolumeGeometry.from_itk((5, 40, 48), (0, 0, 0), (1, 1, 1), tuple(np.eye(3).ravel()))
    save_labels(LabelVolume(solid((1, LIVER)).astype(np.uint8), grid, {1: "liver"}), tmp_path / "other.nii.gz")
    files = {"file": ("other.nii.gz", (tmp_path / "other.nii.gz").read_bytes())}
    answer = client.post(f"{API}/sessions/{session}/compare", files=files)
    assert (answer.status_code, "other.nii.gz" in answer.json()["detail"]) == (422, True)


def test_names_find_one_another_as_the_vocabulary_has_them():
    assert matched({1: "Left kidney", 2: "spot"}, ["kidney_left", "liver"]) == [
        (1, "kidney_left"),
        (2, None),
        (None, "liver"),
    ]
    # one of each can only mean the other
    assert matched({4: "what I saw"}, ["labels"]) == [(4, "labels")]
    assert matched({1: "a", 2: "b"}, ["labels"]) == [(1, None), (2, None), (None, "labels")]


def test_structures_of_one_name_are_one():
    one, other = (CompactMask.of(mask) for mask in (LIVER, SPLEEN))
    found = joined({"Left kidney": one, "kidney_left": other, "spot": one}, usual_name)
    assert found == {"Left kidney": one | other, "spot": one}


def test_what_was_removed_from_the_other_session_is_not_compared(client, case, session):
    client.delete(f"{API}/sessions/{session}/objects/2")
    client.delete(f"{API}/sessions/{session}")
    other = client.post(f"{API}/sessions", json={"case": case, "label": "spot"}).json()["id"]
    step = {"object": 1, "slice": 1, "drawn": CompactMask.of(LIVER).to_dict()}
    client.post(f"{API}/sessions/{other}/prompts", json=step)
    told = client.post(f"{API}/sessions/{other}/compare", json={"session": session}).json()
    # one of each goes with the other
    assert [(one["object"], one["name"], one["dice"]) for one in told["structures"]] == [(1, "spot", 2 / 3)]
    client.delete(f"{API}/sessions/{other}")


def test_what_has_no_number_is_null():
    picture = Volume.from_array(np.zeros((1, 6, 6), np.uint8))
    square = np.zeros((1, 6, 6), bool)
    square[0, 1:4, 1:4] = True
    full, empty = CompactMask.of(square), CompactMask.empty((1, 6, 6))
    told = compared([("a", full, full), ("b", full, empty), ("c", empty, empty), ("d", full, None)], picture.geometry)
    assert [one["dice"] for one in told] == [1.0, 0.0, None, None]
    assert {one[key] for one in told for key in ("nsd", "hd95_mm", "assd_mm", "volume_ml", "volume_ref_ml")} == {None}
    flat = VolumeGeometry.from_itk((1, 6, 6), (0, 0, 0), (0.5, 0.5, 3), tuple(np.eye(3).ravel()))
    moved = CompactMask.of(np.roll(square, 1, axis=2))
    (one,) = compared([("a", full, moved)], flat)
    assert one["dice"] == pytest.approx(6 / 9)
    assert math.isclose(one["hd95_mm"], 0.5)


def test_a_reference_is_its_readers_for_its_session_and_an_hour(monkeypatch):
    kept = References()
    key = kept.keep(1, "s", {})
    assert kept.get(key, 1, "s") is not None
    assert kept.get(key, 2, "s") is kept.get(key, 1, "t") is kept.get("x", 1, "s") is None
    monkeypatch.setattr("medsam.server.cases.references._KEPT_S", -1.0)
    assert kept.get(kept.keep(1, "s", {}), 1, "s") is None
    monkeypatch.setattr("medsam.server.cases.references._KEPT_S", 3600.0)
    monkeypatch.setattr("medsam.server.cases.references._MOST", 2)
    mask = CompactMask.of(np.ones((2, 4), bool))
    first, second, third = (kept.keep(1, "s", {1: mask}) for _ in range(3))
    assert kept.get(first, 1, "s") is None
    assert kept.get(second, 1, "s").masks == kept.get(third, 1, "s").masks == {1: mask}
