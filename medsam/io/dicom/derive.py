"""A series of images -> what every DICOM object made from it needs: SEG and RTSTRUCT.

The object belongs to the patient and the study of its source and lies in its frame of reference, so what says so is
copied. Headers in the field lack what writers take for granted, or state it wrongly; that is mended here, on a copy:

  text         read as the source encodes it; kept so where a single-byte set holds all that is to be written, else
               written as UTF-8 (ISO_IR 192)
  type 2       attributes that must be there, maybe empty, are there
  values       dates, times and a sex that no reader takes are left empty
  de-identified  (0012,0062) YES needs (0012,0063), which many tools leave out: it says that the source does not say
  place        images with a position and without (0020,0052) Frame of Reference UID get one, made from the UID of
               their series, so that all that is made from them shares it

Letters: K images of the source, in the order of k of `read_dicom`.
Source: DICOM PS3.3 C.7.1.1 (patient), C.7.2.1 (study), C.7.4.1 (frame of reference), C.12.1 (SOP common).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
from pydicom import DataElement, Dataset, dcmwrite
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.multival import MultiValue
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DA, TM, PersonName

from medsam._version import __version__
from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io import archive
from medsam.io.dicom.frame import ImageFrame
from medsam.io.dicom.read import is_dicom, quiet, read_dataset
from medsam.io.dicom.series import series_images
from medsam.io.dicom.source import DicomFile
from medsam.io.dicom.tags import named, sop_class, text, whole_number
from medsam.labels import Structure
from medsam.silence import Rule, silence
from medsam.volume import Volume

MANUFACTURER = "medsam-framework"
# who writes, General Equipment, as arguments of highdicom
EQUIPMENT: Mapping[str, Any] = {
    "manufacturer": MANUFACTURER,
    "manufacturer_model_name": "medsam",
    "device_serial_number": "0",
    "software_versions": __version__,
}
UTF_8 = "ISO_IR 192"
# of structures without a colour of their own in `medsam.labels`: `drawing.colours.LABELS`, which a test compares
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178))

# where an object is derived from: files as `read_dicom` takes them, or the scan that was read from them
DicomSource = Volume | DicomFile | Iterable[DicomFile] | Mapping[str, DicomFile]

_TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
)
# value representations of texts
_TEXTS = frozenset(["AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"])
_DATES = ("PatientBirthDate", "StudyDate")
_TIMES = ("StudyTime", "PatientBirthTime")
_HIGHDICOM = Rule(module=r"highdicom(\.|$)")
_NOT_STATED = "not stated by the source"


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One image of the source: a whole file, or a frame of one.

    sop_class, sop_instance: (0008,0016) and (0008,0018) of its file. frame: 1-based, of a multi-frame file; else None.
    position: (3,) LPS mm of the centre of its first pixel as its header states it, or None.
    """

    sop_class: str
    sop_instance: str
    frame: int | None
    position: np.ndarray | None


@dataclass(frozen=True, eq=False)
class SourcePlane:
    """How the planes of images with a place in the patient lie, as the first of them states it.

    orientation: six LPS direction cosines, of the rows and of the columns. spacing: (row, column) pitch in mm.
    thickness: of a slice in mm, or None. frame_of_reference: UID of the space in which they have their positions.
    """

    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    thickness: float | None
    frame_of_reference: str


