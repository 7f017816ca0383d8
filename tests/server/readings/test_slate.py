import numpy as np
import pytest
from phantoms import drawn

from medsam.masks import CompactMask
from medsam.server.readings.slate import _CHANGES, Drawn, Slate, difference, union
from medsam.wire import read_frames, write_frames

SHAPE = (20, 30)


def mask(x0, y0, x1, y1):
    whole = np.zeros(SHAPE, bool)
    whole[y0:y1, x0:x1] = True
    return CompactMask.of(whole)


EMPTY = CompactMask.of(np.zeros(SHAPE, bool))


def sent(frames):
    """As a client reads them."""
    return list(read_frames(write_frames(part.frame() for part in frames)))


def only(frames):
    (frame,) = sent(frames)
    return frame


def test_what_differs_lies_in_one_rectangle():
    assert difference(None, mask(2, 3, 6, 8)) == (2, 3, 6, 8)
    assert difference(mask(2, 3, 6, 8), EMPTY) == (2, 3, 6, 8)
    assert difference(mask(2, 3, 6, 8), mask(2, 3, 6, 8)) == (0, 0, 0, 0)
    assert difference(mask(2, 3, 6, 8), mask(2, 3, 7, 8)) == (6, 3, 7, 8)
    one, other = CompactMask.of(drawn((0, 0), (5, 5), shape=SHAPE)), CompactMask.of(drawn((0, 0), (7, 9), shape=SHAPE))
    assert difference(one, other) == (5, 5, 10, 8)
    assert union([(1, 1, 2, 2), (0, 0, 0, 0), (5, 0, 6, 9)]) == (1, 0, 6, 9)


def test_a_client_without_a_revision_gets_every_mask_whole():
    slate = Slate("k", SHAPE)
    slate.update(1, {(1, 4): Drawn(mask(2, 3, 6, 8), "first", 0.5)})
    slate.update(2, {(1, 4): Drawn(mask(2, 3, 7, 8), "refined", 0.75)})
    frame = only(slate.frames(0))
    assert (frame.object, frame.axis, frame.slice, frame.shape) == (1, "k", 4, SHAPE)
    assert (frame.rectangle, frame.base, frame.revision) == ((2, 3, 7, 8), 0, 2)
    assert (frame.status, frame.predicted_iou, frame.expected_dice) == ("refined", 0.75, None)
    assert frame.pixels.all()


def test_a_client_gets_the_union_of_what_changed_since_it_was_told():
    slate = Slate("j", SHAPE)
    slate.update(1, {(1, 4): Drawn(mask(2, 3, 6, 8), "refined")})
    slate.update(2, {(2, 4): Drawn(mask(0, 0, 2, 2), "refined")})
    slate.update(3, {(1, 4): Drawn(mask(2, 3, 7, 8), "refined")})
    slate.update(5, {(1, 4): Drawn(mask(2, 2, 7, 8), "refined")})
    frame = only(slate.frames(2))
    # a column at the right, then a row above
    assert (frame.rectangle, frame.base, frame.revision) == ((2, 2, 7, 8), 1, 5)
    frame = only(slate.frames(3))
    assert (frame.rectangle, frame.base) == ((2, 2, 7, 3), 3)
    assert sent(slate.frames(5)) == []


@pytest.mark.parametrize("seed", range(4))
def test_painting_frames_over_what_a_client_has_gives_what_stands(seed):
    rng, slate = np.random.default_rng(seed), Slate("k", SHAPE)
    # what stood at each revision, per place
    history, now = {0: {}}, {}
    for revision in range(1, 60):
        place = int(rng.integers(1, 3)), int(rng.integers(0, 2))
        x0, y0 = rng.integers(0, 25), rng.integers(0, 15)
        new = None if rng.random() < 0.2 else Drawn(mask(x0, y0, x0 + 5, y0 + 4), "refined")
        slate.update(revision, {place: new})
        now = {**now, place: None if new is None else new.mask.to_array()}
        history[revision] = now
    for since, known in history.items():
        have = {place: there.copy() for place, there in known.items() if there is not None}
        for frame in sent(slate.frames(since)):
            there = have.setdefault((frame.object, frame.slice), np.zeros(SHAPE, bool))
            if frame.base == 0:
                there[...] = False
            else:
                assert frame.base <= since
            frame.paint(there)
            if frame.status == "removed":
                del have[frame.object, frame.slice]
        assert {place: there.tolist() for place, there in have.items()} == {
            place: there.tolist() for place, there in now.items() if there is not None
        }


def test_a_client_from_too_long_ago_gets_the_mask_whole():
    slate = Slate("k", SHAPE)
    slate.update(1, {(1, 0): Drawn(mask(0, 0, 5, 5), "refined")})
    for revision in range(2, _CHANGES + 3):
        slate.update(revision, {(1, 0): Drawn(mask(0, 0, 5, 5 + revision % 2), "refined")})
    assert only(slate.frames(1)).base == 0
    assert only(slate.frames(_CHANGES)).base == _CHANGES


def test_what_was_asked_about_is_told_even_if_no_pixel_changed():
    slate = Slate("k", SHAPE)
    slate.update(1, {(1, 0): Drawn(mask(0, 0, 5, 5), "first", 0.4)})
    slate.update(2, {(1, 0): Drawn(mask(0, 0, 5, 5), "refined", 0.6)})
    frame = only(slate.frames(1))
    assert (frame.rectangle, frame.base, frame.status, frame.predicted_iou) == ((0, 0, 0, 0), 1, "refined", 0.6)
    assert sent(slate.frames(2)) == []
    frame = only(slate.frames(2, frozenset({(1, 0)})))
    assert (frame.rectangle, frame.base, frame.revision) == ((0, 0, 0, 0), 2, 2)


def test_what_was_removed_is_told_to_those_who_had_it():
    slate = Slate("k", SHAPE)
    slate.update(1, {(1, 0): Drawn(mask(0, 0, 5, 5), "refined")})
    slate.update(2, {(1, 0): None, (1, 1): None})
    frame = only(slate.frames(1))
    assert (frame.status, frame.rectangle, frame.base, frame.revision) == ("removed", (0, 0, 0, 0), 0, 2)
    assert sent(slate.frames(0)) == []
    slate.update(3, {(1, 0): Drawn(mask(1, 1, 2, 2), "restored")})
    assert (only(slate.frames(2)).base, only(slate.frames(2)).rectangle) == (0, (1, 1, 2, 2))
