import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medsam.errors import InputError
from medsam.io.rle import RLE, decode, encode, from_coco, intersection, to_coco

masks = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40))


def drawn(text: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in text.split()])


def test_runs_go_down_the_columns_and_start_outside():
    assert encode(drawn("..# .#. .##")).counts.tolist() == [4, 3, 1, 1]
    assert encode(drawn("#. ..")).counts.tolist() == [0, 1, 3]
    assert encode(np.zeros((2, 3), bool)).counts.tolist() == [6]
    assert encode(np.ones((2, 3), bool)).counts.tolist() == [0, 6]


@given(masks)
def test_there_and_back(mask):
    rle = encode(mask)
    assert rle.size == mask.shape
    assert rle.area == mask.sum()
    assert np.array_equal(decode(rle), mask)
    for compressed in (True, False):
        assert from_coco(to_coco(rle, compressed)) == rle


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@given(masks)
def test_the_same_text_as_pycocotools(mask):
    referee = pytest.importorskip("pycocotools.mask")
    theirs = referee.encode(np.asfortranarray(mask, dtype=np.uint8))
    ours = to_coco(encode(mask))
    assert ours["size"] == theirs["size"]
    assert ours["counts"] == theirs["counts"].decode()
    assert np.array_equal(referee.decode({"size": ours["size"], "counts": ours["counts"].encode()}), mask)
    assert np.array_equal(decode(from_coco(theirs)), mask)
    plain = to_coco(encode(mask), compressed=False)
    assert referee.frPyObjects(plain, *mask.shape)["counts"] == theirs["counts"]


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12))
def test_long_runs_as_pycocotools_writes_them(counts):
    referee = pytest.importorskip("pycocotools.mask")
    size = (sum(counts), 1)
    plain = {"size": list(size), "counts": counts}
    assert to_coco(from_coco(plain))["counts"] == referee.frPyObjects(plain, *size)["counts"].decode()


@given(st.data(), arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))
def test_intersection_counts_common_pixels(data, shape):
    one, other = (data.draw(arrays.arrays(bool, shape)) for _ in range(2))
    assert intersection(encode(one), encode(other)) == (one & other).sum()


def test_runs_of_nothing_are_read_as_they_are():
    odd = from_coco({"size": [2, 2], "counts": [1, 0, 0, 2, 1, 0]})
    assert decode(odd).tolist() == [[False, True], [True, False]]
    assert odd.area == 2
    assert intersection(odd, encode(np.ones((2, 2), bool))) == intersection(encode(np.ones((2, 2), bool)), odd) == 2


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([[1, 1, 2, 2, 3, 1]], "polygons are not read"),
        (None, "COCO RLE"),
        ({"size": [2], "counts": [4]}, r"\[rows, columns\]"),
        ({"size": [2, 0], "counts": [0]}, r"\[rows, columns\]"),
        ({"size": [2, 2], "counts": [3]}, "cover 3 pixels"),
        ({"size": [2, 2], "counts": [5, -1]}, "whole numbers"),
        ({"size": [2, 2], "counts": [2.0, 2.0]}, "whole numbers"),
        ({"size": [2, 2], "counts": 4}, "whole numbers"),
        ({"size": [2, 2], "counts": []}, "cover 0 pixels"),
        ({"size": [2, 2], "counts": "5"}, "cover 5 pixels"),
        ({"size": [2, 2], "counts": "é"}, "no compressed RLE"),
        ({"size": [2, 2], "counts": "P" * 30}, "no compressed RLE"),
        ({"size": [2, 2], "counts": "P"}, "in the middle"),
        ({"size": [2, 2], "counts": "520M"}, "below 0"),
    ],
)
def test_what_is_no_mask_is_said(document, message):
    with pytest.raises(InputError, match=message):
        from_coco(document)


def test_masks_of_two_sizes_do_not_meet():
    with pytest.raises(InputError, match="cannot be compared"):
        intersection(RLE((1, 2), np.array([2])), RLE((2, 1), np.array([2])))


def test_a_mask_of_more_pixels_than_a_picture_has_is_refused_before_it_is_drawn():
    with pytest.raises(InputError, match="is no picture's"):
        from_coco({"size": [2**26, 2**26], "counts": [2**52]})
