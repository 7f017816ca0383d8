from __future__ import annotations

import ast
import csv
import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

from medsam.assets.cache import cache_dir
from medsam.assets.catalogue import Asset, Wheel
from medsam.assets.sources import pip_download
from medsam.errors import AssetError
from medsam.files import write_whole
from medsam.labels import (
    CATEGORIES,
    SIDES,
    UNKNOWN_CATEGORY,
    UNKNOWN_TYPE,
    canonical_name,
    rt_type,
    structure,
    structure_of_code,
    structures,
)
from medsam.labels.table import rows

# Value -> its meanings in pydicom's dictionary
PYDICOM: dict[str, list[str]] = {}
for _entries in concepts["SCT"].values():
    for _value, (_meaning, _) in _entries.items():
        PYDICOM.setdefault(_value, []).append(_meaning.casefold())

# These stand in the SNOMED table of the TotalSegmentator wheel only; `test_...wheel` reads it there.
TOTALSEGMENTATOR = {
    "110765007": "Portal vein and splenic vein",
    "11068009": "T8 vertebra",
    "11994002": "L4 vertebra",
    "12989004": "T11 vertebra",
    "15339008": "Fifth rib",
    "181674001": "Gluteus maximus muscle",
    "22565002": "Ninth rib",
    "244849004": "Deep muscle of back",
    "24915002": "Seventh rib",
    "25523003": "Fourth rib",
    "25888004": "Third rib",
    "28641004": "Phalanx structure",
    "3572006": "Vertebral body",
    "43993008": "Twelfth rib",
    "47351003": "Infiltrate",
    "48535007": "First rib",
    "53884002": "Metatarsal",
    "58830002": "Eleventh rib",
    "5953002": "Eighth rib",
    "59558009": "Sixth rib",
    "65985001": "S1 vertebra",
    "67769002": "Subcutaneous fatty tissue",
    "68455001": "Iliopsoas muscle",
    "68786006": "Auricular appendage",
    "74281007": "Myocardium",
    "75297007": "Gluteus minius muscle",
    "77644006": "Tenth rib",
    "78247007": "Second rib",
    "78333006": "Gluteus medius muscle",
    "83936004": "Carpus",
    "840539006": "COVID-19",
    "91381003": "Pleural cavity",
}

# Classes of TotalSegmentator that stand in neither table. They keep their names alone.
UNCODED = {
    "annulus",
    "annulus_proper",
    "aorta_false_lumen",
    "aorta_true_lumen",
    "auditory_canal",
    "bridge",
    "central_sulcus",
    "coracobrachial",
    "coronary_cusp",
    "cricoid_cartilage",
    "crown",
    "digastric",
    "external_oblique",
    "hard_palate",
    "inferior_alveolar_canal",
    "inferior_oblique_muscle",
    "inferior_pharyngeal_constrictor",
    "inferior_rectus_muscle",
    "intermuscular_fat",
    "internal_oblique",
    "intervertebral_discs",
    "larynx_air",
    "lateral_pterygoid",
    "lateral_rectus_muscle",
    "lentiform_nucleus",
    "levator_palpebrae_superioris",
    "levator_scapulae",
    "lingual_canal",
    "lung_airways_wall",
    "mandibular_incisive_canal_fdi103",
    "mandibular_incisive_canal_fdi104",
    "masseter",
    "medial_pterygoid",
    "medial_rectus_muscle",
    "middle_pharyngeal_constrictor",
    "middle_scalene",
    "anterior_scalene",
    "posterior_scalene",
    "non_coronary_cusp",
    "platysma",
    "prevertebral",
    "psoas_major",
    "pul_annulus",
    "pul_bifurcation",
    "pul_start",
    "pul_sinotubular_junction",
    "quadratus_lumborum",
    "quadriceps_femoris",
    "rectus_abdominis",
    "sartorius",
    "septum_pellucidum",
    "sterno_thyroid",
    "styloid_process",
    "superior_oblique_muscle",
    "superior_pharyngeal_constrictor",
    "superior_rectus_muscle",
    "teeth_lower",
    "teeth_upper",
    "temporalis",
    "thigh_medial_compartment",
    "thigh_posterior_compartment",
    "thyrohyoid",
    "thyroid_cartilage",
    "transversospinalis",
    "triceps_brachii",
    "venous_sinuses",
    "ventricle",
    "ventricle_body",
    "ventricle_trigone",
    "zygomatic_arch",
}


