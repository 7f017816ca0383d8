"""The same anatomy, asked for in the same way, has the same mask however the scan is stored."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from phantoms import ThresholdSam

from medsam.geometry import VolumeGeometry
from medsam.inference.predictor import Predictor
from medsam.prompts.limits import Limits
from medsam.prompts.plan import plan
from medsam.prompts.prompt import Prompt
from medsam.prompts.strokes import Scribble, marks
from medsam.volume import Volume

SIZE = (61, 45, 3)  # i, j, k
SPACING = np.array([0.7, 1.1, 3.0])
SLICE = 1
# order of the stored axes, and which run backwards
ALL = [*itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3))]
SOME = [ALL[n] for n in (5, 14, 23, 26, 33, 47)]


class Stored:
    """A scan of axes i, j, k in another order and direction."""

    def __init__(self, order, back):
        self.order, self.back = order, back
        self.across = order.index(2)
        # x and y of a slice are the earlier and the later of the other two
        self.flat = [axis for axis in range(3) if axis != self.across]

    def array(self, array):
        """(K, J, I) as it is stored."""
        stored = array.transpose(2, 1, 0).transpose(self.order)
        return np.ascontiguousarray(np.flip(stored, np.flatnonzero(self.back)).transpose(2, 1, 0))

    def undone(self, array):
        back = np.flip(array.transpose(2, 1, 0), np.flatnonzero(self.back))
        return back.transpose(np.argsort(self.order)).transpose(2, 1, 0)

    @property
    def geometry(self):
        affine = np.eye(4)
        last = np.array(SIZE) - 1
        for axis, (source, back) in enumerate(zip(self.order, self.back, strict=True)):
            affine[:3, axis] = np.eye(3)[source] * SPACING[source] * (-1 if back else 1)
            affine[:3, 3] += np.eye(3)[source] * SPACING[source] * (last[source] if back else 0)
        return VolumeGeometry(tuple(SIZE[source] for source in self.order)[::-1], affine)

    @property
    def axis(self):
        return "ijk"[self.across]

    @property
    def index(self):
        return SIZE[2] - 1 - SLICE if self.back[self.across] else SLICE

    def points(self, points):
        """Pixel numbers (x, y, ...)."""
        moved = []
        for *xy, rest in [(*point, ()) if len(point) == 2 else (point[0], point[1], point[2:]) for point in points]:
            place = [
                SIZE[self.order[axis]] - 1 - xy[self.order[axis]] if self.back[axis] else xy[self.order[axis]]
                for axis in self.flat
            ]
            moved.append((*place, *rest))
        return moved

    def box(self, box):
        corners = np.array(self.points([(box[0] - 0.5, box[1] - 0.5), (box[2] - 0.5, box[3] - 0.5)])) + 0.5
        return (*corners.min(axis=0), *corners.max(axis=0))

    def prompt(self, label, **drawn):
        fields = {}
        for kind, value in drawn.items():
            if kind in ("box", "ellipse"):
                fields[kind] = self.box(value)
            elif kind == "lines":
                fields[kind] = [self.points(line) for line in value]
            elif kind == "scribbles":
                fields[kind] = [
                    Scribble(self.points(one.points), one.inside, one.width_mm, one.width_px) for one in value
                ]
            else:
                fields[kind] = self.points(value)
        return Prompt(label, slice=self.index, **fields)


STROKES = [
    Scribble([(6, 6), (9, 7.5), (11, 11)], width_mm=2.5),
    Scribble([(2, 3), (20, 3), (20, 8)], inside=False, width_px=3),
    Scribble([(8, 3), (8, 4)]),
]
DRAWN = {
    "lasso": {"lasso": [(4, 5), (16, 5), (18.5, 9), (15, 15), (4, 13.5)], "scribbles": STROKES},
    "line": {"lines": [((26, 8), (39, 13)), ((34, 4), (31, 17))], "points": [(30, 10, 1), (45, 3, 0)]},
    "ellipse": {"ellipse": (3, 24, 20, 40), "scribbles": [Scribble([(2, 22), (21, 22)], inside=False)]},
    "box": {"box": (30, 22, 50, 42), "scribbles": [Scribble([(35, 30), (45, 36)], width_mm=4)]},
}
ONE = Stored((0, 1, 2), (False, False, False))


def phantom():
    """Blobs of many grey levels."""
    rng = np.random.default_rng(3)
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(rng.standard_normal(SIZE[::-1]), (0, 2, 2))
    return (smooth / smooth.std() * 40 + 100).round().astype(np.float32)


def on_slice(stored, flat):
    """An array of a slice of the stored scan, as it is in the first of them."""
    volume = np.zeros(stored.geometry.shape, flat.dtype)
    stored.geometry.plane(stored.axis).take(volume, stored.index)[...] = flat
    return stored.undone(volume)[SLICE]


@pytest.mark.parametrize("kind", DRAWN)
def test_a_plan_says_the_same_of_every_pixel(kind):
    def planned(stored):
        plane = stored.geometry.plane(stored.axis)
        todo = plan(stored.prompt(kind, **DRAWN[kind]), stored.geometry, stored.axis)
        ((index, (one,)),) = todo.slices.items()
        assert index == stored.index
        said = on_slice(stored, marks(one.marks, plane.shape, plane.spacing_mm))
        within = None if one.within is None else on_slice(stored, one.within)
        return one, said, within

    expected, said, within = planned(ONE)
    for order, back in ALL:
        stored = Stored(order, back)
        found, found_said, found_within = planned(stored)
        np.testing.assert_array_equal(found_said, said)
        np.testing.assert_array_equal(found_within, within)
        if expected.box is not None:
            np.testing.assert_allclose(found.box, stored.box(expected.box), atol=1e-9)
        assert len(found.lines) == len(expected.lines)


@pytest.mark.parametrize("zoom", ["off", "auto"])
def test_masks_are_the_same(zoom):
    array = phantom()
    editable = np.ones(SIZE[::-1], bool)
    editable[:, :, 7] = False
    sam = ThresholdSam(64)
    sam.spec.prompts = ("box",) if zoom == "off" else ("box", "points", "mask")
    predictor = Predictor(sam, device="cpu")

    def segmented(stored):
        scan = Volume(stored.array(array), stored.geometry)
        prompts = [stored.prompt(kind, **drawn) for kind, drawn in DRAWN.items()]
        limits = Limits((None, 190), stored.array(editable), "lasso")
        found = predictor.segment(scan, prompts, axis=stored.axis, zoom=zoom, limits=limits)
        return stored.undone(found.labels.array)

    expected = segmented(ONE)
    assert [np.count_nonzero(expected == number) > 20 for number in (1, 2, 3, 4)] == [True] * 4
    assert not expected[:, :, 7].any()
    for order, back in SOME:
        np.testing.assert_array_equal(segmented(Stored(order, back)), expected)
