"""Cases over HTTP: who sees what, voxels as they are, uploads that are whole or not there."""

from __future__ import annotations

import asyncio
import io
import json
import os
import stat
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dicom_files
import nibabel as nib
import numpy as np
import pytest
from starlette.testclient import TestClient

from medsam.io.load import load_volume
from medsam.server.app import create_app
from medsam.server.cases.disk import DiskFull
from medsam.server.cases.intake import incoming, sort_scans
from medsam.server.cases.pixels import described
from medsam.server.cases.uploads import Uploads
from medsam.server.settings import MIB, Limits, ServerSettings
from medsam.store.readers import Role

API = "/api/v1"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with a CT of 6 slices in DICOM, and the same as NIfTI, an hour old."""
    root = tmp_path_factory.mktemp("served") / "data"
    dicom_files.series(root / "DOE_JANE", dicom_files.slices(6, 24, 20), StudyDate="20240229")
    volume = load_volume(root / "DOE_JANE")
    nib.save(nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.geometry.ras_affine), root / "ct.nii.gz")
    for path in root.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)
    return root


@pytest.fixture(scope="module")
def room(data, tiny_predictor) -> Iterator[TestClient]:
    """A server that takes little; one for all tests here, since its processes take a second to start."""
    limits = Limits(upload_bytes=2 * MIB, unpacked_bytes=4 * MIB, upload_files=20, requests_per_minute=100_000)
    settings = ServerSettings(data.parent / "store", (data,), limits=limits, loaders=1, poll_seconds=0.1)
    with TestClient(
        create_app(settings, tiny_predictor), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)
    ) as client:
        client.headers |= as_reader(client, "chief", Role.ADMINISTRATOR)
        yield client


@pytest.fixture
def client(room, data) -> Iterator[TestClient]:
    """The same without uploads, before and after."""
    yield room
    for case in room.get(f"{API}/cases", params={"limit": 500}).json():
        if case["kind"] == "upload":
            room.delete(f"{API}/cases/{case['id']}")
    assert left(room) == []


def listed(client: TestClient, count: int, path: str = f"{API}/cases") -> dict[str, dict[str, Any]]:
    """The cases by name, once there are so many."""
    until = time.monotonic() + 20
    while True:
        found = client.get(path).json()
        if len(found) == count or time.monotonic() > until:
            assert len(found) == count
            return {case["name"]: case for case in found}
        time.sleep(0.05)


def opened(client: TestClient, case: str) -> dict[str, Any]:
    while True:
        answer = client.post(f"{API}/cases/{case}/open")
        assert answer.status_code in (200, 202), answer.text
        if answer.status_code == 200:
            return answer.json()
        assert answer.json() == {"state": "loading"}
        time.sleep(0.05)


def content(path: Path) -> dict[str, bytes]:
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}


def store_of(client: TestClient) -> Path:
    return client.app.state.services.store.folder


def left(client: TestClient) -> list[str]:
    """Uploads on the disk."""
    return sorted(one.name for one in (store_of(client) / "uploads").iterdir())


def zipped(members: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", kind) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return packed.getvalue()


def test_a_folder_is_a_list_of_cases_whose_voxels_come_as_they_are(client, data):
    cases = listed(client, 2)
    ct = cases["CT series 7, 6 images"]
    assert (ct["format"], ct["kind"], ct["shape"], ct["files"], ct["mine"]) == ("dicom", "data", [6, 24, 20], 6, False)
    assert not any(word in json.dumps(cases) for word in ("DOE", "MRN-4711", "20240229", str(data)))
    expected = load_volume(data / "DOE_JANE")
    grid = opened(client, ct["id"])
    assert {key: grid[key] for key in expected.geometry.to_dict()} == expected.geometry.to_dict()
    assert (grid["axis"], grid["planes"]["k"]["count"], grid["modality"]) == ("k", 6, "CT")
    assert grid["windows"][0]["name"] == "auto"
    volume = client.get(f"{API}/cases/{ct['id']}/volume")
    meta = json.loads(volume.headers["X-Medsam-Meta"])
    array = np.frombuffer(volume.content, meta["dtype"]).reshape(meta["shape"])
    assert np.array_equal(array, expected.array)
    assert meta["geometry"] == expected.geometry.to_dict()
    for axis, index, slice_ in (("k", 2, array[2]), ("j", 3, array[:, 3]), ("i", 4, array[:, :, 4])):
        answer = client.get(f"{API}/cases/{ct['id']}/slices/{axis}/{index}")
        meta = json.loads(answer.headers["X-Medsam-Meta"])
        assert np.array_equal(np.frombuffer(answer.content, meta["dtype"]).reshape(meta["shape"]), slice_)
    assert client.get(f"{API}/cases/{ct['id']}/slices/k/6").status_code == 422
    assert client.get(f"{API}/cases/{ct['id']}").json()["state"] == "ready"


def test_parts_of_a_volume_and_what_the_client_has(client, data):
    path = f"{API}/cases/{listed(client, 2)['ct.nii.gz']['id']}/volume"
    whole = client.get(path)
    size, tag = len(whole.content), whole.headers["ETag"]

    def part(span: str, **headers: str) -> tuple[int, bytes, str | None]:
        answer = client.get(path, headers={"Range": span} | headers)
        return answer.status_code, answer.content, answer.headers.get("Content-Range")

    assert part("bytes=10-19") == (206, whole.content[10:20], f"bytes 10-19/{size}")
    assert part("bytes=-5") == (206, whole.content[-5:], f"bytes {size - 5}-{size - 1}/{size}")
    assert part(f"bytes={size - 3}-") == (206, whole.content[-3:], f"bytes {size - 3}-{size - 1}/{size}")
    assert part(f"bytes={size}-")[0::2] == (416, f"bytes */{size}")
    for ignored in ("bytes=5-4", "bytes=0-1,3-4", "lines=1-2", "bytes=-", "bytes=99999999999999999999-"):
        assert part(ignored)[:2] == (200, whole.content)
    assert part("bytes=0-0", **{"If-Range": tag})[0] == 206
    assert part("bytes=0-0", **{"If-Range": '"other"'})[0] == 200
    assert client.get(path, headers={"If-None-Match": f'"a", {tag}'}).status_code == 304


def test_a_patient_is_shown_to_those_who_may_know_and_stands_nowhere_else(client, data, caplog):
    ct = listed(client, 2)["CT series 7, 6 images"]["id"]
    patient = client.get(f"{API}/cases/{ct}").json()["patient"]
    assert (patient["name"], patient["id"], patient["study_date"]) == ("DOE^JANE", "MRN-4711", "20240229")
    assert client.get(f"{API}/cases/{ct}").headers.get("X-Medsam-Meta") is None
    by_list = listed(client, 2, f"{API}/cases?patients=true")
    assert by_list["CT series 7, 6 images"]["patient"] == patient
    assert by_list["ct.nii.gz"]["patient"] is None
    assert not any(word in caplog.text for word in ("DOE", "MRN-4711"))


def test_ids_stay_and_changes_are_seen(client, data):
    before = listed(client, 2)
    names = content(data / "DOE_JANE")
    (data / "ct.nii.gz").rename(data / "away")
    assert [*listed(client, 1)] == ["CT series 7, 6 images"]
    gone = client.get(f"{API}/cases/{before['ct.nii.gz']['id']}").json()
    assert gone["state"] == "gone"
    assert client.post(f"{API}/cases/{gone['id']}/open").status_code == 422
    assert client.get(f"{API}/cases/{gone['id']}/thumbnail").status_code == 204
    (data / "away").rename(data / "ct.nii.gz")
    assert {name: case["id"] for name, case in listed(client, 2).items()} == {
        name: case["id"] for name, case in before.items()
    }
    assert content(data / "DOE_JANE") == names


def as_reader(client: TestClient, name: str, role: Role = Role.READER) -> dict[str, str]:
    """Headers of a program of a user."""
    store = client.app.state.services.store
    user = store.user_named(name) or store.add_user(name, role, None, kind="proxy")
    _, secret = store.add_token(user.id, "test", None)
    return {"Authorization": f"Bearer {secret}"}


def nifti_bytes(value: int = 0) -> bytes:
    image = nib.Nifti1Image(np.full((4, 5, 6), value, np.int16), np.eye(4))
    return image.to_bytes()


def test_an_upload_belongs_to_who_brought_it(client):
    ann, bob, eve = (as_reader(client, *who) for who in (("ann",), ("bob",), ("eve", Role.REVIEWER)))
    answer = client.post(f"{API}/cases", content=nifti_bytes(7), headers=ann | {"X-Filename": "m%C3%BCller.nii"})
    assert answer.status_code == 201, answer.text
    (case,) = answer.json()["cases"]
    assert (case["name"], case["kind"], case["format"], case["mine"]) == ("müller.nii", "upload", "nifti", True)
    path = f"{API}/cases/{case['id']}"
    for where in (path, f"{path}/volume", f"{path}/geometry", f"{path}/slices/k/0"):
        assert client.get(where, headers=ann).status_code == 200
        assert client.get(where, headers=eve).status_code == 200
        assert client.get(where, headers=bob).status_code == 404
    assert case["id"] not in [one["id"] for one in client.get(f"{API}/cases", headers=bob).json()]
    assert client.post(f"{path}/open", headers=bob).status_code == 404
    assert client.delete(path, headers=bob).status_code == 404
    assert client.delete(path, headers=eve).status_code == 403
    assert client.post(f"{path}/share", json={"user": "bob"}, headers=ann).status_code == 204
    assert client.get(f"{path}/volume", headers=bob).status_code == 200
    assert client.post(f"{path}/share", json={"user": "bob", "may": False}, headers=bob).status_code == 403
    assert len(left(client)) == 1
    assert client.delete(path, headers=ann).status_code == 204
    assert (left(client), client.get(path, headers=ann).status_code) == ([], 404)


def test_a_zip_and_parts_of_a_form_are_a_case_each_series(client, tmp_path):
    folder = dicom_files.series(tmp_path / "a", dicom_files.slices(4))
    other = dicom_files.series(tmp_path / "b", dicom_files.slices(3), SeriesInstanceUID="1.2.3.8", Modality="MR")
    scan, mask = nifti_bytes(500), nifti_bytes(1)
    members = {f"../../{name}": one for name, one in content(folder).items()}
    members |= {f"/etc/{name}": one for name, one in content(other).items()}
    members |= {"images/x.nii": scan, "labels/x.nii": mask, "readme.txt": b"no scan", "inner.zip": zipped({"a": b"b"})}
    answer = client.post(f"{API}/cases", content=zipped(members))
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert {(case["name"], case["format"]) for case in told["cases"]} == {
        ("CT series 7, 4 images", "dicom"),
        ("MR series 7, 3 images", "dicom"),
        ("x.nii", "nifti"),
    }
    assert "1 file is a label and no scan; left out" in told["notes"]
    (ct,) = (case["id"] for case in told["cases"] if case["modality"] == "CT")
    opened(client, ct)
    array = np.frombuffer(client.get(f"{API}/cases/{ct}/volume").content, np.int16).reshape(4, 4, 5)
    assert np.array_equal(array, load_volume(folder).array)
    files = [("file", (name, one)) for name, one in content(folder).items()]
    assert client.post(f"{API}/cases", files=files, data={"note": "a field"}).json()["cases"][0]["files"] == 4
    stored = [one for one in (store_of(client) / "uploads").rglob("*") if one.is_file()]
    assert len(stored) == 4 + 3 + 1 + 4
    assert all(stat.S_ISREG(one.lstat().st_mode) for one in stored)
    # a folder is removed with the last of its series
    counts = []
    for case in told["cases"]:
        client.delete(f"{API}/cases/{case['id']}")
        counts.append(len(left(client)))
    assert counts == [2, 2, 1]


def linked() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("link.nii")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return packed.getvalue()


HOSTILE: dict[str, tuple[Callable[[], bytes], str, int, str]] = {
    "nothing": (lambda: b"", "a.nii", 422, "no file"),
    "no scan": (lambda: b"hello", "a.exe", 422, "no scan"),
    "another kind": (lambda: b"\x89PNG\r\n" + bytes(400), "a.nii", 422, "PNG"),
    "too many bytes": (lambda: bytes(2 * MIB + 1), "a.nii", 413, "at most 2 MiB"),
    "a bomb": (lambda: zipped({"a.nii": bytes(5 * MIB)}), "a.zip", 422, "grows"),
    "too many files": (lambda: zipped({f"{n}.nii": b"x" for n in range(21)}), "a.zip", 422, "at most 20"),
    "a link": (linked, "a.zip", 422, "link"),
    "half a zip": (lambda: zipped({"a.nii": nifti_bytes()})[:-30], "a.zip", 422, "no scan"),
    "a header alone": (lambda: b"NDims = 3\n", "a.mhd", 422, "one file of two"),
    "a zip in a zip": (lambda: zipped({"b.zip": zipped({"a.nii": b"x"})}), "a.zip", 422, "no scan among these"),
    "damaged DICOM": (lambda: bytes(128) + b"DICM" + b"\xff" * 300, "a.dcm", 422, "a.dcm"),
    "a path": (nifti_bytes, "../../../etc/cron.d/a.nii", 201, "a.nii"),
    "an encoded path": (nifti_bytes, "..%2f..%2f%00a.nii", 201, "a.nii"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_cannot_be_taken_leaves_nothing(client, what):
    make, name, status, said = HOSTILE[what]
    before = content(store_of(client).parent)
    answer = client.post(f"{API}/cases", content=make(), headers={"X-Filename": name})
    assert (answer.status_code, said in answer.text) == (status, True), answer.text
    assert str(store_of(client)) not in answer.text
    if status == 201:
        assert answer.json()["cases"][0]["name"].endswith("a.nii")
    else:
        assert left(client) == []
        assert len(client.get(f"{API}/cases").json()) == 2
    new = {path for path in content(store_of(client).parent).keys() - before.keys() if "medsam.db" not in path}
    assert all(path.startswith("store/uploads/") for path in new)


def test_bodies_that_are_no_form(client):
    def post(kind: str, body: bytes) -> tuple[int, str]:
        answer = client.post(f"{API}/cases", content=body, headers={"Content-Type": kind})
        return answer.status_code, answer.json()["detail"]

    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.nii"\r\n\r\n' + nifti_bytes()
    assert post("multipart/form-data", b"x")[0] == 422
    assert post("multipart/form-data; boundary=b", b"--c\r\n")[0] == 422
    assert post("multipart/form-data; boundary=b", part) == (422, "The body ends before its last part does.")
    assert post("multipart/form-data; boundary=b", b"--b\r\nA: " + b"a" * 20_000)[0] == 422
    assert post("multipart/form-data; boundary=" + "b" * 500, part)[0] == 422
    many = b"".join(b'--b\r\nContent-Disposition: form-data; filename="%d"\r\n\r\nx\r\n' % n for n in range(21))
    assert post("multipart/form-data; boundary=b", many + b"--b--\r\n")[0] == 413
    assert left(client) == []
    odd = part.replace(b'filename="a.nii"', b"filename*0*=a; filename*=") + b"\r\n--b--\r\n"
    assert post("multipart/form-data; boundary=b", odd)[0] == 422
    named = part.replace(b'filename="a.nii"', b"filename*=UTF-8''m%C3%BCller.nii") + b"\r\n--b--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    told = client.post(f"{API}/cases", content=named, headers=kind).json()
    assert told["cases"][0]["name"] == "müller.nii"
    assert client.post(f"{API}/cases", content=part + b"\r\n--b--\r\n", headers={
        "Content-Type": "multipart/form-data; boundary=b"}).status_code == 201  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "/cases/..%2f..%2fetc%2fpasswd/volume",
        "/cases/%00/volume",
        "/cases/" + "a" * 65,
        "/cases/abc/slices/q/0",
        "/cases/abc/slices/k/-1",
        "/cases/abc/slices/k/99999999999999999999",
        "/cases?after=../x",
        "/cases?limit=0",
        "/cases?q=" + "a" * 200,
    ],
)
def test_addresses_that_are_none(client, path):
    assert client.get(f"{API}{path}").status_code in (404, 422)


def test_the_search_takes_words_as_they_are(client, data):
    listed(client, 2)
    for word, count in (("ct", 2), ("nii", 1), ("series", 1), ("%", 0), ("_", 0), ("' OR 1=1 --", 0)):
        assert len(client.get(f"{API}/cases", params={"q": word}).json()) == count
    first = client.get(f"{API}/cases", params={"limit": 1}).json()
    rest = client.get(f"{API}/cases", params={"after": first[0]["id"]}).json()
    assert len(first + rest) == 2
    client.post(f"{API}/cases", content=nifti_bytes(), headers={"X-Filename": "new.nii"})

    def names(**asked: object) -> list[str]:
        return [case["name"] for case in client.get(f"{API}/cases", params=asked).json()]

    assert names(order="newest") == names()[::-1]
    assert names(order="newest", limit=1) == names(mine=True) == names(kind="upload") == ["new.nii"]
    newest = client.get(f"{API}/cases", params={"mine": True}).json()[0]["id"]
    assert names(order="newest", after=newest) == names()[:2][::-1]
    assert client.get(f"{API}/cases", params={"after": "nobody"}).status_code == 404


def test_the_bytes_of_a_slice_have_a_name_of_their_own(client, data):
    case = listed(client, 2)["ct.nii.gz"]["id"]
    tags = {client.get(f"{API}/cases/{case}/slices/k/{n}").headers["ETag"] for n in range(3)}
    assert len(tags) == 3


def test_an_upload_that_breaks_off_leaves_nothing(client):
    sent: list[dict[str, Any]] = []
    body = iter([nifti_bytes()[:200], b"x" * 100])

    async def receive() -> dict[str, Any]:
        chunk = next(body, None)
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = {**client.headers, "host": "127.0.0.1:8000", "x-filename": "a.nii"}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": f"{API}/cases", "raw_path": f"{API}/cases".encode(), "query_string": b"", "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8000), "state": {},
    }  # fmt: skip
    client.portal.call(client.app, scope, receive, send)
    assert next(body, None) is None
    assert sent[0]["status"] == 422
    assert left(client) == []


def test_what_is_wrong_with_an_upload_is_said_with_the_name_it_came_with(client):
    cut = {"content": nifti_bytes()[:-50], "headers": {"X-Filename": "cut.nii"}}
    case = client.post(f"{API}/cases", **cut).json()["cases"][0]["id"]
    told = client.get(f"{API}/cases/{case}/volume")
    assert (told.status_code, told.json()["detail"].startswith("cut.nii cannot be read")) == (422, True), told.text
    shown = client.get(f"{API}/cases/{case}").json()
    assert (shown["state"], shown["problem"]) == ("broken", told.json()["detail"])


def test_a_full_disk_is_said_and_leaves_nothing(client, monkeypatch):
    monkeypatch.setattr("medsam.server.cases.disk.RESERVE", 2**60)
    answer = client.post(f"{API}/cases", content=nifti_bytes(), headers={"X-Filename": "a.nii"})
    assert (answer.status_code, "disk is full" in answer.text) == (507, True)
    assert left(client) == []


def test_what_a_zip_becomes_leaves_room_for_the_store(tmp_path, monkeypatch):
    part = Uploads(tmp_path / "uploads").begin()
    incoming(part, 0).write_bytes(zipped({"a.nii": bytes(3 * MIB)}))
    monkeypatch.setattr("medsam.server.cases.intake.room", lambda folder: 2 * MIB)
    with pytest.raises(DiskFull):
        sort_scans(part, ["a.zip"], 2**30, 100)


def test_what_was_asked_of_a_pacs_once_takes_no_memory(client):
    rooms = client.app.state.services.cases
    for series in ("1.2.3", "1.2.4"):
        answer = client.post(f"{API}/pacs/nowhere/fetch", json={"study": "1.2", "series": series})
        assert answer.status_code == 404, answer.text
    assert not rooms._fetches


def test_a_role_that_is_not_told_whose_scans_these_are(client, data, monkeypatch):
    rooms = client.app.state.services.cases
    monkeypatch.setattr(rooms, "settings", replace(rooms.settings, patients_from=Role.REVIEWER))
    ct = listed(client, 2)["CT series 7, 6 images"]["id"]
    for who, role, told in (("ann", Role.READER, False), ("eve", Role.REVIEWER, True)):
        headers = as_reader(client, who, role)
        assert (client.get(f"{API}/cases/{ct}", headers=headers).json()["patient"] is not None) == told
        people = client.get(f"{API}/cases?patients=true", headers=headers).json()
        assert any(case["patient"] for case in people) == told
        assert client.post(f"{API}/pacs/main/find", json={}, headers=headers).status_code == (404 if told else 403)
        # nor by a file that names the patient
        session = client.post(f"{API}/sessions", json={"case": ct, "label": "liver"}, headers=headers).json()["id"]
        prompt = {"object": 1, "slice": 1, "box": [4, 4, 20, 20]}
        assert client.post(f"{API}/sessions/{session}/prompts", json=prompt, headers=headers).status_code == 200
        for kind in ("seg", "seg-labelmap", "rtstruct", "nifti"):
            answer = client.get(f"{API}/sessions/{session}/labels", params={"format": kind}, headers=headers)
            assert answer.status_code == (200 if told or kind == "nifti" else 403), (who, kind)


def test_what_a_killed_server_left_is_removed_at_the_next_start_and_nothing_else(tmp_path):
    uploads = Uploads(tmp_path / "uploads")
    half, whole, listed_ = (uploads.begin() for _ in range(3))
    kept = [uploads.keep(part) for part in (whole, listed_)]
    # of another database, or somebody's own
    (tmp_path / "uploads/strange").mkdir()
    (tmp_path / "uploads/letter").write_text("x")
    assert uploads.sweep({kept[1]}) == 2
    assert {one.name for one in (tmp_path / "uploads").iterdir()} == {kept[1], "strange", "letter"}
    assert not half.exists()
    # known from then on, also to a store that is older
    assert uploads.sweep(set()) == 3
    assert uploads.place(kept[1]).is_dir()


def test_who_was_told_names_stands_in_the_audit(client, data):
    store = client.app.state.services.store
    ct = listed(client, 2)["CT series 7, 6 images"]["id"]
    before = store.audit_lines(limit=1)[0].id if store.audit_lines(limit=1) else 0
    client.get(f"{API}/cases")
    client.get(f"{API}/cases?patients=true")
    opened(client, ct)
    lines = [(line.what, line.case, dict(line.details)) for line in store.audit_lines(limit=9) if line.id > before]
    assert ("list patients", None, {"count": 1}) in lines
    assert [what for what, *_ in lines].count("open") <= 1
    assert len(lines) <= 2


def test_pictures_of_a_list_are_one_line_of_the_audit(client):
    store, headers = client.app.state.services.store, as_reader(client, "dora", Role.READER)
    for case in listed(client, 2).values():
        for _ in range(2):
            assert client.get(f"{API}/cases/{case['id']}/thumbnail", headers=headers).status_code == 200
    lines = [(line.what, line.case) for line in store.audit_lines(limit=9) if line.user == "dora"]
    assert lines == [("list pictures", None)]


def test_a_scan_is_described_once_however_many_ask(client, monkeypatch):
    from medsam.server.cases import rooms as module

    rooms, computed = client.app.state.services.cases, []

    def counted(volume):
        computed.append(volume)
        time.sleep(0.05)
        return described(volume)

    monkeypatch.setattr(module, "described", counted)
    (case, *_) = [case["id"] for case in listed(client, 2).values()]
    volume = client.portal.call(rooms.scans.get, case)

    async def several():
        return await asyncio.gather(*(rooms.described(case, "some version", volume) for _ in range(3)))

    assert client.portal.call(several) == [described(volume)] * 3
    assert len(computed) == 1


def test_a_thumbnail_is_the_middle_slice_upright_without_loading_the_scan(client, data):
    from PIL import Image

    for case in listed(client, 2).values():
        path = f"{API}/cases/{case['id']}/thumbnail"
        answer = client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        picture = Image.open(io.BytesIO(answer.content))
        assert (max(picture.size), picture.mode) == (160, "L")
        assert picture.size == (160, 128)
        again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        grid = client.get(f"{API}/cases/{case['id']}/geometry").json()
        (rows, columns), (high, wide) = (grid["planes"][grid["axis"]][name] for name in ("shape", "spacing_mm"))
        assert (columns * wide) / (rows * high) == pytest.approx(160 / 128)
    assert client.get(f"{API}/cases/nosuchcase/thumbnail").status_code == 404


def test_a_thumbnail_shows_what_is_in_the_middle(client):
    from PIL import Image

    array = np.zeros((5, 40, 60), np.uint8)
    array[2, 10:20, 30:60] = 200
    image = nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([-1.0, -1.0, 2.0, 1.0]))
    case = client.post(f"{API}/cases", content=image.to_bytes(), headers={"X-Filename": "a.nii"}).json()["cases"][0]
    read = client.get(f"{API}/cases/{case['id']}/thumbnail").content
    shown = np.asarray(Image.open(io.BytesIO(read)).resize((60, 40), Image.Resampling.BOX))
    assert (shown[12:18, 35:55] > 100).all()
    assert not (shown[25:] > 100).any()
    opened(client, case["id"])
    assert client.get(f"{API}/cases/{case['id']}/thumbnail").content == read
    damaged = client.post(f"{API}/cases", content=b"\x00" * 400, headers={"X-Filename": "b.nii"}).json()["cases"][0]
    for _ in range(2):
        none = client.get(f"{API}/cases/{damaged['id']}/thumbnail")
        assert (none.status_code, none.content) == (204, b"")


def test_who_opens_a_scan_for_which_there_is_no_room_is_told_when_to_ask_again(client):
    scans = client.app.state.services.scans
    held = client.portal.call(scans.get, listed(client, 2)["ct.nii.gz"]["id"])
    content = nib.Nifti1Image(np.zeros((20, 24, 6), np.int16), np.eye(4)).to_bytes()
    case = client.post(f"{API}/cases", content=content, headers={"X-Filename": "a.nii"}).json()["cases"][0]["id"]
    limit, scans.limit = scans.limit, held.array.nbytes + 1000
    try:
        while (answer := client.post(f"{API}/cases/{case}/open")).status_code == 202:
            time.sleep(0.02)
    finally:
        scans.limit = limit
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "Close one, or wait" in answer.json()["detail"]
    assert answer.json()["error"] == "FullMemory"


def test_names_of_structures_are_completed(client):
    answer = client.get(f"{API}/vocabulary", params={"q": "left kid", "limit": 2}).json()
    assert [one["name"] for one in answer][:1] == ["kidney_left"]
    assert "lk" in answer[0]["synonyms"]
    assert answer[0]["colour"].startswith("#")
    assert client.get(f"{API}/vocabulary", params={"limit": 0}).status_code == 422
