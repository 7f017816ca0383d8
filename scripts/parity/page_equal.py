"""Boxes drawn by the mouse in Chromium, on scans of every kind: on screen, on the server, and by `medsam segment`.

    .venv/bin/python scripts/parity/page_equal.py [--only ultrasound] [--shots shots/] [--json page.json]

Scans are those of `serve_equal.py`: DICOM, NIfTI, MR, ultrasound, and copies whose voxels are stored otherwise or lie
obliquely. On each a box is drawn across the middle of the slice that opens, where the page puts it on screen; then all
planes and 3D are shown, the windows are gone through, and the page is loaded anew. The exit status says whether every
mask was the same in all three places, and whether the page stayed silent and at its own origin.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from in_browser import launch, opened
from page_room import API, Room, alike
from playwright.sync_api import sync_playwright
from serve_equal import DATA, scans, zipped

import medsam

sys.path.append(str(Path(__file__).resolve().parents[1] / "speed"))

from served import Server, about_machine, report


def one_scan(room: Room, path: Path, folder: Path, shots: Path | None) -> dict[str, Any]:
    """What was seen of a scan. differ: pixels that `medsam segment` has otherwise."""
    client = medsam.Client(str(room.api.base_url))
    case = client.upload(zipped(path, folder) if path.is_dir() else path)
    room.case, room.geometry = case.id, {}
    room.page.goto(f"/#/case/{case.id}")
    room.axis = _axis(room)
    room.ready()
    rows, columns = room.geometry["planes"][room.axis]["shape"]
    room.box(round(columns * 0.3), round(rows * 0.3), round(columns * 0.7), round(rows * 0.75))
    room.until(lambda: room.steps() == 1, "the box is there", 120)
    index = room.json(f"/sessions/{room.session}/prompts")["prompts"][0]["slice"]
    mask = _slice(room, index)
    room.until(lambda: alike(room.painted(), mask), "the mask on screen is the server's")
    shot(room, shots, "box")
    theirs = _segment(path, room, folder, index)
    for _ in range(2):
        room.press("v")
        room.page.wait_for_timeout(1500)
        shot(room, shots, "planes")
    room.press("v")
    for number in range(1, 10):
        room.press(str(number))
    room.page.reload()
    room.ready()
    room.until(lambda: alike(room.painted(), mask), "the mask is there again")
    differ = int((mask != theirs).sum())
    return {"inside": int(mask.sum()), "differ": differ, "faults": room.watched.unexpected()}


def _axis(room: Room) -> str:
    """Along which the page began to work."""
    room.until(lambda: bool(room.json("/sessions", case=room.case)), "a session is open", 120)
    return str(room.json("/sessions", case=room.case)[0]["axis"])


def _slice(room: Room, index: int) -> np.ndarray:
    return np.take(room.labels(), index, axis="kji".index(room.axis)) == 1


def _segment(path: Path, room: Room, folder: Path, index: int) -> np.ndarray:
    """The same slice as `medsam segment` has it."""
    from serve_equal import segment

    file = folder / "asked.json"
    file.write_bytes(room.api.get(f"{API}/sessions/{room.session}/prompts").content)
    scan = medsam.load_volume(path)
    suffix = "nii.gz" if scan.geometry.calibrated else "png"
    out = segment(path, folder, room.axis, f"theirs.{suffix}", medsam.read_prompts(file)[0])
    labels = medsam.load_labels(out, scan.geometry)
    whole = np.any([np.asarray(mask) for mask in labels.values()], axis=0)
    return np.take(whole, index, axis="kji".index(room.axis))


def shot(room: Room, shots: Path | None, what: str) -> None:
    if shots is not None:
        shots.mkdir(parents=True, exist_ok=True)
        room.page.screenshot(path=shots / f"{len(list(shots.iterdir())):03d}-{what}.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names of scans")
    parser.add_argument("--shots", type=Path, help="folder for pictures of the page")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows, result, wrong = [["scan", "pixels inside", "that differ", "faults"]], [], 0
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        folder = Path(home)
        server, browser = Server(folder, []), launch(playwright)
        for name, path in scans(arguments.data, folder):
            if arguments.only and not any(part in name for part in arguments.only):
                continue
            with opened(browser, server.url) as watched, httpx.Client(base_url=server.url, timeout=120) as api:
                seen = one_scan(Room(watched, api), path, folder, arguments.shots)
            wrong += seen["differ"] + len(seen["faults"]) + (not seen["inside"])
            result.append({"scan": name, **seen})
            rows.append([name, str(seen["inside"]), str(seen["differ"]), str(len(seen["faults"]))])
            print(f"{name}: {seen}", file=sys.stderr, flush=True)
        browser.close()
        server.stop()
    report({"machine": about_machine(), "scans": result}, rows, arguments.json)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
