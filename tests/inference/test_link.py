import numpy as np
import pytest

from medsam.errors import PromptError
from medsam.inference.link import SliceLinker, iou_table
from medsam.masks import RLE


def row(text: str):
    return RLE.of(np.array([[c == "#" for c in text]]))


def test_a_mask_that_goes_on_is_one_object():
    linker = SliceLinker(0.5)
    assert linker.add(0, [row("###......"), row(".....###.")]) == [1, 2]
    assert linker.add(1, [row("......##."), row(".###.....")]) == [2, 1]
    assert linker.add(2, [row(".......##")]) == [3]  # a third in common is too little


def test_the_best_match_must_be_mutual():
    linker = SliceLinker(0.2)
    assert linker.add(0, [row("######")]) == [1]
    # both touch object 1 enough, and only the larger goes on
    assert linker.add(1, [row("##...."), row("..####")]) == [2, 1]
    # two objects become one mask: it goes on with the larger
    assert linker.add(2, [row("######")]) == [1]


def test_equal_matches_link_once():
    linker = SliceLinker(0.3)
    assert linker.add(0, [row("####")]) == [1]
    assert linker.add(1, [row("##.."), row("..##")]) == [1, 2]


def test_a_gap_ends_an_object():
    linker = SliceLinker()
    assert linker.add(3, [row("##")]) == [1]
    assert linker.add(4, []) == []
    assert linker.add(5, [row("##")]) == [2]
    assert linker.add(7, [row("##")]) == [3]


def test_the_iou_of_every_pair():
    table = iou_table([row("##.."), row("....")], [row("##.."), row(".##."), row("....")])
    assert table == pytest.approx(np.array([[1, 1 / 3, 0], [0, 0, 0]]))


@pytest.mark.parametrize("threshold", [0, 1.1, float("nan")])
def test_a_threshold_out_of_range(threshold):
    with pytest.raises(PromptError, match="must be above 0"):
        SliceLinker(threshold)
