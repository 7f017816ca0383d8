"""What leaves the server, and what a PACS gives and takes."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dicom_files
import numpy as np
import orthanc as pacs_server
import pydicom
import pytest
from dicom_files import SERIES, STUDY
from starlette.testclient import TestClient

from medsam.inference.predictor import Predictor
from medsam.io.labels import load_labels
from medsam.io.load import load_volume
from medsam.masks import CompactMask
from medsam.pacs import settings as pacs_settings
from medsam.pacs.client import find, get, store
from medsam.pacs.query import Query
from medsam.prompts.prompt import Prompt
from medsam.server.app import create_app
from medsam.server.settings import ServerSettings
from medsam.store.readers import Reader, Role
from medsam.volume import LabelVolume

API = "/api/v1"
ADMINISTRATOR = Reader(1, "local", Role.ADMINISTRATOR)


@pytest.fixture(autouse=True)
def _no_keyring(monkeypatch):
    monkeypatch.setattr(pacs_settings, "_from_keyring", lambda server, what: None)


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    pixels = dicom_files.slices(4, 40, 48, top=300)
    pixels[:, 10:30, 12:36] += 600
    return dicom_files.series(tmp_path_factory.mktemp("scan") / "ct", pixels)


@pytest.fixture(scope="module")
def client(tmp_path_factory, tiny_predictor: Predictor) -> Iterator[TestClient]:
    settings = ServerSettings(tmp_path_factory.mktemp("served") / "store", loaders=1)
    with TestClient(
        create_app(settings, tiny_predictor), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)
    ) as client:
        yield client


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with pacs_server.running(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture
def main_server(orthanc, tmp_path, monkeypatch):
    """Orthanc, empty, under the name "main" in the settings file."""
    orthanc.empty()
    path = tmp_path / "settings.toml"
    path.write_text(
        f'[servers.main]\ndicomweb = "{orthanc.dicomweb}"\n[servers.dead]\ndicomweb = "http://127.0.0.1:9"\n'
    )
    monkeypatch.setenv("MEDSAM_SETTINGS", str(path))
    return orthanc


def uploaded(client: TestClient, folder: Path) -> dict[str, Any]:
    files = [("file", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
    answer = client.post(f"{API}/cases", files=files)
    assert answer.status_code == 201, answer.text
    return answer.json()["cases"][0]


def drawn(client: TestClient, case: str) -> str:
    """A session with a box on one slice."""
    session = client.post(f"{API}/sessions", json={"case": case}).json()
    path = f"{API}/sessions/{session['id']}"
    number = client.post(f"{path}/objects", json={"name": "liver"}).json()["id"]
    prompt = {"object": number, "slice": 1, "box": [12, 10, 36, 30]}
    answer = client.post(f"{path}/prompts", json=prompt)
    assert answer.status_code == 200, answer.text
    return session["id"]


def test_a_file_says_up_to_which_revision_all_steps_are_in_it(client, series):
    case = uploaded(client, series)
    session = drawn(client, case["id"])
    answer = client.get(f"{API}/sessions/{session}/labels", params={"format": "nifti"})
    # the first answer was refined for it
    now = client.get(f"{API}/sessions/{session}/changes").headers["X-Medsam-Revision"]
    assert answer.headers["X-Medsam-Revision"] == now
    client.post(f"{API}/sessions/{session}/undo")
    later = client.get(f"{API}/sessions/{session}/labels", params={"format": "raw"})
    assert int(later.headers["X-Medsam-Revision"]) > int(answer.headers["X-Medsam-Revision"])


def exported(client: TestClient, session: str, kind: str) -> Any:
    answer = client.get(f"{API}/sessions/{session}/labels", params={"format": kind})
    assert answer.status_code == 200, answer.text
    digest = hashlib.sha256(answer.content).digest()
    if kind != "raw":
        assert answer.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
        assert f'filename="labels-{session[:8]}' in answer.headers["Content-Disposition"]
    assert not any(word in str(answer.headers) for word in ("DOE", "JANE", "MRN-4711"))
    return answer


def test_masks_leave_in_every_format_and_are_the_same(client, series, tmp_path):
    session = drawn(client, uploaded(client, series)["id"])
    raw = exported(client, session, "raw")
    meta = json.loads(raw.headers["X-Medsam-Meta"])
    array = np.frombuffer(raw.content, meta["dtype"]).reshape(meta["shape"])
    assert meta["names"] == {"1": "liver"}
    assert array.any()
    scan = load_volume(series)
    for kind, suffix in (
        ("nifti", ".nii.gz"),
        ("nrrd", ".nrrd"),
        ("mha", ".mha"),
        ("seg", ".dcm"),
        ("rtstruct", ".dcm"),
    ):
        answer = exported(client, session, kind)
        path = tmp_path / f"{kind}{suffix}"
        path.write_bytes(answer.content)
        found = load_labels(path, scan.geometry)
        masks = [*found.values()] if not isinstance(found, LabelVolume) else [found.array == 1]
        if kind != "rtstruct":
            assert np.array_equal(masks[0], array == 1)
        assert masks[0].any()
        assert suffix in answer.headers["Content-Disposition"]
    result = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (result.StudyInstanceUID, str(result.PatientName)) == (STUDY, "DOE^JANE")
    lines = client.app.state.services.store.audit_lines(limit=3)
    assert {line.what for line in lines} == {"export"}
    assert all(line.details["sha256"] for line in lines)


def test_objects_that_overlap_are_whole_in_a_seg_as_the_program_writes_it(client, series, tmp_path):
    case = uploaded(client, series)
    key = client.post(f"{API}/sessions", json={"case": case["id"], "label": "lung", "zoom": "off"}).json()["id"]
    client.post(f"{API}/sessions/{key}/objects", json={"name": "tumour"})
    for number, box in ((1, [10, 8, 38, 32]), (2, [14, 12, 22, 20])):
        step = {"object": number, "slice": 2, "box": box}
        assert client.post(f"{API}/sessions/{key}/prompts", json=step).status_code == 200
    scan = load_volume(series)
    prompts = [Prompt.from_dict(one) for one in client.get(f"{API}/sessions/{key}/prompts").json()["prompts"]]
    predictor = Predictor(client.app.state.services.predictor.sam, "cpu")
    found = predictor.segment(scan, prompts, axis="k", zoom="off")
    shared = found.structures["lung"] & found.structures["tumour"]
    assert shared.any()
    for kind in ("seg", "rtstruct"):
        answer = exported(client, key, kind)
        assert json.loads(answer.headers["X-Medsam-Meta"])["shared"] == shared.sum()
        (tmp_path / f"{kind}.dcm").write_bytes(answer.content)
        found.save(tmp_path / f"own-{kind}.dcm", format=kind)
        ours, own = (load_labels(tmp_path / name, scan.geometry) for name in (f"{kind}.dcm", f"own-{kind}.dcm"))
        for name in ("lung", "tumour"):
            np.testing.assert_array_equal(ours[name], own[name])
            if kind == "seg":
                np.testing.assert_array_equal(ours[name], found.structures[name])
    raw = exported(client, key, "raw")
    meta = json.loads(raw.headers["X-Medsam-Meta"])
    array = np.frombuffer(raw.content, meta["dtype"]).reshape(meta["shape"])
    np.testing.assert_array_equal(array, found.labels.array)
    measured = {one["name"]: one["voxels"] for one in client.get(f"{API}/sessions/{key}/measures").json()}
    assert measured == {name: int(found.structures[name].sum()) for name in ("lung", "tumour")}


def test_no_model_is_named_in_a_file_as_who_made_what_a_hand_drew(client, series):
    session = drawn(client, uploaded(client, series)["id"])
    path = f"{API}/sessions/{session}"
    number = client.post(f"{path}/objects", json={"name": "spleen"}).json()["id"]
    mask = np.zeros((40, 48), bool)
    mask[4:9, 4:9] = True
    step = {"object": number, "slice": 2, "drawn": CompactMask.of(mask).to_dict()}
    assert client.post(f"{path}/prompts", json=step).status_code == 200

    def read(kind):
        return pydicom.dcmread(io.BytesIO(exported(client, session, kind).content))

    model = client.get(path).json()["model"]
    for _ in range(2):
        seg, contours = read("seg"), read("rtstruct")
        kinds = {one.SegmentLabel: one.SegmentAlgorithmType for one in seg.SegmentSequence}
        assert kinds["spleen"] == "MANUAL"
        assert {one.ROIName: one.ROIGenerationAlgorithm for one in contours.StructureSetROISequence} == kinds
        if "liver" in kinds:
            assert (kinds["liver"], model in seg.SeriesDescription) == ("SEMIAUTOMATIC", True)
            client.delete(f"{path}/objects/1")
    assert (list(kinds), model in f"{seg} {contours}") == (["spleen"], False)


def test_measures_leave_as_a_table_of_the_case_and_of_nobody(client, series):
    case = uploaded(client, series)
    session = drawn(client, case["id"])
    answer = client.get(f"{API}/sessions/{session}/labels", params={"format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"].endswith('.csv"')
    (row,) = csv.DictReader(io.StringIO(answer.text))
    (told,) = client.get(f"{API}/sessions/{session}/measures").json()
    assert row.pop("case") == case["id"]
    assert row == {name: "" if value is None else str(value) for name, value in told.items() if name != "ends"}
    assert (int(row["voxels"]) > 0, float(row["diameter_mm"]) > 0) == (True, True)


def test_what_cannot_be_exported_is_said(client, tmp_path):
    content = io.BytesIO()
    np.savez(content, imgs=np.random.default_rng(0).integers(0, 200, (2, 40, 48)).astype(np.uint8))
    answer = client.post(f"{API}/cases", content=content.getvalue(), headers={"X-Filename": "a.npz"})
    session = drawn(client, answer.json()["cases"][0]["id"])
    path = f"{API}/sessions/{session}/labels"
    refused = client.get(path, params={"format": "seg"})
    assert (refused.status_code, refused.json()["parameters"]) == (422, ["format"])
    assert client.get(path, params={"format": "png"}).status_code == 422
    assert client.get(path, params={"format": "exe"}).status_code == 422
    assert client.get(f"{API}/sessions/nobody/labels").status_code == 404


def test_masks_of_a_scan_that_was_replaced_are_not_put_on_another(client, series):
    case = uploaded(client, series)
    session = drawn(client, case["id"])
    rooms = client.app.state.services.cases
    row = rooms.store.case(ADMINISTRATOR, case["id"])
    (folder,) = (rooms.uploads.place(row.details["folder"]) / "dicom").iterdir()

    def now(version: str) -> None:
        scan = row.details["scan"] | {"version": version}
        rooms.store.describe_case(row.id, {**row.details, "scan": scan})

    # copied again: other dates, the same scan
    now("copied")
    exported(client, session, "nifti")
    files = sorted(folder.iterdir())
    image = pydicom.dcmread(files[0])
    image.PixelData = bytes(len(image.PixelData))
    image.save_as(files[0])
    now("replaced")
    for kind in ("raw", "nifti", "seg"):
        assert client.get(f"{API}/sessions/{session}/labels", params={"format": kind}).status_code == 409
    assert client.post(f"{API}/sessions/{session}/send", json={"server": "main"}).status_code == 409


def test_many_names_do_not_fill_a_header(client, series):
    session = drawn(client, uploaded(client, series)["id"])
    for number in range(40):
        client.post(f"{API}/sessions/{session}/objects", json={"name": f"{number} ä" + "x" * 60})
    answer = client.get(f"{API}/sessions/{session}/labels")
    assert (answer.status_code, answer.headers["X-Medsam-Meta"]) == (200, '{"names": null, "shared": 0, "first": 0}')


def test_without_a_settings_file_there_is_no_pacs(client, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDSAM_SETTINGS", str(tmp_path / "none.toml"))
    assert client.get(f"{API}/pacs").json() == []
    answer = client.post(f"{API}/pacs/main/find", json={})
    assert (answer.status_code, str(tmp_path) in answer.text) == (404, False)


def test_a_series_is_found_fetched_drawn_on_and_sent_back(client, main_server, series, tmp_path, caplog):
    store(main_server.server(), [series])
    assert [one["name"] for one in client.get(f"{API}/pacs").json()] == ["dead", "main"]
    found = client.post(f"{API}/pacs/main/find", json={"keys": {"patient_id": "MRN-4711"}}).json()
    assert [(one["study"], one["patient_name"]) for one in found["found"]] == [(STUDY, "DOE^JANE")]
    listed = client.post(f"{API}/pacs/main/find", json={"level": "series", "keys": {"study": STUDY}}).json()
    assert [one["series"] for one in listed["found"]] == [SERIES]
    body = {"study": STUDY, "series": SERIES}
    case = client.post(f"{API}/pacs/main/fetch", json=body).json()
    assert (case["kind"], case["modality"], case["shape"], case["mine"]) == ("pacs", "CT", [4, 40, 48], True)
    assert client.post(f"{API}/pacs/main/fetch", json=body).json()["id"] == case["id"]
    session = drawn(client, case["id"])
    for kind, modality in (("seg", "SEG"), ("rtstruct", "RTSTRUCT")):
        answer = client.post(f"{API}/sessions/{session}/send", json={"server": "main", "format": kind})
        assert (answer.status_code, answer.json()["stored"]) == (200, 1), answer.text
        matches = find(main_server.server(), Query("series", {"StudyInstanceUID": STUDY, "Modality": modality})).matches
        assert len(matches) == 1
    (result,) = get(main_server.server(), STUDY, matches[0].series, tmp_path / "got").folders[0].iterdir()
    assert load_labels(result, load_volume(series).geometry)["liver"].any()
    for line in client.app.state.services.store.audit_lines(limit=20):
        assert not any(word in f"{line}" for word in ("DOE", "MRN-4711", STUDY))
    assert not any(word in caplog.text for word in ("DOE", "MRN-4711"))
    # nothing was left beside the case
    uploads = client.app.state.services.cases.uploads.folder
    assert not [one for one in uploads.iterdir() if one.name.startswith(".")]


def test_what_a_pacs_refuses_is_said_without_places(client, main_server, series, tmp_path):
    def answer(path: str, **body: Any) -> tuple[int, str]:
        found = client.post(f"{API}{path}", json=body)
        assert str(tmp_path) not in found.text
        return found.status_code, found.json()["detail"]

    session = drawn(client, uploaded(client, series)["id"])
    assert "does not have the study" in answer(f"/sessions/{session}/send", server="main")[1]
    assert answer(f"/sessions/{session}/send", server="nobody")[0] == 404
    assert answer("/pacs/nobody/find")[0] == 404
    assert answer("/pacs/main/find", keys={"PatientBirthDate": "1950"})[0] == 422
    assert answer("/pacs/main/find", keys={"patient_id": "a\\b"})[0] == 422
    assert answer("/pacs/main/fetch", study="1.2.3", series="1.2.4")[0] == 422
    assert answer("/pacs/main/fetch", study="../../etc", series="1.2.4")[0] == 422
    assert answer("/pacs/dead/find")[0] == 422
    uploads = client.app.state.services.cases.uploads.folder
    assert not [one for one in uploads.iterdir() if one.name.startswith(".")]
