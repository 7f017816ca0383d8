"""An evaluation folder as one page that can be mailed, opened offline, read on a phone and printed: `report.html`.

Everything shown is read from the folder (`metrics.csv`, `summary.json`, `overlays/`); statistics come from
`summary.json`, definitions and tolerances from where they are computed. The page is `report.html` beside this file, a
Jinja template that escapes whatever it is given: names in it come from strangers' files. Nobody's patient id is shown,
only how many patients there were.

The page holds no script and asks for no other file. It stays below `MAX_BYTES`: first the pictures get smaller, then
fewer, then plots and the longer tables go, always in the same order, and the page says what was left out.
"""

from __future__ import annotations

import base64
import io
import json
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from medsam._version import __version__
from medsam.errors import InputError, counted
from medsam.evaluation.summary import (
    BASELINES,
    CURVES,
    METRICS,
    MIN_PATIENTS,
    ORACLE,
    TITLES,
    file_name,
    latex_table,
    models_of,
    read_table,
    rows_of,
    without_distance,
)
from medsam.files import write_text, write_whole
from medsam.labels import DEFAULT_TOLERANCE_MM, tolerance
from medsam.metrics.measure import DEFINITIONS, EMPTY_RULE
from medsam.silence import Rule, silence

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_BYTES = 5_000_000
# below this the volume Dice of a case is listed as a failure
FAILURE_DICE = 0.5
MAX_FAILURES = 200
MAX_SKIPPED = 50

HEADLINE = ("dice", "nsd", "hd95_mm")
_PROMPT = re.compile(
    r"(?P<start>box|propagate|mask)?(?:\+(?P<px>\d+)px)?(?:\+?points:(?P<clicks>\d+))?(?P<point>point)?"
)
VOLUMES = {"volume_ml": "Volume (ml)", "volume_ref_ml": "Reference volume (ml)"}

