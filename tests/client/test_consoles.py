"""What the scripts for consoles of viewers are made of, and the notebook."""

from __future__ import annotations

import ast
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import block, random_affine

from medsam.client.client import Client
from medsam.client.consoles import box_at, box_in, point_at, point_in, scan_of, segmented, voxels_at
from medsam.errors import InputError, PromptError
from medsam.prompts.prompt import Prompt

EXAMPLES = Path(__file__).parents[2] / "examples"
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from("ijk"))
def test_what_is_marked_in_ras_lies_in_the_array_where_the_viewer_shows_it(seed, axis):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(6, 12, 3).tolist())
    ijk_to_ras = FLIP @ random_affine(rng, rng.uniform(0.5, 4, 3), True)
    scan = scan_of(np.zeros(shape, np.int16), ijk_to_ras)
    np.testing.assert_allclose(scan.geometry.ras_affine, ijk_to_ras)
    ijk = np.array([rng.integers(0, length) for length in shape[::-1]])
    ras = (ijk_to_ras @ [*ijk, 1])[:3]
    np.testing.assert_allclose(voxels_at(ras, scan), ijk, atol=1e-6)
    number = "ijk".index(axis)
    x, y = np.delete(ijk, number).tolist()
    assert point_at(ras, scan, axis, False) == Prompt(points=((x, y, 0),), slice=int(ijk[number]))
    # a box of whole voxels whose faces are drawn through their centres
    low = np.array([rng.integers(0, length - 3) for length in shape[::-1]])
    high = low + 2
    corners = [(ijk_to_ras @ [*corner, 1])[:3] for corner in itertools.product(*zip(low, high, strict=True))]
    found = box_at(np.array(corners), scan, axis)
    (x0, y0), (x1, y1) = np.delete(low, number), np.delete(high, number) + 1
    assert found == Prompt(box=(x0, y0, x1, y1), slice=int(low[number]) + 1)


def test_what_lies_elsewhere_is_refused():
    scan = scan_of(np.zeros((4, 5, 6), np.int16), np.eye(4))
    assert box_in(np.array([(-3, -3, 2.4), (99, 2, 2.4)]), scan, "k") == Prompt(box=(0, 0, 6, 3), slice=2)
    for corners in ([(0, 0, 9), (3, 3, 9)], [(-5, 0, 1), (-1, 3, 1)], [(0.2, 0, 1), (0.8, 3, 1)]):
        with pytest.raises(PromptError, match="does not meet"):
            box_in(np.array(corners), scan, "k")
    with pytest.raises(PromptError, match="outside of the scan"):
        point_in((5.6, 0, 0), scan, "k")
    with pytest.raises(InputError, match="three axes"):
        scan_of(np.zeros((4, 5), np.int16), np.eye(4))


@pytest.mark.parametrize("axis", ["k", "i"])
def test_the_mask_is_of_the_viewer_s_own_array_whichever_way_it_lies(live, axis):
    scan, inside = block((8, 40, 48), (6, 10, 2, 20, 24, 6), inside=200, outside=20)
    ijk_to_ras = FLIP @ random_affine(np.random.default_rng(5), (1.0, 1.0, 3.0), True)
    shown = scan_of(scan.array.astype(np.int16), ijk_to_ras)
    bounds = np.array([(4, 8, 1), (21, 25, 6)]) if axis == "i" else np.array([(4, 8, 3), (21, 25, 4)])
    corners = [(ijk_to_ras @ [*corner, 1])[:3] for corner in itertools.product(*bounds.T)]
    with Client(live.url, live.tokens["ada"]) as client:
        mask = segmented(client, shown, [box_at(np.array(corners), shown, axis)], axis=axis)
        assert client.cases(kind="upload") == []
        expected = live.predictor.segment(shown, box_at(np.array(corners), shown, axis), axis=axis, propagate=True)
        np.testing.assert_array_equal(mask, expected.labels.array != 0)
        assert (mask & inside).sum() > 0.9 * inside.sum()
        alone = segmented(client, shown, [point_in((12, 15, 4), shown, "k")], axis="k", propagate=False)
        assert np.flatnonzero(alone.any(axis=(1, 2))).tolist() == [4]
        with pytest.raises(PromptError, match="nothing to segment"):
            segmented(client, shown, [])


def test_the_notebook_runs(live, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text())["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"]).replace(
                '"http://127.0.0.1:8000"', f'"{live.url}", token="{live.tokens["ben"]}"'
            )
            exec(compile(source, "notebook", "exec"), names)
    mask = names["mask"]
    assert isinstance(mask, np.ndarray)
    assert (mask.sum(), np.flatnonzero(mask.any(axis=(1, 2))).tolist()) == (1920, [2, 3, 4, 5])


@pytest.mark.parametrize("name", ["in_slicer.py", "in_napari.py"])
def test_scripts_for_consoles_are_python_and_use_what_there_is(name):
    tree = ast.parse((EXAMPLES / name).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("medsam"):
            module = __import__(node.module, fromlist=["_"])
            assert all(hasattr(module, one.name) for one in node.names)
