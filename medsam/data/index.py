"""A manifest from a folder: DICOM series with their SEG or RTSTRUCT, and files whose names say what belongs together.

`pairs` decides by names which label goes with which scan; here files are opened to see what the labels hold: masks of
one structure, or maps of numbers, read as `evaluate` reads them. What is left out gets a remark, and one file that
cannot be read does not stop the rest: a wrong guess here would show only after training.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from medsam.data.attributes import attribute_of, with_attributes
from medsam.data.index_dicom import TreeOptions, add_dicom
from medsam.data.label_contents import LabelContents
from medsam.data.listing import Listing, clean_text
from medsam.data.manifest import Label, Manifest
from medsam.data.manifest_json import parse_manifest
from medsam.data.pairs import Pair, pair_files
from medsam.data.patients import assign, namesake_remarks
from medsam.data.remarks import Remarks
from medsam.data.words import modality_code, split_of_folder
from medsam.errors import InputError
from medsam.io.dicom.tree import list_tree
from medsam.io.formats import FORMATS
from medsam.io.load import load_volume
from medsam.io.npz import npz_names
from medsam.progress import ProgressCallback

# .hdr and .img go with one another, and neither says alone what it is
# of a NIfTI in two files neither is taken for a scan
_SUFFIXES = tuple(suffix for one in FORMATS for suffix in one.suffixes if suffix not in (".hdr", ".img"))
# the remark on a folder in which nothing was drawn yet
NO_LABEL = "no case has a label; masks may be named in a way that is not known here"
# kinds of remarks on labels
_UNREAD, _SEVERAL = "of which each cannot be used as a label", "of which each holds several label maps"


@dataclass(frozen=True)
class IndexResult:
    """manifest: what was found. remarks: one sentence for everything that was left out or guessed."""

    manifest: Manifest
    remarks: tuple[str, ...]


def index_folder(
    folder: str | Path,
    *,
    name: str | None = None,
    modality: str | None = None,
    labels: Mapping[str, int] | None = None,
    threshold: float | None = None,
    tree: TreeOptions | None = None,
    keep: Sequence[str] = (),
    progress: ProgressCallback | None = None,
) -> IndexResult:
    """Look through `folder` and list its cases.

    A DICOM tree gives one case a series, its patient a number in order of first appearance: names and numbers of
    patients are compared, never written. labels: structure -> value; without it, the values found in the label
    maps are named label_1, label_2, ... threshold: label pictures are masks of what is brighter. tree: of DICOM.
    keep: attributes that the cases shall hold, see `medsam.data.attributes`.
    progress: called with (done, in all), first for the files of a DICOM tree, then for scans and their label files.
    A folder with a Decathlon or nnU-Net dataset.json is read as that says.
    Raises InputError when the folder is none, or holds no scan.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.")
    modality = modality and (modality_code(modality) or modality)
    for attribute in keep:
        attribute_of(attribute)  # said before the tree is read
    if (folder / "dataset.json").is_file():
        return _of_foreign(folder / "dataset.json", name, modality, labels, keep)
    found = Listing(name or clean_text(folder.resolve().name), modality, dict(labels or {}), threshold)
    if labels and len(labels) == 1:
        found.unnamed = next(iter(labels))
    _add_scans(found, folder, tree or TreeOptions(), labels, progress)
    if labels is None:
        _name_values(found)
    else:
        _use_names(found, labels)
    assigned = assign(found.cases, folder)
    found.cases[:] = assigned.cases
    found.remarks += [*assigned.remarks, *namesake_remarks(found.cases, folder)]
    found.cases[:] = with_attributes(found.cases, keep)
    if all(case.label is None for case in found.cases):
        found.remarks.append(NO_LABEL)
    return IndexResult(_manifest(found), tuple(found.remarks))


def _add_scans(
    found: Listing,
    folder: Path,
    options: TreeOptions,
    labels: Mapping[str, int] | None,
    progress: ProgressCallback | None,
) -> None:
    tree = list_tree(folder, pseudonym=options.pseudonym(), progress=progress)
    found.remarks += [f"{sentence} It is left out" for sentence in tree.refused]
    add_dicom(found, folder, tree, options, labels)
    # what is left out is DICOM all the same
    _add_files(found, folder, {path for one in tree.series for path in one.files} | set(tree.copies), progress)
    if not found.cases:
        raise InputError(f"{folder} holds no scan that can be read ({'; '.join(found.remarks) or 'no file fits'}).")


def _manifest(found: Listing) -> Manifest:
    modalities = {case.modality for case in found.cases}
    labels: dict[str, int] = {}
    for case in found.cases:
        for structure, value in case.labels.items():
            labels.setdefault(structure, value)
    common = modalities.pop() if len(modalities) == 1 else None
    return Manifest(found.name, found.modality or common, labels, tuple(found.cases))


