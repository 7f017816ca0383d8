"""A DICOM file of measurements -> what was measured: presentation states and structured reports."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID

from medsam.errors import InputError
from medsam.io.dicom.measurements.common import Measurements
from medsam.io.dicom.measurements.presentation import PRESENTATION_CLASSES, read_presentation
from medsam.io.dicom.measurements.report import REPORT_ROOT, read_report
from medsam.io.dicom.read import quiet, read_dataset
from medsam.io.dicom.tags import sop_class

# not below the root of reports by chance: it refers to images and measures nothing
_KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"


def read_measurements(path: Path) -> Measurements:
    """What was measured in a presentation state or a structured report, in the order of the file.

    Raises InputError when the file is neither, is damaged, or holds no shape at all: then it says what there is.
    """
    path = Path(path)
    dataset = read_dataset(path, path.name, stop_before_pixels=True)
    try:
        with quiet():
            found = _read(dataset, path.name)
    except InputError:
        raise
    except Exception as error:  # nested elements are parsed late, and damaged ones raise what they like
        raise InputError(
            f"{path.name}: its measurements cannot be read ({type(error).__name__}). Export it again."
        ) from error
    if not found.items:
        what = "; ".join(found.unused) or "no graphic, and no item with spatial coordinates (SCOORD, SCOORD3D)"
        raise InputError(f"{path.name} holds no measurement that marks a place: {what}.")
    return found


def _read(dataset: Dataset, name: str) -> Measurements:
    uid = sop_class(dataset)
    if uid in PRESENTATION_CLASSES:
        return read_presentation(dataset, name)
    if uid == _KEY_OBJECTS:
        raise InputError(f"{name} is a key object selection: it points at images, and measures nothing on them.")
    if uid.startswith(REPORT_ROOT):
        return read_report(dataset, name)
    # an unknown UID is free text, and free text is never quoted
    known = UID(uid).name if uid and UID(uid).name != uid else "of an unknown kind"
    raise InputError(
        f"{name} ({known}) holds no prompts. They are read from prompts files (JSON), presentation states (GSPS) and "
        "structured reports (SR), and as masks from SEG, RTSTRUCT and label maps."
    )
