"""Structures as DICOM codes them: SNOMED CT type, side, region, category, colour, RT ROI type; and back to names."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from medsam.labels.names import canonical_name, finding_in, has_words, joined, number_of, side_of
from medsam.labels.table import LEFT, RIGHT, Row, rows


@dataclass(frozen=True)
class Code:
    """A coded concept: value, coding scheme designator, and its meaning (ASCII, 64 characters at most)."""

    value: str
    scheme: str
    meaning: str


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


# CID 244, and what SNOMED CT's older SRT codes call them
SIDES: dict[str, Code] = {LEFT: _sct("7771000", "Left"), RIGHT: _sct("24028007", "Right")}
_BILATERAL = "51440002"
_OLD_SIDES = {"G-A101": "7771000", "G-A100": "24028007", "G-A102": _BILATERAL}
_OLD_SCHEMES = ("SRT", "SNM3", "99SDM")

# CID 7150. "Anatomical Structure" has the value dcmqi, 3D Slicer and TotalSegmentator write.
CATEGORIES: dict[str, Code] = {
    "anatomy": _sct("123037004", "Anatomical Structure"),
    "tissue": _sct("85756007", "Tissue"),
    "abnormal": _sct("49755003", "Morphologically Abnormal Structure"),
    "object": _sct("260787004", "Physical object"),
    "spatial": _sct("309825002", "Spatial and Relational Concept"),
}

# A structure that is not in the table: its name says what it is, and the code claims no more than that it is tissue.
UNKNOWN_CATEGORY = CATEGORIES["tissue"]
UNKNOWN_TYPE = _sct("85756007", "Tissue")

# "GTV-1", "GTVp", "CTV60", "PTV_High" (AAPM TG-263); not "Lungs-PTV", which is lung without target
_TARGET = re.compile(r"(gtv|ctv|ptv)[a-z]{0,3}\d*")
# what planners draw round a target, or cut out of one, is none: "PTV_Ring", "CTV minus GTV"
_NO_TARGET = {"ring", "shell", "rim", "margin", "minus", "without"}
_RT_TYPES_BY_NAME = {
    "body": "EXTERNAL",
    "external": "EXTERNAL",
    "body_contour": "EXTERNAL",
    "body_outline": "EXTERNAL",
    "external_contour": "EXTERNAL",
    "patient_outline": "EXTERNAL",
    "marker": "MARKER",
    "fiducial": "MARKER",
    "fiducial_marker": "MARKER",
    "isocenter": "ISOCENTER",
    "isocentre": "ISOCENTER",
}


@dataclass(frozen=True)
class Structure:
    """A structure with the codes a DICOM SEG or RTSTRUCT gives it.

    name: canonical. category, type: segmented property category and type. modifier: of the type, mostly its side.
    region, region_modifier: where a finding, vessel or device is, and on which side. rgb: 0 ... 255.
    rt_type: RT ROI Interpreted Type, e.g. "ORGAN", "GTV", "EXTERNAL", or "".
    """

    name: str
    category: Code
    type: Code
    modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None
    rgb: tuple[int, int, int] | None = None
    rt_type: str = ""


def structure(name: str) -> Structure | None:
    """The codes of a structure, in any spelling `canonical_name` understands; None where the table has none, and for a
    name without a letter or digit.

    A finding may be in any structure ("pancreas_tumor", "kidney_cyst_left") and be one of several ("lesion_2"); its
    region is that structure. Targets of radiotherapy are known by how they begin ("GTVp", "PTV_High").
    """
    if not has_words(name):
        return None
    canonical = canonical_name(name)
    organ, side = side_of(canonical)
    stem, number = number_of(organ)
    found = _table().get(canonical)
    if found is None and number:
        found = _table().get(joined(stem, side))
        found = found if found and _row_of(stem, side).many else None
    found = found or _finding(stem, side)
    first, *others = organ.split("_")
    if found is None and (target := _TARGET.fullmatch(first)) and not _NO_TARGET & {*others}:
        found = _table().get(joined(target[1], side)) or _table()[target[1]]
    return replace(found, name=canonical) if found else None


def structures() -> Iterator[Structure]:
    """Every structure of the table, each side by itself."""
    yield from _table().values()


def rt_type(name: str) -> str:
    """RT ROI Interpreted Type of a structure by its name, known or not; "" where none fits.

    name: in any spelling `canonical_name` understands. "body" and "external" are EXTERNAL, though they have no code.
    """
    found = structure(name)
    if found or not has_words(name):
        return found.rt_type if found else ""
    return _RT_TYPES_BY_NAME.get(number_of(canonical_name(name))[0], "")


def structure_of_code(
    scheme: str,
    value: str,
    modifier: str | None = None,
    region: str | None = None,
    region_modifier: str | None = None,
) -> str | None:
    """The canonical name of a coded structure, e.g. "SCT", "64033007", "7771000" -> "kidney_left"; None if unknown.

    scheme: coding scheme designator of the type: SCT, or SRT and its older names. value: of the type. modifier,
    region, region_modifier: code values, SNOMED CT or SRT. A modifier that is no side narrows the type down to
    something that is not in the table, so the answer is None, as for what is only known in another region ("artery"
    in "lower leg"); a region that adds nothing ("liver" in "abdomen") does no harm.
    """
    coded = _present(value)
    if coded is None or scheme not in ("SCT", *_OLD_SCHEMES):
        return None
    kind, own_side = _also_coded().get(coded, (coded, None))
    # what is of both sides is the whole
    modifiers = (None if found == _BILATERAL else found for found in map(_present, (modifier, region_modifier)))
    wanted = _Coded(kind, next(modifiers), _present(region), next(modifiers))
    if wanted.modifier is None and own_side:
        wanted = replace(wanted, modifier=SIDES[own_side].value)
    exact = _by_code().get(wanted)
    row = _rows_by_code().get(kind)
    if exact or row is None:
        return exact
    side = _side(wanted.modifier)
    if side is None and wanted.modifier:
        return None
    return _in_region(row, wanted, side) if row.category == "abnormal" else _on_side(row, side)


@dataclass(frozen=True)
class _Coded:
    """Code values of a structure, in SNOMED CT."""

    type: str | None
    modifier: str | None
    region: str | None
    region_modifier: str | None


def _in_region(row: Row, wanted: _Coded, side: str | None) -> str | None:
    """A finding by where it is, where that is a structure: "liver_nodule"."""
    if wanted.region is None:
        return _on_side(row, side)
    found = structure_of_code("SCT", wanted.region, wanted.region_modifier or wanted.modifier)
    # "left" of a liver is of the finding, not of the organ
    place = found or structure_of_code("SCT", wanted.region)
    name = joined(row.name, side)
    return canonical_name(f"{place} {row.name if found else name}") if place else name


def _on_side(row: Row, side: str | None) -> str | None:
    """A row's name with a side: "left atrium" with "left" too. None for a side it has not."""
    name, own = side_of(row.name)
    if side is None or side == own:
        return row.name
    return joined(name, side) if row.sides else None


