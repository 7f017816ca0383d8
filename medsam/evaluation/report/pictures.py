"""Which cases are shown for a structure, and their pictures."""

from __future__ import annotations

import base64
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medsam.drawing.overlay import draw_overlay
from medsam.errors import InputError
from medsam.evaluation.report.run_data import RunData
from medsam.evaluation.tables import file_name


@dataclass(frozen=True)
class Pick:
    """A case chosen to be shown for a structure. rank: worst, median, best or only; dice: of the volume."""

    structure: str
    rank: str
    case: str
    dice: float


@dataclass(frozen=True)
class Tile:
    """A pick as a picture. slice_dice: of the slice that is seen."""

    pick: Pick
    slice: int
    slice_dice: float | None
    edge: int
    data: str


def picks_of(run: RunData, structure: str) -> list[Pick]:
    """Worst, median and best case of a structure by the volume Dice of the first model, as far as they differ."""
    rows = run.asked[(run.asked["model"] == run.first.name) & (run.asked["structure"] == structure)]
    rows = rows[rows["dice"].notna()].sort_values(["dice", "case"], kind="stable")
    if len(rows) == 1:
        places = {"only": 0}
    else:
        places = {"worst": 0, "median": (len(rows) - 1) // 2, "best": len(rows) - 1}
        if len(rows) == 2:
            del places["median"]
    if not len(rows):
        return []
    return [
        Pick(structure, rank, str(rows["case"].iloc[place]), float(rows["dice"].iloc[place]))
        for rank, place in places.items()
    ]


def draw_tiles(run: RunData, picks: Sequence[Pick], edge: int, quality: int) -> Iterator[Tile]:
    """The picks of which a picture was kept, drawn `edge` pixels wide, in the order of the picks."""
    by_case: dict[str, list[int]] = {}
    for place, pick in enumerate(picks):
        by_case.setdefault(pick.case, []).append(place)
    found: dict[int, Tile] = {}
    for case, places in by_case.items():
        path = run.folder / "overlays" / f"{file_name(case)}.npz"
        if not path.is_file():
            continue
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
                index = json.loads(str(kept["index"]))
                for place in places:
                    tile = _tile(run, picks[place], kept, index, edge, quality)
                    if tile is not None:
                        found[place] = tile
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(
                f"{path} is not what an evaluation writes: {type(error).__name__}: {error}. Remove it to have a report "
                "without the pictures of this case."
            ) from None
    for place in sorted(found):
        yield found[place]


def _tile(
    run: RunData,
    pick: Pick,
    kept: Mapping[str, np.ndarray],
    index: Sequence[Mapping[str, Any]],
    edge: int,
    quality: int,
) -> Tile | None:
    wanted = (pick.structure, run.first.name, run.primary)
    numbers = [n for n, entry in enumerate(index) if (entry["structure"], entry["model"], entry["prompt"]) == wanted]
    if not numbers:
        return None
    # of several slices the one that shows most of the structure
    chosen = max(numbers, key=lambda n: (np.count_nonzero(kept[f"reference/{n}"]), -n))
    entry = index[chosen]
    image, reference, prediction = (kept[f"{kind}/{chosen}"] for kind in ("image", "reference", "prediction"))
    if reference.shape != image.shape[:2] or prediction.shape != image.shape[:2]:
        raise ValueError(f"the masks of picture {chosen} do not fit its image of shape {image.shape}")
    drawn = {kind: entry.get(kind, ()) for kind in ("points", "strokes")}
    picture = draw_overlay(image, reference, prediction, entry["box"], float(entry["aspect"]), edge, **drawn)
    slice_dice = None if entry["dice"] is None else float(entry["dice"])
    return Tile(pick, int(entry["slice"]), slice_dice, edge, webp(picture, quality=quality))


def webp(picture: np.ndarray, **options: Any) -> str:
    """uint8 (h, w, 3) as a data address."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "WEBP", **options)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
