"""DIMSE with servers that refuse, fall silent or send what nobody asked for; made with pynetdicom."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dicom_files
import pytest
from dicom_files import SERIES, STUDY
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, JPEGLosslessSV1
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from medsam.errors import Cancelled, InputError
from medsam.pacs.client import echo, find, get, store
from medsam.pacs.dimse import FIND, GET, get_contexts
from medsam.pacs.outbox import Outgoing
from medsam.pacs.query import Query
from medsam.pacs.settings import Dimse, Server


class Archive:
    """A DIMSE server that has the images of a folder. What it does to each request can be replaced."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.images = [dcmread(file) for file in sorted(folder.iterdir())]
        self.find = self.usual_find
        self.get = self.usual_get
        self.store = lambda event: 0x0000
        self.stored: list[str] = []
        self.port = port

    def server(self, **changed) -> Server:
        at = Dimse("127.0.0.1", self.port, "ARCHIVE")
        return Server("archive", **({"dimse": at, "timeout_s": 5.0} | changed))

    def usual_find(self, event) -> Iterator[tuple[int, Dataset | None]]:
        level = event.identifier.QueryRetrieveLevel
        for image in self.images if level == "IMAGE" else self.images[:1]:
            answer = Dataset()
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "PatientID"):
                setattr(answer, keyword, image[keyword].value)
            yield 0xFF00, answer

    def usual_get(self, event) -> Iterator:
        wanted = event.identifier.get("SOPInstanceUID")
        images = [one for one in self.images if wanted is None or one.SOPInstanceUID in wanted]
        yield len(images)
        for image in images:
            yield 0xFF00, image


def _store(archive: Archive, event) -> int:
    status = archive.store(event)
    if status == 0:
        archive.stored.append(str(event.request.AffectedSOPInstanceUID))
    return status


@contextmanager
def answering(archive: Archive, *contexts: str, syntaxes: list[str] | None = None) -> Iterator[Archive]:
    """The archive on a free port. contexts: what it offers; by default all that it can."""
    entity = AE(ae_title="ARCHIVE")
    for context in contexts or (Verification, FIND, GET, CTImageStorage):
        roles = {"scu_role": True, "scp_role": True} if context == CTImageStorage else {}
        entity.add_supported_context(context, syntaxes if context == CTImageStorage else None, **roles)
    handlers = [
        (evt.EVT_C_FIND, lambda event: archive.find(event)),
        (evt.EVT_C_GET, lambda event: archive.get(event)),
        (evt.EVT_C_STORE, lambda event: _store(archive, event)),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    archive.port = server.server_address[1]
    try:
        yield archive
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Archive]:
    folder = dicom_files.series(tmp_path_factory.mktemp("archive") / "scan", dicom_files.slices(6, 24, 20))
    with answering(Archive(folder)) as archive:
        yield archive


@pytest.fixture
def archive(running) -> Archive:
    """One that is right, and has stored nothing."""
    running.__init__(Path(running.images[0].filename).parent, running.port)
    return running


@pytest.fixture
def series(running) -> Path:
    """What the archive has."""
    return Path(running.images[0].filename).parent


def refused(call, *arguments, **named) -> str:
    started = time.monotonic()
    with pytest.raises(InputError) as caught:
        call(*arguments, **named)
    assert time.monotonic() - started < 10
    message = str(caught.value)
    assert not any(secret in message for secret in ("DOE", "JANE", "MRN-4711", "19500101", "thorax"))
    return message


def changed(image: Dataset, **tags) -> Dataset:
    copy = dcmread(image.filename)
    for keyword, value in tags.items():
        setattr(copy, keyword, value)
    return copy


def sends(*images: Dataset):
    def answer(event):
        yield len(images)
        for image in images:
            yield 0xFF00, image

    return answer


def test_an_archive_that_is_right_is_understood(archive, series, tmp_path):
    server = archive.server()
    assert echo(server) < 5
    assert get(server, STUDY, SERIES, tmp_path / "got").fetched == 6
    assert len(store(server, [series]).stored) == 6
    assert len(set(archive.stored)) == 6


# -- searches -----------------------------------------------------------------------------------------------


def test_a_limit_ends_answers_without_end(archive):
    def endless(event):
        for number in itertools.count(1):
            answer = Dataset()
            answer.StudyInstanceUID = f"1.2.{number}"
            yield 0xFF00, answer

    archive.find = endless
    found = find(archive.server(), Query("study", {}, 5))
    assert (len(found.matches), found.more) == (5, True)


@pytest.mark.parametrize(
    ("status", "said"),
    [(0xA700, "0xA700 (out of resources)"), (0xC001, "0xC001 (it cannot"), (0xFE00, "0xFE00")],
)
def test_a_failed_search_says_its_status(archive, status, said):
    archive.find = lambda event: iter([(status, None)])
    assert said in refused(find, archive.server(), Query("study", {"PatientID": "MRN-4711"}))


def test_a_server_that_falls_silent_is_left(archive):
    over = threading.Event()

    def silent(event):
        over.wait(8)
        yield 0x0000, None

    archive.find = silent
    try:
        assert "sent nothing for 1 s" in refused(find, archive.server(timeout_s=1.0), Query("study"))
    finally:
        over.set()


def test_what_is_no_dicom_server_is_said():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        silent = Server("odd", dimse=Dimse("127.0.0.1", port, "X"), timeout_s=1.0)
        assert "without an association" in refused(echo, silent)

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        talking = threading.Thread(target=talk, daemon=True)
        # the one that was not answered before is still waiting in line
        listener.accept()[0].close()
        listener.accept()[0].close()
        talking.start()
        assert "without an association" in refused(echo, silent)
        talking.join(5)
    assert "nothing listens" in refused(echo, silent)


