"""A manifest from a folder: DICOM series with their SEG or RTSTRUCT, and files whose names say what belongs together.

What counts as a pair, tried in this order for every image file:
  folders    images/X with labels/X (also imagesTr, labelsTr, masks, gt, ...); nnU-Net's X_0000 with X
  suffixes   X_image with X_mask; X with X_seg, X_mask, X_label, X_gt
  a folder   CASE/ct.nii.gz with CASE/segmentations/liver.nii.gz: one image and a folder of one mask a structure

A label that fits two images, or an image that two labels fit, is left out and told: a guess here would be found
out only after training.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from medsam.data.manifest import Case, Label, Manifest, Split, modality_code, parse_manifest, split_word, stem
from medsam.data.patients import assign, namesake_remarks
from medsam.errors import InputError
from medsam.io.dicom_tree import TreeSeries, list_tree
from medsam.io.label_picture import DEFAULT_THRESHOLD
from medsam.io.labels import label_kind, structures_in
from medsam.io.load import load_volume
from medsam.io.masks import plain_name
from medsam.io.npz import npz_names

_SUFFIXES = (
    ".nii",
    ".nii.gz",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".npz",
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
)
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_LABEL_WORDS = {"label", "labels", "mask", "masks", "seg", "segs", "segmentation", "segmentations", "gt", "gts"}
_LABEL_WORDS |= {"groundtruth", "annotation", "annotations", "msk"}
_IMAGE_WORDS = {"image", "images", "img", "imgs", "scan", "scans"}


@dataclass(frozen=True)
class Indexed:
    """manifest: what was found. remarks: one sentence for everything that was left out or guessed."""

    manifest: Manifest
    remarks: tuple[str, ...]


def index_folder(
    folder: str | Path,
    *,
    name: str | None = None,
    modality: str | None = None,
    labels: Mapping[str, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Indexed:
    """Look through `folder` and list its cases.

    A DICOM tree gives one case a series, its patient a number in order of first appearance: names and numbers of
    patients are compared, never written. labels: structure -> value; without it, the values found in the label
    maps are named label_1, label_2, ... A folder with a Decathlon or nnU-Net dataset.json is read as that says.
    Raises InputError when the folder is none, or holds no scan.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.")
    modality = modality and (modality_code(modality) or modality)
    if (folder / "dataset.json").is_file():
        manifest = parse_manifest(folder / "dataset.json")
        cases = manifest.cases
        if labels is not None:
            cases = tuple(replace(case, labels=dict(labels)) for case in cases)
        if modality:
            cases = tuple(replace(case, modality=modality) for case in cases)
        assigned = assign(cases)
        manifest = replace(
            manifest,
            name=name or manifest.name,
            modality=modality or manifest.modality,
            labels=dict(labels) if labels is not None else manifest.labels,
            cases=assigned.cases,
        )
        return Indexed(manifest, ("dataset.json is there and was read as it is.", *assigned.remarks))
    found = _Found(name or folder.resolve().name, modality, dict(labels or {}))
    tree = list_tree(folder)
    found.remarks += [f"{sentence} It is left out" for sentence in tree.refused]
    _add_dicom(found, folder, tree.series)
    _add_files(found, folder, {path for one in tree.series for path in one.files})
    if not found.cases:
        raise InputError(f"{folder} holds no scan that can be read ({'; '.join(found.remarks) or 'no file fits'}).")
    if labels is None:
        _name_values(found, progress)
    else:
        _set_thresholds(found, labels, progress)
    assigned = assign(found.cases, folder)
    found.cases[:] = assigned.cases
    found.remarks += [*assigned.remarks, *namesake_remarks(found.cases, folder)]
    if all(case.label is None for case in found.cases):
        found.remarks.append("no case has a label; masks may be named in a way that is not known here")
    shared = {case.modality for case in found.cases}
    common = shared.pop() if len(shared) == 1 else None
    all_labels: dict[str, int] = {}
    for case in found.cases:
        for structure, value in case.labels.items():
            all_labels.setdefault(structure, value)
    return Indexed(Manifest(found.name, modality or common, all_labels, tuple(found.cases)), tuple(found.remarks))


