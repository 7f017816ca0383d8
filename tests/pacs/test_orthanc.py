"""The whole way over a real PACS: stored, found, fetched, and a result beside the scan."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path

import dicom_files
import numpy as np
import orthanc as pacs
import pydicom
import pytest
from dicom_files import SERIES, STUDY
from tls_proxy import Authority, Issued, proxied

from medsam.cli.main import main
from medsam.errors import InputError
from medsam.io.labels import load_labels
from medsam.io.load import load_volume
from medsam.pacs.client import echo, find, get, store
from medsam.pacs.query import Query
from medsam.pacs.settings import Certificates, Dimse

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


# -- the command line ---------------------------------------------------------------------------------------


@pytest.fixture
def main_server(empty_orthanc, tmp_path, monkeypatch):
    """A settings file that names Orthanc, and the test in a folder of its own."""
    path = tmp_path / "settings.toml"
    path.write_text(
        f"[servers.main]\ndicomweb = '{empty_orthanc.dicomweb}'\nhost = '127.0.0.1'\nport = {empty_orthanc.dicom}\n"
        f"called_aet = '{empty_orthanc.aet}'\n"
    )
    monkeypatch.setenv("MEDSAM_SETTINGS", str(path))
    monkeypatch.chdir(tmp_path)
    return empty_orthanc


SECRETS = ("DOE", "JANE", "MRN-4711", "19500101", "20240229", "thorax")


def told(capsys, *words: object, code: int = 0) -> str:
    """What a command prints to both streams; nothing about the patient."""
    assert main([str(word) for word in words]) == code
    both = capsys.readouterr()
    assert not any(secret in both.out + both.err for secret in SECRETS)
    return both.out + both.err


@pytest.mark.parametrize("via", WAYS)
def test_the_commands_say_what_a_user_needs_and_nothing_of_the_patient(main_server, series, capsys, via):
    over = ("--via", via)
    assert f"over {via}" in told(capsys, "pacs", "echo", "main", *over)
    assert "stored 6 files on main" in told(capsys, "pacs", "store", "main", series, *over)
    assert f"{STUDY}  CT               1       6" in told(capsys, "pacs", "find", "main", *over)
    found = json.loads(told(capsys, "pacs", "find", "main", "--study", STUDY, "--json", *over))
    assert found["matches"] == [
        {
            "study": STUDY,
            "series": SERIES,
            "modality": "CT",
            "number": 7,
            "images": 6,
            "scan": f"{via}:main/{STUDY}/{SERIES}",
        }
    ]
    limited = told(capsys, "pacs", "find", "main", "--study", STUDY, "--series", SERIES, "--limit", 2, *over)
    assert limited.count("CT Image Storage") == 2
    assert "more than 2" in limited
    assert "no match on server main" in told(capsys, "pacs", "find", "main", "--date", "-20000101", *over)
    assert "fetched 6 images\n" in told(capsys, "pacs", "get", "main", STUDY, "--out", "got", *over)
    again = told(capsys, "pacs", "get", "main", f"{STUDY}/{SERIES}", "--out", "got", *over)
    assert "fetched 0 images, 6 were there" in again
    assert "does not have this study" in told(capsys, "pacs", "get", "main", "1.9", "--out", "x", *over, code=2)
    assert main(["pacs", "find", "main", "--show-patient", *over]) == 0
    assert all(secret in capsys.readouterr().out for secret in ("DOE^JANE",))


def test_a_patient_id_can_stay_off_the_command_line(main_server, series, capsys, monkeypatch):
    told(capsys, "pacs", "store", "main", series)
    monkeypatch.setattr("sys.stdin", StringIO("MRN-4711\n"))
    assert STUDY in told(capsys, "pacs", "find", "main", "--patient-id", "-")


def test_a_study_without_series_lists_them(main_server, series, capsys):
    told(capsys, "pacs", "store", "main", series)
    listed = told(capsys, "segment", f"dicomweb:main/{STUDY}", "--box", "1:2,2,9,9", code=2)
    assert f"  {SERIES}  CT, 6 images" in listed


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A tiny network: what it finds means nothing, and is the same every time."""
    import torch

    from medsam.models.build import build_model
    from medsam.models.checkpoint import save_checkpoint
    from medsam.models.specs import tiny_spec

    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    torch.manual_seed(1)
    save_checkpoint(build_model(tiny_spec()), path)
    return str(path)


