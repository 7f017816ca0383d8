"""Cases of a DICOM tree: a series each, with the structures that were drawn on it.

Which label goes with which series: `dicom_pairs`. Here structures get their names, several files of a series are
united, and what is no scan is left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medsam.data.dicom_pairs import SeriesLabels, common_folder, pair_series, series_name
from medsam.data.listing import Listing
from medsam.data.manifest import Label
from medsam.data.remarks import Remarks
from medsam.data.vocabulary import Mode, Vocabulary
from medsam.errors import counted, listed
from medsam.io.dicom.tree import Tree, TreeSeries
from medsam.io.structure_names import plain_name

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
    vocabulary: what structures are called, see `vocabulary`.
    key: of `medsam data deidentify`. Patients are called by the pseudonym that it gives them, the same in every tree;
        otherwise p001, p002, ...
    """

    newest: bool = False
    all_series: bool = False
    vocabulary: Mode = "written"
    key: bytes | None = None

    def pseudonym(self) -> Callable[[str], str] | None:
        """Whom a file says it is of -> the pseudonym, as in files that were de-identified with the same key."""
        if self.key is None:
            return None
        from medsam.io.dicom.deidentify.keys import Pseudonyms

        return partial(Pseudonyms(self.key).name, "patient")


def add_dicom(found: Listing, folder: Path, tree: Tree, options: TreeOptions, labels: Mapping[str, int] | None) -> None:
    """A case for every scan of `tree`, which lies in `folder`. labels: a vocabulary of the user's own."""
    remarks = Remarks()
    vocabulary = Vocabulary(options.vocabulary, labels)
    pairs = pair_series(tree.series, folder, remarks)
    scans = [one.scan for one in pairs]
    left_out = _no_scans(pairs, options)
    _say_left_out(left_out, folder, remarks)
    _say_odd([one for one in pairs if one.scan not in left_out], folder, remarks)
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
        structures = _structures(one.labels, folder, vocabulary, remarks)
        label = _label(found, structures, folder, options, remarks)
        found.add(
            path,
            image,
            label,
            patient=patient,
            modality=scan.modality,
            series=series_uid,
            aliases=_aliases(structures) if label else None,
        )
    vocabulary.report(remarks)
    if not options.newest and remarks.kinds.get(_JOINED):
        remarks.add("", "where a later file was meant to replace an earlier one, `newest` takes its structures from it")
    found.remarks += [*remarks, *tree.notes]


def _no_scans(pairs: Sequence[SeriesLabels], options: TreeOptions) -> set[TreeSeries]:
    """The series that become no case."""
    found = {one.scan for one in pairs if one.scan.sort != "scan" and not one.labels}
    # where there is nothing else, they are the scans
    return set() if options.all_series or len(found) == len(pairs) else found


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
            examples = listed((series_name(scan, folder) for scan in of_sort), 3)
            remarks.add(
                "series that are no scans",
                f"{counted(len(of_sort), f'series is a {one}', f'series are {several}')} ({why}) without a label, "
                f"{examples}; left out, `all_series` keeps them",
            )


def _say_odd(pairs: Sequence[SeriesLabels], folder: Path, remarks: Remarks) -> None:
    """What becomes a case and should be looked at: series of several volumes, and those made from others."""
    for one in pairs:
        count, places = len(one.scan.instances), one.scan.places
        if places < count:
            remarks.add(
                "series of several volumes",
                f"{series_name(one.scan, folder)}: {count} images at {places} places ((0020,0032) Image Position "
                "(Patient)), so several echoes, phases or time points in one series, which is read as no one scan; "
                "`medsam data check` says in what they differ",
            )
    made = [series_name(one.scan, folder) for one in pairs if one.scan.derived and not one.labels]
    if made:
        remarks.add(
            "",
            f"{counted(len(made), 'series', 'series')} without a label made from others ((0008,0008) Image Type is "
            f"DERIVED, SECONDARY), {listed(made, 3)}: cases like any other",
        )


# of a label, the names in it -> structures
_Named = tuple[TreeSeries, dict[str, str]]


def _structures(drawn: Sequence[TreeSeries], folder: Path, vocabulary: Vocabulary, remarks: Remarks) -> list[_Named]:
    """What each label of a series holds, by the vocabulary; labels of which it knows nothing are left out."""
    found: list[_Named] = []
    taken: dict[str, str] = {}
    for one in drawn:
        file = series_name(one, folder)
        names = vocabulary.names_of(one.drawn, file, remarks)
        # a manifest has one table of aliases a case
        clash = [name for name, chosen in names.items() if taken.setdefault(plain_name(name), chosen) != chosen]
        for name in clash:
            remarks.add(
                "names that mean two things in one case",
                f"{file}: {name!r} is {names.pop(name)!r} here and {taken[plain_name(name)]!r} in another file of the "
                "series; left out here",
            )
        if names:
            found.append((one, names))
        else:
            remarks.add("labels without a structure of the vocabulary", f"{file} holds no structure to keep; left out")
    return found


def _aliases(structures: Sequence[_Named]) -> dict[str, str]:
    return {
        name: chosen
        for _, names in structures
        for name, chosen in names.items()
        if plain_name(name) != plain_name(chosen)
    }


def _label(
    found: Listing, structures: Sequence[_Named], folder: Path, options: TreeOptions, remarks: Remarks
) -> Label | None:
    """The SEG and RTSTRUCT of a series; several files of one structure are joined."""
    files: dict[str, list[TreeSeries]] = {}
    for one, names in structures:
        for structure in dict.fromkeys(names.values()):
            files.setdefault(found.structure(structure), []).append(one)
    if len(structures) < 2:
        return structures[0][0].files[0] if structures else None
    masks: dict[str, tuple[Path, ...]] = {}
    for name, several in files.items():
        kept = _newest(name, several, folder, remarks) if options.newest else several
        masks[name] = tuple(dict.fromkeys(one.files[0] for one in kept))
        if len(masks[name]) > 1:
            paths = ", ".join(str(path.relative_to(folder)) for path in masks[name])
            remarks.add(
                _JOINED,
                f"the structure {name!r} is joined from {len(masks[name])} files of one series: {paths}",
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
    older = listed((series_name(one, folder) for one in drawn if one is not chosen), 3)
    remarks.add(
        "structures taken from the newest file",
        f"the structure {name!r} is taken from {series_name(chosen, folder)}, the newest; that of {older} is left out",
    )
    return [chosen]