def _side(modifier: str | None) -> str | None:
    return next((side for side, code in SIDES.items() if code.value == modifier), None)


def _present(value: str | None) -> str | None:
    """A code value of SNOMED CT for one of SRT; as it is where it is one already, or is not known."""
    if not value:
        return None
    return _of_old_codes().get(value.strip(), value.strip())


@functools.cache
def _of_old_codes() -> dict[str, str]:
    return _OLD_SIDES | {row.old_code: row.code for row in rows() if row.old_code}


@functools.cache
def _also_coded() -> dict[str, tuple[str, str | None]]:
    """Code value -> the code of the table, and the side that it says."""
    return {value: (row.code, side) for row in rows() for value, side in row.also_coded}


@functools.cache
def _rows_by_code() -> dict[str, Row]:
    """The plain row of each code: that without a region. An artery that says no more is not one of the lung."""
    return {row.code: row for row in rows() if not row.region}


@functools.cache
def _by_code() -> dict[_Coded, str]:
    values: dict[_Coded, str] = {}
    for found in _table().values():
        codes = (found.type, found.modifier, found.region, found.region_modifier)
        values.setdefault(_Coded(*(code.value if code else None for code in codes)), found.name)
    return values


@functools.cache
def _table() -> dict[str, Structure]:
    """Canonical name -> structure, each side by itself."""
    return {found.name: found for row in rows() for found in _of_row(row)}


def _row_of(stem: str, side: str | None) -> Row:
    return next(row for row in rows() if row.name in (stem, joined(stem, side)))


def _of_row(row: Row) -> Iterator[Structure]:
    region = _region(row)
    plain = Structure(
        name=row.name,
        category=CATEGORIES[row.category],
        type=_sct(row.code, row.meaning),
        modifier=_sct(*row.modifier.split(" ", 1)) if row.modifier else None,
        region=region,
        rgb=row.rgb[0],
        rt_type=row.rt_type,
    )
    yield plain
    for side, rgb in zip((LEFT, RIGHT), row.rgb[1:], strict=True) if row.sides else ():
        sided = replace(plain, name=joined(row.name, side), rgb=rgb)
        # in "left kidney cyst" the kidney is the left one
        if region and row.category != "anatomy":
            yield replace(sided, region_modifier=SIDES[side])
        else:
            yield replace(sided, modifier=SIDES[side])


def _region(row: Row) -> Code | None:
    if not row.region:
        return None
    return next(_sct(other.code, other.meaning) for other in rows() if other.code == row.region)


def _finding(stem: str, side: str | None) -> Structure | None:
    """A finding in a structure of the table: "kidney_cyst" on the "left"."""
    found = finding_in(stem)
    if not found:
        return None
    place = _table().get(joined(found[0], side)) or _table().get(found[0])
    if place is None or place.region or place.category not in (CATEGORIES["anatomy"], CATEGORIES["tissue"]):
        return None
    finding = _table()[found[1]]
    return replace(finding, region=place.type, region_modifier=place.modifier, rt_type="")