@pytest.fixture
def real_series(request, tmp_path, series):
    """A real CT where the sets are, else the phantom: its folder, study, series, and a box on it."""
    try:
        data = request.getfixturevalue("data")
    except pytest.skip.Exception:
        return series, STUDY, SERIES, "2:4,4,16,16=liver"
    folder = tmp_path / "liver"
    found = sorted((data / "liver_ct_dicom_seg").rglob("*.dcm"))
    images = [file for file in found if pydicom.dcmread(file, specific_tags=["Modality"]).Modality == "CT"][:24]
    folder.mkdir()
    for file in images:
        (folder / file.name).write_bytes(file.read_bytes())
    header = pydicom.dcmread(images[0], stop_before_pixels=True)
    return folder, str(header.StudyInstanceUID), str(header.SeriesInstanceUID), "1:100,150,300,350=liver"


@pytest.mark.parametrize("via", WAYS)
def test_a_scan_is_fetched_segmented_and_the_result_stored_beside_it(
    main_server, real_series, model, capsys, tmp_path, via
):
    folder, study, uid, box = real_series
    told(capsys, "pacs", "store", "main", folder, "--via", via)
    words = ("--box", box, "--model", model, "--engine", "torch", "--device", "cpu", "--axis", "k")
    scan = f"{via}:main/{study}/{uid}"
    before = set(Path(tempfile.gettempdir()).glob("medsam-*"))
    told(capsys, "segment", scan, *words, "--out", "liver.dcm", "--send", "main")
    assert set(Path(tempfile.gettempdir()).glob("medsam-*")) == before
    found = find(main_server.server(), Query("series", {"StudyInstanceUID": study, "Modality": "SEG"}), via)
    (result,) = found.matches
    assert result.images == 1
    got = get(main_server.server(), study, result.series, tmp_path / "got", via=via)
    (back,) = got.folders[0].iterdir()
    scan_volume = load_volume(folder)
    sent, fetched = (load_labels(file, scan_volume.geometry) for file in (tmp_path / "liver.dcm", back))
    assert list(sent) == list(fetched) == ["liver"]
    assert sent["liver"].any()
    assert np.array_equal(sent["liver"], fetched["liver"])
    # the study is now of two series, and still of one patient
    assert len(find(main_server.server(), Query("series", {"StudyInstanceUID": study}), via).matches) == 2


def test_a_result_that_cannot_be_sent_is_said_before_the_work_or_kept(main_server, series, model, capsys, tmp_path):
    told(capsys, "pacs", "store", "main", series)
    words = ("segment", series, "--box", "1:2,2,9,9", "--model", model, "--engine", "torch", "--device", "cpu")
    assert "--send sends DICOM" in told(capsys, *words, "--send", "main", code=2)
    assert "no server 'other'" in told(capsys, *words, "--out", "x.dcm", "--send", "other", code=2)
    assert not (tmp_path / "x.dcm").exists()
    main_server.empty()
    refused = told(capsys, *words, "--out", "x.dcm", "--send", "main", code=2)
    assert "does not have the study this was made from" in refused
    assert "x.dcm is written, and was not sent. Try again: medsam pacs store main x.dcm" in refused
    assert (tmp_path / "x.dcm").exists()
    assert "stored 7 files" in told(capsys, "pacs", "store", "main", "x.dcm", series)


# -- TLS, by a proxy: Debian's Orthanc crashes on HTTPS ------------------------------------------------------


