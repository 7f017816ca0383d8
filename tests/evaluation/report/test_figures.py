"""Plots inside a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from evaluations import evaluation, page

from medsam.evaluation.report import figures


def test_drawings_are_whole_and_keep_names_as_text(tmp_path):
    folder = evaluation(tmp_path / "run", structures=("a <b> & 'c' id=\"x_1\"", "$\\alpha_1$"))
    drawings = re.findall(r"<svg.*?</svg>", page(folder).text, flags=re.DOTALL)
    assert len(drawings) >= 5
    texts = {element.text for drawing in drawings for element in ElementTree.fromstring(drawing).iter("text")}
    assert {"a <b> & 'c' id=\"x_1\"", "$\\alpha_1$"} <= texts


def test_a_drawing_too_large_for_svg_becomes_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURE_BYTES", 2000)
    found = page(evaluation(tmp_path / "run"))
    assert not [tag for tag, _ in found.elements if tag == "svg"]
    assert sum(values.get("class") == "plot" for tag, values in found.elements if tag == "img") == 5


def test_long_names_keep_their_ends_in_plots():
    labels = [figures.shortened(f"structure_with_a_rather_long_name_{n}") for n in (1, 12)]
    assert labels == ["structure_w…ong_name_1", "structure_w…ng_name_12"]
    assert figures.shortened("spleen") == "spleen"
    assert figures._columns(figures.shortened("肝" * 40)) <= 22
