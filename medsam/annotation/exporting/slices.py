"""Layouts of one picture a slice: COCO and SA-1B. Pictures are PNG of the stored slice in the scan's window.

DIR/images/SCAN_k0012.png           slice 12 across axis k, its rows and columns as the scan has them
DIR/annotations.json                COCO's instances of all of them, with compressed run lengths
DIR/SCAN_k0012.png, SCAN_k0012.json SA-1B: masks without a class, a file a picture (`medsam.io.sa1b`)

COCO's images say of which scan, axis and slice they are ("scan", "axis", "slice"), its annotations who made them
("status", "reader", "model"); other programs pass over what they do not know. SA-1B wants numbers that people's masks
do not have: "predicted_iou" is then 1; "stability_score" is kept of no mask and left out.
Sources: Lin et al. 2014; Kirillov et al. 2023.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from medsam.annotation.exporting.content import Asked, ScanContent
from medsam.data.manifest import Case
from medsam.files import write_whole
from medsam.geometry import SlicePlane
from medsam.io.sa1b import MaskFile, write_sa1b
from medsam.masks import RLE, AutomaticMask, xyxy
from medsam.store.project_records import Annotation, StoredScan


class CocoLayout:
    """Instances of COCO, one for each structure on a slice."""

    def suits(self, scan: StoredScan, case: Case) -> None:
        """Any."""

    def write(self, content: ScanContent, folder: Path) -> dict[str, Any]:
        (folder / "images").mkdir(exist_ok=True)
        images = []
        for plane, index, rows in _slices(content):
            name = _picture(content, plane, index, folder / "images")
            about = {"file_name": name, "height": plane.shape[0], "width": plane.shape[1]}
            about |= {"scan": content.scan.name, "axis": plane.axis, "slice": index}
            images.append({**about, "masks": [_instance(row, content) for row in rows]})
        return {"images": images}

    def finish(self, parts: Iterable[dict[str, Any]], asked: Asked, folder: Path) -> list[str]:
        categories = [{"id": number, "name": name} for name, number in asked.numbers.items()]
        head = {"info": {"description": asked.project.asked.name}, "licenses": [], "categories": categories}
        if asked.request.licence:
            head["licenses"] = [{"id": 1, "name": asked.request.licence}]
        # two lists in one file, written a scan at a time: any number of masks fits
        with (
            write_whole(folder / "annotations.json") as path,
            path.open("w", encoding="utf-8") as file,
            (path.parent / "annotations.part").open("w+", encoding="utf-8") as masks,
        ):
            file.write(json.dumps(head)[:-1] + ', "images": [')
            image = annotation = 0
            for part in parts:
                for about in part["images"]:
                    image += 1
                    found = about.pop("masks")
                    file.write(("," if image > 1 else "") + "\n" + json.dumps({"id": image, **about}))
                    for one in found:
                        annotation += 1
                        row = {"id": annotation, "image_id": image, **one}
                        masks.write(("," if annotation > 1 else "") + "\n" + json.dumps(row))
            file.write('\n], "annotations": [')
            masks.seek(0)
            for line in masks:
                file.write(line)
            file.write("\n]}\n")
            Path(masks.name).unlink()
        return []


class Sa1bLayout:
    """Files of SA-1B."""

    def suits(self, scan: StoredScan, case: Case) -> None:
        """Any."""

    def write(self, content: ScanContent, folder: Path) -> dict[str, Any]:
        for plane, index, rows in _slices(content):
            name = _picture(content, plane, index, folder)
            masks = tuple(_automatic(row) for row in rows)
            file = MaskFile(plane.shape[1], plane.shape[0], masks, name, axis=plane.axis, slices=plane.count)
            write_sa1b(file, (folder / name).with_suffix(".json"))
        return {}

    def finish(self, parts: Iterable[dict[str, Any]], asked: Asked, folder: Path) -> list[str]:
        for _ in parts:
            pass
        return [
            'Masks have no class in this layout. "predicted_iou" is 1 where no model answered, and what was drawn or '
            'corrected has that of the last answer; "stability_score" is left out, since it is not kept.'
        ]


def _slices(content: ScanContent) -> Iterator[tuple[SlicePlane, int, list[Annotation]]]:
    """The slices that have masks, each with them in the project's order."""
    order = list(content.asked.numbers)
    rows = sorted(content.rows, key=lambda row: (row.axis, row.slice, order.index(row.structure)))
    for (axis, index), found in groupby(rows, key=lambda row: (row.axis, row.slice)):
        yield content.image.geometry.plane(axis), index, list(found)


def _picture(content: ScanContent, plane: SlicePlane, index: int, folder: Path) -> str:
    """Write a slice; returns the file's name."""
    from PIL import Image

    pixels = np.ascontiguousarray(content.window.picture(plane.take(content.image.array, index)))
    name = f"{content.scan.name}_{plane.axis}{index:04}.png"
    with write_whole(folder / name) as part:
        Image.fromarray(pixels).save(part, format="PNG")
    return name


def _instance(row: Annotation, content: ScanContent) -> dict[str, Any]:
    maker = content.makers[row.id]
    x0, y0, x1, y1 = xyxy(row.mask.part)
    return {
        "category_id": content.asked.numbers[row.structure],
        "segmentation": row.mask.to_dict(),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": row.mask.area,
        "iscrowd": 0,
        "status": row.status,
        "reader": maker.reader,
        "model": maker.model,
    }


def _automatic(row: Annotation) -> AutomaticMask:
    height, width = row.mask.shape
    x0, y0, x1, y1 = xyxy(row.mask.part)
    return AutomaticMask(
        RLE.of(row.mask.to_array()),
        # of SA-1B: from the first to the last column and row inside
        (x0, y0, x1 - x0 - 1, y1 - y0 - 1),
        1.0 if row.predicted_iou is None else row.predicted_iou,
        None,
        (0, 0, width, height),
        (),
        row.slice,
    )
