"""What is taken into the folder, and what is not."""

import json
import random
import shutil
import warnings
from io import BytesIO

import pytest
from dicom_files import dataset, slices
from pydicom.uid import ImplicitVRLittleEndian
from senders import association, send

from medsam.errors import InputError
from medsam.pacs.listen.incoming import Space
from medsam.pacs.listen.names import SeriesKey, short, without_uids
from medsam.pacs.listen.spool import Round, Spool, digest_of


def test_an_instance_that_comes_again_is_fine(serve):
    found, ds = serve(), dataset(slices(1)[0])
    assert send(found.port, [ds, ds]) == [0, 0]
    used = found.spool.space.used
    assert send(found.port, [ds]) == [0]
    assert [new for _, new in found.arrived] == [True, False, False]
    assert found.spool.space.used == used == found.files()[0].stat().st_size


def test_one_of_other_content_is_refused_and_the_first_is_kept(serve):
    found, ds = serve(), dataset(slices(1)[0])
    other = dataset(slices(1)[0] + 1, SOPInstanceUID=ds.SOPInstanceUID)
    assert send(found.port, [ds, other, ds]) == [0, 0xC001, 0]
    assert len(found.files()) == 1


def test_the_same_in_another_encoding_is_the_same(serve):
    found, ds = serve(), dataset(slices(1)[0])
    assert send(found.port, [ds]) == [0]
    again = dataset(slices(1)[0], SOPInstanceUID=ds.SOPInstanceUID, syntax=ImplicitVRLittleEndian)
    assert send(found.port, [again]) == [0]
    again.PatientComments = "another"
    assert send(found.port, [again]) == [0xC001]


def test_an_instance_without_sound_uids_is_refused(serve):
    found = serve()
    for tags in (
        {"StudyInstanceUID": None},
        {"SeriesInstanceUID": ""},
        {"SeriesInstanceUID": "1.2.3.4.5.6.A"},
        {"StudyInstanceUID": "../../../tmp"},
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert send(found.port, [dataset(slices(1)[0], **tags)]) == [0xC000]
    assert (found.files(), found.parts(), found.spool.space.used) == ([], [], 0)


def test_a_data_set_that_is_not_what_the_request_says_is_refused(serve):
    found, ds = serve(), dataset(slices(1)[0])
    ds.set_original_encoding(False, True)
    with association(found.port, [ds]) as peer:
        sent = ds.SOPInstanceUID
        ds.file_meta.MediaStorageSOPInstanceUID = sent
        original = peer.dimse.send_msg

        def lie(primitive, context_id):
            primitive.AffectedSOPInstanceUID = "1.2.3.4"
            original(primitive, context_id)

        peer.dimse.send_msg = lie
        assert peer.send_c_store(ds).Status == 0xA900
    assert found.files() == []


def test_damaged_data_sets_are_refused_or_kept_and_never_end_the_receiver(serve):
    """Bytes flipped and cut, sent as they are: an answer each, and the next one is taken."""
    from pydicom import dcmread

    found, ds = serve(), dataset(slices(1)[0], SOPInstanceUID="1.2.3.77")
    ds.set_original_encoding(False, True)
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    whole = buffer.getvalue()
    meta = dcmread(BytesIO(whole), stop_before_pixels=True).file_meta
    start = 144 + meta.FileMetaInformationGroupLength
    rng = random.Random(3)
    statuses = []
    with association(found.port, [ds]) as peer:
        original = peer.dimse.send_msg
        for _ in range(20):
            body = bytearray(whole[start:])
            for _ in range(rng.randrange(1, 6)):
                body[rng.randrange(len(body))] = rng.randrange(256)
            if rng.random() < 0.5:
                del body[rng.randrange(1, len(body)) :]

            def damaged(primitive, context_id, body=body):
                primitive.DataSet = BytesIO(bytes(body))
                original(primitive, context_id)

            peer.dimse.send_msg = damaged
            statuses.append(peer.send_c_store(ds).Status)
            for path in found.files():
                shutil.rmtree(path.parents[2])
        peer.dimse.send_msg = original
        assert peer.send_c_store(ds).Status == 0
    assert {status & 0xF000 for status in statuses} >= {0xC000}
    assert found.parts() == []


def test_a_data_set_that_ends_too_early_is_refused(serve):
    found, ds = serve(), dataset(slices(1, 300, 300)[0])
    ds.set_original_encoding(False, True)
    with association(found.port, [ds]) as peer:
        original = peer.dimse.send_msg

        def cut(primitive, context_id):
            primitive.DataSet = BytesIO(primitive.DataSet.getvalue()[:-1000])
            original(primitive, context_id)

        peer.dimse.send_msg = cut
        answer = peer.send_c_store(ds)
    assert (answer.Status, answer.ErrorComment) == (0xC000, "the data set is cut off")


def test_beyond_the_quota_an_instance_is_refused_as_out_of_resources(serve):
    some = [dataset(pixels) for pixels in slices(4, 32, 32)]
    found = serve(quota=7000)
    assert send(found.port, some) == [0, 0, 0xA700, 0xA700]
    assert len(found.files()) == 2
    assert found.parts() == []
    assert found.spool.space.used == sum(path.stat().st_size for path in found.files())


def test_the_disk_is_never_filled(serve):
    found = serve(keep_free=2**60)
    assert send(found.port, [dataset(slices(1)[0])]) == [0xA700]


def test_what_is_on_the_disk_counts_from_the_start(serve, tmp_path):
    found = serve()
    send(found.port, [dataset(slices(1)[0])])
    used = found.spool.space.used
    found.spool.close()
    assert Spool(found.spool.folder, 2**30, 0).space.used == used > 0


# -- the folder -------------------------------------------------------------------------------------------------------


def test_the_folder_is_its_owners(tmp_path):
    folder = tmp_path / "there"
    folder.mkdir(mode=0o755)
    Spool(folder, 1, 0)
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "series", folder / "failed")] == [0o700] * 3


