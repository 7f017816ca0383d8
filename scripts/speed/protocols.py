"""Seconds from a click to the mask through the viewers' protocols, beside this server's own interface.

    .venv/bin/python scripts/speed/protocols.py [--steps 20] [--slices 100] [--csv docs/results/protocols.csv]

A made CT of 512 x 512 x 100; `medsam serve` of its own; box and click on slices that are embedded, from the call to the
mask in the client's hands, in turns of one client after the other. Our own client (`medsam.client`, the interface that
the page uses) gets the mask of the slice; MONAI Label's client, its own code from its wheel, a file of the whole volume
each time. A row is replaced in the table where its client and step are there; others' rows stay.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import sys
import tempfile
import time
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from served import Server, about_machine, client_row, made_ct, report

import medsam

FIELDS = ("client", "step", "median_s", "p95_s", "n", "slices", "date", "load")
OURS, MONAI = f"medsam.client {medsam.__version__}", "monailabel client.py 0.8.5"
_STEP = "{}, slice embedded"


def monai_client(wheel: Path, folder: Path) -> Any:
    """MONAI Label's `client.py`, out of its wheel."""
    with zipfile.ZipFile(wheel) as archive:
        path = archive.extract("monailabel/client/client.py", folder)
    spec = importlib.util.spec_from_file_location("monai_label_client", path)
    if spec is None or spec.loader is None:
        raise SystemExit("The wheel holds no client.")
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


def fetched_wheel() -> Path:
    """As the tests have it."""
    sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
    from monai_client import wheel  # type: ignore[import-not-found]

    found: Path = wheel()
    return found


def asked(session: Any, viewer: Any, token: str, ball: Any, turn: int) -> dict[tuple[str, str], Callable[[], Any]]:
    """A box and a click of a turn, of each client."""
    index, x, y, radius = ball
    shift = turn % 5
    x0, y0, x1, y1 = (round(one) for one in (x - radius - shift, y - radius, x + radius, y + radius + shift))
    roi = {"roi": [x0, x1 - 1, y0, y1 - 1, index, index], "result_extension": ".nrrd"}
    click = {"foreground": [[round(x + shift), round(y), index]], "result_extension": ".nrrd"}
    return {
        (OURS, "box"): lambda: session.box(index, (x0, y0, x1, y1), f"box {turn}"),
        (OURS, "click"): lambda: session.click(index, round(x + shift), round(y), label=f"click {turn}"),
        (MONAI, "box"): lambda: viewer.infer("medsam_slice", "", dict(roi), session_id=token),
        (MONAI, "click"): lambda: viewer.infer("medsam_slice", "", dict(click), session_id=token),
    }


def measure(server: Server, scan: Path, wheel: Path, folder: Path, balls: list[Any], steps: int) -> dict[Any, Any]:
    """Seconds by client and step."""
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)

    def timed(client: str, step: str, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        found = work()
        taken[client, step].append(time.perf_counter() - begun)
        return found

    viewer = monai_client(wheel, folder).MONAILabelClient(server.url, tmpdir=str(folder))
    token = timed(MONAI, "the image is sent and read", lambda: viewer.create_session(str(scan))["session_id"])
    with server.client() as client:
        begun = time.perf_counter()
        with client.open(client.upload(scan), axis="k") as session:
            taken[OURS, "the image is sent and read"].append(time.perf_counter() - begun)
            for turn in range(len(balls) + steps):
                ball = balls[turn % len(balls)]
                for (who, step), work in asked(session, viewer, token, ball, turn).items():
                    if turn < len(balls):
                        # the first on a slice embeds it
                        work()
                    else:
                        timed(who, _STEP.format(step), work)
                    if who == OURS:
                        # what refines a first answer is no part of the next step
                        session.wait_refined(ball[0], f"{step} {turn}", timeout_s=300)
    return taken


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    """Rows in place of those of the same client and step."""
    known = list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []
    new = {(row["client"], row["step"]) for row in rows}
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, FIELDS, lineterminator="\n")
        table.writeheader()
        table.writerows([*(row for row in known if (row["client"], row["step"]) not in new), *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--wheel", type=Path, help="of monailabel; default: fetched by the tests")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    wheel = arguments.wheel or fetched_wheel()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        volume, balls = made_ct(1, arguments.slices)
        scan = folder / "made.nii"
        scan.write_bytes(as_nifti(volume))
        server = Server(folder, [], options=["--monailabel"])
        try:
            taken = measure(server, scan, wheel, folder, balls[:4], arguments.steps)
        finally:
            server.stop()
    rows = [
        client_row(who, step, seconds, arguments.slices)
        for (who, step), seconds in sorted(taken.items(), key=lambda one: (one[0][1], one[0][0]))
    ]
    report(
        {"rows": rows, "machine": about_machine()},
        [list(FIELDS), *(list(row.values()) for row in rows)],
        arguments.json,
    )
    if arguments.csv is not None:
        write_table(arguments.csv, rows)
    return 0


def as_nifti(volume: medsam.Volume) -> bytes:
    """A scan as the content of a NIfTI file, not compressed."""
    import nibabel

    return nibabel.Nifti1Image(volume.array.transpose(2, 1, 0), volume.geometry.ras_affine).to_bytes()


if __name__ == "__main__":
    sys.exit(main())
