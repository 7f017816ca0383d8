"""MONAI Label's own client, as its wheel has it: fetched alone, and kept."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from types import ModuleType

import platformdirs
import pytest
from filelock import FileLock

VERSION = "0.8.5"
_CLIENT, _OHIF = "monailabel/client/client.py", "monailabel/endpoints/static/ohif/"


def wheel() -> Path:
    """The wheel of monailabel, kept beside other downloads of this user. Skips where it cannot be had."""
    folder = Path(os.environ.get("MEDSAM_CACHE") or platformdirs.user_cache_dir("medsam", appauthor=False)) / "clients"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not (found := sorted(folder.glob(f"monailabel-{VERSION}-*.whl"))):
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder)]
            done = subprocess.run([*command, f"monailabel=={VERSION}"], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no monailabel {VERSION} (its wheel is not to be had): {done.stderr.strip()[-200:]}")
            found = sorted(folder.glob(f"monailabel-{VERSION}-*.whl"))
    return found[0]


def client_module(folder: Path) -> ModuleType:
    """MONAI Label's `client.py`, and nothing else of it. folder: to unpack to."""
    if sys.version_info >= (3, 13):
        pytest.skip("MONAI Label's client needs the module cgi, which Python 3.13 has no more")
    pytest.importorskip("requests")
    with zipfile.ZipFile(wheel()) as archive:
        path = Path(archive.extract(_CLIENT, folder))
    spec = importlib.util.spec_from_file_location("monai_label_client", path)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        # of cgi
        warnings.simplefilter("ignore", DeprecationWarning)
        spec.loader.exec_module(module)
    return module


def ohif(folder: Path) -> Path:
    """The OHIF that the wheel has, with its extension for MONAI Label. folder: to unpack to."""
    with zipfile.ZipFile(wheel()) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(_OHIF)])
    return folder / _OHIF