def test_a_host_that_nobody_knows_is_said(monkeypatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    server = Server("odd", dimse=Dimse("pacs.example", 104, "X"), dicomweb="https://pacs.example/rs", timeout_s=1.0)
    assert "there is no host pacs.example. Correct `host`" in refused(echo, server, "dimse")
    assert "there is no host pacs.example. Correct `dicomweb`" in refused(echo, server, "dicomweb")


# -- transfers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"SeriesInstanceUID": "1.2.3.77"}, "another series than was asked for"),
        ({"StudyInstanceUID": "1.2.3.77"}, "another series than was asked for"),
        ({"SOPInstanceUID": "1.2.3.77"}, "did not list"),
    ],
)
def test_images_that_nobody_asked_for_end_the_transfer(archive, tmp_path, tags, said):
    archive.get = sends(archive.images[0], changed(archive.images[1], **tags))
    assert said in refused(get, archive.server(), STUDY, SERIES, tmp_path / "got")
    assert len(list((tmp_path / "got" / SERIES).iterdir())) == 1


def test_the_same_image_for_ever_ends_the_transfer(archive, tmp_path):
    archive.get = sends(*[archive.images[0]] * 20)
    assert "again and again" in refused(get, archive.server(), STUDY, SERIES, tmp_path / "got")


def test_what_did_not_come_is_asked_for_again_by_its_uid(archive, tmp_path):
    asked = []

    def first_three(event):
        asked.append(event.identifier.QueryRetrieveLevel)
        yield from sends(*archive.images[:3])(event) if len(asked) == 1 else archive.usual_get(event)

    archive.get = first_three
    assert get(archive.server(), STUDY, SERIES, tmp_path / "got").fetched == 6
    assert asked == ["SERIES", "IMAGE"]


def test_images_that_never_come_are_counted(archive, tmp_path):
    archive.get = sends(*archive.images[:2])
    assert "did not send 4 of the 6 images" in refused(get, archive.server(), STUDY, SERIES, tmp_path / "got")


def test_an_archive_that_sends_more_than_an_image_can_have_is_left(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("medsam.pacs.query._IMAGE_BYTES", 2**16)
    large = changed(archive.images[0])
    large.add_new(0x00091010, "OB", b"\0" * 2**24)
    archive.get = sends(large)
    assert "more than any answer" in refused(get, archive.server(), STUDY, SERIES, tmp_path / "got")
    assert list((tmp_path / "got" / SERIES).iterdir()) == []


def test_a_transfer_that_is_cancelled_leaves_whole_files_and_continues(archive, tmp_path):
    def stop(done: int, total: int | None) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        get(archive.server(), STUDY, SERIES, tmp_path / "got", stop)
    assert len(list((tmp_path / "got" / SERIES).iterdir())) == 2
    got = get(archive.server(), STUDY, SERIES, tmp_path / "got")
    assert (got.fetched, got.kept) == (4, 2)


def test_contexts_never_exceed_what_an_association_carries():
    for classes in ([], [CTImageStorage], [f"1.2.3.{n}" for n in range(7)], [f"1.2.3.{n}" for n in range(200)]):
        contexts, roles = get_contexts(classes)
        assert len(contexts) <= 128
        assert {role.sop_class_uid for role in roles} == {context.abstract_syntax for context in contexts} - {GET}


# -- storing ------------------------------------------------------------------------------------------------


def test_what_was_not_stored_is_named_with_its_status(archive, series):
    statuses = iter([0xA700, 0x0000, 0xB000, 0x0000, 0xC123, 0x0000])
    archive.store = lambda event: next(statuses)
    done = store(archive.server(), [series])
    assert [failure.reason for failure in done.failures] == [
        "0xA700, out of resources",
        "0xC123, the server cannot understand it",
    ]
    # 0xB000: stored, with elements coerced
    assert len(done.stored) == 4


def test_a_server_that_only_stores_is_stored_to_and_the_user_told(series):
    with answering(Archive(series), CTImageStorage) as archive:
        done = store(archive.server(), [series])
        assert len(archive.stored) == 6
    assert any("answers no searches" in note for note in done.notes)


def test_a_server_that_takes_another_syntax_gets_it_where_nothing_is_lost(series, tmp_path):
    packed = dicom_files.pack(next(series.iterdir()), tmp_path / "packed.dcm")
    with answering(Archive(series), CTImageStorage, FIND, syntaxes=[ImplicitVRLittleEndian]) as archive:
        assert len(store(archive.server(), [series]).stored) == 6
        (failure,) = store(archive.server(), [packed]).failures
        assert "transfer syntax not supported" in failure.reason
    with answering(Archive(series), CTImageStorage, FIND, syntaxes=[JPEGLosslessSV1]) as archive:
        assert store(archive.server(), [packed]).failures == ()


def test_a_study_of_another_patient_is_not_added_to(archive, series):
    archive.images = [changed(image, PatientID="SOMEBODY-ELSE") for image in archive.images]
    assert "under another (0010,0020) Patient ID" in refused(store, archive.server(), [series])
    assert archive.stored == []


def test_files_of_many_kinds_go_in_several_associations():
    from medsam.pacs.dimse import _groups

    files = [
        Outgoing(Path(f"{n}.dcm"), "1.2", "1.3", f"1.4.{n}", f"1.5.{n}", "1.2.840.10008.1.2.1", 10) for n in range(200)
    ]
    groups = list(_groups(files))
    assert [file for group in groups for file in group] == files
    assert all(2 * len(group) <= 128 for group in groups)
