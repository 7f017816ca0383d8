"""Values in place of others, and texts without names."""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import UID, CTImageStorage

from medsam.errors import InputError
from medsam.io.dicom.deidentify.codes import cleaned_code
from medsam.io.dicom.deidentify.keys import Pseudonyms, others_may_read, read_key, write_new_key
from medsam.io.dicom.deidentify.options import Options
from medsam.io.dicom.deidentify.structures import StructureNames, is_known
from medsam.io.dicom.deidentify.table import Action, Rules, standard_table
from medsam.io.dicom.deidentify.texts import Identity
from medsam.io.dicom.deidentify.values import coarse_age, moved


def test_the_table_is_the_one_of_the_standard():
    single, repeating = standard_table()
    assert len(single) + len(repeating) == 655
    assert single[0x00100010] == Action.EMPTY
    assert single[0x00102160] == Action.REMOVE
    assert single[0x00080018] == Action.UID
    assert set(repeating) == {
        (0x5000, 0, 0xFF00, 0),
        (0x6000, 0x4000, 0xFF00, 0xFFFF),
        (0x6000, 0x3000, 0xFF00, 0xFFFF),
    }


def test_every_element_of_the_table_changes_when_nothing_is_kept():
    rules = Rules(Options())
    from pydicom.tag import BaseTag

    kept = {Action.KEEP, Action.TEXT, Action.DESCRIPTOR}
    assert [tag for tag in standard_table()[0] if rules.action(BaseTag(tag))[0] in kept] == []


@pytest.mark.parametrize(
    ("value", "vr", "expected"),
    [
        ("20240301", "DA", "20240229"),
        ("2024.03.01", "DA", "20240229"),
        ("20240301101500.25-0500", "DT", "20240229101500.25-0500"),
        ("202403", "DT", "202402"),
        ("2024", "DT", "2023"),
        ("101500", "TM", "101500"),
        ("10:15:00", "TM", "10:15:00"),
        ("+0100", "SH", "+0100"),
        ("", "DA", ""),
        ("Tuesday", "DA", "19000101"),
        ("20240231", "DA", "19000101"),
        ("00010101", "DA", "19000101"),
        ("noon", "TM", "000000"),
        ("Mueller", "SH", "+0000"),
    ],
)
def test_dates_move_and_what_is_none_becomes_a_dummy(value, vr, expected):
    assert moved(value, vr, -1) == expected


@given(st.dates(), st.dates())
def test_the_days_between_two_dates_stay(one, two):
    days = Pseudonyms(bytes(32)).days("somebody")
    assert -3650 <= days <= -365
    if min(one, two).year < 12:
        return
    there = [date.fromisoformat(moved(each.strftime("%Y%m%d").rjust(8, "0"), "DA", days)) for each in (one, two)]
    assert there[1] - there[0] == two - one


@pytest.mark.parametrize(
    ("age", "expected"),
    [("045Y", "045Y"), ("089Y", "089Y"), ("090Y", "090Y"), ("107Y", "090Y"), ("006M", "006M"), ("old", "")],
)
def test_the_very_old_are_ninety(age, expected):
    assert coarse_age(age) == expected


@settings(max_examples=20)
@given(st.from_regex(r"[1-9](\.[1-9][0-9]{0,8}){3,6}", fullmatch=True))
def test_a_uid_becomes_a_valid_one_that_only_the_key_can_make(uid):
    one, two = Pseudonyms(bytes(32)), Pseudonyms(bytes(31) + b"\1")
    assert UID(one.uid(uid)).is_valid
    assert one.uid(uid) == Pseudonyms(bytes(32)).uid(uid) != two.uid(uid)
    assert one.uid(CTImageStorage) == CTImageStorage


def test_a_key_is_made_once_and_for_its_owner(tmp_path):
    path = tmp_path / "key"
    key = write_new_key(path)
    assert read_key(path) == key
    assert not others_may_read(path)
    with pytest.raises(InputError, match="never overwritten"):
        write_new_key(path)
    assert key != write_new_key(tmp_path / "other")
    (tmp_path / "none").write_text("secret")
    for place in (tmp_path / "none", tmp_path / "nowhere"):
        with pytest.raises(InputError, match="key"):
            read_key(place)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *((one, True) for one in ("liver", "Kidney_L", "Right Kidney", "GTV", "GTV-1", "PTV 70", "CTVn 2", "BODY")),
        *(
            (one, False)
            for one in ("Smith", "GTV Smith", "liver of Jane", "19470311", "GTV 19470311", "", "kidney 90817263")
        ),
    ],
)
def test_names_of_structures(name, known):
    assert is_known(name) == known


def test_unknown_structures_are_told_apart_in_all_files_of_a_key():
    names, others = StructureNames(Pseudonyms(b"k" * 32)), StructureNames(Pseudonyms(b"l" * 32))
    smith, liver, jane, again = (names.name(one) for one in ("Smith", "liver", "Jane", "smith "))
    assert liver == "liver"
    assert smith == again != jane
    assert re.fullmatch(r"structure [A-Z2-7]{6}", smith)
    # a planning system takes 16 characters
    assert len(smith) == 16
    # another file, whatever came before in it, and another key
    assert StructureNames(Pseudonyms(b"k" * 32)).name("Jane") == jane
    assert others.name("Smith") != smith


def code(value: str, scheme: str, meaning: str) -> tuple[str, str, str, bool]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    found, same = cleaned_code(item)
    return found.CodeValue, found.CodingSchemeDesignator, found.CodeMeaning, same


def test_codes_keep_their_value_and_get_the_meaning_of_the_dictionary():
    assert code("10200004", "SCT", "liver of Jane") == ("10200004", "SCT", "Liver", True)
    assert code("T-62000", "SRT", "Leber") == ("T-62000", "SRT", "Liver", True)
    # of a vocabulary that has it, but not in the dictionary
    assert code("999999999", "SCT", "Jane") == ("999999999", "SCT", "999999999", True)
    assert code("CTABD", "99HOUSE", "for Jane") == ("REMOVED", "99REMOVED", "REMOVED", False)
    assert code("Jane", "SCT", "liver") == ("REMOVED", "99REMOVED", "liver", False)
    assert code("mm", "UCUM", "Jane")[:3] == ("mm", "UCUM", "mm")
    assert not code("Jane", "UCUM", "Jane")[3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CT Thorax 1.5 B31f", "CT Thorax 1.5 B31f"),
        ("Thorax Meier-Schmidt", "Thorax"),
        ("Th\u00f3rax M\u00c9IER", "Th\u00f3rax"),
        ("meierschmidt", ""),
        ("follow up of 12.03.2021", "follow up of"),
        ("ID 4711-08", "ID"),
        ("call 030 1234567 or me@host.org", "call 030 or"),
        ("Meier^Anna", ""),
        ("Dr. Feelgood asked", "asked"),
    ],
)
def test_descriptions_lose_names_dates_and_numbers(text, expected):
    about = Dataset()
    about.PatientName, about.PatientID = "Meier-Schmidt^Anna^^Dr.", "4711-08"
    assert Identity(about).cleaned(text) == expected
