"""By what results can be told apart: attributes of a case, from its manifest, its DICOM tags or what lies beside it.

An attribute is one of `NAMES`, any DICOM keyword or tag that names nobody (see `medsam.io.dicom.attributes`), or a key
that the cases' `attributes` hold. Sources, the first that states it: `attributes` in the manifest; DICOM tags of the
image; the JSON that dcm2niix or BIDS keeps beside a NIfTI; `participants.tsv` of a BIDS folder (sex and age).

What may tell who somebody is never leaves this module: ages are bins, institutions numbers, dates and names refused.
"""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from medsam.data.manifest import Case
from medsam.data.words import stem, word_set
from medsam.errors import InputError
from medsam.io.dicom.attributes import AGE, CONTRAST, INSTITUTION, keyword_of, series_attributes, sidecar_values
from medsam.io.files import read_json
from medsam.io.formats import NIFTI

# a name -> the DICOM keyword, or what `series_attributes` calls it
NAMES: Mapping[str, str] = {
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "modality": "Modality",
    "slice_thickness": "SliceThickness",
    "slice_spacing": "SpacingBetweenSlices",
    "spacing": "PixelSpacing",
    "kernel": "ConvolutionKernel",
    "kvp": "KVP",
    "field_strength": "MagneticFieldStrength",
    "body_part": "BodyPartExamined",
    "sex": "PatientSex",
    "age": AGE,
    "weight": "PatientWeight",
    "contrast": CONTRAST,
    "institution": INSTITUTION,
}
_UNITS = {
    "SliceThickness": "mm",
    "SpacingBetweenSlices": "mm",
    "PixelSpacing": "mm",
    "KVP": "kV",
    "MagneticFieldStrength": "T",
}
# lower ends of bins; of a person nothing is told more exactly
_PERSON_BINS: Mapping[str, tuple[Sequence[float], str]] = {
    AGE: ((0, 18, 40, 60, 80), "years"),
    "PatientWeight": (range(0, 141, 20), "kg"),
    "PatientSize": ((0, 1.2, 1.4, 1.6, 1.8, 2.0), "m"),
}
_BINS: Mapping[str, Sequence[float]] = {
    "SliceThickness": (0, 1, 2, 3, 5, 10),
    "SpacingBetweenSlices": (0, 1, 2, 3, 5, 10),
    "PixelSpacing": (0, 0.5, 0.75, 1, 1.5, 2),
}
# up to so many different numbers are groups themselves
_MOST_NUMBERS = 6
# what vendors add to their name, or leave out
_COMPANY = word_set(
    "healthineers healthcare medical systems system ag gmbh corporation corp inc co ltd llc company solutions"
)
UNKNOWN = "unknown"
_SEX = {"m": "M", "male": "M", "f": "F", "female": "F", "o": "O", "other": "O"}


@dataclass(frozen=True)
class Grouping:
    """name: as asked for. group: of each case, "unknown" where nothing states it; in the order of `groups`.

    groups: from low to high where they are numbers, else in alphabetical order; unknown last.
    """

    name: str
    group: Mapping[str, str]

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(self.group[case] for case in sorted(self.group, key=self._place)))

    def _place(self, case: str) -> tuple[bool, float, str]:
        label = self.group[case]
        number = re.match(r"(?:under |site )?(\d+(?:\.\d+)?)", label)
        low = float(number[1]) - label.startswith("under ") * 1e-6 if number else math.inf
        return label == UNKNOWN, low, label


def attribute_of(name: str, known: Iterable[str] = ()) -> str:
    """The keyword that a name means. known: keys that stand in manifests, which go as they are.

    Raises InputError for what is neither, and for tags that may tell who somebody is.
    """
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    if plain in NAMES:
        return NAMES[plain]
    if name.strip() in known:
        return name.strip()
    try:
        return keyword_of(name)
    except InputError as error:
        near = difflib.get_close_matches(plain, NAMES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"{error}{hint} Names are {', '.join(NAMES)}, and keys of `attributes` in the manifest.", parameter="by"
        ) from error


