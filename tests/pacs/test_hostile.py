"""Servers that answer wrongly, on purpose or not: an error of ours or the right answer, soon, and nothing by half."""

from __future__ import annotations

import gzip
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import web_stub
from dicom_files import SERIES, STUDY
from pydicom import Dataset
from web_stub import JSON, MULTIPART, Reply, Stub, as_json, encoded, multipart

from medsam.errors import Cancelled, InputError
from medsam.io.load import load_volume
from medsam.pacs import web_session
from medsam.pacs.client import Got, echo, find, get, store
from medsam.pacs.query import Query
from medsam.pacs.scan import fetched
from medsam.pacs.settings import Server

WHOLE = f"/rs/studies/{STUDY}/series/{SERIES}"
ONE = f"{WHOLE}/instances/"
LIST = f"{WHOLE}/instances?"


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(web_session, "WAITS", (0.01, 0.01))


@pytest.fixture
def stub(series) -> Iterator[Stub]:
    with web_stub.serving(Stub(series)) as running:
        yield running


def refused(call, *arguments, **named) -> str:
    """The error of a call, which takes no time and says nothing of the patient or of what was searched for."""
    started = time.monotonic()
    with pytest.raises(InputError) as caught:
        call(*arguments, **named)
    assert time.monotonic() - started < 10
    message = str(caught.value)
    assert not any(secret in message for secret in ("DOE", "JANE", "MRN-4711", "19500101", "thorax", "rs/studies"))
    return message


def fetch(stub: Stub, folder: Path) -> Got:
    return get(stub.server(), STUDY, SERIES, folder / "got")


def files(folder: Path) -> list[Path]:
    """Every file and folder below the one that was fetched into."""
    return sorted(folder.rglob("*")) if folder.exists() else []


def test_a_server_that_is_right_is_understood(stub, tmp_path):
    assert fetch(stub, tmp_path).fetched == 6
    assert len(find(stub.server(), Query("study", {"PatientID": "MRN*"})).matches) == 1
    # the wildcard as it is: hidden as %2A, Orthanc does not find it
    assert any("PatientID=MRN*" in asked for asked in stub.asked)


# -- searches -----------------------------------------------------------------------------------------------


def endless(piece: bytes) -> Iterator[bytes]:
    return itertools.repeat(piece)


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (lambda: Reply(b"<html>log in</html>", kind="text/html"), "not DICOMweb"),
        (lambda: Reply(b"{", kind=JSON), "not DICOMweb"),
        (lambda: Reply(b'"text"'), "not DICOMweb"),
        (lambda: Reply(b"[1, 2]"), "not DICOMweb"),
        (lambda: Reply(deep(100_000)), "not DICOMweb"),
        (lambda: Reply(b"[" + b"9" * 10_000 + b"]"), "not DICOMweb"),
        (lambda: Reply(endless(b" " * 65536)), "sends more than any answer of this kind can have"),
        (lambda: Reply(b"[]", length=100), "broke off the connection"),
        (lambda: Reply(gzip.compress(b" " * 10**8), Content_Encoding="gzip"), "sends more than any answer"),
        (lambda: Reply(status=302, Location="http://127.0.0.1:1/elsewhere"), "not followed"),
        (lambda: Reply(status=401), "wants credentials (HTTP 401). Set MEDSAM_STUB_PASSWORD"),
        (lambda: Reply(status=403), "without credentials (HTTP 403). Set MEDSAM_STUB_PASSWORD"),
        (lambda: Reply(status=404), "(HTTP 404)"),
        (lambda: Reply(b"DOE^JANE in a trace", status=500), "refuses the search (HTTP 500)"),
        (lambda: Reply(status=503, Retry_After="0"), "overloaded or down (HTTP 503)"),
    ],
)
def test_a_wrong_answer_to_a_search_is_one_error(stub, reply, said, monkeypatch):
    monkeypatch.setattr("medsam.pacs.dicomweb.ANSWER_BYTES", 2**22)
    stub.rules["GET", "/rs/studies"] = lambda path: reply()
    assert said in refused(find, stub.server(), Query("study", {"PatientID": "MRN-4711"}))


def test_a_server_that_was_busy_is_asked_again(stub):
    answers = iter([Reply(status=503), Reply(b"[]", length=9)])
    stub.rules["GET", "/rs/studies"] = lambda path: next(answers, None)
    assert len(find(stub.server(), Query("study")).matches) == 1
    assert len(stub.asked) == 3