# Okabe and Ito's palette, told apart by colour-blind readers too; what needs no model is grey
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = (("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("*", "★"))
_GREYS = dict(zip(BASELINES, (("#6b6b6b", "x", "✕"), ("#9a9a9a", "+", "+"), ("#6b6b6b", "_", "▁")), strict=True))
REFERENCE_COLOUR, PREDICTION_COLOUR = "#56B4E9", "#E69F00"

_WIDTH_INCHES = 5.0  # shown at about one CSS pixel a point on a phone, so 8 pt stays readable
_TALLEST_INCHES = 8.0  # a figure cannot break across printed pages
_FIGURE_BYTES = 120_000  # above, a figure is a picture instead of SVG
_ALL_FIGURES_BYTES = 2_000_000
# (edge in pixels, WebP quality) of an overlay, tried in turn until the page is small enough
_TILES = ((320, 80), (256, 72), (192, 66), (144, 60))
_BOX_FROM = 4  # quartiles of so few cases say nothing: a box needs more
_FEW = 30  # up to so many cases every one is drawn, not only the outliers


@dataclass(frozen=True)
class _Series:
    """How a model looks in every plot and table."""

    name: str
    baseline: bool
    colour: str
    marker: str
    sign: str


@dataclass(frozen=True)
class _Pick:
    """A case chosen to be shown for a structure. rank: worst, median, best or only; dice: of the volume."""

    structure: str
    rank: str
    case: str
    dice: float


@dataclass(frozen=True)
class _Tile:
    """A pick as a picture. slice_dice: of the slice that is seen."""

    pick: _Pick
    slice: int
    slice_dice: float | None
    edge: int
    data: str


@dataclass(frozen=True)
class _Shown:
    """What of the page is there, besides the text.

    pictures: of how many that exist. plots, tables: False when left out for the size; tables False leaves only Dice.
    """

    tiles: tuple[_Tile, ...] = ()
    pictures: int = 0
    plots: bool = True
    tables: bool = True
    structures: bool = True


@dataclass(frozen=True)
class _Run:
    """An evaluation folder, read."""

    folder: Path
    rows: pd.DataFrame
    summary: Mapping[str, Any]

    @cached_property
    def primary(self) -> str:
        """The prompt the summary is about: that of the first row."""
        return str(self.rows["prompt"].iloc[0])

    @cached_property
    def _names(self) -> list[str]:
        """All that answered anything, the ones of the primary prompt first."""
        return list(dict.fromkeys([*models_of(self.summary), *(name for name, _, _ in rows_of(self.summary))]))

    @cached_property
    def series(self) -> tuple[_Series, ...]:
        """All that answered the primary prompt; models first, then what needs none."""
        return tuple(series for series in self.everyone if series.name in self.summary)

    @cached_property
    def everyone(self) -> tuple[_Series, ...]:
        """Also what answered other prompts alone, such as the rough mask as it was given."""
        found = []
        models = [name for name in self._names if name not in BASELINES]
        for number, name in enumerate(models):
            marker, sign = _MARKERS[number % len(_MARKERS)]
            found.append(_Series(name, False, _COLOURS[number % len(_COLOURS)], marker, sign))
        for name in BASELINES:
            if name in self._names:
                colour, marker, sign = _GREYS[name]
                found.append(_Series(name, True, colour, marker, sign))
        return tuple(found)

    @cached_property
    def first(self) -> _Series:
        """The model whose cases are shown: the first one, or a baseline when there is no model."""
        return self.series[0]

    @cached_property
    def structures(self) -> list[str]:
        return [str(name) for name in self.rows["structure"].unique()]

    @cached_property
    def asked(self) -> pd.DataFrame:
        """The rows of the primary prompt."""
        return self.rows[self.rows["prompt"] == self.primary]

    def values(self, model: str, structure: str, metric: str) -> np.ndarray:
        """The defined values of a metric, one a case."""
        rows = self.asked[(self.asked["model"] == model) & (self.asked["structure"] == structure)]
        found = rows[metric].to_numpy(dtype=float)
        return found[np.isfinite(found)]


def write_report(folder: Path, *, title: str | None = None) -> Path:
    """Write `report.html` and `table.tex` into an evaluation folder and return the page's path.

    folder: with `metrics.csv` and `summary.json`; `overlays/` may be missing, in part or whole.
    title: of the page; by default it names the models.
    Raises InputError when the folder is not an evaluation, or a file of it is damaged.
    """
    folder = Path(folder)
    run = _read(folder)
    page = _fit(run, title)
    write_text(folder / "table.tex", latex_table(run.summary))
    with write_whole(folder / "report.html") as part:
        part.write_bytes(page)
    return folder / "report.html"


def _read(folder: Path) -> _Run:
    rows = read_table(folder)
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        models = models_of(summary)
        known = all({"overall", "structures"} <= summary[model].keys() for model in models)
    except FileNotFoundError:
        raise InputError(f"{folder} holds no summary.json. Run `medsam evaluate` again to write it.") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is not the summary of an evaluation: {error}. Run `medsam evaluate` again.") from None
    if not models or not known:
        raise InputError(f"{path} lacks the statistics of a model. Run `medsam evaluate` again.")
    return _Run(folder, rows, summary)


# -- the size ---------------------------------------------------------------------------------------------------


def _fit(run: _Run, title: str | None) -> bytes:
    """The page, with as much in it as `MAX_BYTES` allows."""
    page = _Page(run, title)
    picks = [pick for structure in run.structures for pick in _picks(run, structure)]
    for edge, quality in _TILES:
        tiles = tuple(_tiles(run, picks, edge, quality))
        content = page.render(_Shown(tiles, len(tiles)))
        if len(content) <= MAX_BYTES:
            return content
    # every structure's worst case is seen before anyone's best, and the lowest Dice first
    order = sorted(tiles, key=lambda tile: (tile.pick.rank not in ("worst", "only"), tile.pick.dice))
    for shown in (
        _Shown(pictures=len(tiles)),
        _Shown(pictures=len(tiles), plots=False),
        _Shown(pictures=len(tiles), plots=False, tables=False),
        _Shown(pictures=len(tiles), plots=False, tables=False, structures=False),
    ):
        room = MAX_BYTES - len(page.render(shown))
        if room < 0:
            continue
        keep = len(order)
        while keep:
            kept = set(order[:keep])
            content = page.render(replace(shown, tiles=tuple(tile for tile in tiles if tile in kept)))
            if len(content) <= MAX_BYTES:
                return content
            # by the share that is too much, and at least one
            keep = min(keep - 1, int(keep * room / max(len(content) - MAX_BYTES + room, 1)))
        return page.render(shown)
    raise InputError(
        f"The report of {run.folder} would be larger than {MAX_BYTES / 1e6:g} MB even without pictures and plots: it "
        f"has {counted(len(run.structures), 'structure')} and {counted(len(run.series), 'model')}. Evaluate them in "
        "several folders."
    )


# -- the page ---------------------------------------------------------------------------------------------------


class _Page:
    """The template and all that does not depend on the room there is; figures are drawn once."""

    def __init__(self, run: _Run, title: str | None) -> None:
        from jinja2 import Environment, StrictUndefined

        self.run = run
        self.title = title or f"Evaluation: {', '.join(series.name for series in run.series if not series.baseline)}"
        if not title and run.first.baseline:
            self.title = "Evaluation without a model"
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        environment.filters |= {"number": number, "thousands": lambda count: f"{count:,}"}
        self.template = environment.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
        with _style():
            self.box_plots = _box_plots(run)
            self.robustness_plots = _robustness_plots(run)
            self.calibration_plots = _calibration_plots(run)
        self.context = self._context()

    def render(self, shown: _Shown) -> bytes:
        tiles: dict[str, list[_Tile]] = {}
        for tile in shown.tiles:
            tiles.setdefault(tile.pick.structure, []).append(tile)
        seen = {(tile.pick.structure, tile.pick.case) for tile in shown.tiles}
        return self.template.render(
            **self.context,
            shown=shown,
            tiles=tiles,
            seen=seen,
            box_plots=self.box_plots if shown.plots else [],
            robustness_plots=self.robustness_plots if shown.plots else [],
            calibration_plots=self.calibration_plots if shown.plots else [],
        ).encode()

    def _context(self) -> dict[str, Any]:
        run = self.run
        models = [series.name for series in run.series if not series.baseline]
        one = run.asked[run.asked["model"] == run.first.name]
        failed = run.asked[run.asked["model"].isin(models) & (run.asked["dice"] < FAILURE_DICE)]
        failed = failed.sort_values(["dice", "case", "structure", "model"], kind="stable")
        propagated = run.primary.startswith("propagate")
        protocol = dict(run.summary.get("protocol") or {})
        command = protocol.pop("command", None)
        tolerances = protocol.pop("nsd_tolerance_mm", None) or {}
        manifests = protocol.pop("manifests", None) or []
        skipped = protocol.pop("skipped", None) or []
        return {
            "title": self.title,
            "version": __version__,
            "series": run.series,
            "everyone": run.everyone,
            "models": models,
            "first": run.first,
            "summary": run.summary,
            "prompt": run.primary,
            "prompt_words": _prompt_words(run.primary),
            "propagated": propagated,
            "counts": {
                "cases": run.rows["case"].nunique(),
                "patients": run.rows["patient"].nunique(),
                "structures": len(run.structures),
                # propagation is prompted once a structure and case
                "prompts": (len(one) if propagated else int(one["n_slices"].fillna(0).sum())),
            },
            "min_pixels": protocol.get("min_pixels"),
            "headline": HEADLINE,
            "metrics": METRICS,
            "titles": TITLES,
            "best": {metric: _best(run, metric) for metric in HEADLINE},
            "structures": run.structures,
            "anchors": {name: f"structure-{place}" for place, name in enumerate(run.structures, 1)},
            "without_distance": without_distance(run.asked),
            "prompts": _prompt_rows(run),
            "oracle": ORACLE,
            "calibration": run.summary.get("calibration") or {},
            "few": _FEW,
            "colours": (REFERENCE_COLOUR, PREDICTION_COLOUR),
            "failure_dice": FAILURE_DICE,
            "failures": failed.head(MAX_FAILURES).to_dict("records"),
            "failed": len(failed),
            "answers": int(run.asked["model"].isin(models).sum()),
            "times": _times(run),
            "definitions": {
                (TITLES | VOLUMES).get(key, key): _definition(key, text, propagated)
                for key, text in DEFINITIONS.items()
            },
            "empty_rule": EMPTY_RULE,
            "tolerances": _tolerances(tolerances, run.structures),
            "datasets": run.summary.get("datasets") or {},
            "references": {_plain(entry.get("name")): _plain(entry.get("reference")) for entry in manifests},
            "skipped": [tuple(_plain(entry.get(key)) for key in ("case", "structure", "why")) for entry in skipped],
            "max_skipped": MAX_SKIPPED,
            "min_patients": MIN_PATIENTS,
            "protocol": [(key.replace("_", " "), _plain(value)) for key, value in protocol.items()],
            "environment": [
                (key.replace("_", " "), _plain(value)) for key, value in (run.summary.get("environment") or {}).items()
            ],
            "command": command,
        }


def number(value: float | None, metric: str) -> str:
    """A value as the page shows it: three decimals for shares, two for mm, one for percent and counts; – for none."""
    if value is None or not np.isfinite(value):
        return "–"
    decimals = 1 if metric.endswith(("_percent", "_calls")) else 2 if metric.endswith(("_mm", "_ml", "seconds")) else 3
    # typographic minus, and never "-0.00"
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def _best(run: _Run, metric: str) -> float | None:
    means = [(run.summary[series.name]["overall"].get(metric) or {}).get("mean") for series in run.series]
    known = [mean for mean in means if mean is not None]
    if len(known) < 2:
        return None
    return min(known) if metric.endswith("_mm") else max(known)


def _prompt_words(prompt: str) -> str:
    match = _PROMPT.fullmatch(prompt)
    if match is None:
        return f"slice by slice from the prompt “{prompt}” drawn from the reference"
    said = []
    if match["start"] == "mask":
        said.append("a rough mask made from the reference")
    elif match["start"]:
        moved = (
            f" with each edge moved outwards by 0 to {counted(int(match['px']), 'pixel')} at random"
            if match["px"]
            else ""
        )
        said.append(f"the tight box of the reference{moved}")
    if match["start"] == "propagate":
        return f"through the volume from one prompt a structure, {said[0]} on its middle slice"
    clicks = 1 if match["point"] else int(match["clicks"] or 0)
    if clicks:
        said.append(f"{counted(clicks, 'click')} drawn from the reference")
    return f"slice by slice from {' and '.join(said)}"


def _prompt_rows(run: _Run) -> list[tuple[_Series, str, Mapping[str, Any]]]:
    """(series, prompt, overall statistics) of every prompt of every model; empty when there was one prompt."""
    rows = rows_of(run.summary)
    return [
        (series, prompt, entry["overall"])
        for series in run.everyone
        for name, prompt, entry in rows
        if name == series.name and prompt is not None
    ]


def _times(run: _Run) -> list[tuple[_Series, float, float, float]]:
    """(model, median seconds a case, median seconds a slice, mean encoder runs a case) by structures together.

    A model without times is left out; encoder runs are nan in folders that do not tell them.
    """
    found = []
    for series in run.series:
        rows = run.asked[(run.asked["model"] == series.name) & run.asked["seconds"].notna()]
        if len(rows) and not series.baseline:
            each = rows["seconds"] / rows["n_slices"]
            by_case = rows.groupby("case")
            runs = by_case["encoder_calls"].sum(min_count=1).mean()
            found.append((series, float(by_case["seconds"].sum().median()), float(each.median()), float(runs)))
    return found


_CHOSEN = "chosen for this run (the same for every structure)"


def _tolerances(used: Mapping[str, float], structures: Sequence[str]) -> list[tuple[str, float, str]]:
    """Structure, the tolerance its NSD was measured with, and where that number comes from."""
    found = []
    chosen = len(set(used.values())) == 1
    for name in structures:
        if name not in used:
            continue
        try:
            published = tolerance(name)
        except InputError:  # a name without a letter or digit has no entry
            published = None
        own = published is not None and published.mm == used[name] != DEFAULT_TOLERANCE_MM
        found.append((name, used[name], published.source if published and (own or not chosen) else _CHOSEN))
    return found


def _definition(key: str, text: str, propagated: bool) -> str:
    """As the page applies it: what a table shows for infinity, and that volumes are of the prompted slices."""
    if key.startswith("volume") and not propagated:
        text += " Only prompted slices count, in the prediction and in the reference."
    return f"{text} Infinite is shown as – here." if "infinite" in text else text


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_plain(entry)}" for key, entry in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(entry) for entry in value) or "–"
    return str(value)


# -- overlays ---------------------------------------------------------------------------------------------------


def _picks(run: _Run, structure: str) -> list[_Pick]:
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
        _Pick(structure, rank, str(rows["case"].iloc[place]), float(rows["dice"].iloc[place]))
        for rank, place in places.items()
    ]


