"""Measurements that came with a study (GSPS, SR), as prompts for the series they were drawn on.

A reader measures hours after the scan has arrived, or another machine has before. So a series is due again whenever
measurements of it are complete that were not there the last time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.tag import Tag

from medsam.errors import InputError, PromptError
from medsam.io.dicom.read import quiet, read_dataset
from medsam.io.dicom.tags import text
from medsam.pacs.listen.spool import SeriesFolder

if TYPE_CHECKING:
    from medsam.geometry import Axis
    from medsam.prompts.prompt import Prompt
    from medsam.volume import Volume

# SOP classes of presentation states and of structured reports begin so (PS3.4 B.5)
_CLASSES = ("1.2.840.10008.5.1.4.1.1.11.", "1.2.840.10008.5.1.4.1.1.88.")
_CITED = Tag("ReferencedSOPInstanceUID")


class NoMeasurements(PromptError):
    """None has been drawn on the series yet."""


def measurements_of(instances: Iterable[str], study: Iterable[SeriesFolder]) -> list[Path]:
    """Presentation states and reports among the series of a study that cite any of these images, sorted."""
    images, found = set(instances), []
    for series in study:
        files = series.files()
        # all instances of a series are of one kind
        if files and _may_hold_measurements(files[0]):
            found += [path for path in files if _cites(path, images)]
    return sorted(found)


def measured_on(scan: Volume, files: Sequence[Path]) -> tuple[list[Prompt], Axis | None, list[str]]:
    """The prompts of all files, the axis they lie across, and notes. Files without a shape on the scan are passed over.

    Raises NoMeasurements when there is none, and PromptError when they lie across different axes.
    """
    from medsam.prompts.files import read_prompt_file

    prompts: list[Prompt] = []
    notes: list[str] = []
    why = ""
    axes: set[Axis] = set()
    for path in files:
        try:
            file = read_prompt_file(path, scan)
            more, remarks = file.as_prompts()
        except PromptError as error:
            # the report of a dose cites the scan, too
            why = f" that can be used ({error})"
            continue
        prompts += more
        notes += remarks
        axes |= set() if file.axis is None else {file.axis}
    if not prompts:
        raise NoMeasurements(f"no measurements on it yet{why}")
    if len(axes) > 1:
        raise PromptError(f"The measurements lie across several axes: {', '.join(sorted(axes))}.")
    return prompts, next(iter(axes), None), notes


def _may_hold_measurements(path: Path) -> bool:
    try:
        header = read_dataset(path, path.name, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except InputError:
        return False
    return (text(header, "SOPClassUID") or "").startswith(_CLASSES)


def _cites(path: Path, images: set[str]) -> bool:
    try:
        with quiet():
            return any(
                element.tag == _CITED and str(element.value) in images
                for element in read_dataset(path, path.name).iterall()
            )
    except Exception:  # a damaged one is none of the measurements
        return False
