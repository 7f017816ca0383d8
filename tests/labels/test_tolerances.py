from __future__ import annotations

import pytest

from medsam.errors import InputError
from medsam.labels import tolerance, tolerance_mm


@pytest.mark.parametrize(
    ("name", "mm"),
    [
        ("liver", 5),
        ("Right Kidney", 3),
        ("kidney_left", 3),
        ("Duodenum", 7),
        ("RAG", 2),
        ("oesophagus", 3),
        ("Parotid_L", 2.85),
        ("Mandible", 1.01),
    ],
)
def test_published_tolerances(name, mm):
    assert tolerance_mm(name) == mm
    assert tolerance_mm(name, default=9) == mm


def test_an_unlisted_structure_gets_the_default_and_says_so():
    assert tolerance_mm("tumour") == 2.0
    assert tolerance_mm("tumour", default=1) == 1.0
    assert tolerance("tumour").source.startswith("default")
    assert "chosen by the user" in tolerance("tumour", 1).source
    assert tolerance("Liver").source == "FLARE22 evaluation code"


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_a_default_must_be_a_distance(bad):
    with pytest.raises(InputError, match="0 mm or more"):
        tolerance_mm("tumour", bad)
