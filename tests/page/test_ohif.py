"""OHIF as MONAI Label's wheel has it, in Chromium, before a real `medsam serve` and a real Orthanc."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from monai_client import ohif
from orthanc import running
from PIL import Image

from medsam.geometry import VolumeGeometry
from medsam.io.dicom.series import read_dicom
from medsam.io.labels import load_labels
from medsam.pacs.client import store

# what the viewer does in any case: fonts from elsewhere, which its policy here forbids; 404 is how no training is told
EXPECTED = [r"fonts\.(googleapis|gstatic)\.com", "404", "^warning: "]
# in the descending aorta: column, row; on the slice that the viewer begins with, counted as it does
AORTA, SLICE = (284, 314), 11


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


def coloured(page, number: int) -> int:
    """Pixels of a viewport that are no grey: what is drawn over the image, without the words and lines around it."""
    place = page.locator(".cornerstone-canvas").nth(number).bounding_box()
    pixels = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=place))).convert("RGB")).astype(int)
    inner = pixels[80:-80, 20:-40]
    return int((inner.max(axis=-1) - inner.min(axis=-1) > 60).sum())


# every view to the plane through a point of the patient, as its scroll bar would
_THROUGH = """point => {
  for (const view of window.services.cornerstoneViewportService.getRenderingEngine().getViewports()) {
    const { focalPoint, position, viewPlaneNormal: n } = view.getCamera();
    const along = point.reduce((sum, at, axis) => sum + (at - focalPoint[axis]) * n[axis], 0);
    const moved = from => from.map((at, axis) => at + along * n[axis]);
    view.setCamera({ focalPoint: moved(focalPoint), position: moved(position) });
    view.render();
  }
}"""
_STORE = "void window.commandsManager.runCommand('storeSegmentation', { segmentationId: '1' }, 'CORNERSTONE')"


def test_a_click_becomes_a_mask_in_three_views_that_is_saved_and_opened_again(url, gl, data, tmp_path):
    from in_browser import opened

    scan = read_dicom(data / "lung_ct_dicom_rtstruct" / "ct_series")
    series = httpx.get(f"{url}/proxy/dicom/qido/series").json()[0]
    study = series["0020000D"]["Value"][0]
    with opened(gl, url, viewport={"width": 1600, "height": 900}) as watched:
        watched.expected += EXPECTED
        page = watched.page
        page.goto(f"{url}/ohif/monai-label?StudyInstanceUIDs={study}")
        page.get_by_text("Confirm and Hide").click(timeout=120_000)
        # it has found us by itself
        connect = page.locator(".settingsTable .actionButton").first
        connect.wait_for(timeout=60_000)
        assert page.locator("#monailabelServerURL").input_value() == f"{url}/"
        page.wait_for_function(
            "window.services.cornerstoneViewportService.getRenderingEngine()?.getViewports().length === 3"
        )
        page.wait_for_load_state("networkidle", timeout=60_000)
        connect.click()
        tab = page.locator(".tab", has_text="Point Prompts")
        tab.locator("label").click(timeout=60_000)
        tab.locator("select").select_option("medsam_volume")
        tab.locator("tr.clickable-row", has_text="aorta").click()
        point = scan.geometry.affine @ np.array([*AORTA, SLICE, 1.0])
        assert coloured(page, 0) == 0
        # the tool for points takes a moment to be there, and says nothing when it is
        page.wait_for_timeout(3000)
        page.mouse.click(*at(page, point[:3]))
        page.wait_for_timeout(2000)
        with page.expect_response(re.compile("/infer/"), timeout=280_000) as answer:
            tab.locator('[title="Run PointPrompts"]').click()
        assert answer.value.status == 200
        mask = np.frombuffer(answer.value.body().partition(b"\n\n")[2], np.uint8).reshape(scan.geometry.shape) != 0
        sent = answer.value.request.post_data or ""
        foreground = [int(number) for number in re.findall(r'"foreground":\[\[(\d+),(\d+),(\d+)\]\]', sent)[0]]
        assert np.abs(np.array(foreground) - [*AORTA, SLICE]).max() <= 1
        page.evaluate(_THROUGH, point[:3].tolist())
        page.wait_for_timeout(3000)
        seen = [coloured(page, number) for number in range(3)]
        page.screenshot(path=str(tmp_path / "mask.png"))
        assert min(seen) > 50, seen
        page.evaluate(_STORE)
        with page.expect_response(lambda one: one.request.method == "POST" and "/proxy/" in one.url) as answer:
            page.get_by_role("button", name="Save").click(timeout=60_000)
        assert answer.value.status == 200
        page.wait_for_timeout(2000)
        page.screenshot(path=str(tmp_path / "saved.png"))
        assert watched.unexpected() == []
    found = stored(url, study, tmp_path / "seg.dcm", scan.geometry)
    np.testing.assert_array_equal(found, mask)
    reopened(gl, url, study, tmp_path)


def at(page, point: np.ndarray) -> tuple[float, float]:
    """Where a point of the patient is on screen, in the first view."""
    script = (
        "point => window.services.cornerstoneViewportService.getRenderingEngine().getViewports()"
        ".find(view => view.element === document.querySelector('.cornerstone-viewport-element'))"
        ".worldToCanvas(point)"
    )
    x, y = page.evaluate(script, point.tolist())
    place = page.locator(".cornerstone-canvas").first.bounding_box()
    return place["x"] + x, place["y"] + y


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

    with opened(gl, url, viewport={"width": 1600, "height": 900}) as watched:
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