def values(found):
    """Type, modifier, region and region modifier as values."""
    codes = (found.type, found.modifier, found.region, found.region_modifier)
    return tuple(code.value if code else None for code in codes)


def test_every_code_stands_where_the_table_says():
    for row in rows():
        if row.source == "pydicom":
            said = PYDICOM[row.code]
            # "Lens of eye": the meaning is one of pydicom's, or its formal one in fewer words
            words = set(row.meaning.casefold().replace(",", "").split())
            assert row.meaning.casefold() in said or any(words <= set(formal.split()) for formal in said), row
        else:
            assert row.source == "totalsegmentator"
            assert row.code in TOTALSEGMENTATOR, row
        assert row.old_code == (mapping["SCT"].get(row.code) or ""), row
        assert all(code in PYDICOM for code, _ in row.also_coded), row


def test_sides_and_categories_are_pydicoms():
    for code in (*SIDES.values(), *CATEGORIES.values(), UNKNOWN_CATEGORY, UNKNOWN_TYPE):
        # pydicom's dictionary gives the value of dcmqi, 3D Slicer and TotalSegmentator another name
        assert code.meaning.casefold() in PYDICOM[code.value] or code.value == "123037004"


def test_what_dicom_writes_fits():
    for found in structures():
        for code in (found.category, found.type, found.modifier, found.region, found.region_modifier):
            if code:
                assert code.scheme == "SCT"
                assert code.value.isdigit()
                assert code.meaning.isascii()
                assert 0 < len(code.meaning) <= 64
        assert all(0 <= part <= 255 for part in found.rgb)
        assert len(found.name) <= 64


def test_no_two_structures_share_their_codes():
    every = [values(found) for found in structures()]
    assert len(every) == len(set(every))


def test_no_two_structures_share_a_colour():
    colours = [found.rgb for found in structures()]
    assert len(colours) == len(set(colours))


def test_what_is_drawn_together_can_be_told_apart():
    abdomen = ["spleen", "liver", "stomach", "pancreas", "kidney_left", "gallbladder", "aorta", "duodenum", "esophagus"]
    colours = [structure(name).rgb for name in abdomen]
    for n, one in enumerate(colours):
        for other in colours[:n]:
            assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) >= 30
    for found in structures():
        if found.name.endswith("_left") and (right := structure(found.name.removesuffix("left") + "right")):
            assert sum(abs(a - b) for a, b in zip(found.rgb, right.rgb, strict=True)) >= 30


def test_codes_are_read_back_to_the_name():
    for found in structures():
        assert structure_of_code("SCT", *values(found)) == found.name
        assert structure(found.name) == found


def test_sides():
    left, right, both = structure("Kidney, left"), structure("RK"), structure("kidneys")
    assert (left.type, right.type) == (both.type, both.type)
    assert (left.modifier, right.modifier, both.modifier) == (SIDES["left"], SIDES["right"], None)
    assert (left.modifier.value, right.modifier.value) == ("7771000", "24028007")
    # the code says the side itself
    assert structure("left atrium").modifier is None


def test_a_finding_is_in_its_organ():
    found = structure("Renal cyst left")
    assert values(found) == ("367643001", None, "64033007", "7771000")
    assert found.category == CATEGORIES["abnormal"]
    assert found.rt_type == ""
    assert values(structure("pancreas cancer")) == ("108369006", None, "15776009", None)
    assert values(structure("lung_nodules")) == ("27925004", None, "39607008", None)
    assert values(structure("brain_aneurysm"))[2] == structure("brain").type.value
    third = structure("Lesion 3")
    assert (third.name, third.type) == ("lesion_3", structure("lesion").type)
    assert structure("liver tumour 2").region == structure("liver").type


