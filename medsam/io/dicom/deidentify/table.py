"""What happens to an element: the table of DICOM PS3.15 (in the edition `EDITION`), options, and what it leaves open.

The table is the one of dicom-anonymizer; the actions are ours. Where it offers several (X/Z/D: delete, empty or
replace, as the type of the element in its object demands), the one that is valid for every type is taken.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.tag import BaseTag

from medsam.io.dicom.deidentify import tags
from medsam.io.dicom.deidentify.options import Options

EDITION = "2026c"

TEXT_VRS = frozenset(("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
TIME_VRS = frozenset(("DA", "DT", "TM"))
ARRAY_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
NUMBER_VRS = frozenset(("AT", "DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"))


class Action(StrEnum):
    """What is done with an element, in the words of the report."""

    REMOVE = "removed"
    EMPTY = "emptied"
    DUMMY = "replaced by a dummy"
    UID = "UID replaced"
    PERSON = "replaced by the patient's pseudonym"
    TIME = "date or time"
    STRUCTURE = "name of a structure"
    TRACKING = "name of a tracked object"
    DESCRIPTOR = "description"
    TEXT = "technical text"
    AGE = "age"
    WALK = "sequence"
    CODE = "code"
    KEEP = "kept"


_COLUMNS = {
    "X_TAGS": Action.REMOVE,
    "Z_TAGS": Action.EMPTY,
    "D_TAGS": Action.DUMMY,
    "U_TAGS": Action.UID,
    "Z_D_TAGS": Action.DUMMY,
    "X_Z_TAGS": Action.EMPTY,
    "X_D_TAGS": Action.DUMMY,
    "X_Z_D_TAGS": Action.DUMMY,
    "X_Z_U_STAR_TAGS": Action.WALK,
}

# sequences that the table would replace by a dummy: what they hold is cleaned instead, or they are there and empty
_WALKED = ("ContentSequence", "VerifyingObserverSequence")
_EMPTIED = ("ReferencedPerformedProcedureStepSequence",)


@cache
def standard_table() -> tuple[dict[int, Action], dict[tuple[int, int, int, int], Action]]:
    """Tag -> action, and (group, element, mask of each) -> action for groups that repeat."""
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector

    columns = dicom_anonymization_database_selector(f"dicomfields_{EDITION}")
    single: dict[int, Action] = {}
    repeating: dict[tuple[int, int, int, int], Action] = {}
    for column, action in _COLUMNS.items():
        for tag in columns[column]:
            if len(tag) == 2:
                single[tag[0] << 16 | tag[1]] = action
            else:
                repeating[tag] = action
    return single, repeating


@cache
def listed(keywords: tuple[str, ...]) -> frozenset[int]:
    """The tags of keywords; those that this pydicom does not know yet, it does not read by name, either."""
    found = [tag_for_keyword(keyword) for keyword in keywords]
    return frozenset(tag for tag in found if tag is not None)


@cache
def vrs(tag: BaseTag) -> frozenset[str]:
    """What an element of the standard may be stored as; none for an unknown one."""
    try:
        return frozenset(dictionary_VR(tag).split(" or "))
    except KeyError:
        return frozenset()


class Rules:
    """The action for each element, with the options of a run."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._single, self._repeating = standard_table()
        self._named = self._by_name(options)
        # elements that an option keeps as they are
        self.may_stay = frozenset(tag for tag, action in self._named.items() if action == Action.TEXT)
        self._known: dict[int, tuple[Action, Action]] = {}

    def action(self, tag: BaseTag) -> tuple[Action, Action]:
        """What is done with an element, and what when that is not possible (a text that says who it is about)."""
        if tag not in self._known:
            self._known[tag] = self._find(tag)
        return self._known[tag]

    def _find(self, tag: BaseTag) -> tuple[Action, Action]:
        possible = vrs(tag)
        outside = tag.group < 8 or tag.element == 0 or tag.is_private or not possible
        if outside or tag.group & 0xFF00 in (0x5000, 0x6000):
            # unknown elements, lengths of groups, curves and overlays, which are pictures of text as often as not
            return Action.REMOVE, Action.REMOVE
        standard = self._standard(tag)
        otherwise = self._otherwise(tag) if standard is None else standard
        if tag in self._named:
            return self._named[tag], otherwise
        if possible & TIME_VRS:
            return (otherwise if tag in listed(tags.NEVER_DATES) else Action.TIME), otherwise
        return (standard or self._open(tag, possible, otherwise)), otherwise

    def _open(self, tag: BaseTag, possible: frozenset[str], otherwise: Action) -> Action:
        """For what the table says nothing of."""
        if "SQ" in possible:
            return Action.WALK
        if "UI" in possible:
            return Action.KEEP if "uids" in self._options.keep else Action.UID
        if possible & TEXT_VRS:
            return Action.TEXT if tag in listed(tags.TECHNICAL) else otherwise
        if possible <= ARRAY_VRS | {"US"} and possible & ARRAY_VRS:
            return Action.KEEP if tag in listed(tags.ARRAYS) else Action.REMOVE
        # numbers, and codes of the standard (CS)
        return Action.KEEP

    def _standard(self, tag: BaseTag) -> Action | None:
        action = self._single.get(tag)
        for (group, element, group_mask, element_mask), repeated in self._repeating.items():
            if tag.group & group_mask == group & group_mask and tag.element & element_mask == element & element_mask:
                action = repeated
        if "SQ" in vrs(tag) and action == Action.DUMMY:
            # a dummy item would have to be made for each kind: those that are required are walked
            if tag in listed(_WALKED):
                return Action.WALK
            return Action.EMPTY if tag in listed(_EMPTIED) else Action.REMOVE
        return action

    @staticmethod
    def _otherwise(tag: BaseTag) -> Action:
        """For a text that the table leaves open."""
        if tag in listed(tags.REQUIRED_TEXTS) or tag in listed(tags.TECHNICAL):
            return Action.DUMMY
        return Action.EMPTY if tag in listed(tags.EMPTY_TEXTS) else Action.REMOVE

    @staticmethod
    def _by_name(options: Options) -> dict[int, Action]:
        """Elements with a rule of their own."""
        found: dict[int, Action] = {}
        if "uids" in options.keep:
            table, _ = standard_table()
            found |= {tag: Action.KEEP for tag, action in table.items() if action == Action.UID}
        for name, keywords in (("device", tags.DEVICE), ("institution", tags.INSTITUTION), ("patient", tags.PATIENT)):
            if name in options.keep:
                found |= dict.fromkeys(listed(keywords), Action.TEXT)
        if "descriptors" in options.keep:
            found |= dict.fromkeys(listed(tags.DESCRIPTORS), Action.DESCRIPTOR)
        found |= dict.fromkeys(listed(tags.STRUCTURES), Action.STRUCTURE)
        found |= dict.fromkeys(listed(("TrackingID",)), Action.TRACKING)
        found |= dict.fromkeys(listed(("PatientID", "PatientName")), Action.PERSON)
        if "patient" in options.keep:
            found |= dict.fromkeys(listed(("PatientAge",)), Action.AGE)
        else:
            found |= dict.fromkeys(listed(tags.BODY), Action.REMOVE)
        if options.dates != "REMOVED":
            found |= dict.fromkeys(listed(("TimezoneOffsetFromUTC",)), Action.TIME)
        found |= dict.fromkeys(listed(("ContentLabel",)), Action.DUMMY)
        found |= dict.fromkeys(listed(("PersonIdentificationCodeSequence",)), Action.CODE)
        found |= dict.fromkeys(listed(tags.GONE), Action.REMOVE)
        return found