@dataclass
class _Found:
    name: str
    modality: str | None
    labels: dict[str, int]
    cases: list[Case] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    def structure(self, name: str) -> str:
        """A structure that comes by name, as it was first met; it gets a number."""
        known = next((other for other in self.labels if plain_name(other) == plain_name(name)), name)
        self.labels.setdefault(known, 1 + max(self.labels.values(), default=0))
        return known

    def add(
        self,
        path: Path,
        image: Path,
        label: Label | None,
        *,
        patient: str | None = None,
        split: Split | None = None,
        modality: str | None = None,
        series: str | None = None,
    ) -> None:
        """path: relative; it becomes the id."""
        base = re.sub(r'[\s\\/:*?"<>|]+', "_", path.as_posix()).strip("._") or "case"
        name, count = base, 1
        while name.casefold() in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name.casefold())
        case = Case(
            id=name,
            patient=patient or name,
            image=image,
            label=label,
            split=split,
            modality=self.modality or modality,
            window=None,
            spacing_mm=None,
            labels=self.labels,
            dataset=self.name,
            series=series,
            patient_stated=patient is not None,
        )
        self.cases.append(case)


# -- DICOM --------------------------------------------------------------------------------------------------


def _add_dicom(found: _Found, folder: Path, series: Sequence[TreeSeries]) -> None:
    scans = [one for one in series if one.kind == "image"]
    drawn: dict[int, list[TreeSeries]] = defaultdict(list)
    for one in series:
        if one.kind == "image":
            continue
        owner = _owner(one, scans)
        if owner is None:
            found.remarks.append(
                f"{one.files[0].relative_to(folder)} ({one.kind.upper()}) fits no series, or several; left out"
            )
        else:
            drawn[id(owner)].append(one)
    width = max(3, len(str(max((one.patient for one in scans), default=0))))
    numbers: dict[int, int] = defaultdict(int)
    below: dict[Path, set[int]] = defaultdict(set)  # folder -> the series in it and below it
    for scan in scans:
        for spot in {path.parent for path in scan.files}:
            for around in (spot, *spot.parents):
                below[around].add(id(scan))
    for scan in scans:
        image = _common(scan.files)
        shared = len(below[image]) > 1
        if len(scan.files) == 1 and shared:
            image, shared = scan.files[0], False
        patient = f"p{scan.patient:0{width}d}"
        numbers[scan.patient] += 1
        # folder names may hold a patient's name, so ids are made of numbers
        path = Path(f"{patient}_{(scan.modality or 'scan').lower()}_{numbers[scan.patient]:02d}")
        label = _drawn_label(found, drawn[id(scan)], folder)
        series_uid = scan.uid if shared else None
        found.add(path, image, label, patient=patient, modality=scan.modality, series=series_uid)


def _owner(label: TreeSeries, scans: Sequence[TreeSeries]) -> TreeSeries | None:
    """The scan a SEG or RTSTRUCT was drawn on: the one it names; else of its frame of reference; else its neighbour."""
    named = [scan for scan in scans if scan.uid and scan.uid in label.refers_to]
    if len(named) == 1:
        return named[0]
    candidates = named or [scan for scan in scans if scan.patient == label.patient]
    if not named and label.frame_of_reference:
        same = [s for s in candidates if s.frame_of_reference == label.frame_of_reference]
        candidates = same or candidates
    if not named and len(candidates) > 1:
        candidates = [scan for scan in candidates if scan.study == label.study] or candidates
    if len(candidates) > 1:
        near = [len(_common([scan.files[0], label.files[0]]).parts) for scan in candidates]
        candidates = [scan for scan, depth in zip(candidates, near, strict=True) if depth == max(near)]
    return candidates[0] if len(candidates) == 1 else None


def _drawn_label(found: _Found, drawn: Sequence[TreeSeries], folder: Path) -> Label | None:
    """The SEG and RTSTRUCT of a series; several files of one structure are joined."""
    if not drawn:
        return None
    masks: dict[str, tuple[Path, ...]] = {}
    for one in drawn:
        for structure in one.structures:
            name = found.structure(structure)
            masks[name] = (*masks.get(name, ()), one.files[0])
    if len(drawn) == 1:
        return drawn[0].files[0]
    for name, files in masks.items():
        if len(files) > 1:
            listed = ", ".join(str(path.relative_to(folder)) for path in files)
            found.remarks.append(f"the structure {name!r} is joined from {len(files)} files of one series: {listed}")
    return masks


