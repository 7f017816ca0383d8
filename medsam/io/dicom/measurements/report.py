"""Coordinates in a structured report (SR) -> measurements.

A report is a tree. Wherever spatial coordinates stand in it, in pixels of an image or in mm, what they belong to is the
nearest item above that is a measurement group (TID 1411, 1410, 1501), a finding of a CAD, or anything that holds a
tracking identifier, a finding or both axes of a bidirectional measurement; else the nearest number they were measured
for. So reports of the template of measurements (TID 1500) and older trees are read alike. Groups that share a
tracking UID are one object.

An object is called by its tracking identifier, or by its codes (finding, finding site); other text may hold anything,
and is not read. Items may stand elsewhere in the tree than where they are used (by-reference relationships).

Source: DICOM PS3.3 C.17.3 (document content), C.18.6 and C.18.9 (coordinates), PS3.16 TID 1500, 1501, 1410, 1411.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pydicom import Dataset

from medsam.errors import InputError
from medsam.io.dicom.measurements.common import (
    Axis,
    ImageReference,
    Measurement,
    Measurements,
    Shape,
    Unused,
    presentable,
    shape_of,
)
from medsam.io.dicom.measurements.presentation import frames_of_reference
from medsam.io.dicom.tags import numbers, sequence_items, text
from medsam.labels import structure_of_code

# every kind of structured report is below
REPORT_ROOT = "1.2.840.10008.5.1.4.1.1.88."
_SEG_ROOT = "1.2.840.10008.5.1.4.1.1.66."

Code = tuple[str, str]  # scheme, value

_GROUPS = {("DCM", "125007"), ("DCM", "111059"), ("DCM", "111015"), ("DCM", "111017")}
_TRACKED_AS, _TRACKED_UID = {("DCM", "112039")}, {("DCM", "112040")}
_FINDING = {("DCM", "121071")}
_SITE = {("SCT", "363698007"), ("SRT", "G-C0E3"), ("SNM3", "G-C0E3"), ("99SDM", "G-C0E3")}
_LATERALITY = {("SCT", "272741003"), ("SRT", "G-C171")}
_AXES: dict[Code, Axis] = {
    ("SCT", "103339001"): "long",
    ("SRT", "G-A185"): "long",
    ("SCT", "103340004"): "short",
    ("SRT", "G-A186"): "short",
}
# codes that say no more than that there is something
_NOTHING = {("SCT", "91723000"), ("SCT", "123037004"), ("SCT", "91772007"), ("SRT", "R-4018B"), ("SRT", "T-D0005")}
# whose meanings are words of a vocabulary; those of other schemes are a user's own text
_VOCABULARIES = {"SCT", "SRT", "SNM3", "99SDM", "DCM", "FMA", "RADLEX", "UMLS", "NCIT", "LN", "ICD10", "MA"}
# a tree with more items was made to fill the memory
_MAX_ITEMS = 1_000_000


@dataclass(eq=False)
class _Item:
    """One content item. position: its way from the root, 1-based, as references give it."""

    dataset: Dataset
    above: _Item | None
    position: tuple[int, ...]
    children: list[_Item] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return text(self.dataset, "ValueType") or ""

    @property
    def concept(self) -> Code | None:
        return _code(self.dataset, "ConceptNameCodeSequence")

    def lineage(self) -> Iterator[_Item]:
        """All items above, the nearest first."""
        above = self.above
        while above is not None:
            yield above
            above = above.above


class _Tree:
    """Every item of a report."""

    def __init__(self, dataset: Dataset, name: str) -> None:
        self.root = _Item(dataset, None, (1,))
        self.items: list[_Item] = []
        self._at: dict[tuple[int, ...], _Item] = {}
        self._called: dict[tuple[int, ...], dict[Code, _Item]] = {}
        self._images: dict[tuple[int, ...], set[ImageReference]] = {}
        waiting = [self.root]
        # not by recursion, whose depth a file could exhaust
        while waiting:
            item = waiting.pop()
            self.items.append(item)
            self._at[item.position] = item
            below = sequence_items(item.dataset, "ContentSequence", name)
            if len(self.items) + len(below) > _MAX_ITEMS:
                raise InputError(f"{name}: it holds more than {_MAX_ITEMS} content items. The file is damaged.")
            item.children = [_Item(one, item, (*item.position, n)) for n, one in enumerate(below, start=1)]
            waiting += reversed(item.children)

    def children(self, item: _Item) -> Iterator[_Item]:
        """The items below one, also those it names by their position."""
        for child in item.children:
            try:
                position = numbers(child.dataset, "ReferencedContentItemIdentifier", "")
            except InputError:
                position = None
            found = child if position is None else self._at.get(tuple(map(int, position)))
            if found is not None:
                yield found

    def called(self, item: _Item) -> dict[Code, _Item]:
        """What the children of an item are called, and the first of each. Made once an item: it may have thousands."""
        found = self._called.get(item.position)
        if found is None:
            found = self._called[item.position] = {}
            for child in self.children(item):
                if (concept := child.concept) is not None:
                    found.setdefault(concept, child)
        return found

    def holds(self, item: _Item, concepts: set[Code]) -> _Item | None:
        """A child that is called so."""
        called = self.called(item)
        return next((called[concept] for concept in concepts if concept in called), None)

    def images(self, item: _Item) -> set[ImageReference]:
        """The images below an item. Made once an item."""
        found = self._images.get(item.position)
        if found is None:
            references = {_reference(child) for child in self.children(item) if child.kind == "IMAGE"}
            found = self._images[item.position] = {one for one in references if one is not None}
        return found


def read_report(dataset: Dataset, name: str) -> Measurements:
    """The spatial coordinates of a report. name: the file's, for messages. Raises InputError for a damaged one."""
    tree, unused = _Tree(dataset, name), Unused()
    grouped: dict[object, list[Shape]] = {}
    labels: dict[object, str | None] = {}
    words: dict[tuple[int, ...], str | None] = {}
    for item in tree.items:
        if item.kind not in ("SCOORD", "SCOORD3D"):
            continue
        shapes = _shapes(tree, item, name, unused)
        if not shapes:
            continue
        owner = _owner(tree, item)
        key = _identity(tree, owner)
        # the number that was measured may say more than the group does
        for one in (owner, *item.lineage()):
            if len(one.position) >= len(owner.position) and not labels.get(key):
                if one.position not in words:
                    words[one.position] = _label(tree, one)
                labels[key] = words[one.position]
        grouped.setdefault(key, []).extend(shapes)
    segments = sum(_is_segment(item) for item in tree.items)
    if segments:
        unused.add(
            "segment of a DICOM SEG is referred to: pass that file itself",
            "segments of DICOM SEG are referred to: pass those files themselves",
            segments,
        )
    items = tuple(Measurement(labels[key], tuple(shapes)) for key, shapes in grouped.items())
    return Measurements(items, tuple(unused.sentences()))


