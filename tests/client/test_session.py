import threading
from contextlib import closing

import numpy as np
import pytest
from phantoms import block

from medsam.client.client import Client
from medsam.client.session import RemoteSession
from medsam.errors import InputError, PromptError
from medsam.geometry import VolumeGeometry
from medsam.inference.session import Session
from medsam.io.labels import load_labels
from medsam.prompts.limits import Limits
from medsam.volume import LabelVolume, Volume

LEFT, RIGHT = (6, 10, 0, 20, 24, 6), (34, 12, 0, 50, 30, 6)


@pytest.fixture(scope="module")
def scan() -> Volume:
    """Two bright blocks on slices 0 ... 5 of a noisy dark scan."""
    one, left = block((6, 40, 60), LEFT)
    _, right = block((6, 40, 60), RIGHT)
    noise = np.random.default_rng(0).uniform(0, 10, one.array.shape).astype(np.float32)
    return Volume(np.where(left | right, 200, 20 + noise).astype(np.float32), one.geometry)


@pytest.fixture(scope="module")
def client(live):
    with Client(live.url, live.tokens["ada"]) as client:
        yield client


@pytest.fixture(scope="module")
def case(client, scan):
    return client.upload(scan, "blocks.nrrd")


@pytest.fixture
def session(client, case):
    with client.open(case, zoom="off") as session:
        yield session


@pytest.fixture
def local(live, client, case) -> Session:
    return live.predictor.session(client.volume(case), zoom="off")


def same(remote, mine) -> None:
    np.testing.assert_array_equal(remote.mask, mine.mask)
    assert remote.predicted_iou == pytest.approx(mine.predicted_iou)


def test_a_scan_comes_back_as_it_was_uploaded(client, case, scan):
    back = client.volume(case)
    assert back.geometry == scan.geometry
    np.testing.assert_array_equal(back.array, scan.array)
    np.testing.assert_array_equal(client.slice(case, 3), scan.array[3])
    np.testing.assert_array_equal(client.slice(case, 9, axis="i"), scan.array[:, :, 9])
    assert client.geometry(case) == scan.geometry
    assert case.id in [one.id for one in client.cases("blocks")]
    assert client.load(case).state == "ready"


def test_scans_in_memory_stay_what_they_are(client, live):
    rng = np.random.default_rng(0)
    hounsfield = Volume.from_array(rng.integers(-900, 900, (3, 20, 24)).astype(np.int16), (2, 1, 1), modality="CT")
    case = client.upload(hounsfield)
    assert client.volume(case) == Volume(hounsfield.array, hounsfield.geometry)
    with client.open(case, zoom="off") as session:
        session.box(1, (4, 4, 18, 16))
        local = live.predictor.session(hounsfield, zoom="off")
        local.box(1, (4, 4, 18, 16))
        np.testing.assert_array_equal(session.wait_refined(1).mask, local.cleaned(1))
        assert "soft" in local.scan_encoder.window.name
    for picture in (rng.integers(0, 255, (20, 24)), rng.integers(0, 255, (1, 20, 24, 3))):
        made = Volume.from_array(picture.astype(np.uint8))
        assert client.volume(client.upload(made)) == made
    with pytest.raises(InputError, match="without millimetres"):
        client.upload(Volume.from_array(np.zeros((3, 20, 24))))


def test_every_kind_of_prompt_gives_what_a_session_gives(session, local, scan):
    rough = np.zeros((40, 60), dtype=bool)
    rough[12:20, 8:18] = True
    for one in (session, local):
        one.box(1, (4, 8, 55, 35))
        one.click(1, 40, 20, inside=False)
        one.lasso(2, [(4, 8), (26, 8), (26, 28), (4, 28)], "lasso")
        one.line(2, ((34, 20), (49, 20)), label="line")
        one.ellipse(3, (30, 6, 55, 36), "ellipse")
        one.mask(3, rough, "mask")
        one.mask(4, np.repeat(rough[None], 6, axis=0), "solid")
        one.click(4, 40, 20, label="click")
        one.scribble(5, [(8, 14), (16, 18)], label="stroke", width_px=2)
        one.scribble(5, [(40, 14), (45, 18)], inside=False, label="stroke", width_mm=1.5)
        one.draw(0, rough, "drawn")
        one.click(0, 17, 13, inside=False, label="drawn")
        one.draw(1, np.repeat(rough[None], 6, axis=0), "drawn")
        one.draw(2, rough, "drawn")
        assert not one.draw(2, rough & False, "drawn").mask.any()
    kinds = ("object", 1), ("lasso", 2), ("line", 2), ("ellipse", 3), ("mask", 3), ("stroke", 5), ("drawn", 0)
    for label, index in kinds:
        same(session.wait_refined(index, label), local.result(index, label))
    assert session.names == local.names
    assert session.prompts == local.prompts
    labels = session.labels
    assert (labels.names, labels.geometry) == (local.labels.names, scan.geometry)
    np.testing.assert_array_equal(labels.array, local.labels.array)
    assert session.results["lasso"].keys() == {2}
    assert {index: one.status for index, one in session.results["drawn"].items()} == {0: "refined", 1: "drawn"}