def _common(paths: Sequence[Path]) -> Path:
    """The deepest folder that holds all files."""
    shared = paths[0].parent
    while not all(path.is_relative_to(shared) for path in paths):
        shared = shared.parent
    return shared


# -- files by name ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    """path; role by name; key: what its partner has in common with it. shared: folder without its role word."""

    path: Path
    relative: Path
    role: str  # image, label, or either
    key: str
    shared: Path


def _add_files(found: _Found, folder: Path, dicom: set[Path]) -> None:
    files = [_parse(path, folder) for path in _walk(folder) if path not in dicom]
    channels = [file for file in files if re.search(r"_00(0[1-9]|[1-9]\d)$", stem(file.path)) and file.role == "image"]
    first = {(file.shared, file.key) for file in files if stem(file.path).endswith("_0000")}
    channels = [file for file in channels if (file.shared, file.key) in first]
    if channels:
        found.remarks.append(f"{len(channels)} further channels (_0001, ...) left out; the first stands for the scan")
    further = {file.path for file in channels}
    files = [file for file in files if file.path not in further]

    images = [file for file in files if file.role != "label"]
    labels = [file for file in files if file.role == "label"]
    by_key: dict[tuple[Path, str], list[_File]] = defaultdict(list)
    for file in labels:
        by_key[file.shared, file.key].append(file)
    claims: dict[tuple[Path, str], list[_File]] = defaultdict(list)
    for image in images:
        claims[image.shared, image.key].append(image)
    used: set[Path] = set()
    bare: list[_File] = []
    for image in images:
        spot = (image.shared, image.key)
        partners = by_key.get(spot, [])
        if image.path.name.lower().endswith(".npz") and not partners and _has_gts(image.path):
            _add_pair(found, image, image.path)
        elif not partners:
            bare.append(image)
        elif len(partners) > 1 or len(claims[spot]) > 1:
            names = ", ".join(str(file.relative) for file in partners + claims[spot])
            used.update(file.path for file in partners)
            found.remarks.append(f"it is not clear what belongs together, so these are left out: {names}")
        else:
            used.add(partners[0].path)
            _add_pair(found, image, partners[0].path)
    rest = [file for file in labels if file.path not in used]
    _add_mask_folders(found, bare, rest, used)
    unused = [file for file in labels if file.path not in used]
    if unused:
        some = ", ".join(str(file.relative) for file in unused[:3])
        found.remarks.append(f"{len(unused)} label files fit no image, e.g. {some}; left out")


def _add_mask_folders(found: _Found, bare: Sequence[_File], rest: Sequence[_File], used: set[Path]) -> None:
    per_folder: dict[Path, list[_File]] = defaultdict(list)
    for file in bare:
        per_folder[file.path.parent].append(file)
    masks: dict[Path, list[_File]] = defaultdict(list)
    for file in rest:
        if file.path.parent.name.lower() in _LABEL_WORDS:
            masks[file.path.parent.parent].append(file)
    for folder, images in per_folder.items():
        beside = masks.get(folder, [])
        if len(images) == 1 and beside:
            label: dict[str, tuple[Path, ...]] = {
                stem(file.path): (file.path,) for file in sorted(beside, key=lambda f: f.path)
            }
            used.update(file.path for file in beside)
            for structure in label:
                found.labels.setdefault(structure, 1 + max(found.labels.values(), default=0))
            _add_pair(found, images[0], label)
        else:
            for image in images:
                _add_pair(found, image, None)


def _add_pair(found: _Found, image: _File, label: Label | None) -> None:
    path = image.shared / image.key if image.key else image.shared / stem(image.path)
    if isinstance(label, dict) and image.shared != Path():
        path = image.shared
    split = next((part for part in map(_split_of, image.relative.parts[:-1]) if part), None)
    found.add(path, image.path, label, split=split)


