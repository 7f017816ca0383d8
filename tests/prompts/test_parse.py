"""Prompts from the command line and from files, and into files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from phantoms import drawn

from medsam.errors import InputError, PromptError
from medsam.geometry import VolumeGeometry
from medsam.prompts.parse import (
    parse_box,
    parse_ellipse,
    parse_lasso,
    parse_line,
    parse_point,
    parse_scribble,
    read_prompts,
    write_prompts,
)
from medsam.prompts.plan import plan
from medsam.prompts.prompt import Prompt
from medsam.prompts.strokes import Scribble

GRID = VolumeGeometry((6, 20, 30), np.diag([1, 1, 3, 1.0]))


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("41:120,88,212,176=spleen", Prompt("spleen", box=(120, 88, 212, 176), slice=41)),
        ("1,2,3,4", Prompt("object", box=(1, 2, 3, 4))),
        ("0:1.5,2,3,4", Prompt("object", box=(1.5, 2, 3, 4), slice=0)),
        ("2:1,2,3,4=left kidney=cyst: 1", Prompt("left kidney=cyst: 1", box=(1, 2, 3, 4), slice=2)),
    ],
)
def test_a_typed_box(text, prompt):
    assert parse_box(text) == prompt


@pytest.mark.parametrize("text", ["", "1,2,3", "x:1,2,3,4", "1:1,2,3,4,5", "1:a,b,c,d", "1,2,3,4:5"])
def test_a_mistyped_box_is_shown_with_an_example(text):
    with pytest.raises(PromptError, match="for example 41:120,88,212,176=spleen"):
        parse_box(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0:5,5,5,9", "empty or inverted"),
        ("0:9,5,5,9", "empty or inverted"),
        ("0:nan,5,8,9", "not finite"),
        ("0:1,2,inf,9", "not finite"),
        ("0:1,2,3,4=", "empty label"),
    ],
)
def test_a_box_that_covers_nothing_is_refused(text, message):
    with pytest.raises(PromptError, match=message):
        parse_box(text)


def test_a_prompts_file(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(
        json.dumps(
            {
                "axis": "j",
                "prompts": [
                    {"label": "spleen", "box": [1, 2, 3, 4], "slice": 5},
                    {"label": "liver", "box3d": [1, 2, 3, 4, 5, 6]},
                ],
            }
        )
    )
    prompts, axis = read_prompts(path)
    assert axis == "j"
    assert prompts == [Prompt("spleen", box=(1, 2, 3, 4), slice=5), Prompt("liver", box3d=(1, 2, 3, 4, 5, 6))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompts": [{"points": [[1, 2]]}]}', r'"points" is \[\[1, 2\]\], not a list of \[x, y, 1 or 0\]'),
        ('{"prompts": [{"points": [[1, 2, true]]}]}', "not a list of"),
        ('{"prompts": [{"points": [1, 2, 1]}]}', "not a list of"),
        ('{"prompts": [{"points": {"x": 1}}]}', "not a list of"),
        ('{"prompts": [{"points": []}]}', "says nothing"),
        ('{"prompts": [{"points": [[1, 2, 2]]}]}', "Prompt 0 of p.json: The point 1,2 for 'object' ends in 2"),
        ('{"prompts": [{"points": [[1, NaN, 1]]}]}', "not finite"),
        ('{"prompts": [{"points": [[1, 2, 1], [1, 2, 0]]}]}', "contradicts itself: pixel 1,2"),
        ('{"prompts": [{"mask": 3}]}', '"mask" is .3., not the name of a file'),
        ('{"prompts": [{"mask": "rough.nii.gz"}]}', "masks in files are not read here"),
        ('{"prompts": [{"text": ""}]}', "not the name of a structure"),
        ("{", "not JSON"),
        ("[]", "needs"),
        ('{"axis": "z", "prompts": []}', "one of i, j, k"),
        ('{"prompts": [{"box": [1, 2, 3]}]}', 'Prompt 0 of p.json: "box" is .* list of 4 numbers'),
        ('{"prompts": [{"box": [1, 2, 3, "4"]}]}', "list of 4 numbers"),
        ('{"prompts": [{"label": "a"}]}', "needs a box, a box3d, points, scribbles"),
        ('{"prompts": [{"box": [1,2,3,4], "box3d": [1,2,3,4,5,6]}]}', "either a box or a box3d"),
        ('{"prompts": [{"box": [1,2,3,4], "slice": 1.5}]}', "not a whole number"),
        ('{"prompts": [{"box": [1,2,3,4], "slcie": 1}]}', "unknown keys: slcie"),
        ('{"prompts": [{"label": 3, "box": [1,2,3,4]}]}', "not a text"),
    ],
)
def test_a_wrong_prompts_file_says_which_entry(tmp_path, text, message):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(PromptError, match=message):
        read_prompts(path)


def test_a_missing_prompts_file(tmp_path):
    with pytest.raises(PromptError, match="cannot be read"):
        read_prompts(tmp_path / "none.json")


def test_a_file_from_notepad_and_one_with_a_slip(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"prompts": [{"box": [1, 2, 3, 4]}]}', encoding="utf-8-sig")
    assert read_prompts(path)[0] == [Prompt(box=(1, 2, 3, 4))]
    path.write_text('{"prompts": [], "zoom": 3}')
    with pytest.raises(PromptError, match="unknown keys: zoom"):
        read_prompts(path)
    path.write_text("[" * 100_000)
    with pytest.raises(PromptError, match="not JSON"):
        read_prompts(path)
    path.write_text('{"prompts": [{"box": [1, 2, 3, 1' + "0" * 400 + "]}]}")
    with pytest.raises(PromptError, match="401 digits"):
        read_prompts(path)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("41:101,77", Prompt(slice=41, points=((101, 77, 1),))),
        ("41:101,77+", Prompt(slice=41, points=((101, 77, 1),))),
        ("41:101,77-", Prompt(slice=41, points=((101, 77, 0),))),
        ("101,77-=kidney", Prompt("kidney", points=((101, 77, 0),))),
        (" 0:1.5,2e1+=a=b: 1 ", Prompt("a=b: 1", slice=0, points=((1.5, 20, 1),))),
        ("-0.5,-0.5-", Prompt(points=((-0.5, -0.5, 0),))),
    ],
)
def test_a_typed_point(text, prompt):
    assert parse_point(text) == prompt


@pytest.mark.parametrize(
    "text", ["", "1", "1,2,3", "1,2,1", "x:1,2", "1:a,b", "1,2*", "1,2:5", "1,2+-", "1,+", "1:2:3,4"]
)
def test_a_mistyped_point_is_shown_with_an_example(text):
    with pytest.raises(PromptError, match=r"is not \[SLICE:\]X,Y.*for example 41:101,77=kidney") as error:
        parse_point(text)
    assert repr(text) in str(error.value)


@given(
    x=st.floats(-1e5, 1e5).map(lambda number: round(number, 3)),
    y=st.floats(-1e5, 1e5).map(lambda number: round(number, 3)),
    inside=st.integers(0, 1),
    index=st.none() | st.integers(-999, 999),
    label=st.text(st.characters(categories=("L", "N", "P")), min_size=1),
)
def test_what_is_typed_after_point_comes_back(x, y, inside, index, label):
    where = "" if index is None else f"{index}:"
    found = parse_point(f"{where}{x!r},{y!r}{'-+'[inside]}={label}")
    assert found == Prompt(label, slice=index, points=((x, y, inside),))


VESSEL = ((10, 12), (14, 15), (20, 15.5))


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("33:10,12;14,15;20,15.5=vessel", Prompt("vessel", slice=33, scribbles=Scribble(VESSEL))),
        ("10,12;14,15;20,15.5-@2", Prompt(scribbles=Scribble(VESSEL, False, width_mm=2))),
        ("0:10,12;14,15;20,15.5+@2.5px=a@b", Prompt("a@b", slice=0, scribbles=Scribble(VESSEL, width_px=2.5))),
        ("10,-0.5@2mm", Prompt(scribbles=Scribble([(10, -0.5)], width_mm=2))),
    ],
)
def test_a_typed_scribble(text, prompt):
    assert parse_scribble(text) == prompt


@pytest.mark.parametrize("text", ["", "1", "1,2;3", "1,2;", "1,2;3,4@", "1,2;3,4@2cm", "1,2+-", "1,2@2-", "1:2:3,4"])
def test_a_mistyped_scribble_is_shown_with_an_example(text):
    with pytest.raises(PromptError, match='is not .SLICE:.X,Y.*for example "33:10,12;14,15;20,15@2=vessel"') as error:
        parse_scribble(text)
    assert error.value.parameter == "scribble"


def test_a_typed_lasso_line_and_ellipse():
    loop = ((30, 40), (52, 41), (50.5, 66))
    assert parse_lasso("33:30,40;52,41;50.5,66=cyst=a") == Prompt("cyst=a", slice=33, lasso=loop)
    assert parse_line("12:52,40,30,66=node") == Prompt("node", slice=12, lines=((52, 40), (30, 66)))
    assert parse_ellipse("30,40,52,66") == Prompt(ellipse=(30, 40, 52, 66))
    for parse, wrong in (
        (parse_lasso, ("30,40;52", "30,40,52,41", "1,2;3,4;5,6@2")),
        (parse_line, ("1,2,3", "1,2;3,4", "1,2,3,4-")),
        (parse_ellipse, ("1,2,3", "1,2;3,4")),
    ):
        for text in wrong:
            with pytest.raises(PromptError, match="for example") as error:
                parse(text)
            assert error.value.parameter == parse.__name__.removeprefix("parse_")


def test_a_prompts_file_with_every_drawing(tmp_path):
    entries = [
        {
            "label": "vessel",
            "scribbles": [
                {"points": [[10, 12], [14, 15]], "width_mm": 2, "inside": True},
                {"points": [[20, 15]], "inside": False},
            ],
            "slice": 3,
        },
        {"label": "cyst", "lasso": [[3, 4], [12, 4], [10, 16.5]], "slice": 3},
        {"label": "node", "line": [[3, 4], [12, 16]], "slice": 2},
        {"label": "node", "lines": [[[3, 4], [12, 16]], [[3, 14], [12, 6]]], "slice": 1},
        {"label": "lens", "ellipse": [3, 4, 12, 16], "slice": 2},
    ]
    expected = [
        Prompt("vessel", slice=3, scribbles=[Scribble([(10, 12), (14, 15)], width_mm=2), Scribble([(20, 15)], False)]),
        Prompt("cyst", slice=3, lasso=[(3, 4), (12, 4), (10, 16.5)]),
        Prompt("node", slice=2, lines=((3, 4), (12, 16))),
        Prompt("node", slice=1, lines=(((3, 4), (12, 16)), ((3, 14), (12, 6)))),
        Prompt("lens", slice=2, ellipse=(3, 4, 12, 16)),
    ]
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"prompts": entries}))
    assert read_prompts(path)[0] == expected
    assert [one.to_dict() for one in expected] == [{**one} for one in entries]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"scribbles": {"points": [[1, 2]]}}, '"scribbles" is .* not a list of'),
        ({"scribbles": [[[1, 2]]]}, '"scribbles" is .* not a list of'),
        ({"scribbles": [{"points": [[1, 2, 1]]}]}, r'"points" is .* not a list of \[x, y\]'),
        ({"scribbles": [{}]}, "at least 1 of them"),
        ({"scribbles": []}, "says nothing"),
        ({"scribbles": [{"points": [[1, 2]], "width": 3}]}, "a scribble has unknown keys: width"),
        ({"scribbles": [{"points": [[1, 2]], "inside": 1}]}, '"inside" is 1, not true or false'),
        ({"scribbles": [{"points": [[1, 2]], "width_mm": "2"}]}, '"width_mm" is 2, not a number'),
        ({"scribbles": [{"points": [[1, 2]], "width_mm": 2, "width_px": 2}]}, "Leave one out"),
        ({"lasso": [[1, 2], [3, 4, 5]]}, r'"lasso" is .* not a list of \[x, y\]'),
        ({"line": [[1, 2], [3, "4"]]}, r'"line" is .* not a list of \[x, y\], from end to end'),
        ({"line": [[1, 2]]}, r"is from \(x, y\) to"),
        ({"lines": [[1, 2], [3, 4]]}, '"lines" is .* not a list of lines'),
        ({"line": [[1, 2], [3, 4]], "lines": []}, 'both "line"'),
        ({"ellipse": [1, 2, 3]}, '"ellipse" is .* list of 4 numbers'),
    ],
)
def test_a_drawing_that_is_written_wrongly_is_told(entry, message):
    with pytest.raises(PromptError, match=message):
        Prompt.from_dict(entry)


def test_a_prompts_file_with_every_kind_of_entry(tmp_path):
    mask = drawn((2, 4, 7), shape=(6, 20, 30))
    asked = []

    def load(path):
        asked.append(path)
        return mask

    entries = [
        {"label": "spleen", "box": [12, 8, 21, 17], "slice": 4},
        {"label": "liver", "box3d": [6, 4, 2, 21, 18, 6]},
        {"label": "kidney", "points": [[10, 7, 1], [12, 9, 0]], "slice": 3},
        {"label": "tumour", "mask": "rough/rough.nii.gz"},
        {"label": "cyst", "mask": "rough/rough.nii.gz", "slice": 2, "box": [1, 1, 9, 9], "points": [[7, 4, 1]]},
        {"label": "node", "box3d": [6, 4, 2, 21, 18, 6], "points": [[8, 8, 1]], "slice": 3},
    ]
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"axis": "k", "prompts": entries}))
    prompts, axis = read_prompts(path, load)
    assert axis == "k"
    assert asked == [tmp_path / "rough" / "rough.nii.gz"]
    assert prompts == [
        Prompt("spleen", box=(12, 8, 21, 17), slice=4),
        Prompt("liver", box3d=(6, 4, 2, 21, 18, 6)),
        Prompt("kidney", points=((10, 7, 1), (12, 9, 0)), slice=3),
        Prompt("tumour", mask=mask),
        Prompt("cyst", mask=mask, slice=2, box=(1, 1, 9, 9), points=((7, 4, 1),)),
        Prompt("node", box3d=(6, 4, 2, 21, 18, 6), points=((8, 8, 1),), slice=3),
    ]
    todo = plan(prompts, GRID, axis)
    assert [len(on_slice) for on_slice in todo.slices.values()] == [4, 3, 3, 2]


def test_a_mask_that_cannot_be_used_says_which_entry(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"prompts": [{"box": [1, 2, 3, 4]}, {"label": "a", "mask": "none.nii.gz"}]}')

    def missing(file):
        raise InputError(f"{file.name} does not exist.")

    with pytest.raises(InputError, match="Prompt 1 of p.json: none.nii.gz does not exist"):
        read_prompts(path, missing)
    with pytest.raises(PromptError, match="Prompt 1 of p.json: The mask for 'a' has an empty mask"):
        read_prompts(path, lambda file: np.zeros((6, 20, 30), bool))


# -- and back -------------------------------------------------------------------------------------------------


def numbers(count):
    return st.lists(st.floats(-1e6, 1e6) | st.integers(-999, 999), min_size=count, max_size=count)


def spans(axes):
    """Corners with each first below its second."""
    pairs = st.tuples(numbers(axes), numbers(axes)).map(lambda pair: [sorted(both) for both in zip(*pair, strict=True)])
    return pairs.filter(lambda pairs: all(low < high for low, high in pairs)).map(
        lambda pairs: [low for low, _ in pairs] + [high for _, high in pairs]
    )


clicks = st.dictionaries(
    st.tuples(st.integers(-9, 99), st.integers(-9, 99)),
    st.tuples(st.sampled_from([0, 0.25, -0.5]), st.integers(0, 1)),
    max_size=5,
).map(lambda found: [(x + off, y, inside) for (x, y), (off, inside) in found.items()])
masks = st.one_of(*(arrays(bool, shape) for shape in ((1, 1), (5, 3), (4, 5, 3)))).filter(np.any)
scribbles = st.builds(
    Scribble,
    st.lists(st.tuples(st.integers(-9, 99), st.floats(-9, 99)), min_size=1, max_size=3),
    st.booleans(),
    st.none() | st.floats(0.1, 9),
)
loops = st.sampled_from([[(1, 2), (3, 4.25), (5, 1)], [(0, 0), (9, 0), (0, 9), (9, 9)]])


@st.composite
def any_prompt(draw):
    label = draw(st.text(st.characters(exclude_categories=("C",)), min_size=1).filter(str.strip))
    box, box3d = draw(st.sampled_from([(spans(2), st.none()), (st.none(), spans(3)), (st.none(), st.none())]))
    parts = {"box": draw(box), "box3d": draw(box3d), "points": draw(clicks), "mask": draw(st.none() | masks)}
    if parts["mask"] is None and draw(st.booleans()):
        parts["lasso"] = draw(loops)
    if parts["box"] is None and parts["box3d"] is None and draw(st.booleans()):
        parts |= draw(st.sampled_from([{"ellipse": (1, 2.5, 3, 4)}, {"lines": ((1, 2), (3, 4.5))}]))
    parts["scribbles"] = draw(st.lists(scribbles, max_size=2))
    if all(part is None or (name != "mask" and part == []) for name, part in parts.items()):
        parts["mask"] = draw(masks)
    beside = parts["box3d"] is None or any(parts.get(name) for name in ("points", "scribbles", "lasso"))
    beside = beside or parts["mask"] is not None
    return Prompt(label, slice=draw(st.none() | st.integers(-3, 10**6)) if beside else None, **parts)


@settings(max_examples=100, deadline=None)
@given(any_prompt())
def test_a_prompt_as_json_is_read_as_the_same_prompt(prompt):
    assert Prompt.from_dict(json.loads(json.dumps(prompt.to_dict()))) == prompt


@settings(max_examples=40, deadline=None)
@given(st.lists(any_prompt(), min_size=1, max_size=4), st.sampled_from([None, *"ijk"]))
def test_a_prompts_file_that_was_written_is_read_as_it_was(tmp_path_factory, prompts, axis):
    path = tmp_path_factory.mktemp("prompts") / "prompts.json"
    write_prompts(path, prompts, axis)
    assert read_prompts(path) == (prompts, axis)


def test_a_prompts_file_is_written_as_people_write_them(tmp_path):
    mask = drawn((2, 4, 7), (2, 5, 7), shape=(6, 20, 30))
    prompts = [
        Prompt("spleen", box=(12, 8.5, 21, 17), slice=4),
        Prompt("liver", box3d=(6, 4, 2, 21, 18, 6)),
        Prompt("niere", points=((10, 7, 1), (12, 9, 0)), slice=3),
        Prompt("tumour", mask=mask[2], slice=2),
        Prompt("tumour", mask=mask),
    ]
    write_prompts(tmp_path / "prompts.json", prompts, "k")
    assert (tmp_path / "prompts.json").read_text() == (
        '{"axis": "k", "prompts": [\n'
        '  {"label": "spleen", "slice": 4, "box": [12, 8.5, 21, 17]},\n'
        '  {"label": "liver", "box3d": [6, 4, 2, 21, 18, 6]},\n'
        '  {"label": "niere", "slice": 3, "points": [[10, 7, 1], [12, 9, 0]]},\n'
        '  {"label": "tumour", "slice": 2, "mask": {"size": [20, 30], "counts": "`42V>"}},\n'
        '  {"label": "tumour", "mask": {"size": [6, 20, 30], "slices": {"2": "`42V>"}}}\n'
        "]}\n"
    )


def test_a_prompts_file_that_is_there_is_overwritten_only_by_force(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text("by hand")
    with pytest.raises(PromptError, match=r"prompts\.json is there already"):
        write_prompts(path, Prompt(box=(1, 2, 3, 4)))
    assert path.read_text() == "by hand"
    write_prompts(path, Prompt(box=(1, 2, 3, 4)), force=True)
    assert read_prompts(path) == ([Prompt(box=(1, 2, 3, 4))], None)
    write_prompts(path, Prompt(box=(1, 2, 3, 4)))  # what is there already may be written again
    with pytest.raises(PromptError, match="at least one box"):
        write_prompts(path, [], force=True)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({}, 'has "size" and "counts"|object with "size" and "counts"'),
        ({"size": [4, 4], "counts": "04"}, "cover 4 pixels"),
        ({"size": [4, 4, 4], "counts": "04"}, r"\[rows, columns\]"),
        ({"size": [4, 4], "slices": {"0": "0`0"}}, r"\[slices, rows, columns\]"),
        ({"size": [2, 4, 4], "slices": ["0"]}, '"slices" of a mask are an object'),
        ({"size": [2, 4, 4], "slices": {"2": "0`0"}}, "numbered from 0 to 1, not '2'"),
        ({"size": [2, 4, 4], "slices": {"-1": "0`0"}}, "numbered from 0 to 1"),
        ({"size": [2, 4, 4], "slices": {"1": 3}}, '"counts" of a mask are'),
        ({"size": [2, 4, 4], "slices": {}}, "has an empty mask"),
        ({"size": [2**20, 2**20, 2**20], "slices": {}}, "is no scan's"),
        ({"size": [2, True, 4], "slices": {}}, r"\[slices, rows, columns\]"),
        ([1], "not the name of a file"),
    ],
)
def test_a_mask_that_is_written_wrongly_is_told(mask, message):
    with pytest.raises(PromptError, match=message):
        Prompt.from_dict({"mask": mask})


def test_prompts_cannot_be_written_to_a_folder_or_beside_none(tmp_path):
    with pytest.raises(InputError, match="is a folder. Name a file"):
        write_prompts(tmp_path, Prompt("a", box=(1, 2, 3, 4)))
    with pytest.raises(InputError, match="does not exist"):
        write_prompts(tmp_path / "none" / "p.json", Prompt("a", box=(1, 2, 3, 4)))
