"""Cases of a DICOM tree: a series each, with the structures that were drawn on it.

Which label goes with which series: `dicom_pairs`. Here structures get their names, several files of a series are
united, and what is no scan is left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medsam.data.dicom_pairs import common_folder, pair_series, series_name
from medsam.data.listing import Listing
from medsam.data.manifest import Label
from medsam.data.remarks import Remarks, some_of
from medsam.errors import counted
from medsam.io.dicom.tree import Tree, TreeSeries

_JOINED = "structures joined from several files"
_SORTS = {
    "localizer": ("localizer", "localizers", "(0008,0008) Image Type is LOCALIZER"),
    "capture": ("picture of a screen", "pictures of screens", "(0008,0016) SOP Class UID is Secondary Capture"),
}


@dataclass(frozen=True)
class TreeOptions:
    """How the series of a tree become cases.

    newest: of a structure in several files of a series the newest alone counts; otherwise all are united.
    all_series: localizers and pictures of screens are cases, too; otherwise only where something was drawn on them.
    key: patients are called by a pseudonym that it makes of their ID, the same in every tree; otherwise p001, p002, ...
    """

    newest: bool = False
    all_series: bool = False
    key: bytes | None = None


def add_dicom(found: Listing, folder: Path, tree: Tree, options: TreeOptions) -> None:
    """A case for every scan of `tree`, which lies in `folder`."""
    remarks = Remarks()
    pairs = pair_series(tree.series, folder, remarks)
    left_out = (
        set() if options.all_series else {one.scan for one in pairs if one.scan.sort != "scan" and not one.labels}
    )
    _say_left_out(left_out, folder, remarks)
    scans = [one.scan for one in pairs]
    width = max(3, len(str(max((scan.patient for scan in scans), default=0))))
    numbers: dict[int, int] = defaultdict(int)
    places = _places(scans)
    for one in pairs:
        scan = one.scan
        numbers[scan.patient] += 1  # of series left out, too, so that an option changes no id
        if scan in left_out:
            continue
        image, series_uid = places[scan]
        patient = tree.pseudonyms.get(scan.patient) or f"p{scan.patient:0{width}d}"
        # folder names may hold a patient's name, so ids are made of numbers
        path = Path(f"{patient}_{(scan.modality or 'scan').lower()}_{numbers[scan.patient]:02d}")
        label = _drawn_label(found, one.labels, folder, options, remarks)
        found.add(path, image, label, patient=patient, modality=scan.modality, series=series_uid)
    if not options.newest and remarks.kinds.get(_JOINED):
        remarks.add("", "where a later file was meant to replace an earlier one, `newest` takes its structures from it")
    found.remarks += [*remarks, *tree.notes]


def _places(scans: Sequence[TreeSeries]) -> dict[TreeSeries, tuple[Path, str | None]]:
    """Scan -> its file or folder, and its UID where other series are in that folder or below it."""
    below: dict[Path, set[TreeSeries]] = defaultdict(set)
    for scan in scans:
        for spot in {path.parent for path in scan.files}:
            for around in (spot, *spot.parents):
                below[around].add(scan)
    places: dict[TreeSeries, tuple[Path, str | None]] = {}
    for scan in scans:
        image = common_folder(scan.files)
        shared = len(below[image]) > 1
        if len(scan.files) == 1 and shared:
            image, shared = scan.files[0], False
        places[scan] = (image, scan.uid if shared else None)
    return places


def _say_left_out(scans: set[TreeSeries], folder: Path, remarks: Remarks) -> None:
    for sort, (one, several, why) in _SORTS.items():
        of_sort = sorted((scan for scan in scans if scan.sort == sort), key=lambda scan: scan.files[0])
        if of_sort:
            examples = some_of([series_name(scan, folder) for scan in of_sort])
            remarks.add(
                "series that are no scans",
                f"{counted(len(of_sort), f'series is a {one}', f'series are {several}')} ({why}) without a label, "
                f"{examples}; left out, `all_series` keeps them",
            )


def _drawn_label(
    found: Listing, drawn: Sequence[TreeSeries], folder: Path, options: TreeOptions, remarks: Remarks
) -> Label | None:
    """The SEG and RTSTRUCT of a series; several files of one structure are joined."""
    if not drawn:
        return None
    files: dict[str, list[TreeSeries]] = {}
    for one in drawn:
        for structure in one.drawn.codes:
            files.setdefault(found.structure(structure), []).append(one)
    if len(drawn) == 1:
        return drawn[0].files[0]
    masks: dict[str, tuple[Path, ...]] = {}
    for name, several in files.items():
        kept = _newest(name, several, folder, remarks) if options.newest else several
        masks[name] = tuple(dict.fromkeys(one.files[0] for one in kept))
        if len(masks[name]) > 1:
            listed = ", ".join(str(path.relative_to(folder)) for path in masks[name])
            remarks.add(
                _JOINED,
                f"the structure {name!r} is joined from {len(masks[name])} files of one series: {listed}",
            )
    return masks


def _newest(name: str, drawn: Sequence[TreeSeries], folder: Path, remarks: Remarks) -> Sequence[TreeSeries]:
    """Of several files the one made last; all of them, where that is not known."""
    if len(drawn) == 1:
        return drawn
    times = Counter(one.drawn.made for one in drawn)
    last = max(times)
    if "" in times or times[last] > 1:
        remarks.add(
            "structures without a newest file",
            f"the structure {name!r}: which of {len(drawn)} files is the newest is not known, a date or time is "
            "missing or equal ((3006,0008) Structure Set Date, (0008,0023) Content Date)",
        )
        return drawn
    chosen = next(one for one in drawn if one.drawn.made == last)
    older = some_of([series_name(one, folder) for one in drawn if one is not chosen])
    remarks.add(
        "structures taken from the newest file",
        f"the structure {name!r} is taken from {series_name(chosen, folder)}, the newest; that of {older} is left out",
    )
    return [chosen]