def _of_foreign(
    path: Path, name: str | None, modality: str | None, labels: Mapping[str, int] | None, keep: Sequence[str]
) -> IndexResult:
    """What a Decathlon or nnU-Net dataset.json lists."""
    manifest = parse_manifest(path)
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
        cases=tuple(with_attributes(assigned.cases, keep)),
    )
    return IndexResult(manifest, ("dataset.json is there and was read as it is.", *assigned.remarks))


# -- files by name ------------------------------------------------------------------------------------------


def _add_files(found: Listing, folder: Path, dicom: set[Path], progress: ProgressCallback | None = None) -> None:
    paths = {path.relative_to(folder): path for path in _walk(found, folder, dicom)}

    paired = pair_files(paths, lambda relative: _is_mask(found, folder / relative))
    found.remarks += paired.remarks
    remarks = Remarks({_UNREAD: [], _SEVERAL: []})  # in this order
    wrong_grid = _of_another_shape(folder, paired.pairs)
    for number, pair in enumerate(paired.pairs):
        labels = [drawn for drawn in pair.labels if (pair.image, drawn.path) not in wrong_grid]
        _add_pair(found, folder, replace(pair, labels=labels), remarks)
        if progress:
            progress(number + 1, len(paired.pairs))
    found.remarks += remarks
    if remarks.kinds[_UNREAD] and found.threshold is None:
        found.remarks.append("for pictures that are masks of one structure pass `threshold`, e.g. 127")
    if wrong_grid:
        some = ", ".join(f"{label} and {image}" for image, label in list(wrong_grid)[:3])
        found.remarks.append(f"not paired, because their sizes differ: {some}")


def _is_mask(found: Listing, path: Path) -> bool:
    """Whether a file whose name does not say what it is holds a label."""
    try:
        return found.look(path).looks_like_label
    except InputError:
        return False


def _add_pair(found: Listing, folder: Path, pair: Pair, remarks: Remarks) -> None:
    """A case; several, where a scan has several label maps of many structures."""
    image = folder / pair.image
    split = next((part for part in map(split_of_folder, pair.image.parts[:-1]) if part), None)
    by_name = _readable(found, folder, pair, remarks)
    labels = _labels_of(found, pair, by_name, remarks)
    for path, label in labels:
        found.add(path, image, label, split=split)
    if not labels:
        found.add(Path(pair.id), image, None, split=split)


def _labels_of(
    found: Listing, pair: Pair, by_name: Mapping[str, Sequence[Path]], remarks: Remarks
) -> list[tuple[Path, Label]]:
    """(id as a path, label) of each case that a scan makes: its masks together, and each of its label maps."""
    maps = {name: paths for name, paths in by_name.items() if not all(found.look(path).binary for path in paths)}
    masks = {name: tuple(paths) for name, paths in by_name.items() if name not in maps}
    labels: list[tuple[Path, Label]] = [(Path(pair.id), _mask_label(found, masks))] if masks else []
    alone = len(by_name) == 1
    for name, paths in maps.items():
        if len(paths) > 1:
            some = ", ".join(path.name for path in paths)
            remarks.add(_UNREAD, f"{pair.image}: {some} hold several structures each and cannot be united. Left out")
            continue
        if not alone:
            remarks.add(_SEVERAL, f"{pair.image} has several label maps; {paths[0].name} makes a case of its own")
        labels.append((Path(pair.id) if alone else Path(f"{pair.id}_{name or 'map'}"), paths[0]))
    return labels


def _mask_label(found: Listing, masks: Mapping[str, tuple[Path, ...]]) -> Label:
    """The label of a scan that has masks of one structure each: one file without a name, or files by name."""
    if list(masks) == [""] and len(masks[""]) == 1:
        return masks[""][0]
    return {found.structure(clean_text(name) or found.unnamed): paths for name, paths in masks.items()}


def _readable(found: Listing, folder: Path, pair: Pair, remarks: Remarks) -> dict[str, list[Path]]:
    """Structure by its file's name -> the files; those that cannot be read get a remark."""
    image = folder / pair.image
    labels = [(folder / drawn.path, drawn.structure) for drawn in pair.labels]
    if not labels and image.suffix.lower() == ".npz" and "gts" in _arrays(image):
        labels = [(image, "")]
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path, structure in labels:
        try:
            held = found.look(path)
        except InputError as error:
            remarks.add(_UNREAD, f"{path.relative_to(folder)}: {error} Left out")
        else:
            by_name[structure].append(path)
            for name in held.names:
                found.structure(name)
    return by_name


def _of_another_shape(folder: Path, pairs: Sequence[Pair]) -> set[tuple[PurePath, PurePath]]:
    """Scans that share a label with others (t1, flair; CT, PET), but do not have its rows, columns and slices."""
    times = Counter(drawn.path for pair in pairs for drawn in pair.labels)
    shared = {(pair.image, drawn.path) for pair in pairs for drawn in pair.labels if times[drawn.path] > 1}
    shapes = {path: _shape(folder / path) for both in shared for path in both}
    return {(image, label) for image, label in shared if shapes[image] and shapes[image] != shapes[label]}


