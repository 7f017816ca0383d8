"""OHIF as MONAI Label's wheel has it, in Chromium, before a real `medsam serve` and a real Orthanc."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from monai_client import ohif
from orthanc import running

from medsam.geometry import VolumeGeometry
from medsam.io.dicom.series import read_dicom
from medsam.io.labels import load_labels
from medsam.pacs.client import store


@pytest.fixture(scope="module")
def url(data, tmp_path_factory) -> Iterator[str]:
    """The address of a server with OHIF, before an Orthanc with a CT. Our own page need not be built."""
    pytest.importorskip("playwright.sync_api")
    from in_browser import MISSING, find_chromium
    from served import Server

    if find_chromium() is None:
        pytest.skip(MISSING)

    folder = tmp_path_factory.mktemp("hospital")
    with running(folder) as orthanc, pytest.MonkeyPatch.context() as patch:
        settings = folder / "settings.toml"
        settings.write_text(f'[servers.main]\ndicomweb = "{orthanc.dicomweb}"\n')
        patch.setenv("MEDSAM_SETTINGS", str(settings))
        assert not store(orthanc.server(), [data / "lung_ct_dicom_rtstruct" / "ct_series"]).failures
        pages = ohif(tmp_path_factory.mktemp("ohif"))
        server = Server(folder, [], options=["--ohif", str(pages), "--structure", "aorta"])
        try:
            yield server.url
        finally:
            server.stop()


@pytest.fixture(scope="module")
def gl() -> Iterator:
    """A browser that draws 3D, in software."""
    from in_browser import launch
    from playwright import sync_api

    with sync_api.sync_playwright() as playwright:
        browser = launch(playwright, gl=True)
        yield browser
        browser.close()


_STORE = "void window.commandsManager.runCommand('storeSegmentation', { segmentationId: '1' }, 'CORNERSTONE')"


def test_a_click_becomes_a_mask_in_three_views_that_is_saved_and_opened_again(url, gl, data, tmp_path):
    from in_browser import opened
    from ohif_room import AORTA, EXPECTED, WIDE, click, coloured, point_prompts, run, the_study, through

    scan = read_dicom(data / "lung_ct_dicom_rtstruct" / "ct_series")
    study = the_study(url)
    with opened(gl, url, viewport=WIDE) as watched:
        watched.expected += EXPECTED
        page = watched.page
        tab = point_prompts(page, url, study, "medsam_volume", "aorta")
        point = (scan.geometry.affine @ np.array([*AORTA, 1.0]))[:3]
        assert coloured(page, 0) == 0
        click(page, point)
        answer = run(page, tab)
        mask = np.frombuffer(answer.body().partition(b"\n\n")[2], np.uint8).reshape(scan.geometry.shape) != 0
        sent = answer.request.post_data or ""
        foreground = [int(number) for number in re.findall(r'"foreground":\[\[(\d+),(\d+),(\d+)\]\]', sent)[0]]
        assert np.abs(np.array(foreground) - AORTA).max() <= 1
        through(page, point)
        page.wait_for_timeout(3000)
        seen = [coloured(page, number) for number in range(3)]
        page.screenshot(path=str(tmp_path / "mask.png"))
        assert min(seen) > 50, seen
        page.evaluate(_STORE)
        with page.expect_response(lambda one: one.request.method == "POST" and "/proxy/" in one.url) as saved:
            page.get_by_role("button", name="Save").click(timeout=60_000)
        assert saved.value.status == 200
        page.wait_for_timeout(2000)
        page.screenshot(path=str(tmp_path / "saved.png"))
        assert watched.unexpected() == []
    found = stored(url, study, tmp_path / "seg.dcm", scan.geometry)
    np.testing.assert_array_equal(found, mask)
    reopened(gl, url, study, tmp_path)


def stored(url: str, study: str, path: Path, geometry: VolumeGeometry) -> np.ndarray:
    """What the PACS has as the SEG of a study, read by us."""
    (one,) = httpx.get(f"{url}/proxy/dicom/qido/studies/{study}/series", params={"Modality": "SEG"}).json()
    from dicomweb_client.api import DICOMwebClient

    (seg,) = DICOMwebClient(f"{url}/proxy/dicom/wado").retrieve_series(study, one["0020000E"]["Value"][0])
    seg.save_as(path, enforce_file_format=True)
    masks = load_labels(path, geometry)
    return np.any([masks[name] for name in masks], axis=0)


def reopened(gl, url: str, study: str, folder: Path) -> None:
    """The SEG in OHIF's own mode for viewing, in a browser that has not been here."""
    from in_browser import opened
    from ohif_room import EXPECTED, WIDE, coloured

    with opened(gl, url, viewport=WIDE) as watched:
        watched.expected += EXPECTED
        page = watched.page
        page.goto(f"{url}/ohif/viewer?StudyInstanceUIDs={study}")
        page.get_by_text("Confirm and Hide").click(timeout=120_000)
        result = page.locator("[data-cy=study-browser-thumbnail-no-image]", has_text="SEG")
        result.wait_for(timeout=60_000)
        page.wait_for_load_state("networkidle", timeout=60_000)
        # before the scan is on screen it does not listen
        page.wait_for_timeout(8000)
        result.dblclick()
        page.get_by_text("Yes", exact=True).first.click(timeout=60_000)
        page.wait_for_timeout(4000)
        # its panel of segments, and the slice that was clicked on
        page.mouse.click(1582, 101)
        page.mouse.move(800, 500)
        for _ in range(12):
            page.mouse.wheel(0, 100)
            page.wait_for_timeout(300)
        page.wait_for_timeout(2000)
        page.screenshot(path=str(folder / "again.png"))
        assert coloured(page, 0) > 50
        assert page.get_by_text("aorta").count() == 1
        assert watched.unexpected() == []
