"""Which images a SEG or RTSTRUCT was drawn on, whatever it says of series and studies."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset

from medsam.io.dicom.tags import sequence_items, text


def cited_images(dataset: Dataset, name: str) -> Iterator[str]:
    """The SOP Instance UIDs of all images that a SEG or RTSTRUCT refers to, in whatever place; some more than once.

    name: of the file, for the InputError that a damaged sequence raises.
    """
    for series in sequence_items(dataset, "ReferencedSeriesSequence", name):
        yield from _instances(series, "ReferencedInstanceSequence", name)
    for frame in sequence_items(dataset, "ReferencedFrameOfReferenceSequence", name):
        for study in sequence_items(frame, "RTReferencedStudySequence", name):
            for series in sequence_items(study, "RTReferencedSeriesSequence", name):
                yield from _instances(series, "ContourImageSequence", name)
    for roi in sequence_items(dataset, "ROIContourSequence", name):
        for contour in sequence_items(roi, "ContourSequence", name):
            yield from _instances(contour, "ContourImageSequence", name)
    for frame in sequence_items(dataset, "PerFrameFunctionalGroupsSequence", name):
        for derivation in sequence_items(frame, "DerivationImageSequence", name):
            yield from _instances(derivation, "SourceImageSequence", name)


def _instances(group: Dataset, keyword: str, name: str) -> Iterator[str]:
    for item in sequence_items(group, keyword, name):
        if uid := text(item, "ReferencedSOPInstanceUID"):
            yield uid
