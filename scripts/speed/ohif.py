"""Seconds from a click to the mask in OHIF: in Chromium, before a real `medsam serve` and a real Orthanc.

    .venv/bin/python scripts/speed/ohif.py --data FOLDER [--turns 5] --out docs/results/protocols.csv

FOLDER: as tests have it. A CT of 24 slices in Orthanc is opened in MONAI Label's mode of OHIF, anew each turn, with a
click in the aorta; then "Run" is pressed: until the server's answer, and until the mask is seen, which a look at the
screen every tenth of a second tells. The first turn fetches and embeds and is left out. GL in software, as on a machine
without a card. Rows are put beside those of other clients, as scripts/speed/protocols.py writes them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright
from served import Server, client_row
from viewers import write

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "scripts" / "parity"), str(ROOT / "tests")]

from in_browser import launch, opened  # noqa: E402
from monai_client import ohif  # type: ignore[import-not-found]  # noqa: E402
from ohif_room import AORTA, WIDE, click, coloured, point_prompts, run, the_study  # noqa: E402
from orthanc import running  # type: ignore[import-not-found]  # noqa: E402

from medsam.io.dicom.series import read_dicom  # noqa: E402
from medsam.pacs.client import store  # noqa: E402

CLIENT = "OHIF of monailabel 0.8.5"
_UNTIL = ("until the answer", "until it is on screen")
MODELS = {
    "medsam_slice": "click, slice embedded",
    "medsam_volume": "click, and the object in the volume, slices embedded",
}


def turn(browser: Browser, url: str, study: str, model: str, point: np.ndarray) -> tuple[float, float]:
    """Seconds to the answer, and to the mask on screen."""
    with opened(browser, url, viewport=WIDE) as watched:
        page = watched.page
        tab = point_prompts(page, url, study, model, "aorta")
        click(page, point)
        before = coloured(page, 0)
        begun = time.perf_counter()
        run(page, tab)
        answered = time.perf_counter() - begun
        # the point itself is in colour, too
        while coloured(page, 0) < before + 50:
            page.wait_for_timeout(100)
        return answered, time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    series = arguments.data / "lung_ct_dicom_rtstruct" / "ct_series"
    scan = read_dicom(series)
    point = (scan.geometry.affine @ np.array([*AORTA, 1.0]))[:3]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "ohif").mkdir()
        with running(folder) as orthanc:
            (folder / "settings.toml").write_text(f'[servers.main]\ndicomweb = "{orthanc.dicomweb}"\n')
            os.environ["MEDSAM_SETTINGS"] = str(folder / "settings.toml")
            store(orthanc.server(), [series])
            server = Server(folder, [], options=["--ohif", str(ohif(folder / "ohif")), "--structure", "aorta"])
            with sync_playwright() as playwright:
                browser = launch(playwright, gl=True)
                for model, step in MODELS.items():
                    times = [
                        turn(browser, server.url, the_study(server.url), model, point)
                        for _ in range(arguments.turns + 1)
                    ]
                    # the first fetches and embeds
                    for until, later in zip(_UNTIL, zip(*times[1:], strict=True), strict=True):
                        rows.append(client_row(CLIENT, f"{step}, {until}", later, len(scan.array)))
                    print(*rows[-2:], sep="\n", flush=True)
                browser.close()
            server.stop()
    write(arguments.out, rows, lambda row: row["client"] != CLIENT)


if __name__ == "__main__":
    main()
