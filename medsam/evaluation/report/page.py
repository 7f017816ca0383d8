"""An evaluation folder as one page that can be mailed, opened offline, read on a phone and printed: `report.html`.

Everything shown is read from the folder (`metrics.csv`, `summary.json`, `overlays/`); statistics come from
`summary.json`, definitions and tolerances from where they are computed. Nobody's patient id is shown, only
how many patients there were.

The page holds no script and asks for no other file. It stays below `MAX_BYTES`: first the pictures get smaller, then
fewer, then plots and the longer tables go, always in the same order, and the page says what was left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from medsam.errors import InputError, counted
from medsam.evaluation.report.context import page_context
from medsam.evaluation.report.figures import box_plots, calibration_plots, group_plots, robustness_plots, style
from medsam.evaluation.report.latex import summary_table
from medsam.evaluation.report.pictures import Tile, draw_tiles, picks_of
from medsam.evaluation.report.run_data import RunData, read_run
from medsam.evaluation.report.template import template
from medsam.files import write_text, write_whole

MAX_BYTES = 5_000_000
# (edge in pixels, WebP quality) of an overlay, tried in turn until the page is small enough
_TILES = ((320, 80), (256, 72), (192, 66), (144, 60))


@dataclass(frozen=True)
class _Shown:
    """What of the page is there, besides the text.

    pictures: of how many that exist. plots, tables: False when left out for the size; tables False leaves only Dice.
    """

    tiles: tuple[Tile, ...] = ()
    pictures: int = 0
    plots: bool = True
    tables: bool = True
    structures: bool = True


def write_report(folder: Path, *, title: str | None = None) -> Path:
    """Write `report.html` and `table.tex` into an evaluation folder and return the page's path.

    folder: with `metrics.csv` and `summary.json`; `overlays/` may be missing, in part or whole.
    title: of the page; by default it names the models.
    Raises InputError when the folder is not an evaluation, or a file of it is damaged.
    """
    folder = Path(folder)
    run = read_run(folder)
    page = _fit(run, title)
    write_text(folder / "table.tex", summary_table(run.summary))
    with write_whole(folder / "report.html") as part:
        part.write_bytes(page)
    return folder / "report.html"


# -- the size ---------------------------------------------------------------------------------------------------


def _fit(run: RunData, title: str | None) -> bytes:
    """The page, with as much in it as `MAX_BYTES` allows."""
    page = _Page(run, title)
    picks = [pick for structure in run.structures for pick in picks_of(run, structure)]
    for edge, quality in _TILES:
        tiles = tuple(draw_tiles(run, picks, edge, quality))
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

    def __init__(self, run: RunData, title: str | None) -> None:
        with style():
            self.box_plots = box_plots(run)
            self.robustness_plots = robustness_plots(run)
            self.calibration_plots = calibration_plots(run)
            self.group_plots = group_plots(run)
        self.context = page_context(run, title)

    def render(self, shown: _Shown) -> bytes:
        tiles: dict[str, list[Tile]] = {}
        for tile in shown.tiles:
            tiles.setdefault(tile.pick.structure, []).append(tile)
        seen = {(tile.pick.structure, tile.pick.case) for tile in shown.tiles}
        return (
            template("report.html")
            .render(
                **self.context,
                shown=shown,
                tiles=tiles,
                seen=seen,
                box_plots=self.box_plots if shown.plots else [],
                robustness_plots=self.robustness_plots if shown.plots else [],
                calibration_plots=self.calibration_plots if shown.plots else [],
                group_plots=self.group_plots if shown.plots else {},
            )
            .encode()
        )
