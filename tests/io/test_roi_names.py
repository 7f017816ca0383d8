"""Names of regions: as the structures are called where they fit, short and readable where not, never twice."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsam.io.roi_names import roi_names
from medsam.labels import canonical_name, structures


def test_names_that_fit_are_kept():
    names = ["liver", "Kidney, left", "左腎", "GTV-1"]
    assert roi_names(names) == names
    assert roi_names(names, tps=True) == names


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("adrenal_gland_left", "Glnd_Adrenal_L"),
        ("Right Adrenal Gland", "Glnd_Adrenal_R"),
        ("inferior_vena_cava", "V_Venacava_I"),
        ("lung_upper_lobe_left", "Lung_LUL"),
        ("gluteus_maximus_left", "GluteusMaximus_L"),
        ("brachiocephalic_vein_right", "BrachiocephlcV_R"),
        ("cerebral_aqueduct", "CerebralAqueduct"),
        ("upper_central_incisor_fdi11_right", "UppCntIncFdi11_R"),
        ("GTV primary tumour of left upper lobe", "GTVPrmTmrUppLb_L"),
    ],
)
def test_a_long_name_is_shortened_so_that_it_can_be_read_and_keeps_its_side(name, short):
    assert roi_names([name], tps=True) == [short]
    assert roi_names([name]) == [name]


def test_every_structure_with_a_code_keeps_a_name_of_its_own():
    names = [known.name for known in structures()]
    short = roi_names(names, tps=True)
    assert max(map(len, short)) <= 16
    # none but those that are called so has a number at its end
    assert not [one for one, name in zip(short, names, strict=True) if re.search(r"_\d(_[LR])?$", one) and one != name]


def test_names_of_tg_263_are_read_as_what_they_stand_for():
    names = [
        "adrenal_gland_left",
        "femoral_head_right",
        "heart_atrium_left",
        "inferior_vena_cava",
        "lung_middle_lobe_right",
    ]
    assert [canonical_name(short) for short in roi_names(names, tps=True)] == names


def test_two_that_become_one_are_numbered_before_the_side():
    names = ["adrenal_gland_left", "left adrenal gland", "Glnd_Adrenal_L"]
    assert roi_names(names, tps=True) == ["Glnd_Adrenal_2_L", "Glnd_Adrenal_3_L", "Glnd_Adrenal_L"]
    # systems that ignore case see one name
    assert roi_names(["Liver", "liver", "LIVER_2"]) == ["Liver", "liver_3", "LIVER_2"]
    assert roi_names(["x" * 70, "x" * 71]) == ["x" * 64, "x" * 62 + "_2"]


def test_what_a_text_of_dicom_cannot_hold_is_replaced():
    assert roi_names(["a\\b", "two\nlines", "", " "]) == ["a/b", "two lines", "ROI_3", "ROI_4"]


@given(st.lists(st.text(max_size=80), max_size=12), st.booleans())
def test_names_are_unique_and_fit(names, tps):
    found = roi_names(names, tps)
    assert len({name.casefold() for name in found}) == len(names)
    assert all(0 < len(name) <= (16 if tps else 64) for name in found)
    assert not any("\\" in name for name in found)
    assert roi_names(found, tps) == found
