"""The whole way over a real PACS: stored, found, fetched, and a result beside the scan."""

from __future__ import annotations

import json

import dicom_files
import numpy as np
import orthanc as pacs
import pytest
from dicom_files import SERIES, STUDY

from medsam.errors import InputError
from medsam.io.load import load_volume
from medsam.pacs.client import echo, find, get, store
from medsam.pacs.query import Query
from medsam.pacs.settings import Dimse

WAYS = ("dicomweb", "dimse")


@pytest.mark.parametrize("via", WAYS)
def test_a_series_is_stored_found_and_fetched_as_it_was(empty_orthanc, series, tmp_path, via):
    server = empty_orthanc.server()
    assert echo(server, via) < 20
    seen = []
    stored = store(server, [series], lambda done, total: seen.append((done, total)), via)
    assert len(stored.stored) == 6
    assert (stored.failures, stored.notes) == ((), ())
    assert seen[-1] == (6, 6)
    (study,) = find(server, Query("study", {"PatientID": "MRN-4711"}), via).matches
    assert (study.study, study.modalities, study.series_count, study.images) == (STUDY, ("CT",), 1, 6)
    assert "4711" not in repr(study)
    assert "DOE" not in repr(study)
    seen.clear()
    got = get(server, STUDY, SERIES, tmp_path / "got", lambda done, total: seen.append((done, total)), via)
    assert (got.fetched, got.kept) == (6, 0)
    assert (seen[0], seen[-1]) == ((0, 6), (6, 6))
    assert np.array_equal(load_volume(got.folders[0]).array, load_volume(series).array)


@pytest.mark.parametrize("via", WAYS)
def test_what_is_there_is_not_fetched_again_and_what_is_damaged_is(empty_orthanc, series, tmp_path, via):
    server = empty_orthanc.server()
    store(server, [series])
    (folder,) = get(server, STUDY, None, tmp_path / "got", via=via).folders
    first, second, *others = sorted(folder.iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:-200])
    before = {file: file.stat().st_mtime_ns for file in others}
    got = get(server, STUDY, SERIES, tmp_path / "got", via=via)
    assert (got.fetched, got.kept) == (2, 4)
    assert {file: file.stat().st_mtime_ns for file in others} == before
    assert np.array_equal(load_volume(folder).array, load_volume(series).array)


@pytest.mark.parametrize("via", WAYS)
def test_searches(empty_orthanc, series, tmp_path, via):
    server = empty_orthanc.server()
    odd = dicom_files.write(
        tmp_path / "odd.dcm",
        dicom_files.slices(1)[0],
        StudyInstanceUID="1.2.3.20",
        SeriesInstanceUID="1.2.3.21",
        PatientID="A^B C#1",
        StudyDescription="knee & hip",
        StudyDate="20200101",
        Modality="MR",
    )
    store(server, [series, odd])

    def studies(**keys: str) -> list[str]:
        return sorted(match.study for match in find(server, Query("study", keys), via).matches)

    assert studies() == [STUDY, "1.2.3.20"]
    assert studies(PatientID="MRN*") == [STUDY]
    assert studies(PatientID="A^B C#1") == ["1.2.3.20"]
    assert studies(PatientID="A^B C*") == ["1.2.3.20"]
    assert studies(PatientID="A^B D*") == []
    assert studies(StudyDescription="knee & hip") == ["1.2.3.20"]
    assert studies(StudyDescription="knee ? hop") == []
    assert studies(StudyDate="20240101-") == [STUDY]
    assert studies(StudyDate="20190101-20201231") == ["1.2.3.20"]
    assert studies(Modality="MR") == ["1.2.3.20"]
    assert studies(StudyInstanceUID="1.2.3.2") == [STUDY]
    found = find(server, Query("series", {"PatientID": "MRN-4711", "Modality": "CT"}), via)
    assert [(match.series, match.number, match.images) for match in found.matches] == [(SERIES, 7, 6)]
    found = find(server, Query("instance", {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES}, 4), via)
    assert (len(found.matches), found.more) == (4, True)
    assert {(match.rows, match.columns) for match in found.matches} == {(24, 20)}


@pytest.mark.parametrize("via", WAYS)
def test_what_is_not_there_is_said(empty_orthanc, series, tmp_path, via):
    server = empty_orthanc.server()
    store(server, [series])
    with pytest.raises(InputError, match="does not have this series"):
        get(server, STUDY, "1.2.3.9", tmp_path / "got", via=via)
    with pytest.raises(InputError, match="does not have this study"):
        get(server, "1.2.3.9", None, tmp_path / "got", via=via)


@pytest.mark.parametrize("via", WAYS)
def test_compressed_images_come_as_they_are_stored(empty_orthanc, tmp_path, via):
    server = empty_orthanc.server()
    plain = dicom_files.write(tmp_path / "plain.dcm", dicom_files.slices(1, 32, 32)[0])
    packed = dicom_files.pack(plain, tmp_path / "packed.dcm")
    store(server, [packed], via=via)
    (folder,) = get(server, STUDY, SERIES, tmp_path / "got", via=via).folders
    (file,) = folder.iterdir()
    assert b"1.2.840.10008.1.2.4.70" in file.read_bytes()[:400]
    assert np.array_equal(load_volume(file).array, load_volume(plain).array)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Orthanc that wants a password, and does not know our AE title."""
    with pacs.running(tmp_path_factory.mktemp("guarded"), user="reader", password="open-sesame") as server:
        yield server


def test_a_password_is_wanted_over_dicomweb(guarded, series, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"wants credentials \(HTTP 401\). Set MEDSAM_MAIN_PASSWORD"):
        echo(guarded.server(user=None))
    monkeypatch.setenv("MEDSAM_MAIN_PASSWORD", "wrong-secret")
    with pytest.raises(InputError, match=r"does not accept.*Correct MEDSAM_MAIN_PASSWORD") as caught:
        echo(guarded.server())
    assert "wrong-secret" not in str(caught.value)
    monkeypatch.setenv("MEDSAM_MAIN_PASSWORD", "open-sesame")
    server = guarded.server()
    assert len(store(server, [series]).stored) == 6
    assert get(server, STUDY, SERIES, tmp_path / "got").fetched == 6
    assert len(json.loads(guarded.rest("/studies"))) == 1


def test_an_unknown_ae_title_is_told_what_to_ask_for(guarded, series):
    server = guarded.server()
    with pytest.raises(InputError, match=r"gave no answer to C-FIND.*AE title MEDSAM"):
        find(server, Query("study"), "dimse")
    wrong = guarded.server(dimse=Dimse("127.0.0.1", guarded.dicom, "OTHER"))
    with pytest.raises(InputError, match=r"rejected the association.*It was called OTHER"):
        echo(wrong, "dimse")