@dataclass(frozen=True, eq=False)
class SourceImages:
    """The images of a series that an object is derived from.

    images: K, in the order of k. geometry: the grid that `read_dicom` puts them on. plane: None for images without a
    place in the patient. header: of the first image, mended, without pixels, functional groups and private elements.
    study, series: their UIDs. notes: what had to be made up.
    """

    images: tuple[SourceImage, ...]
    geometry: VolumeGeometry
    plane: SourcePlane | None
    header: Dataset
    study: str
    series: str
    notes: tuple[str, ...] = ()

    @property
    def frame_of_reference(self) -> str | None:
        """UID of the space in which the images lie; None without a place in the patient."""
        return None if self.plane is None else self.plane.frame_of_reference

    @property
    def instances(self) -> tuple[tuple[str, str], ...]:
        """(SOP class, SOP instance) of every file, each once, in the order of k."""
        return tuple(dict.fromkeys((image.sop_class, image.sop_instance) for image in self.images))

    @property
    def derived_series_number(self) -> int:
        """(0020,0011) of a series made from this one: 1000 and the source's, so that both are found together."""
        number = whole_number(self.header, "SeriesNumber") or 0
        return 1000 + number if 0 <= number < 10**6 else 1000

    def header_for(self, texts: Iterable[str] = ()) -> Dataset:
        """A copy of `header` whose (0008,0005) Specific Character Set holds these texts, too."""
        header = deepcopy(self.header)
        stated = text(header, "SpecificCharacterSet") or ""
        # neither sets with escape sequences nor those in which a backslash may be a letter
        single_byte = stated.startswith("ISO_IR ") and stated not in ("ISO_IR 6", "ISO_IR 13", UTF_8)
        if not (single_byte and stated in python_encoding and _fits(texts, python_encoding[stated])):
            header.SpecificCharacterSet = UTF_8
        return header


def source_images(source: DicomSource, geometry: VolumeGeometry, series: str | None = None) -> SourceImages:
    """The images that a label map of `geometry` was drawn on.

    source: a DICOM file, folder or zip; files in memory, as `read_dicom` takes them; or the scan read from one of the
        former, which knows its series. series: (0020,000E) where there are several.
    Raises InputError when the source is not DICOM, is no longer there, is a scan read from memory, lies on another
    grid, or lacks the UIDs that others would find it by; SeveralSeries and InconsistentSeries as `read_dicom` does.
    """
    if isinstance(source, Volume):
        if source.source is None:
            raise InputError(
                "The scan was not read from a DICOM file on disk, so it is not known which images it consists of. "
                "Pass those files as `source`.",
                parameter="source",
            )
        return source_images(source.source, geometry, series or source.uids.get("series"))
    if not isinstance(source, str | PathLike):
        return _described(*series_images(source, series), geometry)
    path = Path(source)
    if not path.exists():
        raise InputError(f"{path.name}, the scan that the labels were drawn on, is not there.", parameter="source")
    if path.is_file() and not is_dicom(path):
        if not is_zipfile(path):
            raise InputError(
                f"{path.name} is not DICOM. DICOM SEG and RTSTRUCT refer to the DICOM images they were drawn on, so "
                "they are written for a DICOM scan alone; write .nii.gz, .nrrd or .mha.",
                parameter="source",
            )
        with archive.unpacked(path) as unpacked:
            return _described(*series_images(unpacked, series), geometry)
    return _described(*series_images(path, series), geometry)


def derived_dataset(
    source: SourceImages,
    sop_class_uid: str,
    modality: str,
    *,
    series_number: int,
    series_description: str,
    texts: Iterable[str] = (),
) -> Dataset:
    """The beginning of an object derived from `source`, with file meta information (explicit VR, little endian).

    It has the modules Patient, Clinical Trial, General and Patient Study, General Series, General Equipment, Frame of
    Reference and SOP Common; UIDs of series and instance are new. texts: what will be written into it, for the
    character set.
    """
    from highdicom.base import SOPClass

    header = source.header_for((*texts, series_description))
    with quiet_writer():
        dataset = SOPClass(
            study_instance_uid=source.study,
            series_instance_uid=new_uid(),
            series_number=series_number,
            sop_instance_uid=new_uid(),
            sop_class_uid=sop_class_uid,
            instance_number=1,
            modality=modality,
            **EQUIPMENT,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            specific_character_set=header.SpecificCharacterSet,
            series_description=series_description,
        )
        dataset.copy_patient_and_study_information(header)
    if source.frame_of_reference:
        dataset.FrameOfReferenceUID = source.frame_of_reference
        dataset.PositionReferenceIndicator = header.get("PositionReferenceIndicator")
    return dataset


