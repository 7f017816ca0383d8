"""Seconds from what a user does to the mask, in nnInteractive's own client and through the page's interface; what the
array alone costs beside the file that it came from; and the memory that a large CT takes.

    .venv/bin/python scripts/speed/viewers.py seconds --out docs/results/protocols.csv
    .venv/bin/python scripts/speed/viewers.py direction --data FOLDER --out docs/results/protocols_direction.csv
    .venv/bin/python scripts/speed/viewers.py large

seconds: beside the rows of scripts/speed/protocols.py, which stay. direction: --data as tests have it.
Each needs nninteractive-client (the extra test).
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from served import Server, client_row, made_ct

import medsam
from medsam.client.client import Client
from medsam.inference.predictor import Predictor
from medsam.io.load import load_volume
from medsam.masks import bounding_box, xyxy
from medsam.prompts.masks import load_masks
from medsam.prompts.prompt import Prompt
from medsam.server.nninteractive.routes import _scan
from medsam.transforms.intensity import resolve_window
from medsam.volume import Volume

# of a series, the first ones
_STRUCTURES = 8
NNINTERACTIVE, PAGE = "nninteractive-client 2.6.0", f"medsam.client {medsam.__version__}"


def timed(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def memory_mib(pid: int, what: str) -> float:
    """what: VmRSS, now, or VmHWM, at most so far."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(what))


# -- seconds ---------------------------------------------------------------------------------------------------------