@pytest.mark.parametrize("name", ["prostate/uterus", "enhancing tumour", "LAD", "Lungs-PTV", "kidney 2", "ventricle"])
def test_no_code_is_made_up(name):
    assert structure(name) is None
    assert canonical_name(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("liver", "ORGAN"),
        ("Parotid_L", "ORGAN"),
        ("GTV-1", "GTV"),
        ("GTVp", "GTV"),
        ("GTV_L", "GTV"),
        ("CTV60", "CTV"),
        ("PTV_High", "PTV"),
        ("Lungs-PTV", ""),
        ("PTV_Ring", ""),
        ("CTV minus GTV", ""),
        ("BODY", "EXTERNAL"),
        ("External", "EXTERNAL"),
        ("Bolus", "BOLUS"),
        ("CouchSurface", "SUPPORT"),
        ("Fiducial 2", "MARKER"),
        ("liver tumor", ""),
        ("anything else", ""),
    ],
)
def test_rt_types(name, kind):
    assert rt_type(name) == kind
    assert structure(name) is None or structure(name).rt_type == kind


@pytest.mark.parametrize(
    ("coded", "name"),
    [
        (("SCT", "64033007", "7771000"), "kidney_left"),
        (("SRT", "T-71000", "G-A101"), "kidney_left"),
        (("99SDM", "T-71000", "G-A100"), "kidney_right"),
        (("SNM3", "T-62000"), "liver"),
        (("SCT", "64033007", "51440002"), "kidney"),  # bilateral
        (("SCT", "82471001", "7771000"), "heart_atrium_left"),  # the side twice
        (("SCT", "80248007"), "breast_left"),  # the side in the code
        (("SCT", "29700009"), "subclavian_artery_right"),
        # TotalSegmentator codes the left one so: the modifier is believed
        (("SCT", "29700009", "7771000"), "subclavian_artery_left"),
        (("SCT", "10200004", None, "818981001"), "liver"),  # in the abdomen
        (("SCT", "108369006", None, "15776009"), "pancreas_tumor"),
        (("SCT", "27925004", None, "39607008", "7771000"), "lung_nodule_left"),
        (("SCT", "27925004", "7771000", "39607008"), "lung_nodule_left"),
        (("SCT", "27925004", None, "1234"), "nodule"),
        (("SCT", "27925004", "7771000", "1234"), "nodule_left"),
        (("SCT", "27925004", "7771000", "10200004"), "liver_nodule_left"),
        (("SCT", "28641004", "51440002", "85562004"), "phalanges_hand"),
        (("SRT", "M-03010", None, "T-28000"), "lung_nodule"),
        (("SCT", "51282000", None, "122496007"), "vertebrae_lumbar"),
        (("SCT", "51114001", None, "39607008"), "lung_arteries"),
        (("SCT", "51114001"), None),  # any artery
        (("SCT", "51114001", None, "30021000"), None),  # of the leg
        (("SCT", "28641004", "7771000"), None),  # of a hand or a foot
        (("SCT", "28641004", "7771000", "85562004"), "phalanges_hand_left"),
        (("SCT", "59820001", None, "12738006"), "blood_vessel"),
        (("SCT", "10200004", "7771000"), None),  # left what of the liver?
        (("SCT", "64033007", "261183002"), None),  # its upper part
        (("SCT", "1234"), None),
        (("SRT", "T-00000"), None),
        (("DCM", "64033007"), None),
    ],
)
def test_codes_of_other_vendors(coded, name):
    assert structure_of_code(*coded) == name


# As the data sets' own JSON files spell them: MSD (ten tasks), AMOS, BTCV, FLARE
DATA_SETS = {
    "edema": "edema",
    "left atrium": "heart_atrium_left",
    "liver": "liver",
    "cancer": "tumor",
    "PZ": "prostate_peripheral_zone",
    "TZ": "prostate_transition_zone",
    "pancreas": "pancreas",
    "Vessel": "blood_vessel",
    "Tumour": "tumor",
    "spleen": "spleen",
    "colon cancer primaries": "colon_tumor",
    "right kidney": "kidney_right",
    "gall bladder": "gallbladder",
    "arota": "aorta",
    "postcava": "inferior_vena_cava",
    "right adrenal gland": "adrenal_gland_right",
    "duodenum": "duodenum",
    "bladder": "urinary_bladder",
    "rkid": "kidney_right",
    "eso": "esophagus",
    "sto": "stomach",
    "portal vein and splenic vein": "portal_vein_and_splenic_vein",
    "LAG": "adrenal_gland_left",
    "Inferior Vena Cava": "inferior_vena_cava",
}


