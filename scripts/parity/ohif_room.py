"""OHIF with MONAI Label's extension, in a browser: opened, asked with clicks, looked at.

The viewer is what MONAI Label's wheel has (3.9); what it calls its parts is taken from the page as it is.
"""

from __future__ import annotations

import io
import re
from typing import Any

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Locator, Page, Response

# what the viewer does in any case: fonts from elsewhere, which its policy here forbids; 404 is how no training is told
EXPECTED = [r"fonts\.(googleapis|gstatic)\.com", "404", "^warning: "]
WIDE = {"width": 1600, "height": 900}
# in the descending aorta of lung_ct_dicom_rtstruct: column, row, slice; on the one that the viewer begins with, counted
# as it does
AORTA = (284, 314, 11)
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
_PLACE = (
    "point => window.services.cornerstoneViewportService.getRenderingEngine().getViewports()"
    ".find(view => view.element === document.querySelector('.cornerstone-viewport-element'))"
    ".worldToCanvas(point)"
)


def the_study(url: str) -> str:
    """UID of the study of the first series that the PACS behind a server has."""
    series: list[dict[str, Any]] = httpx.get(f"{url}/proxy/dicom/qido/series").json()
    return str(series[0]["0020000D"]["Value"][0])


def point_prompts(page: Page, url: str, study: str, model: str, structure: str) -> Locator:
    """The study in the extension's mode, connected; its tab for clicks, with a model and a structure chosen."""
    page.goto(f"{url}/ohif/monai-label?StudyInstanceUIDs={study}")
    page.get_by_text("Confirm and Hide").click(timeout=120_000)
    # it has found us by itself
    connect = page.locator(".settingsTable .actionButton").first
    connect.wait_for(timeout=60_000)
    if page.locator("#monailabelServerURL").input_value() != f"{url}/":
        raise RuntimeError("the extension has not found this server by itself")
    page.wait_for_function(
        "window.services.cornerstoneViewportService.getRenderingEngine()?.getViewports().length === 3"
    )
    page.wait_for_load_state("networkidle", timeout=60_000)
    connect.click()
    tab = page.locator(".tab", has_text="Point Prompts")
    tab.locator("label").click(timeout=60_000)
    tab.locator("select").select_option(model)
    tab.locator("tr.clickable-row", has_text=structure).click()
    # the tool for points takes a moment to be there, and says nothing when it is
    page.wait_for_timeout(3000)
    return tab


def click(page: Page, point: np.ndarray) -> None:
    """A point of the patient (mm) is put into the first view."""
    x, y = page.evaluate(_PLACE, point.tolist())
    place = _canvas(page, 0)
    page.mouse.click(place["x"] + x, place["y"] + y)
    page.wait_for_timeout(2000)


def run(page: Page, tab: Locator) -> Response:
    """What the server answers to the clicks that are there."""
    with page.expect_response(re.compile("/infer/"), timeout=280_000) as answer:
        tab.locator('[title="Run PointPrompts"]').click()
    if answer.value.status != 200:
        raise RuntimeError(f"asked with clicks, the server answered {answer.value.status}")
    return answer.value


def through(page: Page, point: np.ndarray) -> None:
    """All views go to the planes through a point of the patient (mm)."""
    page.evaluate(_THROUGH, point.tolist())


def coloured(page: Page, number: int) -> int:
    """Pixels of a view that are no grey: what is drawn over the image, without the words and lines around it."""
    shown = Image.open(io.BytesIO(page.screenshot(clip=_canvas(page, number)))).convert("RGB")
    inner = np.asarray(shown).astype(int)[80:-80, 20:-40]
    return int((inner.max(axis=-1) - inner.min(axis=-1) > 60).sum())


def _canvas(page: Page, number: int) -> Any:
    return page.locator(".cornerstone-canvas").nth(number).bounding_box()
