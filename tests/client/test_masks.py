from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medsam.client.masks import RemoteMasks
from medsam.wire import MaskFrame, read_frames

SHAPE = (6, 8)


def cut(before: np.ndarray | None, after: np.ndarray, revision: int, base: int, index: int = 0) -> MaskFrame:
    """What changed from one mask to the next; all of it where there was none."""
    rows, columns = np.nonzero(after if before is None else before != after)
    x0, y0, x1, y1 = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else (0, 0, 0, 0)
    box = tuple(map(int, (x0, y0, x1, y1)))
    frame = MaskFrame(1, "k", index, SHAPE, box, after[y0:y1, x0:x1], revision, "refined", 0.5, base=base)
    return next(read_frames(frame.to_bytes()))


def drawn(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


FIRST, SECOND, THIRD = drawn((1, 1, 4, 4)), drawn((1, 1, 4, 4), (6, 0, 8, 2)), drawn((2, 2, 4, 4), (6, 0, 8, 2))


def test_changes_are_painted_on_what_they_were_cut_from():
    masks = RemoteMasks()
    assert masks.apply([cut(None, FIRST, 1, 0)], 1)
    before = masks[1, 0]
    assert masks.apply([cut(FIRST, SECOND, 2, 1)], 2)
    assert masks.revision == 2
    np.testing.assert_array_equal(masks[1, 0].mask, SECOND)
    # a result that was handed out stays what it was
    np.testing.assert_array_equal(before.mask, FIRST)
    assert masks[1, 0].final
    assert masks[1, 1] is None


def test_a_change_of_a_mask_that_was_not_seen_is_refused_and_leaves_everything():
    masks = RemoteMasks()
    masks.apply([cut(None, FIRST, 1, 0)], 1)
    assert not masks.apply([cut(SECOND, THIRD, 3, 2), cut(None, FIRST, 3, 0, index=5)], 3)
    assert masks.revision == 1
    np.testing.assert_array_equal(masks[1, 0].mask, FIRST)
    # the others of the answer are painted all the same
    np.testing.assert_array_equal(masks[1, 5].mask, FIRST)
    assert masks.apply([cut(None, THIRD, 3, 0)], 3)
    np.testing.assert_array_equal(masks[1, 0].mask, THIRD)


def test_what_comes_twice_or_late_changes_nothing():
    masks = RemoteMasks()
    masks.apply([cut(None, SECOND, 2, 0)], 2)
    assert masks.apply([cut(None, FIRST, 1, 0), cut(FIRST, SECOND, 2, 1)], 2)
    np.testing.assert_array_equal(masks[1, 0].mask, SECOND)


def test_a_mask_that_is_gone_is_none_and_may_come_back():
    masks = RemoteMasks()
    masks.apply([cut(None, FIRST, 1, 0)], 1)
    gone = MaskFrame(1, "k", 0, SHAPE, (0, 0, 0, 0), np.zeros((0, 0), bool), 2, "removed")
    assert masks.apply([gone], 2)
    assert masks[1, 0] is None
    assert masks.items() == []
    assert masks.apply([cut(None, SECOND, 3, 0)], 3)
    np.testing.assert_array_equal(masks[1, 0].mask, SECOND)


@given(st.lists(st.sampled_from([FIRST, SECOND, THIRD, drawn()]), min_size=1, max_size=6), st.data())
def test_whatever_is_lost_on_the_way_everything_since_zero_makes_it_whole(states, data):
    history = [cut(None, states[0], 1, 0)]
    history += [cut(a, b, n, n - 1) for n, (a, b) in enumerate(pairwise(states), start=2)]
    masks = RemoteMasks()
    for frame in history:
        if data.draw(st.booleans()) and not masks.apply([frame], frame.revision):
            masks.forget()
            assert masks.apply([cut(None, states[frame.revision - 1], frame.revision, 0)], frame.revision)
            np.testing.assert_array_equal(masks[1, 0].mask, states[frame.revision - 1])
