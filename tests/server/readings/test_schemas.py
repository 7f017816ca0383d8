"""What requests about sessions may hold."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from medsam.server.readings.schemas import PromptRequest


@pytest.mark.parametrize(
    "entry",
    [
        {"lasso": [["x", "y"]] * 500},
        {"points": [[1, 2, 7]] * 500},
        {"scribbles": [{"points": [[1, 2]], "width": 3}] * 500},
        {"scribbles": [{"points": [["x", 2]] * 500}]},
    ],
)
def test_a_long_list_is_read_to_its_first_fault(entry):
    with pytest.raises(ValidationError) as caught:
        PromptRequest.model_validate({"object": 1, "slice": 2, **entry})
    assert caught.value.error_count() <= 2