def _shape(path: Path) -> tuple[int, ...] | None:
    try:
        return load_volume(path).geometry.shape
    except InputError:
        return None  # `check` reports it


def _walk(found: Listing, folder: Path, dicom: set[Path]) -> Iterator[Path]:
    """Files that may be scans or labels, in order of their names; others of such names get a remark."""
    remarks = Remarks()

    def leave_out(path: Path, why: str) -> None:
        remarks.add("files like these", f"{path.relative_to(folder)} {why}; left out")

    def unreadable(error: OSError) -> None:
        leave_out(Path(error.filename), f"cannot be entered ({error.strerror})")

    for above, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(above) / name
            if name.startswith(".") or path in dicom or not name.lower().endswith(_SUFFIXES):
                continue
            problem = _problem(path)
            if problem:
                leave_out(path, problem)
            else:
                yield path
    found.remarks += remarks


def _problem(path: Path) -> str | None:
    try:
        state = path.stat()
    except OSError as error:
        return f"leads nowhere ({error.strerror})" if path.is_symlink() else f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(state.st_mode):
        return "is no file (a folder, a pipe or a device)"
    if state.st_size == 0:
        return "is empty (0 bytes)"
    if not os.access(path, os.R_OK):
        return "cannot be read (permission denied)"
    return None if path.suffix.lower() != ".npz" or _arrays(path) & {"imgs", "gts"} else "has no array `imgs` or `gts`"


def _arrays(path: Path) -> set[str]:
    """Names in an .npz; of a damaged one, which `check` reports, `imgs`."""
    try:
        return set(npz_names(path))
    except InputError:
        return {"imgs"}


# -- what the numbers mean ----------------------------------------------------------------------------------


def _name_values(found: Listing) -> None:
    """Name the values of label maps, and the one structure of masks."""
    contents = _label_files(found)
    masks = _mask_pictures(contents)
    if masks:
        found.labels.setdefault(found.unnamed, 0)
    values = {value for number, one in contents.items() if number not in masks for value in one.values}
    # label maps have their numbers; structures that come by name take those that are left
    free = (number for number in itertools.count(1) if number not in values)
    for name in found.labels:
        found.labels[name] = next(free)
    names = {f"label_{value}": value for value in sorted(values)}
    if names:
        some = ", ".join(str(value) for value in sorted(values)[:8]) + (", ..." if len(values) > 8 else "")
        found.remarks.append(f"label values are named label_N, for N = {some}; edit the manifest, or pass `labels`")
    for number, one in contents.items():
        if number in masks:
            mask = {found.unnamed: found.labels[found.unnamed]}
            found.cases[number] = replace(found.cases[number], labels=mask, threshold=one.threshold)
        else:
            found.cases[number] = replace(found.cases[number], labels=names)


def _mask_pictures(contents: Mapping[int, LabelContents]) -> set[int]:
    """Places of label files that are pictures of one mask; the same numbers may also be those of a label map."""
    # 0 and 255 beside 0, 128 and 255 is a label map; so are 0 and 128 beside 0 and 255
    numbers = {value for one in contents.values() if one.threshold is None for value in one.values}
    codes = {255 if one.code == 65535 else one.code for one in contents.values() if one.code is not None}  # both white
    masks = {
        place
        for place, one in contents.items()
        if one.threshold is not None and (one.code is None or not (one.code in numbers or len(codes) > 1))
    }
    empty = sum(one.threshold is not None and not one.values for one in contents.values())
    # nothing but empty pictures among label maps
    return set() if len(masks) == empty < len(contents) else masks


def _use_names(found: Listing, labels: Mapping[str, int]) -> None:
    """With one label named, pictures that are masks and hold other numbers are masks of it."""
    structures = {name: value for name, value in labels.items() if value != 0}
    lost = []
    for number, one in _label_files(found).items():
        if one.threshold is None or (one.values <= set(structures.values()) and found.threshold is None):
            continue
        if len(structures) == 1:
            found.cases[number] = replace(found.cases[number], threshold=one.threshold)
        else:
            lost.append(found.cases[number].image.name)
    if lost:
        found.remarks.append(
            f"{len(lost)} labels are masks of one structure, not maps of {', '.join(structures)}, e.g. of {lost[0]}; "
            "name one structure with `labels`, or put the masks of each structure into a folder of its name"
        )


def _label_files(found: Listing) -> dict[int, LabelContents]:
    """Place of a case -> what its label file holds; without masks by name, and files that bring their own names."""
    return {
        number: found.look(case.label)
        for number, case in enumerate(found.cases)
        if isinstance(case.label, Path) and case.label in found.contents and not found.look(case.label).names
    }
