"""From a hospital's archive and back to it: a study is searched, a series opened, and its SEG stored beside it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator

import numpy as np
import orthanc as pacs
import pydicom
import pytest

from medsam.pacs.client import store

MIDDLE, LUNG = 12, (130, 170, 271, 369)


@pytest.fixture(scope="module")
def archive(chromium, data, tmp_path_factory) -> Iterator[pacs.Orthanc]:
    """Orthanc with the lung CT, as `main` of the settings file."""
    folder = tmp_path_factory.mktemp("orthanc")
    with pacs.running(folder) as server, pytest.MonkeyPatch.context() as patch:
        store(server.server(), [data / "lung_ct_dicom_rtstruct" / "ct_series"])
        settings = folder / "settings.toml"
        settings.write_text(f'[servers.main]\ndicomweb = "{server.dicomweb}"\n')
        patch.setenv("MEDSAM_SETTINGS", str(settings))
        yield server


@pytest.fixture
def house(archive, data, tmp_path):
    """A server that has no scans but the archive's."""
    from served import Server

    (tmp_path / "empty").mkdir()
    server = Server(tmp_path, [tmp_path / "empty"])
    yield server
    server.stop()


def test_a_study_is_found_opened_drawn_on_and_its_seg_stored(chromium, archive, house, data):
    import httpx
    from in_browser import opened
    from page_room import Room
    from playwright.sync_api import expect

    image = pydicom.dcmread(next((data / "lung_ct_dicom_rtstruct" / "ct_series").iterdir()), stop_before_pixels=True)
    with opened(chromium, house.url) as watched, httpx.Client(base_url=house.url, timeout=60) as api:
        room, page = Room(watched, api), watched.page
        page.goto("/")
        page.get_by_role("button", name="Search the PACS").click()
        number = page.get_by_label("Patient's number")
        number.fill("nobody")
        number.press("Enter")
        expect(page.get_by_text("The PACS has no study like that")).to_be_visible()
        number.fill(image.PatientID)
        number.press("Enter")
        page.get_by_role("button", name=re.compile(re.escape(image.PatientID))).click()
        page.get_by_role("button", name="Open", exact=True).click()
        page.wait_for_url(re.compile("#/case/"), timeout=60_000)
        room.case = page.url.rsplit("/", 1)[1]
        room.ready()
        # whose scan it is stands in bodies alone
        assert not any(image.PatientID in url for url in [*watched.requests, page.url, page.title()])

        room.box(*LUNG)
        mask = room.agree(1, MIDDLE)
        room.unfold("Take home")
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.get_by_text("main has stored it.")).to_be_visible(timeout=60_000)

        instances = json.loads(archive.rest("/instances?expand"))
        (made,) = [
            one["ID"]
            for one in instances
            if "SegmentSequence" in archive.rest(f"/instances/{one['ID']}/tags?simplify").decode()
        ]
        seg = pydicom.dcmread(io.BytesIO(archive.rest(f"/instances/{made}/file")))
        assert (seg.Modality, seg.StudyInstanceUID) == ("SEG", image.StudyInstanceUID)
        assert np.count_nonzero(seg.pixel_array) == np.count_nonzero(mask)
        assert watched.unexpected() == []
