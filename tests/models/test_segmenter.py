from __future__ import annotations

import pytest
import torch

from medsam.models.segmenter import Segmenter, SegmenterSizes


def test_its_answer_is_as_large_as_its_input_and_says_nothing_or_one_class():
    network = Segmenter(SegmenterSizes(2, 96, width=4))
    assert network(torch.rand(2, 3, 96, 96), torch.tensor([0.0, 1.0])).shape == (2, 3, 96, 96)


def test_where_a_slice_lies_counts():
    network = Segmenter(SegmenterSizes(1, 64, width=4)).eval()
    one = torch.rand(1, 3, 64, 64).expand(2, -1, -1, -1)
    low, high = network(one, torch.tensor([0.0, 1.0]))
    assert not torch.allclose(low, high)


@pytest.mark.parametrize("sizes", [(0, 64, 4), (1, 60, 4), (1, 32, 4), (1, 512, 4), (1, 64, 0)])
def test_sizes_that_make_no_network_are_refused(sizes):
    with pytest.raises(ValueError, match="classes"):
        SegmenterSizes(*sizes)