def _tiles(run: _Run, picks: Sequence[_Pick], edge: int, quality: int) -> Iterator[_Tile]:
    """The picks of which a picture was kept, drawn `edge` pixels wide, in the order of the picks."""
    by_case: dict[str, list[int]] = {}
    for place, pick in enumerate(picks):
        by_case.setdefault(pick.case, []).append(place)
    found: dict[int, _Tile] = {}
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
    run: _Run, pick: _Pick, kept: Mapping[str, np.ndarray], index: Sequence[Mapping[str, Any]], edge: int, quality: int
) -> _Tile | None:
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
    picture = draw_overlay(
        image, reference, prediction, entry["box"], float(entry["aspect"]), edge, points=entry.get("points", ())
    )
    slice_dice = None if entry["dice"] is None else float(entry["dice"])
    return _Tile(pick, int(entry["slice"]), slice_dice, edge, _webp(picture, quality=quality))


def draw_overlay(
    image: np.ndarray,
    reference: np.ndarray,
    prediction: np.ndarray,
    box: Sequence[float] | None,
    aspect: float,
    edge: int,
    *,
    points: Sequence[Sequence[float]] = (),
) -> np.ndarray:
    """A square picture of a structure and its surroundings, with both outlines, the dashed box and the clicks.

    image: uint8 (h, w) or (h, w, 3). reference, prediction: bool (h, w). box: x0, y0, x1, y1, edges in pixels.
    aspect: height of a pixel over its width; the picture shows both in one scale. edge: of the picture, in pixels.
    points: (x, y, 1 inside | 0 outside) each, edges in pixels; drawn as + and x.
    Returns uint8 (edge, edge, 3); black where the crop passes the image. The reference's outline is wider and lies
    below, so both are seen where they agree.
    """
    from PIL import Image

    both = reference | prediction
    rows, columns = np.flatnonzero(both.any(axis=1)), np.flatnonzero(both.any(axis=0))
    # all that has to be seen: the box, the clicks and both masks
    seen = [*([box] if box is not None else []), *((x, y, x, y) for x, y, _ in points)]
    if rows.size:
        seen.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    corners = np.array(seen or [(0, 0, image.shape[1], image.shape[0])], dtype=float)
    (x0, y0), (x1, y1) = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    # a margin of a fifth on each side; tiny structures keep some anatomy around them
    side = max(1.4 * max(x1 - x0, (y1 - y0) * aspect), 32.0)
    half = np.array((side / 2, side / 2 / aspect))
    middle = np.array(((x0 + x1) / 2, (y0 + y1) / 2))
    low, high = middle - half, middle + half

    def crop(layer: np.ndarray, resample: Image.Resampling) -> np.ndarray:
        first, last = np.floor(low).astype(int), np.ceil(high).astype(int)
        part = Image.fromarray(layer).crop((*first.tolist(), *last.tolist()))
        within = (*(low - first).tolist(), *(high - first).tolist())
        return np.asarray(part.resize((edge, edge), resample, box=within))

    picture = crop(image, Image.Resampling.BICUBIC)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    picture = picture.copy()
    thin = max(1, round(edge / 320))
    for mask, colour, width in ((reference, REFERENCE_COLOUR, 2 * thin), (prediction, PREDICTION_COLOUR, thin)):
        shape = crop(mask.astype(np.uint8) * 255, Image.Resampling.BOX) >= 128
        line = binary_dilation(shape, iterations=width) & ~binary_erosion(shape, iterations=width)
        picture[line] = _rgb(colour)
    if box is not None:
        _dashes(picture, (np.reshape(box, (2, 2)) - low) / (high - low) * edge)
    for x, y, inside in points:
        _mark(picture, (np.array((x, y)) - low) / (high - low) * edge, bool(inside))
    return picture


