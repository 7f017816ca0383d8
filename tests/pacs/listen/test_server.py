"""The port: who gets in, and what a peer can do that means no good."""

import contextlib
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from dicom_files import dataset, slices
from pydicom import dcmread
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    generate_uid,
)
from pynetdicom import AE, build_context
from senders import associate_request, association, pdata, send, store_request

from medsam.errors import InputError
from medsam.pacs.listen.names import SeriesKey

LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"


@pytest.fixture
def images():
    return [dataset(pixels) for pixels in slices(3, 16, 16)]


def test_instances_lie_under_their_uids_as_they_were_sent(serve, images):
    found = serve()
    assert send(found.port, images) == [0, 0, 0]
    assert [path.stem for path in found.files()] == sorted(ds.SOPInstanceUID for ds in images)
    assert all(path.parts[-4:-1] == ("1.2.3.2", "1.2.3.1", "instances") for path in found.files())
    for ds in images:
        there = dcmread(found.spool.find(SeriesKey("1.2.3.2", "1.2.3.1")).instances / f"{ds.SOPInstanceUID}.dcm")
        assert there == ds
        assert there.file_meta.SourceApplicationEntityTitle == "CT1"
        assert there.file_meta.TransferSyntaxUID == ds.file_meta.TransferSyntaxUID
    assert [new for _, new in found.arrived] == [True] * 3
    assert found.parts() == []
    assert found.transfers == [True, False] * 3


def test_echo_is_answered(serve):
    with association(serve().port) as peer:
        assert peer.send_c_echo().Status == 0


def test_encodings_that_we_read_are_taken(serve):
    found = serve()
    syntaxes = [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]
    some = [dataset(slices(1, 16, 16)[0], syntax=syntax) for syntax in syntaxes]
    packed = dataset(slices(1, 16, 16)[0])
    packed.compress(RLELossless)
    assert [send(found.port, [ds]) for ds in (*some, packed)] == [[0]] * 4
    assert len(found.files()) == 4


def test_label_maps_are_taken(serve):
    assert send(serve().port, [dataset(slices(1)[0], SOPClassUID=LABELMAP, Modality="SEG")]) == [0]


def test_other_titles_do_not_get_in(serve):
    found = serve()
    for calling, called in (("STRANGER", "MEDSAM"), ("CT1", "ANY-SCP"), ("CT1", "medsam")):
        with association(found.port, calling=calling, called=called) as peer:
            assert peer.is_rejected
    other = "it calls another AE title than ours"
    assert found.refused == ["its AE title is not let in", other, other]


def test_an_empty_list_lets_nobody_in(serve):
    found = serve(calling=())
    with association(found.port) as peer:
        assert peer.is_rejected
    assert found.refused == ["nobody is let in"]


def test_private_classes_are_refused_unless_named(serve, images):
    private = generate_uid("1.3.6.1.4.1.99999.1.")
    images[0].SOPClassUID = private
    with association(serve().port, images[:1]) as peer:
        assert private not in [context.abstract_syntax for context in peer.accepted_contexts]
    found = serve(classes=(private,))
    assert send(found.port, images[:1]) == [0]


def test_too_many_associations_are_turned_away_and_others_go_on(serve, images):
    found = serve(associations=2)
    with association(found.port, images) as one, association(found.port) as two:
        assert one.is_established
        assert two.is_established
        with association(found.port) as three:
            assert three.is_rejected
        assert one.send_c_store(images[0]).Status == 0
    swept(found)
    with association(found.port) as four:
        assert four.is_established


def test_many_senders_at_once(serve):
    found = serve(associations=10)
    series = [
        [
            dataset(pixels, SeriesInstanceUID=f"1.2.3.{n}", SOPInstanceUID=f"1.2.3.{n}.{k}")
            for k, pixels in enumerate(slices(4))
        ]
        for n in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda some: send(found.port, some), series)) == [[0] * 4] * 8
    assert len(found.files()) == 32


def test_the_port_is_taken(serve):
    found = serve()
    with pytest.raises(InputError, match="port"):
        serve(port=found.port)


# -- peers that mean no good ------------------------------------------------------------------------------------------


def swept(found) -> None:
    """Wait until all associations have ended, and clear away after them."""
    end = time.monotonic() + 10
    while found.server.associations:
        assert time.monotonic() < end
        time.sleep(0.01)
    found.server.sweep()


def still_serves(found, images) -> bool:
    return send(found.port, images) == [0] * len(images)


def test_a_pdu_of_four_gigabytes_is_not_waited_for(serve, peer, images):
    found = serve(timeout_s=0.4)
    assert peer(found.port).send(struct.pack(">BxL", 1, 2**32 - 1)).is_dropped(2)
    assert peer(found.port).associate().send(struct.pack(">BxL", 4, 2**31)).is_dropped(2)
    assert still_serves(found, images)


def test_a_peer_that_stops_before_it_has_asked_is_dropped(serve, peer, images):
    found = serve(timeout_s=0.3)
    silent = [peer(found.port).send(sent) for sent in (b"", b"\1\0", associate_request()[:60])]
    assert all(one.is_dropped(3) for one in silent)
    assert still_serves(found, images)