def test_steps_go_back_and_forth(session, local):
    assert not session.undo()
    first = session.box(1, (4, 8, 24, 28))
    second = session.click(1, 18, 12, inside=False)
    assert second is session.result(1)
    assert session.undo()
    np.testing.assert_array_equal(session.result(1).mask, first.mask)
    assert session.undo()
    assert session.result(1) is None
    assert not session.undo()
    assert session.redo()
    assert session.redo()
    assert not session.redo()
    np.testing.assert_array_equal(session.result(1).mask, second.mask)
    session.box(2, (4, 8, 24, 28))
    session.reset()
    assert session.results == {}
    assert session.undo()
    assert session.results["object"].keys() == {1, 2}


def test_a_step_that_is_refused_says_why_and_leaves_everything(session):
    session.box(1, (4, 8, 24, 28))
    before, revision = session.result(1), session.revision
    for step, parameter in (
        (lambda: session.click(1, 400, 20), None),
        (lambda: session.box(77, (4, 8, 24, 28)), None),
        (lambda: session.click(1, 4, 4, inside="no"), "inside"),
    ):
        with pytest.raises(PromptError) as raised:
            step()
        assert raised.value.parameter == parameter
    session.changes()
    assert session.result(1) is before
    assert session.revision == revision
    with pytest.raises(InputError, match="no mask on slice 4"):
        session.wait_refined(4)


def test_objects_are_named_coloured_hidden_and_locked(session):
    spleen = session.add("spleen")
    assert (spleen.id, spleen.visible, spleen.locked) == (spleen.id, True, False)
    session.box(1, (4, 8, 24, 28), label="Spleen")
    assert [one.name for one in session.objects if one.name.lower() == "spleen"] == ["spleen"]
    session.label = "spleen"
    assert session.rename("spleen", "left kidney").name == "left kidney"
    assert session.label == "left kidney"
    assert session.recolour("left kidney", "#00ff80").colour == "#00ff80"
    assert not session.show("left kidney", False).visible
    session.lock("left kidney")
    with pytest.raises(InputError, match="locked"):
        session.click(1, 10, 15)
    session.lock("left kidney", False)
    session.click(1, 10, 15)
    session.refresh_objects()
    (mine,) = (one for one in session.objects if one.id == spleen.id)
    assert (mine.name, mine.colour, mine.visible, mine.locked) == ("left kidney", "#00ff80", False, False)
    assert "left kidney" in session.labels.names.values()
    with pytest.raises(InputError, match="no object 'liver'"):
        session.rename("liver", "x")


def test_an_object_is_followed_slice_by_slice_and_as_one_step(session, local):
    session.box(2, (4, 8, 24, 28))
    local.box(2, (4, 8, 24, 28))
    local.propagate()
    came = dict(session.propagate())
    assert came.keys() - {2} == {0, 1, 3, 4, 5}
    assert session.results["object"].keys() == set(range(6))
    np.testing.assert_array_equal(session.labels.array, local.labels.array)
    for index in range(6):
        np.testing.assert_array_equal(session.result(index).mask, local.cleaned(index))
    assert session.undo()
    assert session.results["object"].keys() == {2}


def test_who_leaves_the_loop_stops_the_server_and_keeps_what_came(client, session):
    session.box(2, (4, 8, 24, 28))
    with closing(session.propagate()) as slices:
        came, _ = next(slices)
    # it has ended there when the loop is left: nothing comes later
    there = session.results["object"].keys()
    assert came in there
    assert client.resume(session.id).results["object"].keys() == there
    assert session.changes(wait_s=0.3) == []
    assert session.undo()
    assert session.results["object"].keys() == {2}
    with pytest.raises(PromptError, match="no prompt"):
        list(session.propagate("another"))