def _split_of(part: str) -> Split | None:
    tail = re.fullmatch(r"(?:images|labels)(Tr|Va|Ts)", part)
    return split_word({"Tr": "train", "Va": "val", "Ts": "test"}[tail.group(1)] if tail else part)


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file() and path.name.lower().endswith(_SUFFIXES):
            yield path


def _parse(path: Path, folder: Path) -> _File:
    relative = path.relative_to(folder)
    role, parts = "either", []
    for part in relative.parts[:-1]:
        plain = re.sub(r"(Tr|Va|Ts)$", "", part)
        word = plain.lower().replace("_", "").replace("-", "")
        if word in _LABEL_WORDS or word in _IMAGE_WORDS:
            role = "label" if word in _LABEL_WORDS else "image"
            tail = part[len(plain) :]
            parts += [tail] if tail else []
        else:
            parts.append(part)
    key = stem(path)
    tail_match = re.fullmatch(r"(.*?)[_\-. ]?([A-Za-z]+)", key)
    word = tail_match.group(2).lower() if tail_match else ""
    if tail_match and word in _LABEL_WORDS | _IMAGE_WORDS and key.lower() != word:
        # inside an image folder "lung_scan" is a name; beside its partner it is a role
        if role == "either" or (role == "label") == (word in _LABEL_WORDS):
            role = "label" if word in _LABEL_WORDS else "image"
            key = tail_match.group(1)
    elif tail_match and role == "either" and key.lower() in _LABEL_WORDS | _IMAGE_WORDS:
        role, key = ("label" if word in _LABEL_WORDS else "image"), ""
    if role != "label" and re.search(r"_\d{4}$", key) and key.endswith(tuple(f"_000{n}" for n in range(10))):
        role, key = "image", key[:-5]
    return _File(path, relative, role, key, Path(*parts))


def _has_gts(path: Path) -> bool:
    try:
        return "gts" in npz_names(path)
    except InputError:  # a damaged file is told by `check`
        return False


# -- what the numbers mean ----------------------------------------------------------------------------------


def _name_values(found: _Found, progress: Callable[[int, int], None] | None) -> None:
    """Name the values of label maps; recognise binary pictures."""
    values: set[int] = set()
    binary: list[int] = []
    maps: list[int] = []
    for number, case in enumerate(found.cases):
        if isinstance(case.label, Path) and not _is_dicom_label(case.label):
            held = structures_in(case.label)
            if label_kind(case.label) == "segments":
                for structure in sorted(held):
                    found.structure(structure)
            elif held == {"mask"} or (not held and case.label.name.lower().endswith(_PICTURES)):
                binary.append(number)
            else:
                maps.append(number)
                values |= {int(value) for value in held}
        if progress:
            progress(number + 1, len(found.cases))
    if binary:
        found.labels.setdefault("mask", 0)
    # label maps have their numbers; structures that come by name take those that are left
    free = (number for number in itertools.count(1) if number not in values)
    for name in found.labels:
        found.labels[name] = next(free)
    names = {f"label_{value}": value for value in sorted(values)}
    if names:
        some = ", ".join(str(value) for value in sorted(values)[:8]) + (", ..." if len(values) > 8 else "")
        found.remarks.append(f"label values are named label_N, for N = {some}; edit `labels`, or pass --labels")
    for number in maps:
        found.cases[number] = replace(found.cases[number], labels=names)
    for number in binary:
        mask = {"mask": found.labels["mask"]}
        found.cases[number] = replace(found.cases[number], labels=mask, threshold=DEFAULT_THRESHOLD)


def _set_thresholds(found: _Found, labels: Mapping[str, int], progress: Callable[[int, int], None] | None) -> None:
    """With one label named, pictures that hold other numbers are masks."""
    structures = [name for name, value in labels.items() if value != 0]
    for number, case in enumerate(found.cases):
        path = case.label
        if len(structures) == 1 and isinstance(path, Path) and path.name.lower().endswith(_PICTURES):
            array = load_volume(path).array
            if array.ndim == 4 or not set(np.unique(array).tolist()) <= {0, labels[structures[0]]}:
                found.cases[number] = replace(case, threshold=DEFAULT_THRESHOLD)
        if progress:
            progress(number + 1, len(found.cases))


def _is_dicom_label(path: Path) -> bool:
    return not path.name.lower().endswith(_SUFFIXES)
