"""OHIF's way to the PACS, and series by their UIDs: a real Orthanc, dicomweb-client and ITK's own order of slices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import SAGITTAL, dataset, save
from orthanc import Orthanc, running
from pydicom import dcmread

from medsam.errors import InputError
from medsam.io.dicom.series import read_dicom
from medsam.pacs.client import store
from medsam.prompts.prompt import Prompt
from medsam.server.gate.rules import rules_for
from medsam.server.monailabel.ohif import Ohif
from medsam.server.monailabel.proxy import parts
from medsam.server.monailabel.rules import rules_of_monailabel
from medsam.server.settings import Limits, MonaiLabel
from medsam.store.readers import Role
from medsam.store.store import Store

SHAPE = (5, 36, 40)
STUDY, AXIAL, TURNED = "1.2.840.99.1", "1.2.840.99.1.1", "1.2.840.99.1.2"


def series(folder: Path, uid: str, orientation: tuple[float, ...], step: tuple[float, float, float]) -> Path:
    """A ball that is nearer to one end in all three directions."""
    k, j, i = np.indices(SHAPE)
    ball = ((k - 1) * 3) ** 2 + (j - 13) ** 2 + (i - 25) ** 2 < 60
    voxels = np.where(ball, 900, 100) + np.random.default_rng(3).integers(0, 40, SHAPE)
    for number, pixels in enumerate(voxels.astype(np.int16)):
        tags = {
            "SeriesInstanceUID": uid,
            "StudyInstanceUID": STUDY,
            "SOPInstanceUID": f"{uid}.{number + 1}",
            "InstanceNumber": number + 1,
            "ImageOrientationPatient": list(orientation),
            "ImagePositionPatient": [10 + number * along for along in step],
            "PixelSpacing": [1.0, 1.0],
            "SliceThickness": 3.0,
        }
        save(dataset(pixels, **tags), folder / f"{number}.dcm")
    return folder


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> Iterator[tuple[Orthanc, Path]]:
    """An Orthanc with two series of one study, and the folder they lie in; the settings file names it."""
    folder = tmp_path_factory.mktemp("orthanc")
    scans = folder / "scans"
    series(scans / "axial", AXIAL, (1, 0, 0, 0, 1, 0), (0, 0, 3.0))
    # to the left, against row x column
    series(scans / "sagittal", TURNED, SAGITTAL, (3.0, 0, 0))
    with running(folder) as orthanc, pytest.MonkeyPatch.context() as patch:
        settings = folder / "settings.toml"
        settings.write_text(f'[servers.main]\ndicomweb = "{orthanc.dicomweb}"\n')
        patch.setenv("MEDSAM_SETTINGS", str(settings))
        assert not store(orthanc.server(), [scans]).failures
        yield orthanc, scans


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """What stands for a built OHIF."""
    folder = tmp_path_factory.mktemp("ohif")
    (folder / "index.html").write_text("<!doctype html><title>OHIF</title>")
    (folder / "app.bundle.af87d1dd396d277eac89.js").write_text("1")
    (folder / "notes.secret").write_text("2")
    return folder


@pytest.fixture(scope="module")
def url(start, hospital, page) -> str:
    return start(MonaiLabel(ohif=page))


@pytest.mark.parametrize(("uid", "name"), [(AXIAL, "axial"), (TURNED, "sagittal")])
def test_a_series_is_answered_on_the_grid_that_viewers_have_of_it(url, hospital, uid, name, client, tiny_predictor):
    folder = hospital[1] / name
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), uid))
    seen = reader.Execute()
    # in the middle of the ball, as a viewer counts
    voxels = sitk.GetArrayFromImage(seen)
    k, j, i = (round(float(at.mean())) for at in np.nonzero(voxels > 500))
    got, _ = client.infer("medsam_slice", uid, {"foreground": [[i, j, k]], "result_extension": ".nrrd"})
    mask = sitk.ReadImage(got)
    for field in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(mask, field)(), getattr(seen, field)(), atol=1e-6)
    scan = read_dicom(folder)
    turned = name == "sagittal"
    assert np.array_equal(scan.array, voxels[::-1] if turned else voxels)
    index = SHAPE[0] - 1 - k if turned else k
    expected = tiny_predictor.segment(scan, [Prompt(slice=index, points=((i, j, 1),))], axis="k").labels.array != 0
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask) != 0, expected[::-1] if turned else expected)
    # as a file it is the same image
    file = httpx.get(f"{url}/datastore/image", params={"image": uid})
    path = Path(got).with_name("image.nrrd")
    path.write_bytes(file.content)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), voxels)


def test_viewers_read_and_store_results_and_nothing_else(url, hospital, monai, tmp_path):
    web = pytest.importorskip("dicomweb_client.api").DICOMwebClient(f"{url}/proxy/dicom/wado")
    found = web.search_for_series(study_instance_uid=STUDY)
    assert {one["0020000E"]["Value"][0] for one in found} >= {AXIAL, TURNED}
    # the PACS's own address is nobody's concern
    assert str(hospital[0].http) not in json.dumps(found)
    images = web.retrieve_series(STUDY, AXIAL)
    assert sorted(int(one.InstanceNumber) for one in images) == [1, 2, 3, 4, 5]
    metadata = web.retrieve_series_metadata(STUDY, AXIAL)
    assert len(metadata) == 5
    assert httpx.get(f"{url}/proxy/dicom/qido/studies/{STUDY}/series?limit=1").status_code == 200
    # a SEG of ours, as a viewer stores it
    query, form = {"image": AXIAL, "output": "dicom_seg"}, {"params": (None, '{"foreground": [[25, 13, 1]]}')}
    answer = httpx.post(f"{url}/infer/medsam_slice", params=query, files=form, timeout=60)
    assert answer.headers["content-type"] == "application/dicom", answer.text
    path = tmp_path / "mask.dcm"
    path.write_bytes(answer.content)
    seg = dcmread(path)
    stored = web.store_instances([seg])
    assert stored.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == seg.SOPInstanceUID
    (back,) = web.retrieve_series(STUDY, seg.SeriesInstanceUID)
    assert back.PixelData == seg.PixelData
    # images are not taken, nor what belongs to another study
    image = dcmread(hospital[1] / "axial" / "0.dcm")
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "1.2.840.99.7"
    seg.StudyInstanceUID = "1.2.840.99.8"
    for one in (image, seg):
        with pytest.raises(Exception, match="422"):
            web.store_instances([one])
    for path in ("patients", "studies/%2e%2e/system", "studies/1.2/%2e%2e", "system", "studies/1 2"):
        assert httpx.get(f"{url}/proxy/dicom/qido/{path}").status_code in (404, 422), path
    assert httpx.get(f"{url}/proxy/dicom/other/studies").status_code == 404
    assert httpx.post(f"{url}/proxy/dicom/stow/patients", content=b"1").status_code == 404


def test_what_is_stored_comes_in_parts():
    kind = 'multipart/related; type="application/dicom"; boundary="b c"'
    body = b"--b c\r\nContent-Type: application/dicom\r\n\r\none\r\n--b c\r\nX: y\r\n\r\ntwo\r\n--b c--"
    assert parts(body, kind) == [b"one", b"two"]
    for wrong, how in ((body, "multipart/form-data; boundary=b"), (body[:-2], kind), (b"--b c--", kind), (b"", kind)):
        with pytest.raises(InputError):
            parts(wrong, how)
    part = b"--b c\r\n\r\n.\r\n"
    assert len(parts(part * 1000 + b"--b c--", kind)) == 1000
    with pytest.raises(InputError, match="1000 files"):
        parts(part * 1001 + b"--b c--", kind)


def test_the_viewer_is_pages_for_everybody_and_scans_are_for_who_logs_in(start, hospital, page, tmp_path):
    with Store.open(tmp_path / "store", serving=False) as kept:
        kept.add_user("anna", Role.ADMINISTRATOR, "a password of eleven words")
        ben = kept.add_user("ben", Role.REVIEWER, "a password of eleven words")
        token = kept.add_token(ben.id, "test")[1]
        _, secret = kept.add_login(ben.id)
        cleo = kept.add_user("cleo", Role.READER, "a password of eleven words")
        hers = kept.add_token(cleo.id, "test")[1]
    url = start(MonaiLabel(ohif=page), folder=tmp_path, patients_from=Role.REVIEWER)
    first = httpx.get(f"{url}/ohif/")
    assert first.status_code == 200
    assert (
        f"MONAILABEL_SERVER_URL=http%3A%2F%2F{url.removeprefix('http://').replace(':', '%3A')}%2F"
        in first.headers["set-cookie"]
    )
    assert "connect-src 'self'" in first.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in first.headers["content-security-policy"]
    bundle = httpx.get(f"{url}/ohif/app.bundle.af87d1dd396d277eac89.js")
    assert (bundle.text, "immutable" in bundle.headers["cache-control"]) == ("1", True)
    # a path that is no file of it is one of the viewer's own
    for path in ("viewer", "notes.secret", "monai-label"):
        assert httpx.get(f"{url}/ohif/{path}").text == first.text
    assert httpx.get(f"{url}/ohif").headers["location"] == "/ohif/"
    study = f"{url}/proxy/dicom/qido/studies/{STUDY}/series"
    assert httpx.get(study).status_code == 401
    assert httpx.get(study, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    # with a cookie, and without the header that our own page sends
    cookie = {"Cookie": f"medsam={secret}"}
    form = {"params": (None, '{"foreground": [[25, 13, 1]]}')}
    infer = f"{url}/infer/medsam_slice?image={AXIAL}&output=image"
    assert httpx.get(study, headers=cookie).status_code == 200
    assert httpx.post(infer, headers=cookie, files=form, timeout=60).status_code == 200
    other = cookie | {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert httpx.post(infer, headers=other, files=form).status_code == 403
    assert httpx.get(study, headers=other).status_code == 403
    # who is not told whose scans these are sees nothing of the PACS
    for answer in (
        httpx.get(study, headers={"Authorization": f"Bearer {hers}"}),
        httpx.post(infer, headers={"Authorization": f"Bearer {hers}"}, files=form),
    ):
        assert answer.status_code == 403, answer.text
    # our own interface still needs it
    assert httpx.post(f"{url}/api/v1/tokens", json={"name": "mine"}, headers=cookie).status_code == 403


def test_a_folder_without_a_viewer_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no index\.html"):
        Ohif.of(tmp_path)


def test_every_path_has_its_rules():
    table = rules_of_monailabel(Limits(), ohif=True)
    for path in (
        "/info/",
        "/infer/m",
        "/session/x",
        "/datastore/label",
        "/auth/token",
        "/ohif/viewer",
        "/proxy/dicom/qido/studies",
    ):
        assert rules_for(path, table) is not None, path
    for path in ("/", "/api/v1/me", "/informer", "/authority"):
        assert rules_for(path, table) is None, path
    # nothing but logging in is open to strangers, and only pages are public
    assert {key for one in table for key in one.open} == {"GET ", "GET /", "GET /image", "POST /token"}
    assert [one.prefix for one in table if one.public] == ["/ohif"]
