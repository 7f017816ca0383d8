"""Typed names: understood, read from a phrase, or answered with a question."""

from __future__ import annotations

import pytest
import torch

from medsam.errors import AssetError, PromptError
from medsam.inference.naming import understand
from medsam.models.name_bank import name_bank


class Phrases:
    """Stands for MiniLM: a phrase embeds to a mix of names of the bank."""

    def __init__(self, **mix: float) -> None:
        self.mix = mix

    def encode(self, phrases):
        parts = [share * name_bank().of(name)[0] for name, share in self.mix.items()]
        return torch.stack(parts).sum(dim=0)[None]


def never():
    raise AssertionError("no text encoder is needed for this")


@pytest.mark.parametrize("text", ["left kidney", "linke Niere", "ren sinister", "왼쪽 신장", "kidney_left"])
def test_names_of_the_table_need_no_encoder(text):
    found = understand(text, encoder=never)
    assert (found.name, found.note) == ("kidney_left", "")


def test_a_slip_of_the_pen_is_asked_back_without_an_encoder():
    with pytest.raises(PromptError, match="by the name 'left kidny'. Did you mean 'left kidney'") as error:
        understand("left kidny", encoder=never)
    assert error.value.parameter == "text"


def test_what_is_no_english_is_asked_back_without_an_encoder():
    with pytest.raises(PromptError, match="Which of these is meant: spleen, left kidney"):
        understand("무릎통증이심해요", known=("spleen", "kidney_left"), encoder=never)


def test_a_phrase_that_is_all_but_a_name_is_read_as_it_and_says_so():
    found = understand("thing that filters the blood", encoder=lambda: Phrases(spleen=1.0, tongue=0.2))
    assert found.name == "spleen"
    assert 0.9 < found.similarity < 1
    assert "read as spleen" in found.note


def test_a_phrase_between_two_names_is_asked_back():
    with pytest.raises(PromptError, match="Did you mean 'spleen'|Did you mean 'tongue'"):
        understand("thing that filters the blood", encoder=lambda: Phrases(spleen=1.0, tongue=1.0))
    # only what can be answered is proposed
    with pytest.raises(PromptError, match="Did you mean 'tongue'\\?"):
        understand("some thing", known=("tongue", "liver"), encoder=lambda: Phrases(spleen=1.0, tongue=1.0))


def test_a_phrase_of_another_side_or_of_both_is_asked_back():
    for text in ("thing that filters on the left", "left-right thing that filters", "thing that filters"):
        with pytest.raises(PromptError, match="Did you mean 'right kidney'"):
            understand(text, encoder=lambda: Phrases(kidney_right=1.0))
    assert understand("right thing that filters", encoder=lambda: Phrases(kidney_right=1.0)).name == "kidney_right"
    # there is no other
    assert understand("lobe amid the others", encoder=lambda: Phrases(lung_middle_lobe_right=1.0)).similarity >= 0.9


def test_without_the_weights_it_says_so():
    def missing():
        raise AssetError("minilm: no network.")

    with pytest.raises(PromptError, match="MiniLM, which is not here. minilm: no network"):
        understand("thing that filters the blood", encoder=missing)


@pytest.mark.parametrize("text", ["", "  ", "?!"])
def test_a_name_needs_letters(text):
    with pytest.raises(PromptError, match="without a letter or digit"):
        understand(text, encoder=never)
