"""Links between documents, the files they name, and the tables of results."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_script_and_module_that_is_named_is_there(page: Path) -> None:
    text = re.sub(r"`[^`]*` of commit \w+", "", page.read_text(encoding="utf-8"))
    named = re.findall(r"(?<![\w/])(?:scripts|tests|configs|medsam)/[\w./-]*\w", text)
    for path in named:
        assert (ROOT / path).exists(), path


def test_the_page_of_benchmarks_is_one_page_and_its_tables_are_whole() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 150
    tables = sorted((ROOT / "docs" / "results").glob("*.csv"))
    assert tables
    about = (ROOT / "docs" / "results" / "README.md").read_text(encoding="utf-8")
    for path in tables:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        assert rows, path.name
        assert len(set(header)) == len(header), path.name
        assert {len(row) for row in rows} == {len(header)}, path.name
        assert f"({path.name})" in about, path.name