@pytest.fixture(scope="module")
def authorities(tmp_path_factory) -> tuple[Authority, Authority]:
    """Ours, and one that nobody trusts."""
    folder = tmp_path_factory.mktemp("certificates")
    return Authority(folder, "ours"), Authority(folder, "other")


@contextmanager
def over_tls(orthanc, issued: Issued, clients: Path | None = None, host: str = "127.0.0.1"):
    """Orthanc behind TLS: what to name it in the settings, but for certificates."""
    with proxied(orthanc.http, issued, clients) as http, proxied(orthanc.dicom, issued, clients) as dicom:
        yield orthanc.server(
            dicomweb=f"https://{host}:{http}/dicom-web", dimse=Dimse(host, dicom, orthanc.aet, tls=True)
        )


@pytest.mark.parametrize("via", WAYS)
def test_tls_is_verified_and_certificates_of_clients_are_shown(empty_orthanc, authorities, series, tmp_path, via):
    ours, other = authorities
    client, stranger = ours.issue("client", None), other.issue("stranger", None)
    with over_tls(empty_orthanc, ours.issue("server"), clients=ours.ca) as server:
        trusting = replace(server, certificates=Certificates(ours.ca, client.cert, client.key))
        assert len(store(trusting, [series], via=via).stored) == 6
        assert get(trusting, STUDY, SERIES, tmp_path / "got", via=via).fetched == 6
        for certificates, said in [
            # nobody but the system's authorities
            (Certificates(), r"Its certificate is refused, checked against the authorities this system trusts"),
            (Certificates(other.ca), r"Its certificate is refused, checked against the authorities in .*other\.pem"),
            # how a server refuses is up to it, and to what arrives first
            (Certificates(ours.ca), r"wants a client certificate, and none is set|client certificate"),
            (Certificates(ours.ca, stranger.cert, stranger.key), r"does not accept .*stranger\.crt|client certificate"),
        ]:
            with pytest.raises(InputError, match=said):
                echo(replace(server, certificates=certificates), via)


@pytest.mark.parametrize("via", WAYS)
def test_a_certificate_of_another_host_and_a_port_without_tls_are_refused(empty_orthanc, authorities, via, monkeypatch):
    ours, _ = authorities
    with over_tls(empty_orthanc, ours.issue("elsewhere", "10.1.2.3")) as server:
        trusting = replace(server, certificates=Certificates(ours.ca))
        with pytest.raises(InputError, match=r"mismatch"):
            echo(trusting, via)
        # what others set for requests counts for nothing
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ours.ca))
        with pytest.raises(InputError, match=r"authorities this system trusts"):
            echo(replace(server, certificates=Certificates()), via)
    plain = empty_orthanc.server(
        dicomweb=empty_orthanc.dicomweb.replace("http:", "https:"),
        dimse=Dimse("127.0.0.1", empty_orthanc.dicom, empty_orthanc.aet, tls=True),
    )
    with pytest.raises(InputError, match=r"It does not speak TLS there|broke off the handshake of TLS"):
        echo(replace(plain, timeout_s=2.0), via)


def test_files_of_certificates_are_checked(empty_orthanc, authorities, tmp_path):
    ours, other = authorities
    client = ours.issue("client", None)
    (tmp_path / "no.pem").write_text("nothing of the kind")
    for certificates, said in [
        (Certificates(tmp_path / "none.pem"), r"`ca` names .*none\.pem, which is not there"),
        (Certificates(tmp_path / "no.pem"), r"`ca` .*holds no certificate in PEM"),
        (Certificates(ours.ca, tmp_path / "no.pem"), r"`cert` .*are no certificate with its key"),
        (Certificates(ours.ca, client.cert, other.issue("x", None).key), r"are no certificate with its key"),
    ]:
        server = empty_orthanc.server(dicomweb="https://127.0.0.1:1/x", certificates=certificates)
        with pytest.raises(InputError, match=said):
            echo(server)
