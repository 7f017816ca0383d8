"""The plots of a page, as SVG inside it: what is text stays text, and no plot shares an id with another."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from medsam.drawing.colours import BLUE
from medsam.evaluation.compare import Comparison
from medsam.evaluation.report.pictures import webp
from medsam.evaluation.report.run_data import HEADLINE, GroupRow, RunData, Series, group_tables
from medsam.evaluation.summary import CURVES
from medsam.evaluation.tables import TITLES
from medsam.silence import Rule, silence

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH_INCHES = 5.0  # shown at about one CSS pixel a point on a phone, so 8 pt stays readable
_TALLEST_INCHES = 8.0  # a figure cannot break across printed pages
FIGURE_BYTES = 120_000  # above, a figure is a picture instead of SVG
_ALL_FIGURES_BYTES = 2_000_000
_LINE_INCHES = 0.24  # of a structure in the plot of differences
_BOX_FROM = 4  # quartiles of so few cases say nothing: a box needs more
FEW = 30  # up to so many cases every one is drawn, not only the outliers


@contextmanager
def style() -> Iterator[None]:
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


def new_figure(height: float, *, left: float = 0.55) -> tuple[Figure, Axes]:
    """Margins are set in inches, which is quicker than solving for them. left: room for the labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCHES, height))
    axes = figure.add_axes(
        (left / _WIDTH_INCHES, 0.45 / height, 1 - (left + 0.15) / _WIDTH_INCHES, 1 - (0.45 + 0.3) / height)
    )
    return figure, axes


