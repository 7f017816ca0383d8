import pytest

from medsam.labels.completion import completions


def found(text: str, limit: int = 3) -> list[str]:
    return [one.structure.name for one in completions(text, limit)]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("liver", "liver"),
        ("LIV", "liver"),
        ("left kid", "kidney_left"),
        ("kidney_l", "kidney_left"),
        # a synonym of one side alone, and one of both
        ("rk", "kidney_right"),
        ("right renal cy", "kidney_cyst_right"),
        ("tumour", "tumor"),
    ],
)
def test_names_and_synonyms_are_found_by_how_they_begin(text, first):
    assert found(text)[0] == first


def test_the_name_comes_before_others_that_begin_so():
    assert found("kidney")[0] == "kidney"
    assert all("vertebra" in name for name in found("vertebra", 10))
    assert found("no such structure") == []
    assert len(found("", 7)) == 7
    # a word in the middle, and a part of one
    assert "inferior_vena_cava" in found("vena", 5)
    assert "gallbladder" in found("bladder", 10)


def test_synonyms_say_the_side():
    (one,) = completions("kidney_left", 1)
    assert {"lk", "left kidneys"} <= set(one.synonyms)
    assert one.structure.rgb is not None
