"""The demo's scan as a case."""

from __future__ import annotations

import time

import nibabel as nib
import numpy as np
import pytest

from medsam.server.cases import demo
from medsam.server.cases.demo import demo_folder, put_demo
from medsam.store.store import Store

API = "/api/v1"


@pytest.fixture
def fetched(tmp_path, monkeypatch) -> list[str]:
    """What was fetched; the asset is a small scan with masks beside it."""
    asset = tmp_path / "asset"
    asset.mkdir()
    for name in ("ct", "msk"):
        nib.save(nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4)), asset / f"{name}.nii.gz")
    asked = list[str]()

    def fetch(name: str):
        asked.append(name)
        return {"image": asset / "ct.nii.gz", "vertebrae": asset / "msk.nii.gz"}

    monkeypatch.setattr(demo, "fetch", fetch)
    monkeypatch.setenv("MEDSAM_CACHE", str(tmp_path / "cache"))
    return asked


def test_the_folder_holds_the_scan_alone(fetched, tmp_path):
    folder = demo_folder()
    assert fetched == ["lumbar-ct"]
    assert [path.name for path in folder.iterdir()] == ["lumbar-ct.nii.gz"]
    scan = folder / "lumbar-ct.nii.gz"
    assert scan.read_bytes() == (tmp_path / "asset" / "ct.nii.gz").read_bytes()
    # as it was: the same case, which nobody has to read again
    before = scan.stat()
    assert demo_folder() == folder
    assert scan.stat() == before


@pytest.mark.parametrize("cache", ["cache", "above/cache", "above/.cache"])
def test_its_case_is_known_before_the_server_looks_and_stays_the_same(fetched, serve, tmp_path, monkeypatch, cache):
    monkeypatch.setenv("MEDSAM_CACHE", str(tmp_path / cache))
    folder, above = demo_folder(), tmp_path / "above"
    above.mkdir(exist_ok=True)
    with Store.open(tmp_path / "store", serving=False) as store:
        key = put_demo(store, folder, [above])
        assert put_demo(store, folder, [above]) == key
    client = serve(data=(above, folder), poll_seconds=0.1)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        cases = client.get(f"{API}/cases").json()
        # the watcher's looks change nothing
        assert [(case["id"], case["name"], case["state"]) for case in cases] == [(key, "lumbar-ct.nii.gz", "listed")]
        time.sleep(0.3)
    assert client.post(f"{API}/cases/{key}/open").status_code in (200, 202)
