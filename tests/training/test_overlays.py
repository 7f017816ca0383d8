"""Pictures of validation slices: colours that colour-blind readers tell apart, masks of another size in place."""

from __future__ import annotations

import numpy as np
from PIL import Image

from medsam.drawing.colours import PREDICTION, REFERENCE, rgb
from medsam.training.overlays import SampleOverlays


def test_reference_and_answer_lie_over_the_slice_in_the_colours_of_every_overlay(tmp_path):
    overlays = SampleOverlays(tmp_path)
    image = np.full((64, 48, 3), 0.5, np.float32)
    # the masks have half as many rows and columns as the picture
    truth, answer = np.zeros((2, 1, 32, 24), bool)
    truth[0, 8:24, 6:18] = True
    answer[0, 10:28, 6:18] = True
    overlays._panels = [(image, truth, answer, np.array([[12.0, 16.0, 36.0, 48.0]]), "case 1, slice 3")]
    picture = overlays._draw(tmp_path / "1.png")
    with Image.open(tmp_path / "1.png") as written:
        assert written.format == "PNG"
    near = {
        name: np.abs(picture - np.array(rgb(c), float)).max(axis=-1) < 40
        for name, c in (("r", REFERENCE), ("p", PREDICTION))
    }
    rows = {name: np.flatnonzero(found.any(axis=1)) for name, found in near.items()}
    # the answer begins and ends lower, by a sixteenth and an eighth of the slice
    assert rows["r"][0] < rows["p"][0]
    assert rows["r"][-1] < rows["p"][-1]