def test_two_who_look_at_one_session_see_the_same(client, session):
    other = client.resume(session.id)
    for n, (one, two) in enumerate([(session, other), (other, session)] * 2):
        one.box(1, (4, 8, 24 - n, 28))
        one.click(2, 10, 15 + n)
        one.undo()
        assert (("object", 1) in two.changes()) or n == 3
        np.testing.assert_array_equal(one.result(1).mask, two.result(1).mask)
        assert one.revision == two.revision
    # without asking in between: what was missed comes with the next answer
    session.box(3, (4, 8, 24, 28))
    session.box(4, (4, 8, 24, 28))
    other.box(5, (30, 8, 55, 35))
    for index in (3, 4):
        np.testing.assert_array_equal(other.result(index).mask, session.result(index).mask)


def test_changes_and_events_are_waited_for(client, session):
    session.add("object")
    other = client.resume(session.id)
    threading.Timer(0.2, lambda: other.box(1, (4, 8, 24, 28))).start()
    assert session.changes(wait_s=20) == [("object", 1)]
    since = session.revision
    threading.Timer(0.2, lambda: other.add("late")).start()
    event = next(one for one in session.events(since) if one is not None and one.kind == "objects")
    assert event.revision > since
    session.changes()
    assert "late" in session.names.values()


def test_labels_are_exported_and_probabilities_come_as_numbers(session, local, scan, tmp_path):
    for one in (session, local):
        one.box(1, (4, 8, 24, 28))
    content = session.export("nifti", tmp_path / "mask.nii.gz")
    assert (tmp_path / "mask.nii.gz").read_bytes() == content
    (mask,) = load_labels(tmp_path / "mask.nii.gz", scan.geometry).values()
    np.testing.assert_array_equal(mask, local.labels.array == 1)
    shares = session.probabilities(1)
    assert (shares.dtype, shares.shape) == (np.float16, (40, 60))
    assert shares[15, 10] > 0.5 > shares[5, 50]
    with pytest.raises(InputError, match="DICOM"):
        session.export("seg")
    with pytest.raises(InputError, match="`format`"):
        session.export("jpeg")


def test_a_session_is_open_until_it_is_closed_and_then_still_there(client, case):
    session = client.open(case, zoom="off")
    result = session.box(1, (4, 8, 24, 28))
    again = client.open(case, zoom="off")
    assert again.id == session.id
    np.testing.assert_array_equal(again.result(1).mask, result.mask)
    assert session.id in [one["id"] for one in client.sessions()]
    session.close()
    session.close()
    # what it left can be looked at
    closed = client.resume(session.id)
    np.testing.assert_array_equal(closed.result(1).mask, result.mask)
    assert closed.labels.array.any()
    with pytest.raises(InputError, match="session is closed"):
        closed.box(1, (4, 8, 24, 28))
    with client.open(case, zoom="off") as anew:
        assert anew.id != session.id
        assert anew.results == {}
    with client.open(case, zoom="off", start=session) as further:
        np.testing.assert_array_equal(further.result(1).mask, result.mask)
        assert further.undo() is False


def test_limits_and_a_start_are_kept_to(client, case, live, scan):
    start = {"left": np.zeros(scan.shape, dtype=bool)}
    start["left"][1, 10:24, 6:20] = True
    limits = Limits(editable=np.repeat((np.arange(60) < 40)[None, None], 6, 0).repeat(40, 1))
    local = live.predictor.session(client.volume(case), zoom="off", start=start, limits=limits)
    with client.open(case, zoom="off", start=start, limits=limits) as session:
        np.testing.assert_array_equal(session.result(1, "left").mask, start["left"][1])
        for one in (session, local):
            one.box(2, (30, 8, 55, 35), "right")
        np.testing.assert_array_equal(session.wait_refined(2, "right").mask, local.cleaned(2, "right"))
        assert not session.result(2, "right").mask[:, 40:].any()
        np.testing.assert_array_equal(session.labels.array, local.labels.array)


def test_a_label_map_to_start_from_is_read_as_a_session_reads_it(client, case, live, scan):
    array = np.zeros(scan.shape, dtype=np.uint8)
    array[1, 10:24, 6:20], array[2, 10:24, 6:20], array[3, 12:30, 34:50] = 1, 2, 7
    # two numbers of one name, and one without a name
    start = LabelVolume(array, scan.geometry, {1: "left", 2: "left"})
    local = live.predictor.session(client.volume(case), zoom="off", start=start)
    with client.open(case, zoom="off", start=start) as session:
        assert {name: set(found) for name, found in session.results.items()} == {"left": {1, 2}, "7": {3}}
        for name, index in (("left", 1), ("left", 2), ("7", 3)):
            np.testing.assert_array_equal(session.result(index, name).mask, local.cleaned(index, name))
    shifted = scan.geometry.affine.copy()
    shifted[0, 3] += 40
    elsewhere = VolumeGeometry(scan.shape, shifted)
    with pytest.raises(InputError, match="another grid"):
        client.open(case, zoom="off", start=LabelVolume(array, elsewhere, {1: "left"}))


