from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsam.errors import InputError
from medsam.labels import canonical_name
from medsam.labels.names import names
from medsam.labels.table import rows


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
        ("Tooth 11", "tooth_11"),
        ("Tooth 46", "lower_first_molar_fdi46_right"),
        ("L 4", "l_4"),
        ("L", "l"),
        ("Милт", "милт"),
        # radiotherapy: AAPM TG-263, and as planning systems show them
        ("Kidney, left", "kidney_left"),
        ("Glnd_Submand_L", "submandibular_gland_left"),
        ("SpinalCord", "spinal_cord"),
        ("Bowel_Small", "small_bowel"),
        ("OpticNrv_L", "optic_nerve_left"),
        ("OpticChiasm", "optic_chiasm"),
        ("Femur_Head_R", "femoral_head_right"),
        ("V_Venacava_I", "inferior_vena_cava"),
        ("A_LAD", "anterior_descending_coronary_artery_left"),
        ("Lung_LUL", "lung_upper_lobe_left"),
        ("VB_L5", "vertebrae_l5"),
        ("VB_T01", "vertebrae_t1"),
        ("Rib07_L", "rib_7_left"),
        ("Lungs-PTV", "lungs_ptv"),
        ("LKidney", "kidney_left"),
        ("RLung", "lung_right"),
        ("LVessel", "lvessel"),
        # sides that a name says itself
        ("Right upper lobe", "lung_upper_lobe_right"),
        ("RML", "lung_middle_lobe_right"),
        ("left RML", "rml_left"),
        ("Left Atrium", "heart_atrium_left"),
        ("Left Ventricle", "heart_ventricle_left"),
        ("Left-Lateral-Ventricle", "lateral_ventricle_left"),
        ("ventricle", "ventricle"),
        # findings
        ("tumour", "tumor"),
        ("cancer", "tumor"),
        ("Lesions", "lesion"),
        ("lesion 2", "lesion_2"),
        ("Renal cysts, left", "kidney_cyst_left"),
        ("hepatic tumours 2", "liver_tumor_2"),
        ("left atrium thrombus", "heart_atrium_thrombus_left"),
        ("left liver lesion", "liver_lesion_left"),
        ("Tumour of the liver", "liver_tumor"),
        ("lesion in left kidney 2", "kidney_lesion_2_left"),
        ("tumour of unknown origin", "tumour_of_unknown_origin"),
        ("enhancing tumour", "enhancing_tumour"),
        ("Organ 2", "organ_2"),
    ],
)
def test_spellings_of_one_organ_meet(spelling, canonical):
    assert canonical_name(spelling) == canonical


@given(st.sampled_from(["kidney", "adrenal gland", "optic nerve", "femur"]), st.sampled_from(["left", "right"]))
def test_the_place_of_the_side_does_not_matter(organ, side):
    name = canonical_name(f"{side} {organ}")
    assert name == f"{organ.replace(' ', '_')}_{side}"
    assert canonical_name(f"{organ}_{side[0].upper()}") == canonical_name(f"{organ.title()} {side}") == name


def test_a_canonical_name_stays_as_it_is():
    for name in names():
        assert canonical_name(name) == name
        assert canonical_name(name.upper().replace("_", "-")) == name


def test_a_spelling_means_one_structure():
    means: dict[str, set[str]] = {}
    for row in rows():
        for spelling, side in row.synonyms:
            means.setdefault(canonical_name(spelling), set()).add(f"{row.name}_{side}" if side else row.name)
            assert spelling not in names()
    assert all(found == {name} for name, found in means.items())


@given(
    st.lists(
        st.sampled_from(
            ["left", "R", "renal", "kidney", "RML", "atrium", "tumours", "cyst", "2", "of", "the", "LKidney", "RCyst"]
        ),
        min_size=1,
    )
)
def test_whatever_is_put_together_is_brought_together_once(words):
    tidy = canonical_name(" ".join(words))
    assert canonical_name(tidy) == tidy


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
