"""Sessions, the data store, log in, and what there is not, through MONAI Label's own client."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from http.client import HTTPConnection
from pathlib import Path

import dicom_files
import httpx
import nibabel
import numpy as np
import pytest

from medsam.io.load import load_volume
from medsam.server.monailabel import images, room
from medsam.server.monailabel.sent import NoSession, Sent
from medsam.server.settings import GIB, MIB, Limits
from medsam.store.readers import Role
from medsam.store.store import Store

PASSWORD = "a password of eleven words"


def nifti(path: Path, shape: tuple[int, int, int] = (20, 18, 4), value: int = 100) -> Path:
    """(i, j, k) voxels with a bright middle."""
    array = np.zeros(shape, np.int16)
    array[5:12, 5:12, 1:3] = value
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 1, 3, 1])), path)
    return path


def test_what_is_offered_is_said_as_every_client_reads_it(client, url):
    told = client.info()
    # 3D Slicer takes a server with a `config` for one that is too old
    assert "config" not in told
    assert isinstance(told["labels"], list)
    assert told["labels"] == ["object"]
    for model in told["models"].values():
        assert model["description"]
        assert model["dimension"] in (2, 3)
        assert model["labels"] == ["object"]
        for choices in model["config"].values():
            assert isinstance(choices, float) or all(isinstance(one, str) for one in choices)
    assert {model["type"] for model in told["models"].values()} == {"deepgrow", "scribbles"}
    assert set(told["strategies"]) == {"first", "random"}
    assert told["datastore"]["total"] >= 0
    assert told["licence"]
    for path in ("/info", "/info/", "/train", "/train/", "/datastore", "/datastore/", "/auth", "/auth/"):
        assert httpx.get(f"{url}{path}").status_code == (404 if "train" in path else 200), path


def test_a_session_is_an_image_until_it_is_removed(client, monai, tmp_path):
    image = nifti(tmp_path / "brain (T1).nii.gz")
    made = client.create_session(str(image))
    session = made["session_id"]
    assert made["session_info"]["image"] == "brain (T1).nii.gz"
    assert client.get_session(session)["name"] == session
    assert client.remove_session(session)
    for ask in (client.get_session, client.remove_session):
        with pytest.raises(monai.MONAILabelClientException) as refused:
            ask(session)
        assert refused.value.status_code == 404
    with pytest.raises(monai.MONAILabelClientException, match=r"Status: 404.*load the image again"):
        client.infer("medsam_slice", "brain", {"foreground": [[8, 8, 1]]}, session_id=session)
    (tmp_path / "notes.txt").write_text("no scan")
    with pytest.raises(monai.MONAILabelClientException, match=r"notes\.txt is no scan") as refused:
        client.create_session(str(tmp_path / "notes.txt"))
    assert refused.value.status_code == 422


def test_sessions_end_some_time_after_their_last_use_also_over_a_restart(tmp_path, client, house):
    image = nifti(tmp_path / "scan.nii.gz")
    token = client.create_session(str(image))["session_id"]
    # as another server finds it
    folder = tmp_path / "sent"
    shutil.copytree(house / "store" / "sent", folder)
    document = json.loads((folder / f"{token}.json").read_text())
    (folder / f"{token}.json").write_text(json.dumps(document | {"kept_s": 3600.0}))
    now = [document["used"]]
    again = Sent(folder, 3600.0, lambda: now[0])
    with Store.open(house / "store", serving=False) as store:
        reader = store.local_reader()
    now[0] += 3000
    assert again.get(token, reader).name == "scan.nii.gz"
    now[0] += 3000
    # the clock began anew
    assert again.files(again.get(token, reader)).path.is_file()
    now[0] += 3601
    assert token in again.retire()
    with pytest.raises(NoSession):
        again.get(token, reader)
    now[0] += 13 * 3600
    again.retire()
    assert [one.name for one in folder.iterdir()] == []


def test_the_data_store_has_images_by_their_names_and_labels_by_tags(client, monai, tmp_path, url):
    image = nifti(tmp_path / "liver.nii.gz")
    name = "CT liver (3), a/b"
    assert client.upload_image(str(image), name) == {"image": name}
    listed = client.datastore()["objects"][name]
    assert listed["labels"] == {}
    got = httpx.get(f"{url}/datastore/image", params={"image": name})
    assert got.content == image.read_bytes()
    assert got.headers["content-disposition"].endswith('-liver.nii.gz"')
    drawn, _ = client.infer("medsam_slice", name, {"foreground": [[8, 8, 1]], "label": "liver"})
    told = {"label_info": [{"name": "liver", "idx": 1}]}
    assert client.save_label(name, drawn, params=told) == {"image": name, "label": "final"}
    assert client.save_label(name, drawn, tag="second look", params=told)["label"] == "second look"
    labels = client.datastore()["objects"][name]["labels"]
    assert set(labels) == {"final", "second look"}
    assert labels["final"]["info"]["params"]["label_names"] == {"liver": 1}
    back = client.download_label(name, "final")
    assert back.endswith(".nii.gz")
    assert Path(back).read_bytes() == Path(drawn).read_bytes()
    # of another grid
    other = nifti(tmp_path / "other.nii.gz", (7, 7, 3), value=1)
    with pytest.raises(monai.MONAILabelClientException, match="Status: 422"):
        client.save_label(name, str(other), params=told)
    with pytest.raises(monai.MONAILabelClientException, match="Status: 404"):
        client.save_label("nothing", drawn, params=told)
    assert httpx.delete(f"{url}/datastore/label", params={"id": name, "tag": "second look"}).status_code == 200
    assert set(client.datastore()["objects"][name]["labels"]) == {"final"}
    assert httpx.get(f"{url}/datastore/image", params={"image": "undefined"}).status_code == 404


@pytest.fixture(scope="module")
def small(start, tmp_path_factory) -> tuple[str, Path]:
    """A server with two scans in a folder and little memory: its address, and the folder of its store."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "data").mkdir()
    for name, value in (("one", 90), ("two", 120)):
        nifti(folder / "data" / f"{name}.nii.gz", value=value)
    limits = Limits(upload_bytes=400 * MIB)
    return start(folder=folder, data=(folder / "data",), scan_bytes=GIB // 4, limits=limits), folder


def test_the_next_sample_is_one_without_a_label(small, monai, tmp_path):
    client = monai.MONAILabelClient(small[0], tmpdir=str(tmp_path))
    until = time.monotonic() + 60
    while client.info()["datastore"]["total"] < 2 and time.monotonic() < until:
        time.sleep(0.1)
    seen = []
    for _ in range(2):
        sample = client.next_sample("first", {})
        seen.append(sample["name"].removeprefix(f"{sample['id']}-"))
        mask = np.zeros((20, 18, 4), np.uint8)
        mask[6:9, 6:9, 1] = 1
        nibabel.save(nibabel.Nifti1Image(mask, np.diag([1, 1, 3, 1])), tmp_path / "label.nii.gz")
        client.save_label(sample["id"], str(tmp_path / "label.nii.gz"))
    assert sorted(seen) == ["one.nii.gz", "two.nii.gz"]
    assert client.next_sample("random", {}) == {}
    assert client.info()["datastore"] == {"total": 2, "completed": 2}
    with pytest.raises(monai.MONAILabelClientException, match="Status: 404"):
        client.next_sample("epistemic", {})


def test_nothing_is_trained_and_that_is_said(client, monai, url):
    assert client.train_status(check_if_running=True) is False
    for ask in (client.train_status, client.train_stop, lambda: client.train_start("medsam_slice", {})):
        with pytest.raises(monai.MONAILabelClientException, match="Nothing is trained here"):
            ask()
    assert httpx.get(f"{url}/batch/infer").status_code == 404
    assert httpx.get(f"{url}/logs/", params={"lines": 100}).status_code == 200


def test_readers_log_in_and_see_nothing_of_each_other(start, monai, tmp_path):
    with Store.open(tmp_path / "store", serving=False) as store:
        store.add_user("anna", Role.ADMINISTRATOR, PASSWORD)
        store.add_user("ben", Role.READER, PASSWORD)
        store.add_user("cleo", Role.READER, PASSWORD)
    url = start(folder=tmp_path)
    ben, cleo = (monai.MONAILabelClient(url, tmpdir=str(tmp_path)) for _ in range(2))
    assert ben.auth_enabled()
    with pytest.raises(monai.MONAILabelClientException) as refused:
        ben.info()
    assert refused.value.status_code == 401
    with pytest.raises(monai.MONAILabelClientException) as refused:
        ben.auth_token("ben", "another password")
    assert refused.value.status_code == 401
    for client, name in ((ben, "ben"), (cleo, "cleo")):
        client.update_auth(client.auth_token(name, PASSWORD))
        assert client.auth_valid_token()
    image = nifti(tmp_path / "scan.nii.gz")
    session = ben.create_session(str(image))["session_id"]
    ben.upload_image(str(image), "mine")
    mask, _ = ben.infer("medsam_slice", "scan", {"foreground": [[8, 8, 1]]}, session_id=session)
    ben.save_label("mine", mask)
    # from here on this client says with every GET that it has a body, and sends none
    assert set(ben.datastore()["objects"]) == {"mine"}  # its label is there, so it is no sample
    assert ben.get_session(session)
    assert cleo.datastore()["objects"] == {}
    # 3D Slicer fetches a sample without its token, and submits a label for it by the same id
    ben.upload_image(str(image), "next")
    sample = ben.next_sample("first", {})["id"]
    assert httpx.get(f"{url}/datastore/image", params={"image": sample}).content == image.read_bytes()
    assert ben.save_label(sample, mask)["image"] == "next"
    for other in ("next", f"mine~{sample.partition('~')[2]}", sample[:-1] + ("0" if sample[-1] != "0" else "1")):
        assert httpx.get(f"{url}/datastore/image", params={"image": other}).status_code == 401, other
    assert httpx.get(f"{url}/datastore/label", params={"label": sample, "tag": "final"}).status_code == 401
    for ask in (
        lambda: cleo.get_session(session),
        lambda: cleo.infer("medsam_slice", "scan", {"foreground": [[8, 8, 1]]}, session_id=session),
        lambda: cleo.infer("medsam_slice", "mine", {"foreground": [[8, 8, 1]]}),
        lambda: cleo.download_label("mine", "final"),
    ):
        with pytest.raises(monai.MONAILabelClientException, match="404"):
            ask()
    anna = monai.MONAILabelClient(url, tmpdir=str(tmp_path))
    anna.update_auth(anna.auth_token("anna", PASSWORD))
    # names are a reader's own: of two of one name none hides the other
    cleo.upload_image(str(image), "mine")
    assert len(anna.datastore()["objects"]) == 3
    assert {"mine", "next"}.isdisjoint(anna.datastore()["objects"])
    assert set(cleo.datastore()["objects"]) == {"mine"}
    assert cleo.datastore()["objects"]["mine"]["labels"] == {}
    labels = [set(one["labels"]) for one in anna.datastore()["objects"].values()]
    assert sorted(map(sorted, labels)) == [[], ["final@ben"], ["final@ben"]]
    wrong = monai.MONAILabelClient(url)
    wrong.update_auth({"token_type": "Bearer", "access_token": "wrong"})
    assert not wrong.auth_valid_token()


def test_a_file_whose_header_may_name_the_patient_is_for_who_may_know(start, monai, tmp_path):
    with Store.open(tmp_path / "store", serving=False) as store:
        store.add_user("anna", Role.ADMINISTRATOR, PASSWORD)
        store.add_user("ben", Role.READER, PASSWORD)
    (tmp_path / "data").mkdir()
    image = nibabel.load(nifti(tmp_path / "scan.nii.gz"))
    image.header["descrip"] = b"Doe^Jane"
    nibabel.save(image, tmp_path / "data" / "scan.nii")
    dicom_files.series(tmp_path / "data" / "ct", dicom_files.slices(2, 8, 8))
    url = start(folder=tmp_path, data=(tmp_path / "data",), patients_from=Role.ADMINISTRATOR)
    got = {}
    for name in ("anna", "ben"):
        client = monai.MONAILabelClient(url, tmpdir=str(tmp_path))
        token = client.auth_token(name, PASSWORD)
        client.update_auth(token)
        until = time.monotonic() + 60
        while client.info()["datastore"]["total"] < 2 and time.monotonic() < until:
            time.sleep(0.1)
        objects = client.datastore()["objects"]
        series = [one["image"]["info"] for one in objects.values() if "series" in one["image"]["info"]["name"]]
        assert ["SeriesInstanceUID" in one for one in series] == [name == "anna"]
        (key,) = (key for key, one in objects.items() if "scan" in one["image"]["info"]["name"])
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        answer = httpx.get(f"{url}/datastore/image", params={"image": key}, headers=headers)
        got[name] = answer.headers["content-disposition"], answer.content
        sample = client.next_sample("first", {})["id"]
        assert httpx.get(f"{url}/datastore/image", params={"image": sample}).status_code == 200
        # deleted is what one brought, and there is a line of that
        client.upload_image(str(tmp_path / "scan.nii.gz"), "own")
        assert httpx.delete(f"{url}/datastore/", params={"id": "own"}, headers=headers).status_code == 200
    assert got["anna"][0].endswith('-scan.nii"')
    assert b"Doe^Jane" in got["anna"][1]
    assert got["ben"][0].endswith('-scan.nii.nrrd"')
    assert b"Doe^Jane" not in got["ben"][1]
    (tmp_path / "got.nrrd").write_bytes(got["ben"][1])
    np.testing.assert_array_equal(load_volume(tmp_path / "got.nrrd").array.transpose(2, 1, 0), image.get_fdata())
    with Store.open(tmp_path / "store", serving=False) as store:
        lines = list(store.audit_lines())
    assert [line.user for line in lines if line.what == "delete"] == ["ben", "anna"]
    assert sum(line.what == "read" and "ticket" in line.details for line in lines) == 2


def test_the_last_image_of_a_name_is_meant_by_it_also_when_nobody_remembers(client, tmp_path, monkeypatch, url):
    monkeypatch.setattr(images, "_KNOWN", 0)
    for value in (100, 50):
        client.upload_image(str(nifti(tmp_path / "again.nii.gz", value=value)), "again")
    last = (tmp_path / "again.nii.gz").read_bytes()
    for _ in range(2):
        assert httpx.get(f"{url}/datastore/image", params={"image": "again"}).content == last


def test_names_of_labels_can_always_be_told_and_no_file_of_a_form_is_dropped(client, url, tmp_path):
    image = nifti(tmp_path / "scan.nii.gz")
    client.upload_image(str(image), "odd")
    files = {"label": ("a.nii.gz", image.read_bytes()), "params": (None, '{"label_info": [{"name": "\\ud800"}]}')}
    assert httpx.put(f"{url}/datastore/label", params={"image": "odd"}, files=files, timeout=60).status_code == 200
    assert client.datastore()["objects"]["odd"]["labels"]["final"]["info"]["params"]["label_names"] == {"\\ud800": 1}
    two = [("files", (f"{n}.nii.gz", image.read_bytes())) for n in range(2)]
    answer = httpx.put(f"{url}/session/", files=two, timeout=60)
    assert (answer.status_code, "more than once" in answer.text) == (422, True)


def test_it_is_closed_unless_it_is_asked_for_and_to_other_pages_in_any_case(serve, url):
    client = serve()
    for path in ("/info/", "/session/", "/datastore/", "/infer/medsam_slice", "/auth/", "/ohif/", "/proxy/dicom/qido"):
        assert client.get(path).status_code == 404, path
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert httpx.post(f"{url}/infer/medsam_slice", headers=headers).status_code == 403
        assert httpx.get(f"{url}/info/", headers=headers).status_code == 403
    assert httpx.get(f"{url}/info/", headers={"Host": "evil.example"}).status_code == 421
    # nothing is served to viewers that have no pages here
    assert httpx.get(f"{url}/ohif/").status_code == 404


def test_a_full_server_says_so(client, monai, tmp_path, monkeypatch):
    image = nifti(tmp_path / "scan.nii.gz")
    session = client.create_session(str(image))["session_id"]
    monkeypatch.setattr(room, "_MOST", 0)
    with pytest.raises(monai.MONAILabelClientException, match=r"Status: 503.*try again"):
        client.infer("medsam_slice", "scan", {"foreground": [[8, 8, 1]]}, session_id=session)


def test_a_ct_that_is_larger_than_the_memory_for_scans_is_refused_with_the_numbers(small, monai, tmp_path):
    url, folder = small
    # 512 x 512 x 600 of int16, all of it the same: 300 MiB that are packed to some hundred KiB
    header = nibabel.Nifti1Header()
    header.set_data_shape((512, 512, 600))
    header.set_data_dtype(np.int16)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    header.set_sform(np.diag([0.8, 0.8, 1.0, 1.0]), 1)
    path = tmp_path / "large.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.binaryblock + b"\0" * 4)
        for _ in range(600):
            file.write(b"\0" * (512 * 512 * 2))
    client = monai.MONAILabelClient(url)
    with pytest.raises(monai.MONAILabelClientException) as refused:
        client.create_session(str(path))
    assert refused.value.status_code == 422
    assert "300 MiB" in refused.value.msg
    assert "256 MiB" in refused.value.msg
    # and nothing of it is left
    assert list((folder / "store" / "sent").iterdir()) == []
    connection = HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.putrequest("PUT", "/session/")
    connection.putheader("Content-Length", str(500 * MIB))
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert b"400 MiB" in answer.read()
    connection.close()


def test_what_is_malformed_is_refused_and_is_no_defect(url, tmp_path):
    image = nifti(tmp_path / "scan.nii.gz").read_bytes()
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    file = part % (b"file", b'; filename="../../etc/a.nii.gz"', image)

    def params(text: bytes) -> bytes:
        return part % (b"params", b"", text)

    bodies = [
        b"",
        b"--b--\r\n",
        b"--b",
        file,
        file[:-200] + b"--b--",
        params(b"[1]") + file + b"--b--",
        params(b"{") + file + b"--b--",
        params(b'{"foreground": [[NaN, 1, 1]]}') + file + b"--b--",
        params(b'{"foreground": [[1e400, 1, 1]]}') + file + b"--b--",
        params(b'{"foreground": {"a": 1}}') + file + b"--b--",
        params(b'{"roi": [1, 2, 3, 4, 5, "6"]}') + file + b"--b--",
        params(b'{"foreground": [[1, 1, 1]], "max_mm": "far"}') + file + b"--b--",
        params(b'{"foreground": [[1, 1, 1]], "max_mm": 1%s}' % (b"0" * 400)) + file + b"--b--",
        params(b'{"foreground": [[1, 1, 1]], "label_info": 3, "zoom": [[]]}') + file + b"--b--",
        params(b"[" * 100_000) + file + b"--b--",
        params(b" " * (2 * MIB)) + file + b"--b--",
        part % (b"file", b'; filename="a.nii.gz"', b"no image") + params(b'{"foreground": [[1, 1, 1]]}') + b"--b--",
        part % (b"label", b'; filename="a.exe"', b"x") + params(b"{}") + file + b"--b--",
    ]
    for path in ("/infer/medsam_slice", "/infer/medsam_volume", "/infer/medsam_scribbles"):
        for number, body in enumerate(bodies):
            answer = httpx.post(f"{url}{path}", content=body, headers=form, timeout=60)
            assert 400 <= answer.status_code < 500, (path, number, answer.text)
            assert answer.json()["detail"]
            assert "etc" not in answer.json()["detail"]
    for path in ("/session/", "/datastore/", "/datastore/label"):
        for body in (b"", b"--b--\r\n", file[:-200] + b"--b--", params(b"{}") + b"--b--"):
            answer = httpx.put(f"{url}{path}", content=body, headers=form, timeout=60)
            assert 400 <= answer.status_code < 500, (path, answer.text)
    assert httpx.post(f"{url}/infer/medsam_slice", json={}).status_code == 422
    assert httpx.put(f"{url}/session/", params={"expiry": "-1"}, headers=form, content=b"--b--").status_code == 422
    assert httpx.post(f"{url}/activelearning/first", content=b"[" * 100).status_code == 400
