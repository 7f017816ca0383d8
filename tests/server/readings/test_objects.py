from dataclasses import replace

import pytest

from medsam.errors import InputError
from medsam.server.readings.objects import MOST_OBJECTS, new_object


def test_a_name_of_the_vocabulary_brings_its_colour_and_any_other_one_of_the_palette():
    liver = new_object([], "Liver")
    odd = new_object([liver], "what the resident saw")
    assert (liver.number, liver.label, liver.colour) == (1, "Liver", "#288c28")
    assert (odd.number, odd.colour) == (2, "#56b4e9")
    assert new_object([], "x", "#A0B0c0").colour == "#a0b0c0"


def test_two_objects_never_share_a_name_or_what_the_session_calls_them():
    first = new_object([], "left kidney")
    with pytest.raises(InputError, match="already") as caught:
        new_object([first], "Left_Kidney")
    assert caught.value.parameter == "name"
    renamed = replace(first, name="right kidney")
    assert new_object([renamed], "left kidney").label == "left kidney (2)"


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 65, "a\u202eb"])
def test_a_name_is_something_that_shows(name):
    with pytest.raises(InputError, match="`name`"):
        new_object([], name)


@pytest.mark.parametrize("colour", ["red", "#12345", "#12345g", "#1234567", "url(x)"])
def test_a_colour_is_six_digits(colour):
    with pytest.raises(InputError, match="#rrggbb"):
        new_object([], "x", colour)


def test_a_label_map_of_a_byte_holds_all_objects():
    objects = []
    for n in range(MOST_OBJECTS):
        objects.append(new_object(objects, f"lesion {n}"))
    with pytest.raises(InputError, match="255"):
        new_object(objects, "one more")