def test_a_server_that_says_nothing_or_hardly_anything_is_left(stub, monkeypatch):
    def drip() -> Iterator[bytes]:
        while True:
            time.sleep(0.05)
            yield b" "

    stub.rules["GET", "/rs/studies"] = lambda path: Reply(drip())
    monkeypatch.setattr(web_session, "_SLOW_S", 0.3)
    assert "sends less than 60 kB" in refused(echo, stub.server())
    stub.rules["GET", "/rs/studies"] = lambda path: time.sleep(1.5)
    assert "did not answer within 1 s" in refused(echo, stub.server(timeout_s=1.0))


def test_matches_for_something_else_and_those_without_a_uid_are_no_answer(stub):
    other = Dataset()
    other.StudyInstanceUID, other.PatientID = "1.2.3.99", "SOMEBODY-ELSE"
    bad = {"0020000D": {"vr": "UI", "Value": ["../../etc/passwd"]}}
    stub.rules["GET", "/rs/studies?"] = lambda path: as_json([other.to_json_dict(), bad, *stub.listed("studies")])
    found = find(stub.server(), Query("study", {"StudyInstanceUID": STUDY}))
    assert [match.study for match in found.matches] == [STUDY]
    assert found.left_out == 1
    found = find(stub.server(), Query("study", {"PatientID": "MRN-4711"}))
    assert [match.study for match in found.matches] == [STUDY]


def test_a_limit_holds_whatever_the_server_sends(stub):
    many = [{"0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]}} for number in range(500)]
    stub.rules["GET", "/rs/studies"] = lambda path: as_json(many)
    found = find(stub.server(), Query("study", {}, 10))
    assert (len(found.matches), found.more) == (10, True)


@pytest.mark.parametrize("knows_offsets", [True, False])
def test_lists_come_in_pages(stub, tmp_path, knows_offsets):
    def page(path: str) -> Reply:
        keys = dict(key.split("=") for key in path.partition("?")[2].split("&") if "=" in key)
        start = int(keys.get("offset", 0)) if knows_offsets else 0
        return as_json(stub.listed("instances")[start : start + (2 if knows_offsets else 6)])

    stub.rules["GET", LIST] = page
    assert fetch(stub, tmp_path).fetched == 6


def test_what_a_server_writes_is_safe_to_print(stub):
    rude = {
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00080061": {"vr": "CS", "Value": ["CT\x1b[2J", 5, None]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A\x1b]0;x\x07"}]},
        "00201208": {"vr": "IS", "Value": ["many"]},
    }
    stub.rules["GET", "/rs/studies"] = lambda path: as_json([rude])
    (match,) = find(stub.server(), Query("study")).matches
    assert match.modalities[0] == "CT\\x1b[2J"
    assert match.images is None
    assert "\x1b" not in match.patient_name


