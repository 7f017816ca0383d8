"""The pictures of docs/reading-room.md, made by mouse and keys as a reader would.

    .venv/bin/python scripts/parity/page_pictures.py docs/images [--data ../shared/data]

Of scans whose licences allow it: the demo's lumbar CT, with tight boxes of its reference, and an ultrasound of BUS-BRA
(CC BY 4.0) with one drawn by hand. Look at what it made.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import httpx
import numpy as np
from in_browser import WIDE, launch, opened
from page_room import API, Room
from playwright.sync_api import Browser, sync_playwright
from serve_equal import DATA

import medsam
from medsam.assets.cache import fetch
from medsam.prompts.simulate import tight_box

sys.path.append(str(Path(__file__).resolve().parents[1] / "speed"))

from served import Server

LARGE = {"width": 1600, "height": 900}
ULTRASOUND = "breast_ultrasound_busbra"
# of malignant_0335
LESION = (205, 112, 340, 239)
# name -> vertebra, numbers of its parts (the vertebral body, the spinous process), colour. The last one is followed
STRUCTURES = {
    "vertebra L2": (21, (49, 50), "#56b4e9"),
    "vertebra L4": (23, (49, 50), "#009e73"),
    "spinous process L3": (22, (42,), "#f0e442"),
    "spinous process L4": (23, (42,), "#cc79a7"),
    "vertebra L3": (22, (49, 50), "#e69f00"),
}


def main(folder: Path, data: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        server = Server(Path(made), [data / ULTRASOUND / "images"], options=["--demo"])
        # 3D alone needs a GL, and one in software leaves no time for previews
        browser, solid = launch(playwright, gl=False), launch(playwright)
        with httpx.Client(base_url=server.url, timeout=60) as api:
            # all are listed once the folders have been looked at
            while len(found := api.get(f"{API}/cases?limit=500").json()) < 2:
                time.sleep(0.5)
            ct = next(one["id"] for one in found if one["format"] == "nifti")
            picture = next(one["id"] for one in found if one["name"].startswith("malignant_0335"))
            _of_ct(browser, api, ct, folder)
            _of_planes(solid, api, ct, folder)
            _of_picture(browser, api, picture, folder)
            with opened(browser, server.url) as watched:
                watched.page.goto("/")
                watched.page.locator("img").nth(8).wait_for()
                watched.page.wait_for_timeout(3000)
                watched.page.screenshot(path=folder / "page-cases.png")
        server.stop()
        _of_nothing(browser, Path(made) / "empty", folder)
        browser.close()
        solid.close()


def _of_ct(browser: Browser, api: httpx.Client, case: str, folder: Path) -> None:
    boxes = _boxes()
    with opened(browser, str(api.base_url).rstrip("/"), viewport=LARGE) as watched:
        room = Room(watched, api)
        room.axis = _axis()
        room.open(case)
        for steps, (name, box) in enumerate(boxes.items(), 1):
            wanted = {"name": name, "colour": STRUCTURES[name][2]}
            api.post(f"{API}/sessions/{room.session}/objects", json=wanted).raise_for_status()
            last = room.page.locator(".panels-name").nth(steps - 1)
            last.click()
            # where another one's mask lies below, a box begins all the same
            room.box(*box)
            room.until(partial(_taken, room, steps), "the box is there", 60)
            room.labels()
        room.page.wait_for_timeout(3000)
        room.page.screenshot(path=folder / "page-ct.png")
        room.press("g")
        following = f"{API}/sessions/{room.session}"
        room.until(lambda: any(job["done"] > 8 for job in api.get(following).json()["jobs"]), "it is followed", 60)
        room.page.screenshot(path=folder / "page-propagation.png")
        room.page.locator(".panels-ended").wait_for(timeout=120_000)
        room.page.set_viewport_size(WIDE)
        room.page.get_by_role("button", name="한국어").click()
        room.page.wait_for_timeout(1500)
        room.page.screenshot(path=folder / "page-korean.png")


def _of_planes(browser: Browser, api: httpx.Client, case: str, folder: Path) -> None:
    """The same reading, where there is a GL."""
    with opened(browser, str(api.base_url).rstrip("/"), viewport=LARGE) as watched:
        room = Room(watched, api)
        room.axis = _axis()
        room.open(case, anew=False)
        room.press("v")
        room.page.wait_for_timeout(8000)
        room.page.screenshot(path=folder / "page-planes.png")


def _axis() -> str:
    """Along which the lumbar CT was taken."""
    return medsam.load_volume(fetch("lumbar-ct")["image"]).geometry.plane().axis


def _taken(room: Room, steps: int) -> bool:
    return room.steps() == steps


def _boxes() -> dict[str, tuple[int, int, int, int]]:
    files = fetch("lumbar-ct")
    vertebra, part = (medsam.load_volume(files[name]) for name in ("vertebrae", "subregions"))
    plane = vertebra.geometry.plane()
    found = {}
    for name, (number, parts, _) in STRUCTURES.items():
        mask = (vertebra.array == number) & np.isin(part.array, parts)
        box = tight_box(plane.take(mask, plane.count // 2))
        if box is not None:
            found[name] = box
    return found


def _of_picture(browser: Browser, api: httpx.Client, case: str, folder: Path) -> None:
    with opened(browser, str(api.base_url).rstrip("/"), viewport=WIDE) as watched:
        room = Room(watched, api)
        room.open(case)
        room.box(*LESION)
        room.until(lambda: room.steps() == 1, "the box is there", 60)
        room.labels()
        room.page.wait_for_timeout(2000)
        room.page.screenshot(path=folder / "page-ultrasound.png")


def _of_nothing(browser: Browser, made: Path, folder: Path) -> None:
    """As a server begins that has no scans, by daylight."""
    made.mkdir()
    server = Server(made, [])
    with opened(browser, server.url, viewport=WIDE) as watched:
        watched.page.goto("/")
        watched.page.get_by_role("button", name="Choose files").wait_for()
        watched.page.get_by_role("button", name="Light colours").click()
        watched.page.wait_for_timeout(1500)
        watched.page.screenshot(path=folder / "page-empty.png")
    server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    main(arguments.folder, arguments.data)