def attributes_of(case: Case, keywords: Sequence[str]) -> dict[str, str | float]:
    """What is known of a case, by keyword; of age, weight and size the bin it falls into, never the number.

    Institutions are in it by their names: for `groupings`, which numbers them.
    """
    found: dict[str, str | float] = {}
    stated = {NAMES.get(key.lower(), key): value for key, value in case.attributes.items()}
    sources = (lambda: stated, lambda: _tags(case, keywords), lambda: _beside(case.image, keywords))
    for source in sources:
        missing = [keyword for keyword in keywords if keyword not in found]
        if missing:
            found |= {keyword: value for keyword, value in source().items() if keyword in missing}
    if case.modality and "Modality" in keywords:
        found["Modality"] = case.modality
    return {keyword: _safe(keyword, value) for keyword, value in found.items()}


def groupings(
    cases: Sequence[tuple[str, Case]], names: Sequence[str], more: Mapping[str, Mapping[str, float]] | None = None
) -> list[Grouping]:
    """The groups of cases by each of the names. cases: (name of the case, case).

    more: case -> keyword -> number where no tag states it, such as the spacing that was measured.
    Raises InputError as `attribute_of` does.
    """
    known = {key for _, case in cases for key in case.attributes}
    keywords = [attribute_of(name, known) for name in names]
    found = {case: attributes_of(entry, keywords) for case, entry in cases}
    for case, numbers in (more or {}).items():
        found[case] = {**{key: value for key, value in numbers.items() if key in keywords}, **found.get(case, {})}
    return [
        Grouping(name, _labels(keyword, {case: values.get(keyword) for case, values in found.items()}))
        for name, keyword in zip(names, keywords, strict=True)
    ]


def with_attributes(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    """Cases that hold what `groupings` would read of them, so that a copy of the manifest needs no tags.

    Of a person no more than a bin, of an institution a number. Raises InputError as `attribute_of` does.
    """
    if not names:
        return list(cases)
    keywords = {name: attribute_of(name) for name in names}
    sites: dict[str, str] = {}
    if INSTITUTION in keywords.values():
        sites = _labels(INSTITUTION, {case.id: attributes_of(case, [INSTITUTION]).get(INSTITUTION) for case in cases})
    found = []
    for case in cases:
        values = attributes_of(case, list(keywords.values()))
        if sites:
            values = {**values, INSTITUTION: sites[case.id]}
        kept = {name: values[keyword] for name, keyword in keywords.items() if values.get(keyword, UNKNOWN) != UNKNOWN}
        found.append(replace(case, attributes={**case.attributes, **kept}))
    return found


# -- sources ------------------------------------------------------------------------------------------------


def _tags(case: Case, keywords: Sequence[str]) -> dict[str, str | float]:
    tags = [keyword for keyword in keywords if keyword in (AGE, CONTRAST, INSTITUTION) or _is_tag(keyword)]
    if not tags or NIFTI.names(case.image):
        return {}
    return series_attributes(case.image, case.series, tags)


def _is_tag(keyword: str) -> bool:
    try:
        return keyword_of(keyword) == keyword
    except InputError:
        return False


def _beside(image: Path, keywords: Sequence[str]) -> dict[str, str | float]:
    """What the JSON beside an image and the participants.tsv of its set say."""
    if image.is_dir():
        return {}
    found: dict[str, str | float] = {}
    sidecar = image.with_name(f"{stem(image)}.json")
    if sidecar.is_file():
        try:
            content = read_json(sidecar)
        except InputError:
            content = None
        if isinstance(content, dict):
            found = sidecar_values(content, [keyword for keyword in keywords if _is_tag(keyword)])
    person = next((part for part in image.parts[:-1] if re.fullmatch(r"sub-[A-Za-z0-9]+", part)), None)
    if person is not None:
        root = Path(*image.parts[: image.parts.index(person)])
        found |= {key: value for key, value in _people(root).get(person, {}).items() if key in keywords}
    return found


def _people(root: Path) -> Mapping[str, Mapping[str, str | float]]:
    """Person -> sex and age, of a BIDS folder's participants.tsv; nothing where there is none."""
    path = root / "participants.tsv"
    try:
        return _participants(path, path.stat().st_mtime_ns)
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}


