from dataclasses import replace

import pytest

from medsam.errors import InputError, PromptError
from medsam.prompts.limits import Limits
from medsam.server.readings.objects import (
    MOST_OBJECTS,
    checked_colour,
    checked_name,
    checked_new,
    in_readers_words,
    label_of,
    locking,
    number_of,
)
from medsam.server.store.records import StoredObject


def stored(number, name, **more):
    return StoredObject(number, name, "#000000", True, more.pop("locked", False), revision=number)


def test_a_name_of_the_vocabulary_brings_its_colour_and_any_other_one_of_the_palette():
    assert checked_new([], "Liver") == ("Liver", "#288c28")
    assert checked_new([stored(1, "Liver")], "  what the resident saw ") == ("what the resident saw", "#56b4e9")
    assert checked_new([], "x", "#A0B0c0") == ("x", "#a0b0c0")


def test_two_objects_never_share_a_name():
    with pytest.raises(InputError, match="already") as caught:
        checked_new([stored(1, "left kidney")], "Left_Kidney")
    assert caught.value.parameter == "name"


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 65, "a\u202eb"])
def test_a_name_is_something_that_shows(name):
    with pytest.raises(InputError, match="`name`"):
        checked_name(name, [])


@pytest.mark.parametrize("colour", ["red", "#12345", "#12345g", "#1234567", "url(x)"])
def test_a_colour_is_six_digits(colour):
    with pytest.raises(InputError, match="#rrggbb"):
        checked_colour(colour)


def test_a_label_map_of_a_byte_holds_all_objects():
    objects = [stored(n, f"lesion {n}") for n in range(1, MOST_OBJECTS + 1)]
    assert checked_new(objects[1:], "one more")
    with pytest.raises(InputError, match="255"):
        checked_new(objects, "one more")


def test_a_session_knows_objects_by_number_and_readers_by_name():
    assert number_of(label_of(12)) == 12
    said = PromptError("The point 3,4 for 'object 1' lies in 'object 12'.", parameter="locked")
    told = in_readers_words(said, [stored(1, "liver"), stored(12, "spleen")])
    assert str(told) == "The point 3,4 for 'liver' lies in 'spleen'."
    assert (type(told), told.parameters) == (PromptError, ("locked",))


def test_what_is_locked_is_so_for_the_session():
    objects = [stored(1, "liver"), replace(stored(2, "spleen"), locked=True)]
    assert locking(Limits((0, None)), objects) == Limits((0, None), locked=("object 2",))