def item_of(**elements: object) -> Dataset:
    """An item of a sequence: its elements by their keywords."""
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def reference(sop_class: str, sop_instance: str) -> Dataset:
    """The item that refers to an object."""
    return item_of(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=sop_instance)


def image_reference(image: SourceImage) -> Dataset:
    """The item that refers to an image: of a multi-frame file, to the one frame."""
    item = reference(image.sop_class, image.sop_instance)
    if image.frame is not None:
        item.ReferencedFrameNumber = image.frame
    return item


def colour_of(known: Structure | None, number: int) -> tuple[int, int, int]:
    """RGB that a structure is shown in: its own, else by its number from 1 in the file."""
    return (known and known.rgb) or PALETTE[(number - 1) % len(PALETTE)]


@contextmanager
def quiet_writer() -> Iterator[None]:
    """Keep the remarks of pydicom and highdicom from the user; some of highdicom's quote the patient's name."""
    with quiet(), silence(_HIGHDICOM, loggers=("highdicom",)):
        yield


def new_uid() -> str:
    """A UID that nobody has: of a random UUID (2.25), for which no organisation has to be registered."""
    return f"2.25.{uuid.uuid4().int}"


def uid_from(*names: str) -> str:
    """The UID that these names always give, of a UUID made from them."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join(names)).int}"


def _described(found: VolumeGeometry, frames: list[ImageFrame], geometry: VolumeGeometry) -> SourceImages:
    if not found.same_grid(geometry):
        raise InputError(
            f"The labels lie on another grid than the images they are to refer to: {_grid(geometry)}, the images "
            f"{_grid(found)}. Put them on the grid of the series first, and let `source` be the scan they were drawn "
            "on.",
            parameter="source",
        )
    first = frames[0].header
    notes: list[str] = []
    with quiet():
        images = tuple(_image(frame) for frame in frames)
        header = _mended(read_dataset(first.source, first.name, stop_before_pixels=True))
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
            if not text(header, keyword):
                raise _without(first.name, keyword)
        _check_apart(frames)
        plane = _plane(frames, notes)
    return SourceImages(images, found, plane, header, str(header.StudyInstanceUID), first.series, tuple(notes))


def _plane(frames: Sequence[ImageFrame], notes: list[str]) -> SourcePlane | None:
    """How images lie in the patient, or None. notes: receives what had to be made up."""
    first = frames[0]
    orientation, thickness = first.numbers("ImageOrientationPatient", 6), None
    # the planes have a distance, whatever is wrong with it
    with suppress(InputError):
        thickness = first.numbers("SliceThickness")
    if first.position is None or orientation is None or first.spacing is None:
        return None
    reference = next((uid for frame in frames if (uid := frame.value("FrameOfReferenceUID"))), None)
    if reference is None:
        reference = uid_from(first.header.series, "frame of reference")
        notes.append(
            f"The images have no {named('FrameOfReferenceUID')}, so one was made from the UID of their series."
        )
    return SourcePlane(orientation, first.spacing, thickness[0] if thickness else None, reference)


def _image(frame: ImageFrame) -> SourceImage:
    header = frame.header
    instance, number = frame.identity
    kind = sop_class(header.dataset)
    if not instance or not kind:
        raise _without(header.name, "SOPClassUID" if instance else "SOPInstanceUID")
    return SourceImage(str(kind), instance, number, frame.position)


def _check_apart(frames: Sequence[ImageFrame]) -> None:
    """Raise InputError for images that share a UID, so that no reference tells them apart, or are of two studies."""
    first: dict[tuple[str, int | None], ImageFrame] = {}
    for frame in frames:
        other = first.setdefault(frame.identity, frame)
        if other is not frame:
            raise InputError(
                f"{other.header.name} and {frame.header.name} have the same {named('SOPInstanceUID')}, so nothing can "
                "refer to one of them. Export the series again, each image with a UID of its own."
            )
    if len(studies := {frame.value("StudyInstanceUID") for frame in frames}) > 1:
        raise InputError(
            f"The images of the series state {len(studies)} different {named('StudyInstanceUID')}, so it is not known "
            "to which study the result belongs. Export the series again, from one study."
        )


def _without(name: str, keyword: str) -> InputError:
    return InputError(
        f"{name}: {named(keyword)} is missing, so nothing can refer to the image. Export the series again."
    )


def _grid(geometry: VolumeGeometry) -> str:
    k, j, i = geometry.shape
    return f"{k} slices of {i} x {j} pixels" + (f" ({geometry.brief})" if geometry.calibrated else "")


def _mended(header: Dataset) -> Dataset:
    """The header with what every writer and reader expects, see the beginning of this file."""
    _drop_unreadable(header)
    header.remove_private_tags()
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        header.pop(keyword, None)
    header.decode()
    header.walk(_forget_bytes)
    header.SpecificCharacterSet = _one_character_set(header)
    _drop_unwritable(header)
    for keyword in _TYPE_2:
        if header.get(keyword) is None:
            setattr(header, keyword, "")
    for keywords, kind in ((_DATES, DA), (_TIMES, TM)):
        for keyword in keywords:
            if keyword in header and not _is_valid(str(header[keyword].value or ""), kind):
                setattr(header, keyword, "")
    if header.PatientSex not in ("", "M", "F", "O"):
        header.PatientSex = ""
    if not header.StudyID:
        # what an index of files needs (DICOMDIR)
        header.StudyID = "1"
    removed = header.get("PatientIdentityRemoved") == "YES"
    if removed and not (header.get("DeidentificationMethod") or header.get("DeidentificationMethodCodeSequence")):
        header.DeidentificationMethod = _NOT_STATED
    # what an image is matters to nobody who derives from it; unknown classes have no attributes to copy
    header.SOPClassUID = CTImageStorage
    return header


def _drop_unreadable(header: Dataset) -> None:
    """Leave out what pydicom cannot parse, as if it were missing: it parses an element when it is first asked for."""
    for tag in list(header.keys()):
        try:
            header[tag : tag + 1].walk(lambda _, element: None)
            known = dictionary_VR(tag).split(" or ") if dictionary_has_tag(tag) else [header[tag].VR]
            if header[tag].VR not in known:
                header[tag] = _of_kind(header[tag], known[0])
        except Exception:  # it raises what it likes on damaged elements
            del header[tag]


def _of_kind(element: DataElement, kind: str) -> DataElement:
    """The element with the value representation of its tag. Raises ValueError for a number where a text belongs."""
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    if kind in _TEXTS and not all(isinstance(value, str | PersonName) for value in values):
        raise ValueError(f"{element.tag} is no text")
    return DataElement(element.tag, kind, element.value)


def _drop_unwritable(header: Dataset) -> None:
    """Leave out what pydicom cannot write: what it read is not always of the kind that it writes."""
    for tag in list(header.keys()):
        alone = Dataset()
        alone.SpecificCharacterSet = header.SpecificCharacterSet
        # a copy, for names keep how they were last encoded
        alone[tag] = deepcopy(header[tag])
        try:
            dcmwrite(BytesIO(), alone, implicit_vr=False, little_endian=True)
        except Exception:  # it raises what it likes, here too
            del header[tag]


def _forget_bytes(_: Dataset, element: DataElement) -> None:
    """Have a name written in the set it is put into: pydicom keeps the bytes it was read from, and their set."""
    if element.VR == "PN" and element.value:
        several = not isinstance(element.value, PersonName)
        element.value = [PersonName(str(name)) for name in element.value] if several else str(element.value)


def _one_character_set(header: Dataset) -> str:
    """The one set a header is in, or UTF-8 where it states none or several."""
    stated = header.get("SpecificCharacterSet")
    return stated if isinstance(stated, str) and stated in python_encoding and stated else UTF_8


def _is_valid(value: str, kind: type[DA | TM]) -> bool:
    with suppress(ValueError):
        return value == "" or kind(value) is not None
    return False


def _fits(texts: Iterable[str], encoding: str) -> bool:
    try:
        "".join(texts).encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
