"""A picture of a segmentation that a person can judge: upright slices, mask outlines, what was asked for."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medsam.drawing.colours import label_colour
from medsam.drawing.overlay import paint
from medsam.errors import counted
from medsam.files import write_whole
from medsam.geometry import SlicePlane
from medsam.inference.segmentation import PromptResult, Segmentation
from medsam.io.save import check_preview
from medsam.masks import AutomaticMask, bounding_box, xyxy
from medsam.prompts.prompt import Box
from medsam.prompts.values import Position
from medsam.silence import Rule, silence
from medsam.transforms.intensity import IntensityWindow
from medsam.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_PANELS = 12
# An object whose longer side is up to this share of the slice's is shown close up too: so many of its sides across,
# and no fewer pixels than these.
_SMALL, _CLOSE_UP, _LEAST_PX = 0.2, 2.5, 16
# width of a panel by how many stand in a row: one slice alone is shown large
_PANEL_INCHES = {1: 6.5, 2: 5.0, 3: 4.0, 4: 3.0}


def write_preview(scan: Volume, found: Segmentation, path: Path, title: str = "") -> None:
    """Write a PNG of up to 12 panels: prompted slices, evenly chosen, in radiological orientation, and close-ups.

    Pixels are drawn square in millimetres. Boxes, ellipses and lassos are dashed, clicks + inside and x outside, lines
    and strokes solid, strokes outside dotted, masks outlined and lightly filled. A slice with a small object is
    followed by a close-up of it, whose place a thin white frame shows. After propagation, slices it reached; those that
    were prompted are among them.
    Raises InputError when `path` is no .png or its folder does not exist.
    """
    from matplotlib.lines import Line2D

    check_preview(path)
    asked = {answer.slice for answer in found.results if answer.asked}
    views = _views(found, sorted({answer.slice for answer in found.results}), asked)
    figure, panels = _page(found.plane, len(views), 0.8)
    for panel, (index, part) in zip(panels, views, strict=False):
        answers = [answer for answer in found.results if answer.slice == index]
        _draw(panel, scan, found, index, answers)
        if part is None:
            for other, region in views:
                if other == index and region is not None:
                    _frame(panel, found.plane, region)
            continue
        x, y, width, height = upright_rectangle(found.plane, part)
        panel.set_xlim(x, x + width)
        panel.set_ylim(y + height, y)
        panel.set_title(f"{found.plane.axis} = {index}, close-up", fontsize=8)
    names = found.labels.names
    handles = [
        Line2D([], [], color=label_colour(label), linewidth=2, label=name.lstrip("_") or "-")
        for label, name in names.items()
    ]
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False, fontsize=9
    )
    texts = [*legend.get_texts(), *([figure.suptitle(title, fontsize=10)] if title else [])]
    for text in texts:
        text.set_parse_math(False)  # a label may hold a dollar sign
    _save(figure, path)


def _page(plane: SlicePlane, count: int, margin: float) -> tuple[Figure, list[Axes]]:
    """An empty figure of `count` panels in the shape of a slice, and `margin` inches for what stands round them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(4, count)
    rows = -(-count // columns)
    height_mm, width_mm = (
        n * mm for n, mm in zip(plane.view.shape(plane.shape), plane.upright_spacing_mm, strict=True)
    )
    wide = _PANEL_INCHES[columns]
    high = wide * min(max(height_mm / width_mm, 0.4), 2.0) + 0.25  # and a line of title
    figure = Figure(figsize=(columns * wide, rows * high + margin), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for panel in panels:
        panel.set_axis_off()
    return figure, panels


def _save(figure: Figure, path: Path) -> None:
    # a label in a script that matplotlib's font lacks is drawn as boxes; its name is in the sidecar
    with write_whole(path) as part, silence(Rule(message="Glyph .* missing from font", category=UserWarning)):
        figure.savefig(part, dpi=110)


def _views(found: Segmentation, indices: list[int], asked: Collection[int]) -> list[tuple[int, Box | None]]:
    """Panels in order: a slice as a whole (None), followed by the stored parts of it that are shown close up."""
    parts: dict[int, list[Box]] = {}
    views: list[tuple[int, Box | None]] = []
    for most in range(min(_MAX_PANELS, len(indices)), 0, -1):
        views = []
        for index in _some(indices, asked, most):
            close = parts[index] if index in parts else parts.setdefault(index, _parts(found, index))
            views += [(index, None), *((index, part) for part in close)]
        if len(views) <= _MAX_PANELS:
            break
    return views[:_MAX_PANELS]


def _parts(found: Segmentation, index: int) -> list[Box]:
    """The parts of a slice, square in millimetres, that show its small objects close up; stored half-open boxes."""
    plane = found.plane
    size, pitch = np.array(plane.shape[::-1], dtype=float), np.array(plane.spacing_mm[::-1])
    labels = plane.take(found.labels.array, index)
    parts: list[Box] = []
    boxes: dict[int, list[Box]] = {}
    for answer in found.results:
        if answer.slice == index:
            boxes.setdefault(answer.label, []).extend([] if answer.box is None else [answer.box])
    for label, asked in boxes.items():
        part = bounding_box(labels == label)
        corners: list[Box] = asked if part is None else [xyxy(part), *asked]
        if not corners:
            continue
        low, high = np.min(corners, axis=0)[:2], np.max(corners, axis=0)[2:]
        side_mm = ((high - low) * pitch).max()
        if side_mm > _SMALL * (size * pitch).max():
            continue
        if any((low >= part[:2]).all() and (high <= part[2:]).all() for part in map(np.array, parts)):
            continue  # seen beside another
        # at least so many pixels: fewer are no picture
        side = np.minimum(np.maximum(_CLOSE_UP * side_mm, _LEAST_PX * pitch.max()) / pitch, size)
        start = np.clip((low + high - side) / 2, 0, size - side)
        (left, top), (right, bottom) = start.tolist(), (start + side).tolist()
        parts.append((left, top, right, bottom))
    return parts


def _frame(panel: Axes, plane: SlicePlane, region: Box) -> None:
    from matplotlib.patches import Rectangle

    x, y, width, height = upright_rectangle(plane, region)
    panel.add_patch(Rectangle((x, y), width, height, fill=False, linewidth=0.7, edgecolor="white"))


def _some(indices: list[int], asked: Collection[int] = (), most: int = _MAX_PANELS) -> list[int]:
    """At most `most` of the slices, evenly chosen; the prompted ones are among them if all can be."""
    if len(indices) <= most:
        return indices
    if len(asked) >= most:
        asked = ()
    even = np.linspace(0, len(indices) - 1, most).round().astype(int).tolist()
    for index in sorted(asked):
        place = indices.index(index)
        free = [n for n, chosen in enumerate(even) if indices[chosen] not in asked]
        if place not in even and free:
            even[min(free, key=lambda n: abs(even[n] - place))] = place
    return [indices[n] for n in sorted(even)]


def _draw(panel: Axes, scan: Volume, found: Segmentation, index: int, answers: list[PromptResult]) -> None:
    plane = found.plane
    shown = plane.view.apply(found.window.picture(plane.take(scan.array, index)))
    labels = plane.view.apply(plane.take(found.labels.array, index))
    row_mm, column_mm = plane.upright_spacing_mm
    panel.imshow(shown, cmap=None if scan.is_colour else "gray", vmin=0, vmax=255, aspect=row_mm / column_mm)
    for label in sorted({answer.label for answer in answers}):
        mask = labels == label
        if mask.any() and not mask.all() and min(mask.shape) > 1:  # an outline needs two rows
            panel.contourf(mask, levels=[0.5, 1.5], colors=[label_colour(label)], alpha=0.25)
            panel.contour(mask, levels=[0.5], colors=[label_colour(label)], linewidths=1.3)
    for answer in answers:
        _draw_prompt(panel, plane, answer)
    panel.set_title(_title(found, index, answers), fontsize=8).set_parse_math(False)


def _draw_prompt(panel: Axes, plane: SlicePlane, answer: PromptResult) -> None:
    from matplotlib.patches import Ellipse, Rectangle
    from matplotlib.patheffects import Normal, Stroke

    colour = label_colour(answer.label)
    if answer.box is not None and not answer.lines:
        x, y, width, height = upright_rectangle(plane, answer.box)
        shape = (
            Rectangle((x, y), width, height)
            if answer.ellipse is None
            else Ellipse((x + width / 2, y + height / 2), width, height)
        )
        shape.set(fill=False, linestyle="--", linewidth=0.9, edgecolor=colour)
        panel.add_patch(shape)
    strokes = [(one.points, "-" if one.inside else ":", 2.0) for one in answer.scribbles]
    strokes += [(line, "-", 1.2) for line in answer.lines]
    strokes += [((*answer.lasso, answer.lasso[0]), "--", 0.9)] if answer.lasso else []
    for corners, style, width in strokes:
        along = _upright(plane, corners)
        dot = "o" if len(along) == 1 else None
        # edged, to be seen on a mask of its colour
        edge = [Stroke(linewidth=width + 1.4, foreground="black"), Normal()]
        panel.plot(*along.T, style, marker=dot, color=colour, linewidth=width, markersize=3, path_effects=edge)
    for x, y, inside in answer.points:
        (where,) = _upright(plane, [(x, y)])
        panel.plot(*where, "+" if inside else "x", color=colour, markersize=7, markeredgewidth=1.6)


def _upright(plane: SlicePlane, positions: Sequence[Position]) -> np.ndarray:
    """Pixel numbers (N, 2) of the stored slice as those of the upright one."""
    return plane.view.edges(np.array(positions, dtype=float) + 0.5, plane.shape) - 0.5


def _title(found: Segmentation, index: int, answers: Sequence[PromptResult]) -> str:
    """The slice and whose predicted IoU is what, a drawn mask has none; and which of them are probably wrong."""
    scores, wrong = [], []
    for answer in answers[:4]:
        name = found.labels.names[answer.label]
        shown = name if len(name) <= 24 else f"{name[:22]}..."
        scores.append(f"{shown} {'-' if np.isnan(answer.predicted_iou) else f'{answer.predicted_iou:.2f}'}")
        if answer.expected_dice is not None and answer.expected_dice.doubt == "probably wrong":
            wrong.append(shown)
    more = " ..." if len(answers) > 4 else ""
    # as wide as a panel; a number stays with its name, which textwrap does not part at such blanks
    kept, named = ([one.replace(" ", "\N{NO-BREAK SPACE}") for one in some] for some in (scores, wrong))
    whole = f"{found.plane.axis} = {index}   predicted IoU: {', '.join(kept)}{more}"
    whole += f"   probably wrong: {', '.join(named)}" if named else ""
    return textwrap.fill(whole, 52, break_on_hyphens=False).replace("\N{NO-BREAK SPACE}", " ")


def write_masks_preview(
    scan: Volume,
    masks: Sequence[AutomaticMask],
    plane: SlicePlane,
    window: IntensityWindow,
    path: Path,
    title: str = "",
) -> None:
    """Write a PNG of automatic masks on up to 12 of their slices, evenly chosen, in radiological orientation.

    Every mask is outlined and filled in a colour of its own, linked ones in their object's; small ones lie on large
    ones. Raises InputError when `path` is no .png or its folder does not exist.
    """
    from matplotlib.colors import hsv_to_rgb

    check_preview(path)
    on_slice: dict[int, list[tuple[int, AutomaticMask]]] = {}
    for number, one in enumerate(masks):
        on_slice.setdefault(one.slice or 0, []).append((number if one.object is None else one.object, one))
    indices = _some(sorted(on_slice) or [plane.count // 2])
    row_mm, column_mm = plane.upright_spacing_mm
    figure, panels = _page(plane, len(indices), 0.4)
    for panel, index in zip(panels, indices, strict=False):
        pixels = window.picture(plane.view.apply(plane.take(scan.array, index)))
        shown = (pixels if scan.is_colour else np.repeat(pixels[..., None], 3, axis=2)) / 255
        for number, one in sorted(on_slice.get(index, []), key=lambda pair: -pair[1].area):
            # hues a golden angle apart: neighbours in number, often neighbours in place, differ most
            colour = hsv_to_rgb((number * 0.618034 % 1, 0.75, 1.0))
            paint(shown, plane.view.apply(one.mask), colour)
        panel.imshow(shown, aspect=row_mm / column_mm, interpolation="nearest")
        panel.set_title(f"{plane.axis} = {index}   {counted(len(on_slice.get(index, [])), 'mask')}", fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10).set_parse_math(False)
    _save(figure, path)


def upright_rectangle(plane: SlicePlane, box: Box) -> tuple[float, float, float, float]:
    """A half-open stored box as (x, y, width, height) on the upright slice, pixel centres at integers."""
    x0, y0, x1, y1 = plane.view.boxes(np.array(box), plane.shape).tolist()
    return x0 - 0.5, y0 - 0.5, x1 - x0, y1 - y0