def box_plots(run: RunData) -> list[dict[str, Any]]:
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
    allowed = min(FIGURE_BYTES, _ALL_FIGURES_BYTES // max(1, len(groups) * len(metrics)))
    found = []
    for place, group in enumerate(groups):
        figures = [_box_plot(run, metric, group, top[metric], f"box-{place}-{metric}", allowed) for metric in metrics]
        found.append({"first": group[0], "last": group[-1], "figures": figures})
    return found if metrics else []


def _row_inches(run: RunData) -> float:
    """Height of a structure: lines of single marks can lie closer than boxes."""
    cases = int(run.asked.groupby(["model", "structure"])["case"].count().max())
    return (0.13 if cases > _BOX_FROM else 0.05) * len(run.series) + 0.12


def _upper(run: RunData, metric: str) -> float:
    if not metric.endswith("_mm"):
        return 1.0
    values = run.asked[metric].to_numpy(dtype=float)
    return float(max(values[np.isfinite(values)], default=1.0))


def _box_plot(run: RunData, metric: str, structures: Sequence[str], top: float, key: str, allowed: int) -> Markup:
    labels = [shortened(name) for name in structures]
    count = len(run.series)
    height = 0.75 + len(structures) * _row_inches(run)
    figure, axes = new_figure(height, left=0.2 + 0.074 * max(_columns(label) for label in labels))
    step = 0.8 / count
    for place, series in enumerate(run.series):
        samples = [run.values(series.name, name, metric) for name in structures]
        _boxes(axes, series, samples, np.arange(len(structures)) + (place - (count - 1) / 2) * step, step)
    axes.set_yticks(range(len(structures)), labels)
    axes.set_ylim(len(structures) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for border in np.arange(0.5, len(structures) - 1):
        axes.axhline(border, color="#d0d0d0", linewidth=0.5)
    _metric_axis(axes, metric, top)
    axes.set_title(TITLES[metric].removesuffix(" (mm)"), loc="left", x=0)
    return inline(
        figure, f"Box plots of {TITLES[metric]} by structure and model; the numbers are in the tables", key, allowed
    )


def _boxes(axes: Axes, series: Series, samples: Sequence[np.ndarray], centres: np.ndarray, step: float) -> None:
    """The values of one model, a sample a structure: boxes where there are enough, and marks."""
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
        dots = sample if len(sample) <= FEW else _outliers(sample)
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


def _metric_axis(axes: Axes, metric: str, top: float) -> None:
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


def _outliers(sample: np.ndarray) -> np.ndarray:
    low, high = np.percentile(sample, (25, 75))
    reach = 1.5 * (high - low)
    return sample[(sample < low - reach) | (sample > high + reach)]


def robustness_plots(run: RunData) -> list[Markup]:
    curves = run.summary.get("robustness") or {}
    found = []
    labels = (
        "edges moved outwards by up to … pixels",
        "clicks",
        "clicks after the box",
        "scribbles",
        "scribbles after the box",
    )
    for axis, label in zip(CURVES, labels, strict=True):
        figure, axes = new_figure(2.9)
        amounts: set[int] = set()
        for series in run.everyone:
            points = [(p[axis], p["dice"]) for p in curves.get(series.name, []) if axis in p]
            points = [(x, dice) for x, dice in points if dice["mean"] is not None]
            amounts |= {x for x, _ in points}
            if points:
                _curve(axes, series, points)
        if len(amounts) < 2:
            continue
        axes.set_xlabel(label)
        axes.set_xticks(sorted(amounts))
        axes.set_ylim(0, 1)
        axes.set_title("Dice, mean over structures", loc="left", x=0)
        found.append(inline(figure, "Mean Dice against the change of the prompt, by model", axis, FIGURE_BYTES))
    return found


def _curve(axes: Axes, series: Series, points: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    """The means of one model, and the band of their intervals. points: (amount, statistics)."""
    x, means = [x for x, _ in points], [dice["mean"] for _, dice in points]
    dashes = "--" if series.baseline else "-"
    axes.plot(x, means, dashes, marker=series.marker, color=series.colour, markersize=4, linewidth=1.3)
    bands = [(x, *dice["ci95"]) for x, dice in points if dice["ci95"]]
    if bands and not series.baseline:
        x, low, high = ([band[place] for band in bands] for place in range(3))
        axes.fill_between(x, low, high, color=series.colour, alpha=0.15, linewidth=0)


def calibration_plots(run: RunData) -> list[Markup]:
    calibration = run.summary.get("calibration") or {}
    drawn = [series for series in run.everyone if series.name in calibration]
    if not drawn:
        return []
    reliability = _reliability([(one, calibration[one.name]["bins"]) for one in drawn], "predicted IoU", "true IoU")
    expected = [(one, calibration[one.name].get("expected_dice")) for one in drawn]
    told = [(one, found["bins"]) for one, found in expected if found]
    coverage, axes = new_figure(3.6)
    for series in drawn:
        points = calibration[series.name]["curve"]
        x, risk = [point["coverage"] for point in points], [1 - point["dice"] for point in points]
        axes.plot(x, risk, color=series.colour, linewidth=1.3, marker=series.marker, markersize=4, markevery=0.2)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("coverage: share of slices kept, highest predicted IoU first")
    axes.set_title("Risk-coverage: 1 − mean Dice of the slices kept", loc="left", x=0)
    return [
        inline(
            reliability, "Reliability diagram: true IoU against predicted IoU, by model", "reliability", FIGURE_BYTES
        ),
        inline(
            coverage, "Risk-coverage curve: one minus mean Dice against coverage, by model", "coverage", FIGURE_BYTES
        ),
        *([_expected_dice_plot(told)] if told else []),
    ]


def _expected_dice_plot(told: Sequence[tuple[Series, Sequence[Mapping[str, Any]]]]) -> Markup:
    figure = _reliability(told, "expected Dice", "true Dice")
    alt = "Reliability diagram: true Dice against expected Dice, by model"
    return inline(figure, alt, "expected-dice", FIGURE_BYTES)


def _reliability(told: Sequence[tuple[Series, Sequence[Mapping[str, Any]]]], said: str, true: str) -> Figure:
    """The truth against what was said, a line a model. told: its bins. said, true: in words."""
    figure, axes = new_figure(3.6)
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle=":")
    for series, all_bins in told:
        bins = [entry for entry in all_bins if entry["n"]]
        most = max(entry["n"] for entry in bins)
        x, y = [entry["predicted"] for entry in bins], [entry["true"] for entry in bins]
        axes.plot(x, y, color=series.colour, linewidth=1)
        sizes = [8 + 60 * entry["n"] / most for entry in bins]
        axes.scatter(x, y, sizes, color=series.colour, marker=series.marker, alpha=0.8, linewidths=0)
    axes.set_xlim(0, max(1.02, *axes.get_xlim()))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(f"{said} (marker size: share of slices)")
    axes.set_title(f"Reliability: {true} by {said}", loc="left", x=0)
    return figure


def forest_plot(comparison: Comparison) -> list[Markup]:
    """The mean difference of each structure with its interval, overall last; a plot for each printed page."""
    rows = [*comparison.structures.items(), ("Overall", comparison.overall)]
    ends = [0.0, *(end for _, row in rows for end in (row.difference, *(row.ci95 or ())) if end is not None)]
    margin = 0.05 * (max(ends) - min(ends)) or 0.01
    count = -(-len(rows) // int((_TALLEST_INCHES - 0.75) / _LINE_INCHES))
    found = []
    for place, numbers in enumerate(np.array_split(np.arange(len(rows)), count)):
        group = [rows[number] for number in numbers]
        labels = [shortened(name) for name, _ in group]
        left = 0.2 + 0.074 * max(_columns(label) for label in labels)
        figure, axes = new_figure(0.75 + _LINE_INCHES * len(group), left=left)
        axes.axvline(0, color="#888888", linewidth=0.8, linestyle=":")
        for line, (_, row) in enumerate(group):
            if row.ci95 is not None:
                axes.plot(row.ci95, (line, line), color=BLUE, linewidth=1.6, solid_capstyle="butt")
            if row.difference is not None:
                marker = "D" if row is comparison.overall else "o"
                axes.plot(row.difference, line, marker, color=BLUE, markersize=4.5, gid=f"difference-{numbers[line]}")
        axes.set_yticks(range(len(group)), labels)
        if group[-1][1] is comparison.overall:
            axes.get_yticklabels()[-1].set_fontweight("bold")
        axes.set_ylim(len(group) - 0.5, -0.5)
        axes.set_xlim(min(ends) - margin, max(ends) + margin)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"B − A, {TITLES[comparison.metric]}")
        axes.set_title("B − A and its 95 % interval", loc="left", x=0)
        alt = f"Mean difference in {TITLES[comparison.metric]} of each structure; the numbers are in the table"
        found.append(inline(figure, alt, f"forest-{place}", FIGURE_BYTES))
    return found


def group_plots(run: RunData) -> dict[str, Markup]:
    """Name -> the mean Dice of each group with its interval, a line a model; of names with too many groups none."""
    found = {}
    models = [series for series in run.series if not series.baseline] or list(run.series[:1])
    for place, (name, groups) in enumerate(group_tables(run).items()):
        height = 0.75 + (0.14 * len(models) + 0.1) * len(groups)
        if len(groups) < 2 or height > _TALLEST_INCHES:
            continue
        labels = [shortened(group) for group, _, _ in groups]
        figure, axes = new_figure(height, left=0.2 + 0.074 * max(_columns(label) for label in labels))
        step = 0.7 / len(models)
        for number, series in enumerate(models):
            _group_line(axes, run, series, groups, (number - (len(models) - 1) / 2) * step)
        axes.set_yticks(range(len(groups)), labels)
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        ends = [end for _, _, statistics in groups for series in models for end in _ends(statistics, series)]
        axes.set_xlim(max(0.0, np.floor(10 * min(ends, default=0.0) - 0.5) / 10), 1)
        axes.set_xlabel("Dice, mean over structures; dotted: all cases")
        alt = f"Mean Dice by {name} and model; the numbers are in the table"
        found[name] = inline(figure, alt, f"by-{place}", FIGURE_BYTES // 2)
    return found


def _group_line(axes: Axes, run: RunData, series: Series, groups: Sequence[GroupRow], off: float) -> None:
    """The groups of one model, a line each, and the mean of all cases."""
    whole = run.summary[series.name]["overall"]["dice"]["mean"]
    if whole is not None:
        axes.axvline(whole, color=series.colour, linewidth=0.8, linestyle=":")
    for line, (_, known, statistics) in enumerate(groups):
        ends = _ends(statistics, series)
        if not ends:
            continue
        axes.plot(ends[1:], [line + off] * len(ends[1:]), color=series.colour, linewidth=1.4, solid_capstyle="butt")
        inside = "white" if known.get("few") else series.colour
        axes.plot(ends[0], line + off, series.marker, color=series.colour, markersize=4.5, markerfacecolor=inside)


def _ends(statistics: Mapping[str, Any], series: Series) -> list[float]:
    """The mean Dice of a group and the ends of its interval, where there are any."""
    dice = (statistics.get(series.name) or {}).get("overall", {}).get("dice") or {}
    return [] if dice.get("mean") is None else [dice["mean"], *(dice.get("ci95") or ())]


def scatter_plot(comparison: Comparison) -> Markup:
    """B against A, a mark for each case and structure in which both are finite."""
    pairs = comparison.finite
    values = [value for pair in pairs for value in (pair.a, pair.b)] or [0.0, 1.0]
    low, high = min(values), max(values)
    margin = 0.04 * (high - low) or 0.01
    ends = low - margin, high + margin
    figure, axes = new_figure(_WIDTH_INCHES + 0.05, left=0.6)
    axes.plot(ends, ends, color="#888888", linewidth=0.8, linestyle=":", gid="equal")
    # marks that fall on the same pixel are drawn once: the page of a large run stays small
    grid = sorted(
        {(round((p.a - low) / (high - low or 1), 3), round((p.b - low) / (high - low or 1), 3)) for p in pairs}
    )
    marks = np.reshape(grid, (-1, 2)) * (high - low or 1) + low
    axes.plot(marks[:, 0], marks[:, 1], "o", color=BLUE, alpha=0.55, markersize=4, markeredgewidth=0, gid="pairs")
    axes.set_xlim(ends)
    axes.set_ylim(ends)
    axes.set_xlabel(f"{TITLES[comparison.metric]} of A")
    axes.set_ylabel(f"{TITLES[comparison.metric]} of B")
    axes.set_title("B against A, case by case", loc="left", x=0)
    return inline(figure, f"{TITLES[comparison.metric]} of B against that of A, case by case", "scatter", FIGURE_BYTES)


def shortened(name: str, longest: int = 22) -> str:
    """A label with room in a plot: of a long name its two ends, since siblings differ at the last letters."""
    if _columns(name) <= longest:
        return name
    half = longest // (4 if _columns(name) > len(name) else 2)
    return f"{name[:half]}…{name[1 - half :]}"


def _columns(text: str) -> int:
    """Widths of a letter the text takes; East Asian signs take two."""
    return sum(1 + (unicodedata.east_asian_width(sign) in "WF") for sign in text)


def inline(figure: Figure, alt: str, key: str, allowed: int) -> Markup:
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
    return Markup('<img class="plot" alt="{}" src="{}">').format(alt, Markup(webp(picture, lossless=True)))


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
