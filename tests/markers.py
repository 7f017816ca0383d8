"""DICOM in which every element that can hold a text holds a marker, and whether bytes hold one, however written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset
from pydicom.datadict import DicomDictionary, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

from medsam.io.dicom.deidentify.tags import ARRAYS, NEEDED

# in no header, no word of ours, and valid as a code of the standard, too
MARKER = "QZXWUMMARA"
NAME = f"{MARKER}^HEINRICH"
NUMBER = "90817263"
DATE = "19470311"
KANJI = "\u5c71\u7530\u592a\u90ce"
SECRETS = (MARKER, MARKER.lower(), MARKER.title(), NUMBER, DATE, KANJI, "\u00c4\u00d6QZX")
_ENCODINGS = ("latin-1", "utf-8", "utf-16-le", "utf-16-be", "iso2022_jp", "shift_jis", "euc_jp", "gb18030")

_NUMBERS = ("AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV")
# what an image needs to be one, and what says whether it shows text
SOUND = (
    *NEEDED,
    *ARRAYS,
    *("BurnedInAnnotation", "ConversionType", "ImageType", "DateOfSecondaryCapture", "PixelPaddingValue"),
)
# what the object is, and its picture
_LEFT = ("UI", "SQ", "NONE", "OB/OW")


def found_in(data: bytes) -> list[str]:
    """Which secrets are in these bytes, in any encoding."""
    found = []
    for secret in SECRETS:
        for encoding in _ENCODINGS:
            try:
                written = secret.encode(encoding)
            except UnicodeEncodeError:
                continue
            if written in data:
                found.append(f"{secret} ({encoding})")
    return found


def found_below(folder: Path) -> dict[str, list[str]]:
    """File -> secrets in it or in its name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        held = found_in(str(path.relative_to(folder)).encode())
        if path.is_file():
            held += found_in(path.read_bytes())
        if held:
            found[path.relative_to(folder).as_posix()] = held
    return found


def value_of(vr: str, marker: str = MARKER) -> bytes:
    """A marker as an element of this kind could hold it, valid or not."""
    if vr in ("DA", "DT"):
        return DATE.encode()
    if vr == "TM":
        return b"031147.4711 "
    if vr == "PN":
        return NAME.encode() if len(NAME) % 2 == 0 else f"{NAME} ".encode()
    size = {"FD": 8, "OD": 8, "SV": 8, "UV": 8, "OV": 8, "FL": 4, "UL": 4, "SL": 4, "AT": 4, "OF": 4, "OL": 4}.get(
        vr, 2
    )
    encoded = marker.encode()
    return encoded + (b" " if vr not in ("OB", "OW", "UN") else b"\0") * (-len(encoded) % size)


def raw(tag: int, vr: str, value: bytes) -> RawDataElement:
    return RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


def text_elements(skip: frozenset[int] = frozenset()) -> Iterator[RawDataElement]:
    """A marker in every element of the standard's dictionary that is not an identifier, a sequence or the picture."""
    for number in DicomDictionary:
        tag = BaseTag(number)
        vr = dictionary_VR(tag)
        if (
            number in skip
            or vr in _LEFT
            or tag.group in (0x0000, 0x0002, 0x0004, 0x7FE0, 0xFFFE)
            or "LookupTable" in (DicomDictionary[number][4])
        ):
            continue
        vr = vr.split(" or ")[-1]
        if vr in _NUMBERS and DicomDictionary[number][1] != "1":
            # several numbers may be any bytes
            continue
        yield raw(number, vr, value_of(vr))


def plant(dataset: Dataset, keep: tuple[str, ...]) -> Dataset:
    """Add a marker wherever one can be, but in the elements `keep` names."""
    skip = frozenset(Tag(keyword) for keyword in keep)
    for element in text_elements(skip):
        dataset[element.tag] = element
    for group in (0x0009, 0x0019, 0x7053, 0x0029):
        dataset[Tag(group, 0x0010)] = raw(group << 16 | 0x10, "LO", value_of("LO"))
        dataset[Tag(group, 0x1001)] = raw(group << 16 | 0x1001, "UN", value_of("UN"))
        dataset[Tag(group, 0x1002)] = raw(group << 16 | 0x1002, "LO", value_of("LO"))
    for group in (0x5000, 0x5002, 0x6000, 0x6002):
        dataset[Tag(group, 0x3000)] = raw(group << 16 | 0x3000, "OW", value_of("OW"))
        dataset[Tag(group, 0x1500)] = raw(group << 16 | 0x1500, "LO", value_of("LO"))
    # lengths of groups, and elements that no dictionary knows
    dataset[Tag(0x0010, 0x0000)] = raw(0x00100000, "UL", MARKER[:4].encode())
    dataset[Tag(0x0010, 0x9999)] = raw(0x00109999, "UN", value_of("UN"))
    dataset[Tag(0x0028, 0x9999)] = raw(0x00289999, "LO", value_of("LO"))
    dataset[Tag(0xFFFC, 0xFFFC)] = raw(0xFFFCFFFC, "OB", value_of("OB") * 4)
    return dataset
