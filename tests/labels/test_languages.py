"""Structures by what they are called in four languages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsam.labels import english, english_phrases, nameable, named, nearest, structure
from medsam.labels.languages import fold, language_rows


def test_the_table_names_300_structures_in_four_languages():
    assert len(language_rows()) >= 300
    for row in language_rows():
        for language in ("latin", "german", "korean"):
            assert row.spellings[language], (row.name, language)
    # the two that have no code, and nothing else that the table of codes lacks
    assert {row.name for row in language_rows() if structure(row.name) is None} == {
        "hippocampus_anterior",
        "hippocampus_posterior",
    }


@pytest.mark.parametrize(
    "text",
    [
        "kidney_left", "Left Kidney", "LK", "kidney, l.", "linke Niere", "Niere links", "li. Niere", "ren sinister",
        "REN  SINISTER", "좌측 신장", "왼쪽 콩팥", "좌신장", "신장(좌)", "신장 (왼쪽)",
    ],
)  # fmt: skip
def test_a_structure_is_found_in_any_language_and_case_with_its_side_anywhere(text):
    assert named(text) == "kidney_left"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Hippokampuskopf", "hippocampus_anterior"),
        ("caput hippocampi", "hippocampus_anterior"),
        ("해마 머리", "hippocampus_anterior"),
        ("hippocampal body and tail", "hippocampus_posterior"),
        # the side is part of the name, and stands in the genitive
        ("linke Herzkammer", "heart_ventricle_left"),
        ("좌심실", "heart_ventricle_left"),
        ("lobus superior pulmonis sinistri", "lung_upper_lobe_left"),
        # begins with a syllable that is also a side
        ("좌골", "ischium"),
        ("우측 좌골", "ischium_right"),
        # umlauts, spelt out too, and blanks that Korean may leave out
        ("Ösophagus", "esophagus"),
        ("Luftroehre", "trachea"),
        ("하대정맥", "inferior_vena_cava"),
        ("하 대정맥", "inferior_vena_cava"),
        # two sides, no side where there are none, and what is no structure
        ("left right kidney", None),
        ("linke Leber", None),
        ("banana", None),
        ("!?", None),
    ],
)
def test_names(text, name):
    assert named(text) == name


def test_every_spelling_means_the_structure_of_its_row_and_no_other():
    for row in language_rows():
        for words in row.spellings.values():
            for word in words:
                assert named(word) == row.name, word


def test_english_is_read_back():
    for name in nameable():
        for phrase in english_phrases(name):
            assert named(phrase) == name, phrase
    assert english("kidney_left") == "left kidney"
    assert english("heart_ventricle_left") == "left ventricle of the heart"
    assert english("vertebrae_l1") == "L1 vertebra"


def test_the_nearest_names_are_proposed_with_the_side_that_was_typed():
    assert nearest("left kidny")[0] == "kidney_left"
    assert nearest("spleeen")[0] == "spleen"
    assert nearest("Hipokampuskopf")[0] == "hippocampus_anterior"
    assert nearest("spleeen", among=("liver",)) == ()
    assert nearest("xqzw") == ()


@given(st.text(max_size=20))
def test_folding_twice_is_folding_once_and_nothing_typed_breaks_it(text):
    assert fold(fold(text)) == fold(text)
    assert named(text) is None or named(text) in nameable()