# -- coordinates --------------------------------------------------------------------------------------------


def _shapes(tree: _Tree, item: _Item, name: str, unused: Unused) -> list[Shape]:
    """The shape of one item, once for each image it was drawn on."""
    in_mm = item.kind == "SCOORD3D"
    values = numbers(item.dataset, "GraphicData", name) or ()
    found = shape_of(text(item.dataset, "GraphicType") or "", values, 3 if in_mm else 2)
    if found is None:
        unused.add("item has coordinates that make no shape", "items have coordinates that make no shape")
        return []
    axis = next((_AXES[one.concept] for one in (item, *item.lineage()) if one.concept in _AXES), None)
    axis = axis if found[0] == "line" else None
    if in_mm:
        frame = text(item.dataset, "ReferencedFrameOfReferenceUID")
        return [Shape(*found, frame_of_reference=frame, axis=axis)]
    if text(item.dataset, "PixelOriginInterpretation") == "VOLUME":
        unused.add("item counts pixels of a tiled picture", "items count pixels of a tiled picture")
        return []
    image = _image(tree, item)
    if image is None:
        unused.add("item does not say on which image it lies", "items do not say on which image they lie")
        return []
    each = [ImageReference(image.uid, (frame,)) for frame in image.frames] or [image]
    return [Shape(*found, image=one, axis=axis) for one in each]


