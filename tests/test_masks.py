import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medsam.errors import InputError
from medsam.masks import RLE, CompactMask, LabelMasks, PackedMasks, bounding_box, pack_bits, unpack_bits, xyxy

masks = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40))


def drawn(text: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in text.split()])


# -- where a mask lies --------------------------------------------------------------------------------------

shapes = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9)


def block(shape, *ranges):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


def test_the_box_round_a_mask_is_half_open():
    assert bounding_box(drawn("..... .#... ...#.")) == (slice(1, 3), slice(1, 4))
    assert xyxy(bounding_box(drawn("..... .#... ...#."))) == (1, 1, 4, 3)
    assert bounding_box(drawn("...")) is None
    assert bounding_box(np.zeros((2, 0, 3), bool)) is None


def test_the_box_round_several_masks_holds_them_all():
    cube, shifted = block((8, 8, 8), (1, 5), (1, 5), (1, 5)), block((8, 8, 8), (2, 6), (1, 5), (1, 5))
    nothing = np.zeros((8, 8, 8), bool)
    assert bounding_box(cube, shifted) == (slice(1, 6), slice(1, 5), slice(1, 5))
    assert bounding_box(nothing, shifted) == (slice(2, 6), slice(1, 5), slice(1, 5))
    assert bounding_box(nothing, nothing) is None


@given(st.data(), shapes)
def test_nothing_of_a_mask_lies_outside_its_box_and_each_side_touches_it(data, shape):
    one, other = (data.draw(arrays.arrays(bool, shape)) for _ in range(2))
    either = one | other
    part = bounding_box(one, other)
    if part is None:
        assert not either.any()
        return
    assert either[part].sum() == either.sum()
    for axis in range(either.ndim):
        for side in (0, -1):
            assert np.take(either[part], side, axis).any()


# -- kept small ---------------------------------------------------------------------------------------------


def test_packing_takes_a_bit_each():
    mask = np.arange(30).reshape(2, 3, 5) % 3 == 0
    assert pack_bits(mask).nbytes == 4
    assert np.array_equal(unpack_bits(pack_bits(mask), mask.shape), mask)


@given(st.data(), shapes)
def test_a_compact_mask_comes_back_and_joins_others(data, shape):
    one, other = (data.draw(arrays.arrays(bool, shape)) for _ in range(2))
    a, b = CompactMask.of(one), CompactMask.of(other)
    assert np.array_equal(a.to_array(), one)
    assert a.to_array().dtype == bool
    assert (a.area, bool(a), a.bounding_box) == (one.sum(), one.any(), bounding_box(one))
    assert np.array_equal(a.crop, one[a.part])
    assert a | b == CompactMask.of(one | other)
    assert (a == b) == np.array_equal(one, other)
    assert pickle.loads(pickle.dumps(a)) == a


def test_a_part_of_a_mask_is_kept_as_what_it_is_a_part_of():
    whole = block((5, 6), (2, 4), (1, 3))
    assert CompactMask.of(whole[1:, 1:], (5, 6), (1, 1)) == CompactMask.of(whole)
    assert CompactMask.of(np.zeros((0, 6), bool), (5, 6), (5, 0)) == CompactMask.of(np.zeros((5, 6), bool))


def test_equal_masks_are_one_key_however_they_lie_in_memory():
    whole = block((5, 6), (2, 4), (1, 3))
    assert len({CompactMask.of(whole), CompactMask.of(np.asfortranarray(whole)), CompactMask.of(whole.copy())}) == 1
    assert CompactMask.of(whole) != CompactMask.of(whole.T)
    assert CompactMask.of(np.zeros((2, 3), bool)) != CompactMask.of(np.zeros((3, 2), bool))
    with pytest.raises(InputError, match="cannot be joined"):
        CompactMask.of(whole) | CompactMask.of(whole.T)


def test_a_compact_mask_says_in_a_few_words_what_it_is():
    assert repr(CompactMask.of(block((5, 6), (2, 4), (1, 3)))) == (
        "CompactMask(shape=(5, 6), bounds=((2, 4), (1, 3)), area=4)"
    )


@given(st.data(), shapes)
def test_one_slice_of_a_compact_mask_is_unpacked_alone(data, shape):
    mask = data.draw(arrays.arrays(bool, shape))
    compact = CompactMask.of(mask)
    for index in range(len(mask)):
        assert np.array_equal(compact.at(index), mask[index])
    assert compact.indices() == [n for n in range(len(mask)) if mask[n].any()]


@given(masks)
def test_a_compact_mask_travels_as_run_lengths(mask):
    compact = CompactMask.of(mask)
    assert compact.to_dict() == RLE.of(mask).to_dict()
    assert CompactMask.from_dict(compact.to_dict()) == compact


def test_a_compact_mask_of_a_scan_travels_as_the_run_lengths_of_its_slices():
    mask = np.zeros((5, 2, 3), bool)
    mask[1, 0, 2] = mask[3, 1] = True
    written = {"size": [5, 2, 3], "slices": {"1": RLE.of(mask[1]).to_dict()["counts"], "3": "111000"}}
    assert CompactMask.of(mask).to_dict() == written
    assert CompactMask.from_dict(json.loads(json.dumps(written))) == CompactMask.of(mask)
    empty = CompactMask.of(np.zeros((5, 2, 3), bool))
    assert empty.to_dict() == {"size": [5, 2, 3], "slices": {}}
    assert CompactMask.from_dict(empty.to_dict()) == empty