def test_a_peer_that_stops_in_the_middle_of_an_instance_leaves_nothing(serve, peer, images):
    found = serve(timeout_s=0.3)
    silent = peer(found.port).associate().send(pdata(store_request(), command=True, last=True))
    silent.send(pdata(b"\x08\x00\x05\x00" * 100, command=False, last=False))
    assert silent.is_dropped(3)
    swept(found)
    assert found.parts() == []
    assert found.files() == []
    assert found.spool.space.used == 0
    assert still_serves(found, images)


def test_a_peer_that_is_cut_off_leaves_nothing(serve, peer, images):
    found = serve()
    one = peer(found.port).associate().send(pdata(store_request(), command=True, last=True))
    one.send(pdata(b"\x08\x00\x05\x00" * 100, command=False, last=False))
    one.socket.close()
    swept(found)
    assert (found.parts(), found.files(), len(found.gone)) == ([], [], 1)


def test_a_byte_now_and_then_is_no_transfer(serve, peer):
    found = serve(timeout_s=0.3)
    slow = peer(found.port).associate().send(pdata(store_request(), command=True, last=True))
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() < began + 5:
            slow.send(pdata(b"\x08\x00", command=False, last=False))
            time.sleep(0.05)
    assert time.monotonic() < began + 3
    assert "too slow" in found.refused[0]


def test_an_instance_beyond_the_limit_ends_the_association(serve, peer, images):
    found = serve(limit=4096)
    big = peer(found.port).associate().send(pdata(store_request(), command=True, last=True))
    with contextlib.suppress(OSError):
        for _ in range(1000):
            big.send(pdata(b"\0" * 1000, command=False, last=False))
            time.sleep(0.002)
        pytest.fail("it went on")
    assert found.parts() == []
    assert still_serves(found, images)


def test_damaged_messages_end_the_association_alone(serve, peer, images):
    query = store_request(sop_class="1.2.840.10008.5.1.4.1.2.2.1")
    messages = {
        "noise": [pdata(b"\xff" * 200, command=True, last=True)],
        "no command": [pdata(b"\0" * 40, command=False, last=True)],
        "empty": [pdata(b"", command=True, last=True)],
        "no content": [b"\4\0\0\0\0\6\0\0\0\1\1\0"],
        "endless command": [pdata(b"\0" * 60000, command=True, last=False)] * 2,
        "unknown PDU": [b"\x09\0\0\0\0\0"],
        "query": [pdata(query, command=True, last=True), pdata(b"12", command=False, last=True)],
    }
    found = serve()
    for name, pieces in messages.items():
        bad = peer(found.port).associate()
        with contextlib.suppress(OSError):
            bad.send(*pieces)
        assert bad.is_dropped(5), name
    assert found.files() == []
    assert still_serves(found, images)
    swept(found)
    assert found.parts() == []


def test_what_is_no_uid_never_becomes_a_name(serve, peer, tmp_path):
    found = serve()
    before = sorted(tmp_path.rglob("*"))
    for uid in ("../../../etc/passwd", "1.2/3", "..", "/tmp/x", "1.2.3.\n", "DOE^JANE", "1" * 65):
        bad = peer(found.port).associate().send(pdata(store_request(uid), command=True, last=True))
        bad.send(pdata(b"\x08\x00\x18\x00\x02\0\0\x001.", command=False, last=True))
        answer = bad.socket.recv(4096)
        # either it is told so, or the association has ended
        assert not answer or answer[0] in (4, 7)
        bad.socket.close()
    assert found.files() == []
    swept(found)
    assert sorted(tmp_path.rglob("*")) == before


def test_connections_that_ask_for_nothing_are_limited(serve, peer, images):
    found = serve(associations=1, timeout_s=0.5)
    silent = [peer(found.port) for _ in range(30)]
    assert any(one.is_dropped(0.3) for one in silent[-5:])
    assert "too many connections" in found.refused
    for one in silent:
        one.socket.close()
    gone = time.monotonic() + 5
    while found.server.associations and time.monotonic() < gone:
        time.sleep(0.02)
    assert still_serves(found, images)


def test_an_instance_of_another_class_than_agreed_upon_is_refused(serve, images):
    found = serve()
    entity = AE("CT1")
    peer = entity.associate(
        "127.0.0.1", found.port, [build_context(CTImageStorage, "1.2.840.10008.1.2.1")], ae_title="MEDSAM"
    )
    # what pynetdicom as a client would not do itself
    peer._accepted_cx[1]._abstract_syntax = MRImageStorage
    images[0].SOPClassUID = MRImageStorage
    assert peer.send_c_store(images[0]).Status == 0xA900
    peer.release()
    assert found.files() == []


def test_stopping_lets_an_instance_that_is_under_way_end(serve, peer):
    found = serve()
    one = peer(found.port).associate().send(pdata(store_request(), command=True, last=True))
    body = b"".join(
        struct.pack("<HHL", *tag, len(value)) + value
        for tag, value in [
            ((8, 0x16), CTImageStorage.encode() + b"\0"),
            ((8, 0x18), b"1.2.3.9\0"),
            ((0x20, 0xD), b"1.2.3.2\0"),
            ((0x20, 0xE), b"1.2.3.1\0"),
        ]
    )
    one.send(pdata(body[:50], command=False, last=False))
    time.sleep(0.1)
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(found.server.stop, 5)
        time.sleep(0.2)
        one.send(pdata(body[50:], command=False, last=True))
        stopped.result(6)
    assert [path.name for path in found.files()] == ["1.2.3.9.dcm"]
