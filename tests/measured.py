"""Presentation states and structured reports on disk, as highdicom writes them and as others do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from highdicom.pr import GraphicAnnotation, GraphicLayer, GraphicObject, GrayscaleSoftcopyPresentationState, TextObject
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.33"
ENHANCED = "1.2.840.10008.5.1.4.1.1.88.22"
_MAKER = {"manufacturer": "tests", "manufacturer_model_name": "tests", "software_versions": "1"}


def _uids() -> dict[str, object]:
    return {
        "series_instance_uid": generate_uid(),
        "series_number": 9,
        "sop_instance_uid": generate_uid(),
        "instance_number": 1,
        "device_serial_number": "1",
    }


def gsps(path: Path, drawn: Sequence[tuple[Dataset, Sequence[GraphicObject]]], text: str | None = None) -> Path:
    """A presentation state of (image, graphics on it) each."""
    layer = GraphicLayer("LAYER", 1)
    annotations = [
        GraphicAnnotation(
            [image],
            layer,
            graphic_objects=list(graphics) or None,
            text_objects=[TextObject(text, "PIXEL", anchor_point=(1.0, 1.0))] if text else None,
        )
        for image, graphics in drawn
    ]
    state = GrayscaleSoftcopyPresentationState(
        list({image.SOPInstanceUID: image for image, _ in drawn}.values()),
        content_label="TESTS",
        graphic_layers=[layer],
        graphic_annotations=annotations,
        **_MAKER,
        **_uids(),
    )
    state.save_as(path)
    return path


def graphic(kind: str, points: Sequence[Sequence[float]], **more) -> GraphicObject:
    return GraphicObject(kind, np.array(points, dtype=float), more.pop("units", "PIXEL"), **more)


def report(path: Path, images: Sequence[Dataset], groups: Sequence[object]) -> Path:
    """A Comprehensive 3D SR of TID 1500 with these measurement groups."""
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(name="Secret^Reader"),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_person_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=list(groups),
        title=codes.DCM.ImagingMeasurementReport,
    )
    written = hd.sr.Comprehensive3DSR(
        evidence=list(images), content=content, is_complete=True, manufacturer="tests", **_sr_uids()
    )
    written.save_as(path)
    return path


def _sr_uids() -> dict[str, object]:
    found = _uids()
    found.pop("device_serial_number")
    return found


def source_of(image: Dataset, frame: int | None = None) -> hd.sr.SourceImageForRegion:
    frames = None if frame is None else [frame]
    return hd.sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID, referenced_frame_numbers=frames)


def region(image: Dataset, kind: str, points: Sequence[Sequence[float]]) -> hd.sr.ImageRegion:
    return hd.sr.ImageRegion(kind, np.array(points, dtype=float), source_of(image))


def planar(
    region: object, name: str = "", uid: str | None = None, site: object = None, finding: object = None, **more
) -> object:
    """A measurement group of TID 1410."""
    tracking = hd.sr.TrackingIdentifier(uid=uid or generate_uid(), identifier=name or "Tool@1.0")
    sites = None if site is None else [site if isinstance(site, hd.sr.FindingSite) else hd.sr.FindingSite(site)]
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_region=region,
        finding_sites=sites,
        finding_type=finding or codes.SCT.Lesion,
        **more,
    )


def bidirectional(image: Dataset, long: Sequence, short: Sequence, name: str, uid: str | None = None) -> object:
    """A measurement group of TID 1501 with a long and a short axis, each inferred from its line."""
    measurements = [
        hd.sr.Measurement(
            name=concept,
            value=1.0,
            unit=codes.UCUM.Millimeter,
            referenced_coordinates=[
                hd.sr.CoordinatesForMeasurement(
                    "POLYLINE",
                    np.array(line, dtype=float),
                    source_of(image),
                )
            ],
        )
        for concept, line in ((codes.SCT.LongAxis, long), (codes.SCT.ShortAxis, short))
    ]
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=uid or generate_uid(), identifier=name),
        measurements=measurements,
        finding_type=codes.SCT.Lesion,
    )


# -- as others write them -----------------------------------------------------------------------------------


def item(kind: str, concept: tuple[str, str, str] | None = None, *children: Dataset, **tags) -> Dataset:
    """A content item with its children, which say how they are related."""
    found = Dataset()
    found.ValueType = kind
    found.RelationshipType = tags.pop("relation", "CONTAINS")
    if concept is not None:
        found.ConceptNameCodeSequence = [code(*concept)]
    if children:
        found.ContentSequence = list(children)
    for keyword, value in tags.items():
        setattr(found, keyword, value)
    return found


def code(scheme: str, value: str, meaning: str) -> Dataset:
    found = Dataset()
    found.CodingSchemeDesignator, found.CodeValue, found.CodeMeaning = scheme, value, meaning
    return found


def image_item(image: Dataset, frame: int | None = None, relation: str = "SELECTED FROM") -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    if frame is not None:
        reference.ReferencedFrameNumber = frame
    return item("IMAGE", relation=relation, ReferencedSOPSequence=[reference])


def scoord(kind: str, points: Sequence[float], *children: Dataset) -> Dataset:
    return item("SCOORD", None, *children, relation="INFERRED FROM", GraphicType=kind, GraphicData=list(points))


def plain_report(path: Path, *children: Dataset, sop_class: str = ENHANCED, **tags) -> Path:
    """A report written item by item."""
    root = item("CONTAINER", ("DCM", "126000", "Imaging Measurement Report"), *children, **tags)
    del root.RelationshipType
    root.SOPClassUID, root.SOPInstanceUID, root.Modality = sop_class, generate_uid(), "SR"
    root.PatientName, root.PatientID = "Secret^Name", "4711"
    root.file_meta = FileMetaDataset()
    root.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    root.file_meta.MediaStorageSOPClassUID = sop_class
    root.file_meta.MediaStorageSOPInstanceUID = root.SOPInstanceUID
    root.save_as(path, enforce_file_format=True)
    return path