def _image(tree: _Tree, item: _Item) -> ImageReference | None:
    """The image that pixels were counted on: the item's own, or the only one of an item above."""
    for one in (item, *item.lineage()):
        images = tree.images(one)
        if images:
            return next(iter(images)) if len(images) == 1 else None
    return None


def _reference(item: _Item) -> ImageReference | None:
    for one in sequence_items(item.dataset, "ReferencedSOPSequence", "")[:1]:
        uid = text(one, "ReferencedSOPInstanceUID")
        if uid and not (text(one, "ReferencedSOPClassUID") or "").startswith(_SEG_ROOT):
            return ImageReference(uid, frames_of_reference(one))
    return None


def _is_segment(item: _Item) -> bool:
    if item.kind != "IMAGE":
        return False
    references = sequence_items(item.dataset, "ReferencedSOPSequence", "")
    return any((text(one, "ReferencedSOPClassUID") or "").startswith(_SEG_ROOT) for one in references)


# -- whose they are, and what that is called ----------------------------------------------------------------


def _owner(tree: _Tree, item: _Item) -> _Item:
    """The item that coordinates belong to (see the top of this file)."""
    above = [one for one in item.lineage() if one is not tree.root]
    group = next((one for one in above if one.concept in _GROUPS), None)
    if group is not None:
        return group
    for one in above:
        axes = {_AXES[concept] for concept in tree.called(one).keys() & _AXES.keys()}
        if len(axes) == 2 or any(tree.holds(one, told) for told in (_TRACKED_AS, _TRACKED_UID, _FINDING, _SITE)):
            return one
    return next((one for one in above if one.kind == "NUM"), item)


def _identity(tree: _Tree, owner: _Item) -> object:
    """Equal for what is one object: its tracking UID, or its place in the tree."""
    tracked = tree.holds(owner, _TRACKED_UID)
    uid = None if tracked is None else text(tracked.dataset, "UID")
    return uid or owner.position


def _label(tree: _Tree, owner: _Item) -> str | None:
    """What an object is called."""
    tracked = tree.holds(owner, _TRACKED_AS)
    stated = None if tracked is None else presentable(text(tracked.dataset, "TextValue"))
    if stated and any(letter.isalpha() for letter in stated):
        return stated
    finding, site = (tree.holds(owner, concepts) for concepts in (_FINDING, _SITE))
    word = _structure(tree, finding, site)
    # a bare number tells one from another, and no more
    return f"{word} {stated}" if word and stated else word


def _structure(tree: _Tree, finding: _Item | None, site: _Item | None) -> str | None:
    """What coded values name: a structure of ours, such as "liver_lesion", or else the words of their vocabulary."""
    found, place = (_value(item) for item in (finding, site))
    sides = [_side(tree, item) for item in (finding, site)]
    known = None
    if found is not None:
        known = structure_of_code(*found, sides[0], place and place[1], sides[1])
    elif place is not None:
        known = structure_of_code(*place, sides[1])
    words = [_words(item) for item in (site, finding)]
    return known or " ".join(word for word in dict.fromkeys(words) if word) or None


def _value(item: _Item | None) -> Code | None:
    """The coded value of an item, where it means something."""
    code = None if item is None else _code(item.dataset, "ConceptCodeSequence")
    return None if code in _NOTHING else code


def _side(tree: _Tree, item: _Item | None) -> str | None:
    """The code of its laterality."""
    side = _value(None if item is None else tree.holds(item, _LATERALITY))
    return None if side is None else side[1]


def _words(item: _Item | None) -> str | None:
    """What a coded value means in words; None where it means nothing, or is a text of the user."""
    code = _value(item)
    if item is None or code is None or code[0].upper() not in _VOCABULARIES:
        return None
    meaning = text(sequence_items(item.dataset, "ConceptCodeSequence", "")[0], "CodeMeaning")
    word = presentable(meaning)
    return None if word is None else word.lower()


def _code(dataset: Dataset, keyword: str) -> Code | None:
    try:
        found = sequence_items(dataset, keyword, "")
    except InputError:
        return None
    scheme, value = (
        (text(found[0], "CodingSchemeDesignator"), text(found[0], "CodeValue") or text(found[0], "LongCodeValue"))
        if found
        else (None, None)
    )
    return (scheme, value) if scheme and value else None