def test_credentials_go_to_the_server_alone(stub, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login netrc password netrc")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    find(stub.server(), Query("study"))
    assert stub.auth == [None]
    monkeypatch.setenv("MEDSAM_STUB_TOKEN", "abc")
    find(stub.server(), Query("study"))
    assert stub.auth[-1] == "Bearer abc"
    # a redirection is refused before it is followed
    with web_stub.serving(Stub(Path(stub.images[0].filename).parent)) as elsewhere:
        stub.rules["GET", "/rs/studies"] = lambda path: Reply(status=307, Location=elsewhere.url + "/studies")
        refused(find, stub.server(), Query("study"))
        assert elsewhere.asked == []


# -- transfers ----------------------------------------------------------------------------------------------


def changed(image: Dataset, **tags) -> bytes:
    copy = Dataset()
    copy.update(image)
    copy.file_meta = image.file_meta
    for keyword, value in tags.items():
        setattr(copy, keyword, value)
    return encoded(copy)


def climbing(image: Dataset) -> bytes:
    """An image whose UID would lead out of the folder."""
    uid = image.SOPInstanceUID.encode()
    return encoded(image).replace(uid, b"../../x".ljust(len(uid), b"x"))


@pytest.mark.parametrize("where", [WHOLE, LIST])
def test_lists_with_strange_uids_fetch_nothing(stub, tmp_path, where):
    evil = Dataset()
    evil.StudyInstanceUID, evil.SeriesInstanceUID = STUDY, SERIES
    listed = [evil.to_json_dict() | {"00080018": {"vr": "UI", "Value": ["../../x"]}}]
    stub.rules["GET", LIST] = lambda path: as_json(listed)
    assert "without a valid UID" in refused(fetch, stub, tmp_path)
    assert files(tmp_path / "got") == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (lambda images: multipart([changed(images[0], SeriesInstanceUID="1.2.3.77")]), "another series than was asked"),
        (lambda images: multipart([changed(images[0], StudyInstanceUID="1.2.3.77")]), "another series than was asked"),
        (lambda images: multipart([changed(images[0], SOPInstanceUID="1.2.3.77")]), "did not list"),
        (lambda images: multipart([climbing(images[0])]), "is missing or is none"),
        (lambda images: multipart([encoded(images[0])] * 20), "again and again"),
        (lambda images: multipart([b"<html></html>"]), "not DICOMweb"),
        (lambda images: b"nothing of the kind", "in the middle of an image"),
        (lambda images: endless(b"\0" * 65536), "sends more than"),
        (lambda images: itertools.chain([multipart([], b"\r\n\r\n")], endless(b"\0" * 65536)), "sends more than"),
    ],
)
def test_a_wrong_image_ends_the_transfer(stub, tmp_path, body, said, monkeypatch):
    monkeypatch.setattr("medsam.pacs.dicomweb._ONE_BY_ONE", 2)
    monkeypatch.setattr("medsam.pacs.query.ANSWER_BYTES", 2**22)
    stub.rules["GET", WHOLE] = lambda path: None if "?" in path else Reply(body(stub.images), kind=MULTIPART)
    assert said in refused(fetch, stub, tmp_path)
    left = [path for path in files(tmp_path) if path.is_file() and path.suffix == ".dcm"]
    assert all(path.parent == tmp_path / "got" / SERIES for path in left)
    assert not [path for path in files(tmp_path) if path.name.startswith(".medsam")]


@pytest.mark.parametrize(
    "reply",
    [
        lambda images: Reply(multipart(map(encoded, images[:3])), kind=MULTIPART),
        # the last part is cut, and the end of the message with it
        lambda images: Reply(multipart(map(encoded, images))[:-300], kind=MULTIPART),
        # the connection breaks
        lambda images: Reply(multipart(map(encoded, images))[:3000], kind=MULTIPART, length=100_000),
        lambda images: Reply(status=503),
    ],
)
def test_what_a_broken_transfer_left_out_is_asked_for_again(stub, tmp_path, reply, monkeypatch):
    monkeypatch.setattr("medsam.pacs.dicomweb._ONE_BY_ONE", 2)
    broken = [reply(stub.images)]
    stub.rules["GET", WHOLE] = lambda path: broken.pop() if broken and "/instances" not in path else None
    assert fetch(stub, tmp_path).fetched == 6
    assert len(list((tmp_path / "got" / SERIES).glob("*.dcm"))) == 6


def test_an_image_that_is_cut_within_a_whole_answer_is_not_kept(stub, tmp_path):
    broken = [Reply(multipart([encoded(stub.images[0])[:-300]]), kind=MULTIPART)]
    stub.rules["GET", ONE] = lambda path: broken.pop() if broken else None
    assert "cut off within (7FE0,0010)" in refused(fetch, stub, tmp_path)
    assert files(tmp_path / "got" / SERIES) == []
    assert fetch(stub, tmp_path).fetched == 6


def test_images_that_never_come_are_counted_and_the_others_stay(stub, tmp_path):
    stub.rules["GET", ONE] = lambda path: Reply(multipart([encoded(stub.images[0])]), kind=MULTIPART)
    message = refused(fetch, stub, tmp_path)
    assert "did not send 5 of the 6 images" in message
    assert len(list((tmp_path / "got" / SERIES).glob("*.dcm"))) == 1


def test_an_image_without_an_envelope_is_taken(stub, tmp_path):
    def bare(path: str) -> Reply:
        uid = path.rpartition("/")[2]
        return Reply(encoded(next(one for one in stub.images if one.SOPInstanceUID == uid)), kind="application/dicom")

    stub.rules["GET", ONE] = bare
    assert fetch(stub, tmp_path).fetched == 6


def test_a_transfer_that_is_cancelled_leaves_whole_files_and_continues(stub, tmp_path):
    def stop(done: int, total: int | None) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        get(stub.server(), STUDY, SERIES, tmp_path / "got", stop)
    assert len(files(tmp_path / "got" / SERIES)) == 2
    got = fetch(stub, tmp_path)
    assert (got.fetched, got.kept) == (4, 2)