def test_one_receiver_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("medsam.pacs.listen.spool._LOCK_WAIT_S", 0.0)
    first = Spool(tmp_path, 1, 0)
    with pytest.raises(InputError, match="Another receiver"):
        Spool(tmp_path, 1, 0)
    first.close()
    Spool(tmp_path, 1, 0).close()


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="folder"):
        Spool(tmp_path / "file", 1, 0)


def test_what_was_arriving_is_gone_after_a_restart(tmp_path):
    spool = Spool(tmp_path, 1, 0)
    spool.part_path().write_bytes(b"half")
    (spool.work_folder() / "in").mkdir()
    spool.close()
    spool = Spool(tmp_path, 1, 0)
    assert [*(tmp_path / ".incoming").iterdir(), *(tmp_path / ".work").iterdir()] == []
    assert spool.space.used == 0


def test_rounds_are_kept(tmp_path):
    spool = Spool(tmp_path, 2**20, 0)
    series = spool.find(SeriesKey("1.2", "1.3"))
    series.instances.mkdir(parents=True)
    (series.instances / "1.4.dcm").write_bytes(b"image")
    made = Round(1, 1, digest_of(series.files()), "done", "lung", send={"server": "main", "state": "waiting"})
    series.record([made])
    assert [one.key for one in spool.series()] == [series.key]
    assert spool.find(series.key).rounds() == [made]
    (series.path / "series.json").write_text("{")
    assert series.rounds() == []


def test_records_of_a_later_version_are_read(tmp_path):
    spool = Spool(tmp_path, 2**20, 0)
    series = spool.find(SeriesKey("1.2", "1.3"))
    series.path.mkdir(parents=True)
    document = {"rounds": [{"number": 1, "instances": 1, "digest": "d", "state": "done", "colour": "blue"}]}
    (series.path / "series.json").write_text(json.dumps(document))
    assert series.rounds() == [Round(1, 1, "d", "done")]


def test_what_was_being_written_is_gone_after_a_restart(tmp_path):
    Spool(tmp_path, 1, 0).close()
    for place in ("", "failed", "series/1.2/1.3"):
        (tmp_path / place / ".medsam-x").mkdir(parents=True)
    Spool(tmp_path, 1, 0).close()
    assert list(tmp_path.rglob(".medsam-*")) == []


def test_a_series_to_which_more_has_come_is_not_removed(tmp_path):
    spool = Spool(tmp_path, 2**20, 0)
    series = spool.find(SeriesKey("1.2", "1.3"))
    series.instances.mkdir(parents=True)
    (series.instances / "1.4.dcm").write_bytes(b"image")
    assert spool.remove(series, "another") is None
    assert series.files()
    assert spool.remove(series, digest_of(series.files())) == 5
    assert not (tmp_path / "series" / "1.2").exists()


def test_space_is_given_and_taken(tmp_path):
    space = Space(tmp_path, 10, 0)
    assert space.take(6)
    assert not space.take(5)
    space.give(6)
    assert space.take(10)


def test_a_log_says_short_ids_for_uids_in_names_of_files():
    uid = "1.2.840.113619.2.55.3"
    assert without_uids(f"/a/{uid}/{uid}.4.dcm is 0.9765625 mm, 127.0.0.1") == (
        f"/a/{short(uid)}/{short(uid + '.4')}.dcm is 0.9765625 mm, 127.0.0.1"
    )


def test_short_ids_are_the_same_for_the_same_uid():
    assert short("1.2.3") == short("1.2.3") != short("1.2.4")
    assert "1.2.3" not in short("1.2.3")