def test_sessions_and_uploads_of_others_are_not_there(live, client, case, session):
    with Client(live.url, live.tokens["ben"]) as ben:
        assert case.id not in [one.id for one in ben.cases()]
        for forbidden in (
            lambda: ben.open(case),
            lambda: ben.volume(case),
            lambda: ben.resume(session.id),
            lambda: RemoteSession.export(session_of(ben, session)),
            lambda: ben.delete(case),
        ):
            with pytest.raises(InputError) as raised:
                forbidden()
            assert raised.value.status == 404
        client.share(case, "ben")
        with ben.open(case) as theirs:
            assert theirs.id != session.id
            assert theirs.results == {}
        client.share(case, "ben", may=False)
        assert case.id not in [one.id for one in ben.cases()]
        assert (ben.servers(), ben.me["role"]) == ([], "reader")
        with pytest.raises(InputError, match="PACS|server"):
            ben.find("main", modality="CT")


def session_of(client: Client, session: RemoteSession) -> RemoteSession:
    """The same session, asked about by somebody else."""
    other = object.__new__(RemoteSession)
    vars(other).update(vars(session))
    other._connection = client._connection
    return other


def test_files_are_uploaded_under_their_names_and_deleted(client, tmp_path, scan):
    from PIL import Image

    path = tmp_path / "Rönt gen.png"
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(path)
    case = client.upload(path)
    assert (case.kind, case.name) == ("upload", "Rönt gen.png")
    assert client.cases(order="newest", kind="upload", mine=True)[0].id == case.id
    assert case.id not in [one.id for one in client.cases(kind="data")]
    np.testing.assert_array_equal(client.volume(case).array[0], np.arange(12).reshape(3, 4))
    client.delete(case)
    with pytest.raises(InputError, match="case"):
        client.case(case)
    with pytest.raises(InputError, match="cannot be read"):
        client.upload(tmp_path / "missing.nii.gz")
    (tmp_path / "text.nii.gz").write_text("no scan")
    with pytest.raises(InputError):
        client.open(client.upload(tmp_path / "text.nii.gz"))


def test_an_object_is_removed_and_comes_back(session):
    session.box(1, (4, 8, 24, 28), "left")
    session.box(1, (30, 8, 55, 35), "right")
    session.forget("left")
    assert (session.names, list(session.results)) == ({2: "right"}, ["right"])
    session.undo()
    assert sorted(session.results) == ["left", "right"]
    assert session.names == {1: "left", 2: "right"}


def test_values_are_kept_to_a_range(client, session):
    session.keep_range(100)
    assert session.told["keep_range"] == [100, None]
    whole = np.ones((40, 60), bool)
    kept = session.draw(1, whole).mask
    assert kept.any()
    assert not kept.all()
    session.keep_range()
    assert session.draw(2, whole).mask.all()
    assert client.vocabulary("left kid")[0]["name"] == "kidney_left"
    assert client.thumbnail(session.case)[:4] == b"\x89PNG"


def test_slices_between_and_other_answers_are_those_of_a_session(session, local):
    for one in (session, local):
        one.box(1, (4, 8, 14, 28))
    session.wait_refined(1)
    theirs, mine = session.candidates(1), local.candidates(1)
    assert [result.predicted_iou for result in theirs] == pytest.approx([result.predicted_iou for result in mine])
    for one, other in zip(theirs, mine, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
    for one in (session, local):
        one.draw(4, one.result(1).mask)
        assert one.interpolate() == [2, 3]
    np.testing.assert_array_equal(session.labels.array, local.labels.array)
    assert [one["voxels"] for one in session.measures()] == [int((local.labels.array > 0).sum())]


def test_a_session_is_compared_with_a_file_of_its_own(session, tmp_path):
    session.draw(1, np.eye(40, 60, dtype=bool), "liver")
    session.export("nrrd", tmp_path / "liver.nrrd")
    told = session.compare(tmp_path / "liver.nrrd")
    assert [(one["object"], one["dice"]) for one in told["structures"]] == [(1, 1.0)]
    masks = session.compared_masks(told["reference"])
    np.testing.assert_array_equal(masks[1, 1].mask, session.result(1, "liver").mask)
    with pytest.raises(InputError, match="cannot be read"):
        session.compare(tmp_path / "nothing.nrrd")