# -- storing ------------------------------------------------------------------------------------------------


def item(image: Dataset, reason: int | None = None) -> dict:
    found = Dataset()
    found.ReferencedSOPInstanceUID = image.SOPInstanceUID
    if reason is not None:
        found.FailureReason = reason
    return found.to_json_dict()


def answer(stored: list[dict], failed: list[dict]) -> bytes:
    return json.dumps({"00081199": {"vr": "SQ", "Value": stored}, "00081198": {"vr": "SQ", "Value": failed}}).encode()


@pytest.mark.parametrize(
    ("reply", "failed", "reason"),
    [
        (lambda images: Reply(answer([item(one) for one in images], [])), 0, ""),
        (lambda images: Reply(answer([], []), kind="application/dicom+json; charset=utf-8"), 0, ""),
        (lambda images: Reply(b"<html/>", kind="text/html"), 0, ""),
        (
            lambda images: Reply(answer([item(one) for one in images[1:]], [item(images[0], 0xA700)]), 202),
            1,
            "0xA700, out of resources",
        ),
        (
            lambda images: Reply(answer([], [item(one, 0x0122) for one in images]), 409),
            6,
            "0x0122, SOP class not supported",
        ),
        (lambda images: Reply(answer([item(one) for one in images[1:]], []), 202), 1, "does not say which"),
        (lambda images: Reply(b"oops", 202), 6, "does not say which"),
        (lambda images: Reply(b"", 409), 6, "HTTP 409, without a reason"),
    ],
)
def test_what_was_not_stored_is_named_with_its_reason(stub, series, reply, failed, reason):
    stub.rules["POST", "/rs/studies"] = lambda path: reply(stub.images)
    done = store(stub.server(), [series])
    assert len(done.failures) == failed
    assert len(done.stored) == 6 - failed
    assert all(reason in failure.reason for failure in done.failures)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(status=413), "so large a message (HTTP 413)"),
        (Reply(status=401), "(HTTP 401)"),
        (Reply(status=500), "refuses the storing (HTTP 500)"),
    ],
)
def test_a_refusal_of_everything_is_one_error(stub, series, reply, said):
    stub.rules["POST", "/rs/studies"] = lambda path: reply
    assert said in refused(store, stub.server(), [series])


def test_a_study_of_another_patient_is_not_added_to(stub, series):
    other = stub.listed("studies")[0] | {"00100020": {"vr": "LO", "Value": ["SOMEBODY-ELSE"]}}
    stub.rules["GET", "/rs/studies?"] = lambda path: as_json([other])
    assert "under another (0010,0020) Patient ID" in refused(store, stub.server(), [series])
    assert not any(asked.startswith("POST") for asked in stub.asked)


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_server(stub, tmp_path, monkeypatch):
    (tmp_path / "got").write_text("a file")
    assert "got/1.2.3.1 cannot be written: Not a directory" in refused(fetch, stub, tmp_path)
    (tmp_path / "got").unlink()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medsam.pacs.inbox.write_whole", full)
    assert "cannot be written: No space left on device" in refused(fetch, stub, tmp_path)


def test_what_is_meant_for_this_machine_goes_to_no_proxy(stub, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert len(find(stub.server(), Query("study")).matches) == 1


def test_a_fetched_scan_is_its_owners_alone_and_gone_in_the_end(stub, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = tmp_path / "settings.toml"
    settings.write_text(f"[servers.stub]\ndicomweb = '{stub.url}'\n")
    monkeypatch.setenv("MEDSAM_SETTINGS", str(settings))
    before = files(tmp_path)
    with fetched(f"dicomweb:stub/{STUDY}/{SERIES}") as series:
        assert series.folder.name == SERIES
        assert series.folder.parent.stat().st_mode & 0o777 == 0o700
        assert len(load_volume(series.folder).array) == 6
    assert files(tmp_path) == before

    def interrupted(done: int, total: int | None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), fetched(f"dicomweb:stub/{STUDY}/{SERIES}", progress=interrupted):
        pass
    assert files(tmp_path) == before


def test_a_proxy_that_is_not_there_is_said_without_its_password(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    for name in ("https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = Server("far", "https://pacs.invalid/dicom-web")
    with pytest.raises(InputError, match="the proxy that the environment names") as caught:
        echo(server)
    assert "secret" not in str(caught.value)