@lru_cache(maxsize=16)
def _participants(path: Path, _changed: int) -> Mapping[str, Mapping[str, str | float]]:
    found: dict[str, dict[str, str | float]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            values = found.setdefault((row.get("participant_id") or "").strip(), {})
            if (sex := (row.get("sex") or row.get("gender") or "").strip().lower()) in _SEX:
                values["PatientSex"] = _SEX[sex]
            if re.fullmatch(r"\d{1,3}(\.\d+)?", age := (row.get("age") or "").strip()):
                values[AGE] = float(age)
    return found


# -- values to groups ---------------------------------------------------------------------------------------


def _safe(keyword: str, value: str | float) -> str | float:
    """A value in this project's units; of a person the bin it falls into."""
    if keyword in _PERSON_BINS:
        number = _number(value)
        if number is None:
            return value  # the bin that a manifest states
        edges, unit = _PERSON_BINS[keyword]
        return _bin(number, edges, unit)
    if keyword == "PatientSex":
        return _SEX.get(str(value).strip().lower(), UNKNOWN)
    if keyword == "MagneticFieldStrength" and isinstance(value, float) and value > 100:
        return value / 10_000  # in gauss
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _labels(keyword: str, values: Mapping[str, str | float | None]) -> dict[str, str]:
    """Case -> its group."""
    stated = {case: value for case, value in values.items() if value not in (None, "", UNKNOWN)}
    numbers = {case: _number(value) for case, value in stated.items()}
    if keyword not in _PERSON_BINS and stated and None not in numbers.values():
        labels = _number_labels(keyword, {case: number for case, number in numbers.items() if number is not None})
    elif keyword == INSTITUTION:
        labels = _numbered({case: str(value) for case, value in stated.items()})
    else:
        texts = ((case, value if isinstance(value, str) else f"{value:g}") for case, value in stated.items())
        labels = _spelled(dict(texts))
    return {case: labels.get(case, UNKNOWN) for case in values}


def _number_labels(keyword: str, numbers: Mapping[str, float]) -> dict[str, str]:
    """Different numbers are groups while they are few; else bins: fixed ones, or four of equal size."""
    unit = f" {_UNITS[keyword]}" if keyword in _UNITS else ""
    # 1230, not 1.23e+03
    shown = {case: f"{number:.3g}" if abs(number) < 100 else f"{number:.6g}" for case, number in numbers.items()}
    if len(set(shown.values())) <= _MOST_NUMBERS:
        return {case: f"{label}{unit}" for case, label in shown.items()}
    edges = _BINS.get(keyword)
    if edges is None:
        ordered = sorted(numbers.values())
        quarters = (ordered[int(share * (len(ordered) - 1))] for share in (0, 0.25, 0.5, 0.75))
        edges = list(dict.fromkeys(float(f"{edge:.3g}") for edge in quarters))
    return {case: _bin(number, edges, unit.strip()) for case, number in numbers.items()}


def _bin(number: float, edges: Sequence[float], unit: str) -> str:
    """ "40 to under 60 years": the bin from one edge to the next; below the first it is open, and from the last on."""
    unit = f" {unit}" if unit else ""
    below = [edge for edge in edges if edge <= number]
    above = [edge for edge in edges if edge > number]
    if not below:
        return f"under {above[0]:g}{unit}"
    return f"{below[-1]:g} to under {above[0]:g}{unit}" if above else f"{below[-1]:g}{unit} or more"


def _spelled(texts: Mapping[str, str]) -> dict[str, str]:
    """Texts that differ in case, blanks or a company's form are one group, called by the commonest spelling."""
    spellings: dict[str, dict[str, int]] = {}
    for text in texts.values():
        counts = spellings.setdefault(_plain(text), {})
        counts[text] = counts.get(text, 0) + 1
    called = {key: min(counts, key=lambda text: (-counts[text], text)) for key, counts in spellings.items()}
    return {case: called[_plain(text)] for case, text in texts.items()}


def _plain(text: str) -> str:
    words = re.findall(r"\w+", text.casefold().replace("_", " "))
    return " ".join(word for word in words if word not in _COMPANY) or " ".join(words)


def _numbered(texts: Mapping[str, str]) -> dict[str, str]:
    """Institutions as site 1, site 2, ... by the number of their cases: their names are not for a report."""
    plain = {case: _plain(text) for case, text in texts.items()}
    sizes: dict[str, int] = {}
    for site in plain.values():
        sizes[site] = sizes.get(site, 0) + 1
    # of equal size by their first case, not by their names
    first = {site: min(case for case in plain if plain[case] == site) for site in sizes}
    order = sorted(sizes, key=lambda site: (-sizes[site], first[site]))
    return {case: f"site {order.index(site) + 1}" for case, site in plain.items()}


def _number(value: str | float | None) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None
