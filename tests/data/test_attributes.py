"""Cases told apart: every case in one group of each name, and nothing in a group's name that tells who somebody is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import hospital
import pytest
import tiny_sets as scans
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.data.attributes import UNKNOWN, attribute_of, groupings
from medsam.data.index import index_folder
from medsam.data.manifest import Case
from medsam.data.manifest_json import read_manifest, write_manifest
from medsam.errors import InputError


def case(name: str, image: Path = Path("none.nii.gz"), modality: str | None = None, **attributes) -> tuple[str, Case]:
    found = Case(
        id=name,
        patient=name,
        image=image,
        label=None,
        split=None,
        modality=modality,
        window=None,
        spacing_mm=None,
        labels={},
        dataset="made",
        attributes=attributes,
    )
    return name, found


def groups(name: str, *values: object, **options) -> list[str]:
    """The group of each value of one attribute."""
    cases = [case(f"c{n:03}", **({} if value is None else {name: value})) for n, value in enumerate(values)]
    (found,) = groupings(cases, [name], **options)
    return [found.group[key] for key, _ in cases]


def test_a_vendor_is_one_however_it_writes_itself():
    assert groups("manufacturer", "SIEMENS", "Siemens Healthineers", "SIEMENS", "GE MEDICAL SYSTEMS", None) == [
        *("SIEMENS", "SIEMENS", "SIEMENS"),
        *("GE MEDICAL SYSTEMS", UNKNOWN),
    ]


def test_few_numbers_are_groups_and_many_are_bins():
    assert groups("slice_thickness", 1.25, 5.0, "5", 3.26995999) == ["1.25 mm", "5 mm", "5 mm", "3.27 mm"]
    many = groups("slice_thickness", *(0.5 * n for n in range(1, 15)))
    assert many[:3] == ["0 to under 1 mm", "1 to under 2 mm", "1 to under 2 mm"]
    assert many[-1] == "5 to under 10 mm"
    assert groups("field_strength", 15000.0, 1.5, 3) == ["1.5 T", "1.5 T", "3 T"]


def test_numbers_without_bins_of_their_own_are_four_of_about_equal_size():
    found = groups("Rows", *(100 + n for n in range(40)))
    assert sorted(found.count(label) for label in set(found)) == [9, 10, 10, 11]


@pytest.mark.parametrize("ages", [(20,), (39, 40), (17, 18, 90, 102)])
def test_ages_are_bins_also_when_they_are_few(ages):
    for label, age in zip(groups("age", *ages), ages, strict=True):
        assert str(age) not in label or age in (18, 40)
        assert label in {
            *("0 to under 18 years", "18 to under 40 years", "40 to under 60 years"),
            *("60 to under 80 years", "80 years or more"),
        }


def test_sexes_and_sites_have_no_names(tmp_path):
    assert groups("sex", "male", "F", "female", "x") == ["M", "F", "F", UNKNOWN]
    assert groups("institution", "St. Elsewhere", "General", "GENERAL ", "North", None) == [
        *("site 2", "site 1", "site 1", "site 3"),
        UNKNOWN,
    ]


def test_groups_are_in_order_and_unknown_is_last():
    cases = [case(f"c{n}", slice_thickness=value) for n, value in enumerate((10, 2, 0.5))]
    (found,) = groupings([*cases, case("d")], ["slice_thickness"])
    assert found.groups == ["0.5 mm", "2 mm", "10 mm", UNKNOWN]
    (found,) = groupings([case("a", age=85), case("b", age=3), case("c", age=41)], ["age"])
    assert found.groups == ["0 to under 18 years", "40 to under 60 years", "80 years or more"]


def test_the_manifest_comes_before_the_tags_and_own_keys_go_as_they_are(tmp_path):
    tags = {"Manufacturer": "GE", "PatientSex": "F", "SliceThickness": 5}
    folder = hospital.scan(tmp_path / "ct", "1.2.3", **tags)
    cases = [case("a", folder), case("b", folder, manufacturer="Canon", cohort="north"), case("c", cohort=2)]
    found = {one.name: one.group for one in groupings(cases, ["manufacturer", "sex", "0018,0050", "cohort"])}
    assert found == {
        "manufacturer": {"a": "GE", "b": "Canon", "c": UNKNOWN},
        "sex": {"a": "F", "b": "F", "c": UNKNOWN},
        "0018,0050": {"a": "5 mm", "b": "5 mm", "c": UNKNOWN},
        "cohort": {"a": UNKNOWN, "b": "north", "c": "2"},
    }


def test_a_hospital_s_groups_are_the_same_from_its_tags_and_from_a_manifest_without_them(tmp_path):
    """14 patients: 4 spellings of 3 vendors, 2 thicknesses, both sexes and one unknown, ages on both sides of a bin."""
    vendors = ("SIEMENS", "Siemens Healthineers", "GE MEDICAL SYSTEMS", "Philips")
    for n in range(14):
        hospital.scan(
            tmp_path / f"set/{n:02}",
            f"1.2.3.{n + 1}",
            patient=f"ID{n:02}",
            count=2,
            Manufacturer=vendors[n % 4],
            SliceThickness=(5, 1.25)[n % 2],
            PatientSex=None if n == 13 else "MF"[n // 7],
            PatientAge=f"{37 + n // 2:03}Y",
            InstitutionName=f"Hospital {n % 3}",
        )
    names = ["manufacturer", "slice_thickness", "sex", "age", "institution"]
    plain = index_folder(tmp_path / "set").manifest
    found = groupings([(entry.id, entry) for entry in plain.cases], names)
    sizes = {one.name: {group: [*one.group.values()].count(group) for group in one.groups} for one in found}
    assert sizes == {
        "manufacturer": {"GE MEDICAL SYSTEMS": 3, "Philips": 3, "SIEMENS": 8},
        "slice_thickness": {"1.25 mm": 7, "5 mm": 7},
        "sex": {"F": 6, "M": 7, UNKNOWN: 1},
        "age": {"18 to under 40 years": 6, "40 to under 60 years": 8},
        "institution": {"site 1": 5, "site 2": 5, "site 3": 4},
    }
    kept = index_folder(tmp_path / "set", keep=names).manifest
    (tmp_path / "elsewhere").mkdir()
    write_manifest(kept, tmp_path / "elsewhere/m.json")
    text = (tmp_path / "elsewhere/m.json").read_text()
    assert not any(secret in text for secret in ("Hospital", "ID0", "037Y", "37"))
    shutil.rmtree(tmp_path / "set")
    again = read_manifest(tmp_path / "elsewhere/m.json").cases
    assert groupings([(entry.id, entry) for entry in again], names) == found


def test_a_nifti_has_the_json_beside_it_and_the_participants_of_its_set(tmp_path):
    image = tmp_path / "sub-01/anat/sub-01_T1w.nii.gz"
    scans.scan(image)
    image.with_name("sub-01_T1w.json").write_text(json.dumps({"Manufacturer": "Philips", "PatientName": "DOE^JANE"}))
    (tmp_path / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t34.5\tfemale\nsub-02\tn/a\tM\n")
    found = groupings([case("a", image)], ["manufacturer", "sex", "age"])
    assert [one.group["a"] for one in found] == ["Philips", "F", "18 to under 40 years"]


def test_spacing_that_was_measured_counts_where_no_tag_states_it():
    cases = [case("a"), case("b", spacing=2.0)]
    (found,) = groupings(cases, ["spacing"], {"a": {"PixelSpacing": 0.8}, "b": {"PixelSpacing": 0.7}})
    assert found.group == {"a": "0.8 mm", "b": "2 mm"}


def test_modality_is_the_manifest_s():
    (found,) = groupings([case("a", modality="PT"), case("b")], ["modality"])
    assert found.group == {"a": "PT", "b": UNKNOWN}


def test_names_that_are_none_are_said_with_those_that_are():
    with pytest.raises(InputError, match="Names are manufacturer, model"):
        attribute_of("vendor")
    with pytest.raises(InputError, match="Did you mean 'slice_thickness'"):
        attribute_of("slice_tickness")
    with pytest.raises(InputError, match="it may tell who somebody is"):
        groupings([case("a")], ["PatientID"])


@settings(max_examples=40)
@given(st.lists(st.one_of(st.none(), st.floats(-1e4, 1e4), st.text(max_size=8), st.integers(-5, 120)), max_size=40))
def test_every_case_is_in_one_group_of_each_name(values):
    cases = [case(f"c{n}", **({} if value is None else {"age": value, "own": value})) for n, value in enumerate(values)]
    for one in groupings(cases, ["age", "own", "sex"] if any(value is not None for value in values) else ["age"]):
        assert set(one.group) == {name for name, _ in cases}
        assert sorted(one.groups) == sorted(set(one.group.values()))
        assert UNKNOWN not in one.groups[:-1]


def test_attributes_in_a_manifest_are_read_and_written(tmp_path):
    path = scans.manifest(tmp_path)
    content = json.loads(path.read_text())
    content["cases"][0]["attributes"] = {"sex": "F", "slice_thickness": 2.5, "cohort": None}
    path.write_text(json.dumps(content))
    assert read_manifest(path).cases[0].attributes == {"sex": "F", "slice_thickness": 2.5}
    before = read_manifest(path).cases[0].fingerprint()
    content["cases"][0]["attributes"]["sex"] = "M"
    path.write_text(json.dumps(content))
    assert read_manifest(path).cases[0].fingerprint() == before, "groups measure nothing again"
    for wrong in (["F"], {"sex": True}, {"sex": ""}, {"sex": {"is": "F"}}):
        content["cases"][0]["attributes"] = wrong
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match="attributes"):
            read_manifest(path)