def seconds(arguments: argparse.Namespace) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), [], options=["--nninteractive"])
        for slices, turns in ((1, arguments.turns), (arguments.slices, max(2, arguments.turns // 3))):
            scan, balls = made_ct(slices, slices)
            _, x, y, radius = balls[0]
            box = tuple(int(at) for at in (x - radius, y - radius, x + radius, y + radius))
            found: dict[tuple[str, str], list[float]] = {}
            step = "box" if slices == 1 else "box, and the object in the volume"
            for _ in range(turns + 1):
                # in turns, on one image: what is embedded for one is for the other
                for client, took in (
                    (NNINTERACTIVE, _through_nninteractive(server, scan, slices // 2, box)),
                    (PAGE, _through_page(server, scan, slices // 2, box)),
                ):
                    found.setdefault((client, "the image is sent and read"), []).append(took[0])
                    found.setdefault((client, f"{step}, slices embedded"), []).append(took[1])
                    found.setdefault((client, "undo"), []).append(took[2])
            # the first embeds
            rows += [client_row(client, what, times[1:], slices) for (client, what), times in found.items()]
        server.stop()
    mine = {(row["client"], row["step"], row["slices"]) for row in rows}
    write(arguments.out, rows, lambda row: (row["client"], row["step"], row["slices"]) not in mine)


def _through_nninteractive(
    server: Server, scan: Volume, index: int, box: tuple[int, ...]
) -> tuple[float, float, float]:
    from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as Remote

    x0, y0, x1, y1 = box
    with Remote(f"{server.url}/nninteractive") as session:
        spacing = list(scan.geometry.spacing_mm)
        sent = timed(lambda: session.set_image(scan.array[None], {"spacing": spacing}))
        session.set_target_buffer(np.zeros(scan.geometry.shape, np.uint8))

        def whole() -> None:
            """Until the object has been followed to its ends."""
            session.add_bbox_interaction([[index, index + 1], [y0, y1], [x0, x1]], True)
            if len(scan.array) > 1:
                while '"ran_prediction": true' in (answer := session._post_json("/predict", {})).headers["X-Meta"]:
                    session._apply_prediction_response(answer)

        return sent, timed(whole), timed(session.undo)


def _through_page(server: Server, scan: Volume, index: int, box: tuple[int, ...]) -> tuple[float, float, float]:
    with Client(server.url) as client:
        begun = time.perf_counter()
        case = client.upload(scan, "scan")
        client.load(case)
        sent = time.perf_counter() - begun
        with client.open(case, axis="k") as session:

            def whole() -> None:
                session.box(index, tuple(map(float, box)))  # type: ignore[arg-type]
                session.wait_refined(index)
                if len(scan.array) > 1:
                    for _ in session.propagate():
                        pass

            found = sent, timed(whole), timed(session.undo)
        client.delete(case)
    return found


# -- what the array alone costs --------------------------------------------------------------------------------------


def direction(arguments: argparse.Namespace) -> None:
    predictor, rows = Predictor("litemedsam"), []
    for name, path, labels in _references(arguments.data):
        scan = load_volume(path)
        alone = _scan(np.ascontiguousarray(scan.array)[None], list(scan.geometry.spacing_mm))
        plane = scan.geometry.plane("k")
        dice: list[tuple[float, float, float]] = []
        for mask in load_masks(labels, scan, []).values():
            sizes = [int(plane.take(mask, index).sum()) for index in range(plane.count)]
            index = int(np.argmax(sizes))
            truth = plane.take(mask, index)
            part = bounding_box(truth)
            if part is None or sizes[index] < 25 or len(dice) == _STRUCTURES:
                continue
            prompt = Prompt(box=tuple(map(float, xyxy(part))), slice=index)  # type: ignore[arg-type]
            there, lost = (
                plane.take(predictor.segment(one, prompt, axis="k").labels.array, index) != 0 for one in (scan, alone)
            )
            dice.append((_dice(there, truth), _dice(lost, truth), _dice(there, lost)))
        whole, without, between = np.array(dice).mean(axis=0)
        rows.append(
            {
                "series": name,
                "axes": scan.geometry.axcodes,
                "window_of_file": resolve_window(scan).name,
                "window_of_array": resolve_window(alone).name,
                "structures": len(dice),
                "dice_file": f"{whole:.3f}",
                "dice_array": f"{without:.3f}",
                "dice_between": f"{between:.3f}",
            }
        )
    write(arguments.out, rows, lambda row: False)


def _references(data: Path) -> Iterator[tuple[str, Path, Path]]:
    lung, breast = data / "lung_ct_dicom_rtstruct", data / "breast_mr_dicom_seg"
    files = sorted(breast.rglob("*.dcm"), key=lambda path: (path.parent, path.name))
    folders = sorted({path.parent for path in files}, key=lambda path: -len(list(path.glob("*.dcm"))))
    yield "lung CT, axial DICOM", lung / "ct_series", next((lung / "rtstruct").glob("*.dcm"))
    yield "breast MR, sagittal DICOM", folders[0], next(folders[-1].glob("*.dcm"))
    abdomen = data / "totalseg_abdomen_ct"
    yield "abdomen CT, NIfTI", abdomen / "images" / "ct_slab.nii.gz", abdomen / "labels" / "ct_slab.nii.gz"
    hippocampus = data / "msd_hippocampus_mr"
    for number in ("001",):
        file = f"hippocampus_{number}.nii.gz"
        yield f"hippocampus MR {number}, NIfTI", hippocampus / "imagesTr" / file, hippocampus / "labelsTr" / file
    cord = data / "spinal_cord_mr"
    yield "spinal cord MR, NIfTI", cord / "t2s_image.nii.gz", cord / "t2s_cord.nii.gz"


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / max(1, int(one.sum() + other.sum())))


# -- a large CT ------------------------------------------------------------------------------------------------------


def large(arguments: argparse.Namespace) -> None:
    from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as Remote

    shape = (600, 512, 512)
    image = np.random.default_rng(0).integers(-1000, -900, shape, dtype=np.int16)
    k, j, i = np.ogrid[:600, :512, :512]
    image[(k - 300) ** 2 + (j - 256) ** 2 + (i - 256) ** 2 < 60**2] = 60
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), [], options=["--nninteractive", "--scan-memory", str(arguments.gib)])
        before = memory_mib(server.process.pid, "VmRSS")
        with Remote(f"{server.url}/nninteractive") as session:

            def told(what: str, took: float) -> None:
                more = memory_mib(server.process.pid, "VmHWM") - before
                print(f"{what}: {took:.1f} s, at most {more:.0f} MiB more")

            told("image", timed(lambda: session.set_image(image[None], {"spacing": [1.0, 0.8, 0.8]})))
            buffer = np.zeros(shape, np.uint8)
            session.set_target_buffer(buffer)
            box = [[300, 301], [190, 322], [190, 322]]
            told("box", timed(lambda: session.add_bbox_interaction(box, True)))
            for _ in range(20):
                there = int(buffer.any(axis=(1, 2)).sum())
                told(f"predict, {there} slices before", timed(session._predict))
                if there == int(buffer.any(axis=(1, 2)).sum()):
                    break
        server.stop()


def write(path: Path, rows: list[dict[str, Any]], stays: Callable[[dict[str, Any]], bool]) -> None:
    """stays: of rows that are there."""
    kept: list[dict[str, Any]] = []
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            kept = [row for row in csv.DictReader(file) if stays(row)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("seconds")
    one.add_argument("--turns", type=int, default=9)
    one.add_argument("--slices", type=int, default=6, help="of the volume")
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(run=seconds)
    one = commands.add_parser("direction")
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(run=direction)
    one = commands.add_parser("large")
    one.add_argument("--gib", type=float, default=4.0, help="--scan-memory of the server")
    one.set_defaults(run=large)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
