from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsam.errors import InputError
from medsam.labels import canonical_name, tolerance, tolerance_mm


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("kidney_right", "kidney_right"),
        ("Right Kidney", "kidney_right"),
        ("right-kidney", "kidney_right"),
        ("RK", "kidney_right"),
        ("Kidney_R", "kidney_right"),
        ("R Kidney", "kidney_right"),
        ("Parotid-Lt", "parotid_gland_left"),
        ("OpticNerve_L", "optic_nerve_left"),
        ("Lung-Left", "lung_left"),
        ("LAG", "adrenal_gland_left"),
        ("left adrenal gland", "adrenal_gland_left"),
        ("IVC", "inferior_vena_cava"),
        ("postcava", "inferior_vena_cava"),
        ("Oesophagus", "esophagus"),
        ("Gall Bladder", "gallbladder"),
        ("BrainStem", "brainstem"),
        ("Spinal-Cord", "spinal_cord"),
        ("GTV-1", "gtv_1"),
        ("vertebrae_L5", "vertebrae_l5"),
        ("lung_upper_lobe_left", "lung_upper_lobe_left"),
        ("rib_left_7", "rib_7_left"),
        ("left", "left"),
        ("left right kidney", "left_right_kidney"),
        ("LAD", "lad"),
        ("L", "l"),
        ("Милт", "милт"),
    ],
)
def test_spellings_of_one_organ_meet(spelling, canonical):
    assert canonical_name(spelling) == canonical


@given(st.sampled_from(["kidney", "adrenal gland", "optic nerve", "femur"]), st.sampled_from(["left", "right"]))
def test_the_place_of_the_side_does_not_matter(organ, side):
    name = canonical_name(f"{side} {organ}")
    assert name == f"{organ.replace(' ', '_')}_{side}"
    assert canonical_name(f"{organ}_{side[0].upper()}") == canonical_name(f"{organ.title()} {side}") == name


@given(st.text(alphabet="abcdefghijk LR_-12", min_size=1).filter(lambda text: any(c.isalnum() for c in text)))
def test_a_tidied_name_is_tidy_and_stays_as_it_is(name):
    tidy = canonical_name(name)
    assert canonical_name(tidy) == tidy
    assert tidy == tidy.lower()
    assert "" not in tidy.split("_")


@pytest.mark.parametrize("name", ["", " ", "_-_"])
def test_a_name_needs_a_letter_or_digit(name):
    with pytest.raises(InputError, match="at least one letter"):
        canonical_name(name)


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
