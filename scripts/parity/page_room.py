"""A reader at the page: a scan is opened, drawn on by mouse and keys, and what is on screen is read again.

The interface is asked for what is checked, never for what is done.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import numpy as np
from in_browser import Watched
from playwright.sync_api import Locator, Page, expect
from scipy.ndimage import binary_dilation

API = "/api/v1"
# of a pixel's channels: more is no grey, and the scans here are grey
_COLOURED = 12
# pixels of what stands beside a structure's name
_MARK = 200
# the masks' canvas is as large as what is on it
_PIXELS = """plane => {
  const slice = plane.querySelector("canvas");
  const masks = plane.querySelector(".view-masks");
  const { width, height } = slice;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(slice, 0, 0);
  const ratio = width / slice.clientWidth;
  if (!masks.style.visibility) context.drawImage(masks, masks.offsetLeft * ratio, masks.offsetTop * ratio);
  const data = context.getImageData(0, 0, width, height).data;
  let text = "";
  for (let at = 0; at < data.length; at += 32768) text += String.fromCharCode(...data.subarray(at, at + 32768));
  return [width, height, btoa(text)];
}"""


class Room:
    """watched: the reader's page. api: as the same reader, for what is checked."""

    def __init__(self, watched: Watched, api: httpx.Client) -> None:
        self.watched, self.page, self.api = watched, watched.page, api
        self.case = ""
        # that the reader works along: axial slices, where nothing else is said
        self.axis = "k"
        self.geometry: dict[str, Any] = {}

    # -- opening --------------------------------------------------------------------------------------------

    def open(self, case: str, *, anew: bool = True) -> None:
        """By its address. anew: without the session that the reader has of it."""
        if anew:
            for line in self.json("/sessions", case=case):
                if line["closed"] is None:
                    self.api.delete(f"{API}/sessions/{line['id']}").raise_for_status()
        self.case = case
        self.page.goto(f"/#/case/{case}")
        self.ready()

    def ready(self) -> None:
        """Wait until the open case's picture is there, and its reading, which may come behind it."""
        expect(self.plane()).to_be_visible(timeout=60_000)
        expect(self.page.locator(".shell-skip")).to_be_attached(timeout=60_000)
        self.geometry = self.json(f"/cases/{self.case}/geometry")
        self.until(lambda: self.shown()[..., :3].max() > 0, "the picture is there")

    @property
    def session(self) -> str:
        """The reader's open session of the case."""
        return next(line["id"] for line in self.json("/sessions", case=self.case) if line["closed"] is None)

    # -- the picture ------------------------------------------------------------------------------------------

    def plane(self, axis: str = "") -> Locator:
        return self.page.locator(f".view-plane[data-plane={axis or self.axis}]")

    def at(self, x: float, y: float, axis: str = "") -> tuple[float, float]:
        """Where a place of a stored slice is on screen while the picture is fitted; centres of pixels are integers."""
        box = self.plane(axis).bounding_box() or {}
        across, down = self._placed(x, y, axis, box["width"], box["height"])
        return box["x"] + float(across), box["y"] + float(down)

    def _placed(self, x: Any, y: Any, axis: str, width: float, height: float) -> tuple[Any, Any]:
        """The same on a picture of so many CSS pixels, from its corner."""
        plane = self.geometry["planes"][axis or self.axis]
        (rows, columns), (down, across), view = plane["shape"], plane["spacing_mm"], plane["view"]
        u, v = x + 0.5, y + 0.5
        if view["transpose"]:
            u, v, rows, columns, down, across = v, u, columns, rows, across, down
        u, v = columns - u if view["flip_columns"] else u, rows - v if view["flip_rows"] else v
        scale = min(width / (columns * across), height / (rows * down)) * 0.97
        return width / 2 + (u - columns / 2) * across * scale, height / 2 + (v - rows / 2) * down * scale

    def shown(self, axis: str = "") -> np.ndarray:
        """Slice and masks: rows, columns, RGBA."""
        width, height, text = self.plane(axis).evaluate(_PIXELS)
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)

    def painted(self, axis: str = "") -> np.ndarray:
        """Which pixels of a stored slice are in colour on screen: those of masks, filled."""
        there = self._stored(self.shown(axis), axis)
        return there.max(-1) - there.min(-1) > _COLOURED

    def _stored(self, picture: np.ndarray, axis: str = "") -> np.ndarray:
        """What a picture of the plane has at the pixels of the stored slice."""
        rows, columns = self.geometry["planes"][axis or self.axis]["shape"]
        # a context's pixels are those of CSS here
        across, down = self._placed(*np.meshgrid(np.arange(columns), np.arange(rows)), axis, *picture.shape[1::-1])
        return picture[np.floor(down).astype(int), np.floor(across).astype(int), :3].astype(int)

    def hover(self, x: float, y: float, axis: str = "") -> str:
        """What the page says of the place under the pointer."""
        self.page.mouse.move(*self.at(x, y, axis))
        return self.page.locator(f".view-pane[data-plane={axis or self.axis}] .view-readout").inner_text()

    # -- the hand -----------------------------------------------------------------------------------------------

    def drag(self, *places: tuple[float, float], axis: str = "", steps: int = 3) -> None:
        """With the left button, from place to place of a slice."""
        mouse = self.page.mouse
        mouse.move(*self.at(*places[0], axis))
        mouse.down()
        for place in places[1:]:
            mouse.move(*self.at(*place, axis), steps=steps)
        mouse.up()

    def box(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Drawn from corner to corner, in half-open edges as prompts have them."""
        self.drag((x0 - 0.5, y0 - 0.5), (x1 - 0.5, y1 - 0.5))

    def click(self, x: float, y: float, *, outside: bool = False) -> None:
        if outside:
            self.page.keyboard.down("Alt")
        self.page.mouse.click(*self.at(x, y))
        if outside:
            self.page.keyboard.up("Alt")

    def press(self, keys: str) -> None:
        self.page.keyboard.press(keys)

    def tool(self, name: str) -> None:
        self.page.locator(f"[data-tool={name}]").click()

    def unfold(self, part: str) -> None:
        """A part of the panel."""
        title = self.page.locator("h2 button[aria-expanded]").filter(has_text=part)
        if title.get_attribute("aria-expanded") == "false":
            title.click()

    def undo(self) -> None:
        """One step back, and wait until the page knows it: handles of boxes come after the masks."""
        with self.page.expect_response(lambda one: one.request.method == "GET" and one.url.endswith("/prompts")):
            self.press("Control+z")
        self.page.wait_for_timeout(100)

    # -- what the server has ---------------------------------------------------------------------------------

    def json(self, path: str, **query: Any) -> Any:
        answer = self.api.get(API + path, params=query)
        answer.raise_for_status()
        return answer.json()

    def labels(self) -> np.ndarray:
        """All masks as numbers, (K, J, I); waits until they are refined."""
        answer = self.api.get(f"{API}/sessions/{self.session}/labels", params={"format": "raw"}, timeout=120)
        answer.raise_for_status()
        meta = json.loads(answer.headers["x-medsam-meta"])
        return np.frombuffer(answer.content, meta["dtype"]).reshape(meta["shape"])

    def steps(self) -> int:
        """How many can be taken back, as the page says."""
        text = self.page.locator(".tools-last button").first.inner_text().strip()
        return int(text or 0)

    # -- waiting ----------------------------------------------------------------------------------------------

    def until(self, true: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds:g} s: {what}; {self.watched.unexpected()}")
            self.page.wait_for_timeout(30)

    def agree(self, number: int, index: int, seconds: float = 30.0) -> np.ndarray:
        """Wait until the screen shows the server's mask of a slice; returns it."""
        self.until(lambda: bool((self.labels()[index] == number).any()), "there is a mask")
        mask = self.labels()[index] == number
        self.until(lambda: alike(self.painted(), mask), "the mask on screen is the server's", seconds)
        return mask


def alike(painted: np.ndarray, mask: np.ndarray) -> bool:
    """Whether all of a mask is painted, and nothing else but its outline and the mark at its name."""
    outline = binary_dilation(mask, iterations=3)
    missed, more = np.count_nonzero(mask & ~painted), np.count_nonzero(painted & ~outline)
    return bool(missed <= 0.005 * np.count_nonzero(mask) and more <= _MARK)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def slice_shown(page: Page) -> int:
    """The index of the slice on the large plane, an axial one."""
    return int(page.locator(".view-pane[data-plane=k] .view-slider").input_value())


def boxes(prompts: dict[str, Any]) -> list[Sequence[float]]:
    """Of a prompts file."""
    return [entry["box"] for entry in prompts["prompts"] if entry.get("box") is not None]