# -- run lengths --------------------------------------------------------------------------------------------


def test_runs_go_down_the_columns_and_start_outside():
    assert RLE.of(drawn("..# .#. .##")).counts.tolist() == [4, 3, 1, 1]
    assert RLE.of(drawn("#. ..")).counts.tolist() == [0, 1, 3]
    assert RLE.of(np.zeros((2, 3), bool)).counts.tolist() == [6]
    assert RLE.of(np.ones((2, 3), bool)).counts.tolist() == [0, 6]


@given(masks)
def test_there_and_back(mask):
    rle = RLE.of(mask)
    assert rle.size == mask.shape
    assert rle.area == mask.sum()
    assert np.array_equal(rle.to_array(), mask)
    for compressed in (True, False):
        assert RLE.from_dict(rle.to_dict(compressed)) == rle


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@given(masks)
def test_the_same_text_as_pycocotools(mask):
    referee = pytest.importorskip("pycocotools.mask")
    theirs = referee.encode(np.asfortranarray(mask, dtype=np.uint8))
    ours = RLE.of(mask).to_dict()
    assert ours["size"] == theirs["size"]
    assert ours["counts"] == theirs["counts"].decode()
    assert np.array_equal(referee.decode({"size": ours["size"], "counts": ours["counts"].encode()}), mask)
    assert np.array_equal(RLE.from_dict(theirs).to_array(), mask)
    plain = RLE.of(mask).to_dict(compressed=False)
    assert referee.frPyObjects(plain, *mask.shape)["counts"] == theirs["counts"]


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12))
def test_long_runs_as_pycocotools_writes_them(counts):
    referee = pytest.importorskip("pycocotools.mask")
    size = (sum(counts), 1)
    plain = {"size": list(size), "counts": counts}
    assert RLE.from_dict(plain).to_dict()["counts"] == referee.frPyObjects(plain, *size)["counts"].decode()


@given(st.data(), arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))
def test_intersection_counts_common_pixels(data, shape):
    one, other = (data.draw(arrays.arrays(bool, shape)) for _ in range(2))
    assert RLE.of(one).intersection(RLE.of(other)) == (one & other).sum()


def test_runs_of_nothing_are_read_as_they_are():
    odd = RLE.from_dict({"size": [2, 2], "counts": [1, 0, 0, 2, 1, 0]})
    assert odd.to_array().tolist() == [[False, True], [True, False]]
    assert odd.area == 2
    assert odd.intersection(RLE.of(np.ones((2, 2), bool))) == RLE.of(np.ones((2, 2), bool)).intersection(odd) == 2


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
        RLE.from_dict(document)


def test_masks_of_two_sizes_do_not_meet():
    with pytest.raises(InputError, match="cannot be compared"):
        RLE((1, 2), np.array([2])).intersection(RLE((2, 1), np.array([2])))


def test_a_mask_of_more_pixels_than_a_picture_has_is_refused_before_it_is_drawn():
    with pytest.raises(InputError, match="is no picture's"):
        RLE.from_dict({"size": [2**26, 2**26], "counts": [2**52]})


# -- many, by name ------------------------------------------------------------------------------------------


def test_the_structures_of_a_label_map():
    found = LabelMasks(np.array([[[0, 1, 2], [2, 2, 0]]]), {"a": 1, "b": 2}, {"a": 1, "b": 3}, ["said"])
    assert list(found) == ["a", "b"]
    assert found["b"].tolist() == [[[False, False, True], [True, True, False]]]
    assert (found.voxels, found.notes) == ({"a": 1, "b": 3}, ("said",))


def test_packed_masks_come_back_and_those_of_one_name_are_joined():
    rng = np.random.default_rng(0)
    one, other = rng.random((7, 3, 5)) < 0.5, rng.random((7, 3, 5)) < 0.5
    one[:3] = other[5:] = False
    masks = PackedMasks((7, 3, 5))
    masks.add("a", one)
    masks.add("b", None)
    assert np.array_equal(masks["a"], one)
    masks.add("a", other, ["said"])
    masks.add("a", np.zeros((7, 3, 5), dtype=bool))
    assert np.array_equal(masks["a"], one | other)
    assert masks.compact("a") == CompactMask.of(one | other)
    assert masks["a"].dtype == masks["b"].dtype == bool
    assert not masks["b"].any()
    assert masks.voxels == {"a": np.count_nonzero(one | other), "b": 0}
    assert masks.notes == ("said",)


def test_masks_of_some_slices_are_joined_where_they_lie():
    masks = PackedMasks((9, 2, 3))
    masks.add("a", np.ones((2, 2, 3), dtype=bool), start=(5, 0, 0))
    masks.add("a", np.ones((1, 2, 3), dtype=bool), start=(1, 0, 0))
    masks.add("a", np.zeros((0, 2, 3), dtype=bool), start=(9, 0, 0))
    assert masks["a"].all(axis=(1, 2)).tolist() == [False, True, False, False, False, True, True, False, False]
    assert masks.voxels == {"a": 18}