def test_names_of_data_sets_are_coded():
    assert {name: canonical_name(name) for name in DATA_SETS} == DATA_SETS
    assert all(structure(name) for name in DATA_SETS)


WHEEL = Wheel("TotalSegmentator", "2.18.0", 1_902_134)
MEMBERS = {
    "resources/totalsegmentator_snomed_mapping.csv": "68c6b97291e1e5e0120fcfe4ccea2a296430d215c1af178fdd12cb94d8540869",
    "map_to_binary.py": "ee19259dacd4d52d424849b8bac44a5a5d41c895426bf7c048c69203a1a3777d",
}


@pytest.fixture(scope="module")
def totalsegmentator(tmp_path_factory) -> dict[str, str]:
    """Two files of the wheel, kept in the cache; skips where it cannot be had."""
    kept = {member: cache_dir() / "totalsegmentator" / Path(member).name for member in MEMBERS}
    if not all(path.is_file() and _sha256(path.read_bytes()) == MEMBERS[member] for member, path in kept.items()):
        asset = Asset("totalsegmentator", "scan", "", "Apache-2.0", "", "", ())
        try:
            path = pip_download(asset, WHEEL, tmp_path_factory.mktemp("wheel"), "", quiet=True)
        except AssetError as error:
            pytest.skip(f"the wheel of TotalSegmentator cannot be had: {error}")
        with zipfile.ZipFile(path) as wheel:
            for member, target in kept.items():
                content = wheel.read(f"totalsegmentator/{member}")
                assert _sha256(content) == MEMBERS[member]
                target.parent.mkdir(parents=True, exist_ok=True)
                with write_whole(target) as part:
                    part.write_bytes(content)
    return {member: path.read_text() for member, path in kept.items()}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# Where we do not follow TotalSegmentator's table, and why.
DEVIATIONS = {
    # its code is that of the right subclavian artery; 36765005 is that of either
    "subclavian_artery_left": ("36765005", "7771000", None, None),
    "subclavian_artery_right": ("36765005", "24028007", None, None),
    # its code without a side is that of gluteus medius
    "gluteus_minimus": ("75297007", None, None, None),
    # phalanges of foot and hand are told apart by their region
    "phalanges_feet": ("28641004", None, "56459004", None),
    "phalanges_hand": ("28641004", None, "85562004", None),
}


def test_codes_and_colours_are_those_of_the_totalsegmentator_wheel(totalsegmentator):
    lines = list(csv.reader(io.StringIO(totalsegmentator["resources/totalsegmentator_snomed_mapping.csv"])))[1:]
    meanings = {}
    for name, *cells in lines:
        category, kind, modifier, region, side = (cells[start + 1] or None for start in range(0, 15, 3))
        meanings |= {cells[start + 1]: cells[start + 2] for start in range(0, 15, 3)}
        ours = structure(name)
        assert values(ours) == DEVIATIONS.get(ours.name, (kind, modifier, region, side)), name
        assert ours.category.value == category
        assert ours.rgb == tuple(map(int, cells[15].split(","))), name
    assert len(lines) > 150
    assert {value: meanings[value] for value in TOTALSEGMENTATOR} == TOTALSEGMENTATOR


def test_every_class_of_totalsegmentator_has_a_code_or_is_known_to_have_none(totalsegmentator):
    (classes,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(totalsegmentator["map_to_binary.py"]).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "class_map"
    )
    names = {name for task in classes.values() for name in task.values()}
    uncoded = {canonical_name(name) for name in names if structure(name) is None}
    bare = {name.removesuffix("_left").removesuffix("_right") for name in uncoded if "_pulp_" not in name}
    assert len(names) > 350
    assert bare == UNCODED
