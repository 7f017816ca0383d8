"""The main job on a real scan; run by ./scripts/demo.

Boxes come from the reference masks, as in an evaluation: one tight box a slice and vertebral body of at least 10
pixels. The same boxes filled with their inscribed ellipse are scored beside the model, because a Dice from tight boxes
says little without knowing what the boxes alone are worth.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import get_args

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

import medsam
from medsam.assets.cache import fetch
from medsam.drawing.preview import write_preview
from medsam.inference.slice_request import Zoom
from medsam.prompts.simulate import inscribed_ellipse, tight_box

# vertebra numbers of one label map; 49 and 50 are cortex and core of a vertebral body in the other
VERTEBRAE = {"L2": 21, "L3": 22, "L4": 23}
BODY = (49, 50)


def main(folder: Path, zoom: Zoom) -> None:
    console = Console(stderr=True)
    files = fetch("lumbar-ct")
    fetch("litemedsam")

    scan = medsam.load_volume(files["image"])
    vertebra = medsam.load_volume(files["vertebrae"]).array
    body = np.isin(medsam.load_volume(files["subregions"]).array, BODY)
    references = {name: body & (vertebra == number) for name, number in VERTEBRAE.items()}

    plane = scan.geometry.plane()
    prompts = []
    ellipses = {name: np.zeros(scan.array.shape, bool) for name in references}
    for name, reference in references.items():
        for index in range(plane.count):
            box = tight_box(plane.take(reference, index))
            if box is not None:
                prompts.append(medsam.Prompt(name, box=box, slice=index))
                plane.take(ellipses[name], index)[...] = inscribed_ellipse(box, plane.shape)

    started = time.perf_counter()
    predictor = medsam.Predictor("litemedsam")
    columns = (TextColumn("Slices"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("slices")
        found = predictor.segment(
            scan, prompts, zoom=zoom, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    seconds = time.perf_counter() - started

    folder.mkdir(parents=True, exist_ok=True)
    mask = medsam.save_labels(found.labels, folder / "lumbar.nii.gz", source=files["image"])
    picture = folder / "lumbar.png"
    write_preview(scan, found, picture, title="Lumbar CT: vertebral bodies by LiteMedSAM, one box a slice")

    table = Table(title="Dice against the expert masks, tight boxes", box=None, title_justify="left")
    for heading in ("vertebral body", "LiteMedSAM", "ellipse in the box", "ml", "reference ml"):
        table.add_column(heading, justify="left" if heading == "vertebral body" else "right")
    scores = []
    for number, name in found.labels.names.items():
        # slices that got no box are no part of the question
        asked = np.zeros(scan.array.shape, bool)
        for answer in found.results:
            if answer.label == number:
                plane.take(asked, answer.slice)[...] = True
        truth, answer_mask = references[name] & asked, found.labels.array == number
        model, ellipse = _dice(truth, answer_mask), _dice(truth, ellipses[name])
        scores.append((model, ellipse))
        millilitres = [np.count_nonzero(m) * scan.geometry.voxel_ml for m in (answer_mask, truth)]
        table.add_row(name, f"{model:.3f}", f"{ellipse:.3f}", *(f"{ml:.1f}" for ml in millilitres))
    table.add_row("mean", *(f"{value:.3f}" for value in np.mean(scores, axis=0)))
    out = Console()
    out.print(table)
    out.print(
        f"{len(prompts)} boxes on {len({prompt.slice for prompt in prompts})} slices in {seconds:.1f} s, "
        f"window {found.window.name}. Not a medical device.\nwrote {mask}\nwrote {picture}",
        highlight=False,
    )


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("out/demo"))
    parser.add_argument("--zoom", choices=get_args(Zoom), default="auto", help="as for medsam segment (default: auto)")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.zoom)
