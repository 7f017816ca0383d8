"""Go through a data set and write another one, of what may stay.

Nothing is copied that has no rule: the new data set starts empty. Sequences are gone through in the same way.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VM
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from medsam.errors import InputError
from medsam.io.dicom.deidentify import tags
from medsam.io.dicom.deidentify.codes import FIELDS, VALUES, about_person, cleaned_code, dummy_code, is_code
from medsam.io.dicom.deidentify.keys import Pseudonyms
from medsam.io.dicom.deidentify.options import Options
from medsam.io.dicom.deidentify.structures import StructureNames
from medsam.io.dicom.deidentify.table import ARRAY_VRS, NUMBER_VRS, TEXT_VRS, TIME_VRS, Action, Rules, listed, vrs
from medsam.io.dicom.deidentify.texts import Identity
from medsam.io.dicom.deidentify.values import coarse_age, dummy, each, is_several, moved
from medsam.io.dicom.read import syntax_of
from medsam.io.dicom.tags import named, text

_WRITTEN = frozenset(("DS", "IS"))
_NUMBERS = re.compile(rb"[0-9eE.+\- \\]*\0?")
_NUMBER = re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *")
_FORMS = {
    "CS": re.compile(r"[A-Z0-9_ ]{0,16}"),
    "UI": re.compile(r"(?=.{1,64}$)\d+(\.\d+)+"),
    "AS": re.compile(r"\d{3}[DWMY]|"),
}
# an array in place of a number, or the other way round, is no such thing
_KINDS = (TEXT_VRS, NUMBER_VRS - {"AT"}, ARRAY_VRS - {"UN"}, frozenset(("CS", "LO", "SH")))
_LONGEST = {"SH": 16, "LO": 64, "ST": 1024}
_SHORTEST_NUMBER, _LONGEST_NUMBER = 5, 12
_MOST_DEPTH = 32


@dataclass
class Done:
    """What was done with the elements of a file: action -> how many. kept_texts: tags of texts that stayed.

    identity: how many values went because they held a name or a number of the file's own.
    """

    actions: Counter[str] = field(default_factory=Counter)
    kept_texts: Counter[str] = field(default_factory=Counter)
    identity: int = 0


def person_of(dataset: Dataset) -> str:
    """Whom a data set is of, for pseudonyms: Patient ID, else name, else study."""
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID"):
        if who := text(dataset, keyword):
            return f"{keyword}\0{who}"
    return ""


class Walker:
    """Cleans one data set after the other; they have nothing in common but the rules and the key."""

    def __init__(self, options: Options, pseudonyms: Pseudonyms) -> None:
        self.options = options
        self.pseudonyms = pseudonyms
        self.rules = Rules(options)

    def clean(self, dataset: Dataset) -> tuple[Dataset, Done]:
        """The data set without file meta information and marks, and what was done.

        Raises InputError when an element that an image cannot do without would not stay as it is.
        """
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            stated = text(dataset, keyword)
            if stated is None or dataset[keyword].VM != 1:
                raise InputError(f"{named(keyword)} is missing or damaged: nobody can tell what the file belongs to")
        walk = _Walk(self, dataset)
        cleaned = walk.walk(dataset, 0)
        for keyword in tags.NEEDED:
            if keyword in dataset and keyword not in cleaned:
                raise InputError(
                    f"{named(keyword)} is damaged, or holds a name or number of the patient: without it the rest is "
                    "of no use"
                )
        cleaned.SpecificCharacterSet = "ISO_IR 192"
        # also where the source leaves them empty: what belongs to one person is told by them
        cleaned.PatientID = cleaned.PatientName = self.pseudonyms.name("patient", person_of(dataset))
        return cleaned, walk.done


class _Walk:
    """One data set on its way through."""

    def __init__(self, walker: Walker, dataset: Dataset) -> None:
        self._rules = walker.rules
        self._options = walker.options
        self._pseudonyms = walker.pseudonyms
        self._identity = Identity(dataset, walker.rules.may_stay)
        self._structures = StructureNames(walker.pseudonyms)
        self._implicit = syntax_of(dataset).is_implicit_VR
        self._person = person_of(dataset)
        self._days = walker.pseudonyms.days(self._person) if walker.options.shift_dates else 0
        self.done = Done()

    def walk(self, dataset: Dataset, depth: int) -> Dataset:
        if depth > _MOST_DEPTH:
            raise InputError(f"Sequences lie in one another {_MOST_DEPTH} deep: no such object is known.")
        cleaned = Dataset()
        skipped = self._add_code(dataset, cleaned)
        if "patient" not in self._options.keep and about_person(dataset):
            skipped |= self._add_nothing(dataset, cleaned)
        for tag in sorted(dataset.keys()):
            if tag in skipped:
                continue
            if tag.is_private and "private" in self._options.keep:
                self._add_private(dataset, tag, cleaned)
                continue
            if depth and tag.group == 0x7FE0:
                # a picture in a picture, such as a preview, at which nobody has looked
                self._drop(Action.REMOVE)
                continue
            if self._is_plain(dataset, tag):
                # as the file has them: contours are numbers by the million
                cleaned[tag] = dataset.get_item(tag)
                self.done.actions[Action.KEEP] += 1
                continue
            element = self._parsed(dataset, tag)
            if element is None:
                continue
            found = self._element(element, depth)
            if found is not None:
                cleaned.add(found)
        return cleaned

    def _is_plain(self, dataset: Dataset, tag: BaseTag) -> bool:
        """Whether an element that may stay is not parsed yet, and holds numbers in writing and nothing else."""
        if self._rules.action(tag)[0] != Action.KEEP or not vrs(tag) <= _WRITTEN:
            return False
        raw = dataset.get_item(tag)
        # without a kind of its own it can be written to a file alone that states none, either
        if not isinstance(raw, RawDataElement) or raw.VR not in (*_WRITTEN, *((None,) if self._implicit else ())):
            return False
        if not isinstance(raw.value, bytes) or not _NUMBERS.fullmatch(raw.value):
            return False
        return not self._is_patients(raw.value.decode("ascii"))

    def _is_patients(self, number: str) -> bool:
        """Whether a whole number is one of the patient's; shorter ones are those of slices."""
        return _SHORTEST_NUMBER <= len(number.strip(" \0")) <= _LONGEST_NUMBER and self._identity.in_text(number)

    def _parsed(self, dataset: Dataset, tag: BaseTag) -> DataElement | None:
        """An element whose rule may keep it and that is what the standard says it is; else None."""
        action, _ = self._rules.action(tag)
        if action == Action.REMOVE:
            return self._drop(Action.REMOVE)
        try:
            element = dataset[tag]
        except Exception:  # numbers that are none; pydicom raises what it likes
            return self._drop("unreadable, removed")
        if element.VR == "IS" and self._is_patients(str(element.value)):
            self.done.identity += 1
            return self._drop(Action.REMOVE)
        if not _same_kind(element.VR, vrs(tag)) or not _are_numbers(element):
            return self._drop("not stored as the standard says, removed")
        return element

    def _drop(self, how: str) -> Any:
        """Count an element that does not stay, and stand in its place: None."""
        self.done.actions[how] += 1
        return None

    def _element(self, element: DataElement, depth: int) -> DataElement | None:
        action, otherwise = self._rules.action(element.tag)
        if element.VR == "SQ":
            return self._sequence(element, action, depth)
        if action in (Action.REMOVE, Action.WALK):
            return self._drop(Action.REMOVE)
        if action == Action.TIME and self._options.dates == "REMOVED":
            action = otherwise
        value = self._value(element, action)
        if value is None and action not in (Action.EMPTY, Action.DUMMY):
            action = otherwise
            value = self._value(element, action)
        if action == Action.REMOVE or (value is None and action not in (Action.EMPTY, Action.DUMMY)):
            return self._drop(Action.REMOVE)
        self._count(element, action)
        if action == Action.KEEP and element.VR not in ("CS", "AS"):
            # numbers as they are written, and arrays without a copy
            return element
        return DataElement(element.tag, element.VR, value)

    def _count(self, element: DataElement, action: Action) -> None:
        if action in (Action.TEXT, Action.DESCRIPTOR) and element.VR in TEXT_VRS:
            self.done.kept_texts[f"({element.tag.group:04X},{element.tag.element:04X}) {element.name}"] += 1
        how = str(action)
        if action == Action.TIME:
            how = "date or time moved" if self._options.shift_dates else "date or time kept"
        self.done.actions[how] += 1

    def _value(self, element: DataElement, action: Action) -> Any:
        """The value that an action leaves; None when it cannot, or when none is left."""
        value, vr = element.value, element.VR
        if action == Action.EMPTY or _is_empty(value):
            return "" if vr in TEXT_VRS | TIME_VRS | {"CS", "UI", "AS", "DS", "IS"} else None
        match action:
            case Action.DUMMY:
                return dummy(vr)
            case Action.UID:
                return each(value, self._pseudonyms.uid)
            case Action.PERSON:
                return self._pseudonyms.name("patient", self._person)
            case Action.TIME:
                return each(value, lambda one: moved(one, vr, self._days))
            case Action.STRUCTURE:
                return self._structure(str(value))
            case Action.TRACKING:
                return self._pseudonyms.name("tracking", str(value))
            case Action.AGE:
                return coarse_age(str(value)) or None
            case Action.DESCRIPTOR:
                return self._description(value)
            case _:
                return self._kept(element)

    def _structure(self, name: str) -> str:
        if "descriptors" in self._options.keep and (found := self._identity.cleaned(name)):
            return found
        return self._structures.name(name)

    def _description(self, value: Any) -> Any:
        cleaned = each(value, self._identity.cleaned)
        return cleaned if any(cleaned) else None

    def _kept(self, element: DataElement) -> Any:
        """The value as it is, unless it says who the patient is or is not what such elements hold."""
        # a code that is stored as a text is a code all the same, and a short text no long one
        value, vr = element.value, min(vrs(element.tag), default=element.VR)
        if vr not in TEXT_VRS | {"CS", "AS", "UI"}:
            return value
        texts = [str(one) for one in value] if is_several(value) else [str(value)]
        if vr == "CS":
            texts = [one.strip().upper() for one in texts]
        if not all(_is_sound(one, vr) for one in texts):
            return None
        if vr != "UI" and any(self._identity.in_text(one) for one in texts if one not in tags.COMMON_CODES):
            self.done.identity += 1
            return None
        return texts if is_several(value) else texts[0]

    def _sequence(self, element: DataElement, action: Action, depth: int) -> DataElement | None:
        if action in (Action.REMOVE, Action.DUMMY):
            return self._drop(Action.REMOVE)
        if action == Action.EMPTY:
            items = []
        elif action == Action.CODE:
            items = [dummy_code() for _ in element.value]
        else:
            items = [self.walk(item, depth + 1) for item in element.value]
        self.done.actions[Action.EMPTY if action == Action.EMPTY else Action.WALK] += 1
        return DataElement(element.tag, "SQ", items)

    def _add_code(self, item: Dataset, cleaned: Dataset) -> frozenset[int]:
        """Add what is left of a code; the tags that are dealt with by that."""
        if not is_code(item):
            return frozenset()
        code, same = cleaned_code(item)
        if same and any(self._identity.in_text(text(code, keyword) or "") for keyword in VALUES):
            # a number of the patient's under the name of a vocabulary
            code, same = dummy_code(), False
            self.done.identity += 1
        if same and "descriptors" in self._options.keep and (meaning := text(item, "CodeMeaning")):
            code.CodeMeaning = self._identity.cleaned(meaning)[:64] or code.CodeMeaning
        cleaned.update(code)
        self.done.actions["code kept" if same else "code replaced by a dummy"] += 1
        return listed(FIELDS)

    def _add_nothing(self, item: Dataset, cleaned: Dataset) -> frozenset[int]:
        """Add, for an item of a report that says how old the patient is, or the like, that nothing is known."""
        for keyword, items in (("MeasuredValueSequence", []), ("ConceptCodeSequence", [dummy_code()])):
            if keyword in item:
                setattr(cleaned, keyword, items)
                self.done.actions[Action.EMPTY] += 1
        return listed(tags.ANSWERS)

    def _add_private(self, dataset: Dataset, tag: BaseTag, cleaned: Dataset) -> None:
        """Add a private element when it is one of `SAFE_PRIVATE` and a number, with the name of its block."""
        creator_tag = BaseTag(tag.group << 16 | tag.element >> 8)
        try:
            creator = dataset[creator_tag].value if tag.element > 0xFF else None
            element = dataset[tag]
        except Exception:
            self._drop(Action.REMOVE)
            return
        safe = isinstance(creator, str) and (tag.group, creator.strip(), tag.element & 0xFF) in tags.SAFE_PRIVATE
        if not safe or element.VR not in NUMBER_VRS or element.VR == "AT":
            # names of blocks are added with what they name
            if tag.element > 0xFF:
                self._drop("private, removed")
            return
        cleaned.add(DataElement(creator_tag, "LO", str(creator).strip()))
        cleaned.add(element)
        self.done.actions["private number kept"] += 1


def _is_sound(one: str, vr: str) -> bool:
    """Whether a text is what its kind of element holds, and not a person's name by its marks."""
    if vr in _FORMS:
        return bool(_FORMS[vr].fullmatch(one))
    return len(one) <= _LONGEST.get(vr, 10240) and "^" not in one


def _is_empty(value: Any) -> bool:
    # never as a text: pixels are many bytes
    return value is None or (hasattr(value, "__len__") and len(value) == 0)


def _are_numbers(element: DataElement) -> bool:
    """Whether an element of numbers holds such, and as many as the standard says: more of them may be letters."""
    value, vr = element.value, element.VR
    if vr not in NUMBER_VRS or element.VM == 0 or _is_empty(value):
        return True
    if vr in ("DS", "IS"):
        return all(_NUMBER.fullmatch(str(one)) for one in (value if is_several(value) else [value]))
    allowed = dictionary_VM(element.tag).split("-")
    if allowed[-1].endswith("n"):
        return True
    return int(allowed[0]) <= element.VM <= int(allowed[-1])


def _same_kind(vr: str, possible: frozenset[str]) -> bool:
    """Whether an element is stored as the standard says, or as something like it."""
    return vr in possible or any(vr in kind and possible & kind for kind in _KINDS)
