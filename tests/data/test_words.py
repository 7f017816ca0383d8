"""What data sets call modalities."""

from __future__ import annotations

from medsam.data.words import modality_code


def test_modalities_have_many_names():
    assert [modality_code(word) for word in ("MRI", "T1w", "ct", "PET", "US", "noNorm")] == [
        "MR",
        "MR",
        "CT",
        "PT",
        "US",
        None,
    ]
