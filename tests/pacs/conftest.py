"""What the tests of the PACS share: servers, a series, and that the keyring of whoever runs them is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dicom_files
import orthanc as pacs
import pytest
from orthanc import Orthanc

from medsam.pacs import settings


@pytest.fixture(autouse=True)
def _no_keyring(monkeypatch):
    monkeypatch.setattr(settings, "_from_keyring", lambda server, what: None)


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory) -> Iterator[Orthanc]:
    """Orthanc that answers everybody on this machine."""
    with pacs.running(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture
def empty_orthanc(orthanc) -> Orthanc:
    orthanc.empty()
    return orthanc


@pytest.fixture
def series(tmp_path) -> Path:
    """Six slices in a folder, under a patient's name that nothing may show."""
    return dicom_files.series(
        tmp_path / "scan", dicom_files.slices(6, 24, 20), StudyDescription="thorax of DOE^JANE", StudyDate="20240229"
    )