def _mark(picture: np.ndarray, place: np.ndarray, inside: bool) -> None:
    """Draw a click in place: a white + inside, × outside, edged in black to be seen on any ground."""
    edge = len(picture)
    y, x = np.ogrid[:edge, :edge]
    across, down = x + 0.5 - place[0], y + 0.5 - place[1]
    near = np.maximum(np.abs(across), np.abs(down)) <= max(edge / 40, 3)
    strokes = (across, down) if inside else ((across - down) / 2**0.5, (across + down) / 2**0.5)
    distance = np.minimum(*np.abs(np.broadcast_arrays(*strokes)))
    for colour, half in ((0, max(edge / 160, 1.5)), (255, max(edge / 500, 0.5))):
        picture[near & (distance <= half)] = colour


def _dashes(picture: np.ndarray, corners: np.ndarray) -> None:
    """Draw a dashed white box in place. corners: [[x0, y0], [x1, y1]] in pixels of the picture."""
    edge = len(picture)
    (x0, y0), (x1, y1) = np.clip(corners.round().astype(int), 0, edge - 1)
    dash = max(edge // 64, 2)
    along, down = np.arange(x0, x1 + 1), np.arange(y0, y1 + 1)
    for y in (y0, y1):
        picture[y, along[(along - x0) // dash % 2 == 0]] = 255
    for x in (x0, x1):
        picture[down[(down - y0) // dash % 2 == 0], x] = 255


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _webp(picture: np.ndarray, **options: Any) -> str:
    """uint8 (h, w, 3) as a data address."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "WEBP", **options)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


# -- figures ----------------------------------------------------------------------------------------------------


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl

    settings = {
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": "#e3e3e3",
        "grid.linewidth": 0.6,
        "svg.fonttype": "none",  # text stays text: it can be searched, read aloud, and needs no outlines
        "text.parse_math": False,  # "$" in a name is a dollar
    }
    # matplotlib's font lacks a script; the reader's browser draws the text with its own
    with mpl.rc_context(settings), silence(Rule(message=r"Glyph \d+ .* missing from")):
        yield


def _figure(height: float, *, left: float = 0.55) -> tuple[Figure, Axes]:
    """Margins are set in inches, which is quicker than solving for them. left: room for the labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCHES, height))
    axes = figure.add_axes(
        (left / _WIDTH_INCHES, 0.45 / height, 1 - (left + 0.15) / _WIDTH_INCHES, 1 - (0.45 + 0.3) / height)
    )
    return figure, axes


def _box_plots(run: _Run) -> list[dict[str, Any]]:
    """For each group of structures that fits on a printed page, a plot of each headline metric."""
    one = _row_inches(run)
    count = -(-len(run.structures) // max(1, int((_TALLEST_INCHES - 0.75) / one)))
    groups = [list(group) for group in np.array_split(np.array(run.structures, dtype=object), count)]
    metrics = [
        metric
        for metric in HEADLINE
        if any(run.values(series.name, name, metric).size for series in run.series for name in run.structures)
    ]
    top = {metric: _upper(run, metric) for metric in metrics}
    allowed = min(_FIGURE_BYTES, _ALL_FIGURES_BYTES // max(1, len(groups) * len(metrics)))
    found = []
    for place, group in enumerate(groups):
        figures = [_box_plot(run, metric, group, top[metric], f"box-{place}-{metric}", allowed) for metric in metrics]
        found.append({"first": group[0], "last": group[-1], "figures": figures})
    return found if metrics else []


def _row_inches(run: _Run) -> float:
    """Height of a structure: lines of single marks can lie closer than boxes."""
    cases = int(run.asked.groupby(["model", "structure"])["case"].count().max())
    return (0.13 if cases > _BOX_FROM else 0.05) * len(run.series) + 0.12


def _upper(run: _Run, metric: str) -> float:
    if not metric.endswith("_mm"):
        return 1.0
    values = run.asked[metric].to_numpy(dtype=float)
    return float(max(values[np.isfinite(values)], default=1.0))


def _box_plot(run: _Run, metric: str, structures: Sequence[str], top: float, key: str, allowed: int) -> Markup:
    labels = [_short(name) for name in structures]
    count = len(run.series)
    height = 0.75 + len(structures) * _row_inches(run)
    figure, axes = _figure(height, left=0.2 + 0.074 * max(_columns(label) for label in labels))
    step = 0.8 / count
    for place, series in enumerate(run.series):
        centres = np.arange(len(structures)) + (place - (count - 1) / 2) * step
        samples = [run.values(series.name, name, metric) for name in structures]
        line = {"color": series.colour, "linewidth": 0.8, "linestyle": (0, (2, 1)) if series.baseline else "-"}
        boxed = [n for n, sample in enumerate(samples) if len(sample) > _BOX_FROM]
        if boxed:
            axes.boxplot(
                [samples[n] for n in boxed],
                positions=centres[boxed],
                orientation="horizontal",
                widths=0.75 * step,
                manage_ticks=False,
                patch_artist=True,
                showfliers=False,
                boxprops={
                    "facecolor": "none" if series.baseline else series.colour + "40",
                    "edgecolor": series.colour,
                    "linewidth": 0.8,
                    "linestyle": line["linestyle"],
                },
                medianprops={**line, "linewidth": 1.6, "linestyle": "-"},
                whiskerprops=line,
                capprops={**line, "linestyle": "-"},
            )
        for centre, sample in zip(centres, samples, strict=True):
            dots = sample if len(sample) <= _FEW else _outliers(sample)
            small = len(sample) > _BOX_FROM
            axes.plot(
                dots,
                np.full(len(dots), centre),
                series.marker,
                color=series.colour,
                markersize=2 if small else 3.5,
                markeredgewidth=0.7 if series.baseline else 0,
                alpha=0.7 if small else 1,
                clip_on=False,
            )
    axes.set_yticks(range(len(structures)), labels)
    axes.set_ylim(len(structures) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for border in np.arange(0.5, len(structures) - 1):
        axes.axhline(border, color="#d0d0d0", linewidth=0.5)
    if metric.endswith("_mm"):
        # a single lost case would press all others to the left
        axes.set_xscale("symlog", linthresh=1, linscale=0.5)
        axes.set_xlim(0, max(top, 1.0) * 1.1)
        ticks = [tick for tick in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= max(top, 1.0) * 1.1]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("mm, lower is better; logarithmic above 1")
    else:
        axes.set_xlim(0, top)
        axes.set_xlabel("higher is better")
    axes.set_title(TITLES[metric].removesuffix(" (mm)"), loc="left", x=0)
    return _inline(
        figure, f"Box plots of {TITLES[metric]} by structure and model; the numbers are in the tables", key, allowed
    )


def _outliers(sample: np.ndarray) -> np.ndarray:
    low, high = np.percentile(sample, (25, 75))
    reach = 1.5 * (high - low)
    return sample[(sample < low - reach) | (sample > high + reach)]


def _robustness_plots(run: _Run) -> list[Markup]:
    curves = run.summary.get("robustness") or {}
    found = []
    labels = ("edges moved outwards by up to … pixels", "clicks", "clicks after the box")
    for axis, label in zip(CURVES, labels, strict=True):
        figure, axes = _figure(2.9)
        amounts: set[int] = set()
        for series in run.everyone:
            points = [(p[axis], p["dice"]) for p in curves.get(series.name, []) if axis in p]
            points = [(x, dice) for x, dice in points if dice["mean"] is not None]
            amounts |= {x for x, _ in points}
            if not points:
                continue
            x, means = [x for x, _ in points], [dice["mean"] for _, dice in points]
            dashes = "--" if series.baseline else "-"
            axes.plot(x, means, dashes, marker=series.marker, color=series.colour, markersize=4, linewidth=1.3)
            bands = [(x, *dice["ci95"]) for x, dice in points if dice["ci95"]]
            if bands and not series.baseline:
                x, low, high = ([band[place] for band in bands] for place in range(3))
                axes.fill_between(x, low, high, color=series.colour, alpha=0.15, linewidth=0)
        if len(amounts) < 2:
            continue
        axes.set_xlabel(label)
        axes.set_xticks(sorted(amounts))
        axes.set_ylim(0, 1)
        axes.set_title("Dice, mean over structures", loc="left", x=0)
        found.append(_inline(figure, "Mean Dice against the change of the prompt, by model", axis, _FIGURE_BYTES))
    return found


def _calibration_plots(run: _Run) -> list[Markup]:
    calibration = run.summary.get("calibration") or {}
    drawn = [series for series in run.everyone if series.name in calibration]
    if not drawn:
        return []
    reliability, axes = _figure(3.6)
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle=":")
    for series in drawn:
        bins = [entry for entry in calibration[series.name]["bins"] if entry["n"]]
        most = max(entry["n"] for entry in bins)
        x, y = [entry["predicted"] for entry in bins], [entry["true"] for entry in bins]
        axes.plot(x, y, color=series.colour, linewidth=1)
        sizes = [8 + 60 * entry["n"] / most for entry in bins]
        axes.scatter(x, y, sizes, color=series.colour, marker=series.marker, alpha=0.8, linewidths=0)
    axes.set_xlim(0, max(1.02, *axes.get_xlim()))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("predicted IoU (marker size: share of slices)")
    axes.set_title("Reliability: true IoU by predicted IoU", loc="left", x=0)
    coverage, axes = _figure(3.6)
    for series in drawn:
        points = calibration[series.name]["curve"]
        x, risk = [point["coverage"] for point in points], [1 - point["dice"] for point in points]
        axes.plot(x, risk, color=series.colour, linewidth=1.3, marker=series.marker, markersize=4, markevery=0.2)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("coverage: share of slices kept, highest predicted IoU first")
    axes.set_title("Risk-coverage: 1 − mean Dice of the slices kept", loc="left", x=0)
    return [
        _inline(
            reliability, "Reliability diagram: true IoU against predicted IoU, by model", "reliability", _FIGURE_BYTES
        ),
        _inline(
            coverage, "Risk-coverage curve: one minus mean Dice against coverage, by model", "coverage", _FIGURE_BYTES
        ),
    ]


def _short(name: str, longest: int = 22) -> str:
    """A label with room in a plot: of a long name its two ends, since siblings differ at the last letters."""
    if _columns(name) <= longest:
        return name
    half = longest // (4 if _columns(name) > len(name) else 2)
    return f"{name[:half]}…{name[1 - half :]}"


def _columns(text: str) -> int:
    """Widths of a letter the text takes; East Asian signs take two."""
    return sum(1 + (unicodedata.east_asian_width(sign) in "WF") for sign in text)


def _inline(figure: Figure, alt: str, key: str, allowed: int) -> Markup:
    """A figure as SVG, or as a picture when that is larger than `allowed` bytes. key: keeps its ids its own."""
    import matplotlib as mpl
    from markupsafe import Markup

    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": key}):
        figure.savefig(stream, format="svg", metadata=nothing)
    svg = _tidy(stream.getvalue(), alt)
    if len(svg) <= allowed:
        return Markup(svg)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(160)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3]
    return Markup('<img class="plot" alt="{}" src="{}">').format(alt, Markup(_webp(picture, lossless=True)))


def _tidy(svg: str, alt: str) -> str:
    """matplotlib's SVG for use inside a page: no ids that several figures share, no fonts, no blanks, a text for it."""
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}style", "}metadata")):
                parent.remove(child)
    for element in root.iter():
        # HTML knows svg and its links without namespaces
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        if re.fullmatch(r"[a-zA-Z.\d-]+_\d+", element.get("id", "")):
            del element.attrib["id"]
        if "d" in element.attrib:
            element.set("d", _rounded(" ".join(element.attrib["d"].split())))
        for name in ("x", "y", "transform"):
            if name in element.attrib:
                element.set(name, _rounded(element.attrib[name]))
        if "style" in element.attrib:
            element.set("style", re.sub(r"; font-family: [^;]*|font-family: [^;]*; ", "", element.attrib["style"]))
        if element.tag != "text":
            element.text = (element.text or "").strip() or None
        element.tail = None
    width = float(root.get("viewBox", "0 0 360 0").split()[2])
    root.attrib = {"viewBox": root.get("viewBox", ""), "class": "plot", "role": "img", "aria-label": alt}
    root.set("style", f"max-width:{width * 1.5:.0f}px")
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _rounded(numbers: str) -> str:
    """A hundredth of a point is finer than a screen."""
    return re.sub(r"-?\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}", numbers)
