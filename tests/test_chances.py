"""How likely each pixel is in a structure, kept small."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.special import expit

from medsam.chances import CompactChances
from medsam.errors import InputError

SHAPE = (9, 14)
ROUND = expit(3.0 - np.hypot(*(np.mgrid[:9, :14] - np.array([4, 6])[:, None, None])))


@given(
    st.sampled_from([np.float32, np.float64]).flatmap(
        lambda kind: arrays(
            kind, array_shapes(min_dims=2, max_dims=2), elements=st.floats(0, 1, width=32) | st.just(0.5 + 2**-24)
        )
    )
)
def test_the_mask_is_the_same_and_log_odds_are_within_half_a_step(chances):
    again = CompactChances.of(chances).log_odds()
    np.testing.assert_array_equal(again > 0, chances > 0.5)
    with np.errstate(divide="ignore"):
        odds = np.clip(np.log(chances.astype(float)) - np.log1p(-chances.astype(float)), -6.15, 6.15)
    np.testing.assert_allclose(again, odds, atol=0.0501)
    assert (again.dtype, again.shape) == (np.float32, chances.shape)


def test_it_goes_into_json_and_back_and_what_is_sure_takes_no_room():
    found = CompactChances.of(ROUND)
    assert CompactChances.from_dict(json.loads(json.dumps(found.to_dict())), SHAPE) == found
    large = np.zeros((512, 512))
    large[100:400, 100:400] = 1
    assert len(CompactChances.of(large).levels) < 500
    nothing = CompactChances.of(np.zeros(SHAPE))
    assert nothing.bounds == ((0, 0), (0, 0))
    assert CompactChances.from_dict(nothing.to_dict(), SHAPE) == nothing
    assert (nothing.log_odds() < -6).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": [9, 13]}, "do not fit"),
        ({"bounds": [[0, 9], [0, 15]]}, "within the slice"),
        ({"bounds": [[4, 2], [0, 14]]}, "within the slice"),
        ({"bounds": [[0, 9.0], [0, 14]]}, "within the slice"),
        ({"bounds": [[0, 2], [0, 2]]}, "not those of their bounds"),
        ({"bounds": 3}, "are an object"),
        ({"levels": "?"}, "are an object"),
        ({"levels": "AAAA"}, "damaged"),
    ],
)
def test_what_is_none_is_refused(change, said):
    with pytest.raises(InputError, match=said):
        CompactChances.from_dict({**CompactChances.of(ROUND).to_dict(), **change}, SHAPE)
