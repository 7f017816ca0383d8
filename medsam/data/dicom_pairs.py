"""Which SEG and RTSTRUCT of a DICOM tree go with which series, and which of them were replaced.

A label goes to the series it cites, else to the one whose images it cites. Where these are not in the tree (another
export of the scan, or the CT of a PET/CT), or it cites nothing, to the one series of its patient and frame of reference
on whose planes it was drawn. What fits none, or several, is left out and named.

All labels of a series count. A later one takes the place of an earlier one where it cites it as its predecessor, and
nowhere else: an RTSTRUCT of organs and one of targets, a SEG an organ, two readers, are no versions of one another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from medsam.data.remarks import Remarks
from medsam.errors import counted, listed
from medsam.geometry import VolumeGeometry
from medsam.io.dicom.planes import drawn_planes, lies_on, series_geometry
from medsam.io.dicom.tree import TreeSeries
from medsam.io.structure_names import plain_name

_PREDECESSOR = "(3006,0018) Predecessor Structure Set Sequence or (0040,A360) Predecessor Documents Sequence"


@dataclass(frozen=True)
class SeriesLabels:
    """scan: a series. labels: what was drawn on it, in the order of the tree, without what was replaced."""

    scan: TreeSeries
    labels: tuple[TreeSeries, ...]


def pair_series(series: Sequence[TreeSeries], folder: Path, remarks: Remarks) -> list[SeriesLabels]:
    """Every scan with its labels. folder: paths in remarks are relative to it."""
    scans = [one for one in series if one.kind == "image"]
    owners = _Owners(scans, folder, remarks)
    drawn: dict[TreeSeries, list[TreeSeries]] = defaultdict(list)
    for label in series:
        if label.kind != "image":
            for scan in owners.of(label):
                drawn[scan].append(label)
    return [SeriesLabels(scan, tuple(_latest(drawn[scan], folder, remarks))) for scan in scans]


def common_folder(paths: Sequence[Path]) -> Path:
    """The deepest folder that holds all files."""
    shared = paths[0].parent
    while not all(path.is_relative_to(shared) for path in paths):
        shared = shared.parent
    return shared


# -- what a label was drawn on ------------------------------------------------------------------------------


class _Owners:
    """The scans of a tree, asked for those a label was drawn on."""

    def __init__(self, scans: Sequence[TreeSeries], folder: Path, remarks: Remarks) -> None:
        self.scans, self.folder, self.remarks = scans, folder, remarks
        self._by_uid: dict[str, list[TreeSeries]] = defaultdict(list)
        for scan in scans:
            self._by_uid[scan.uid].append(scan)
        self._by_instance = {instance: scan for scan in scans for instance in scan.instances}
        # opened only where citations do not decide
        self._geometry: Callable[[TreeSeries], VolumeGeometry | None] = cache(lambda scan: series_geometry(scan.files))
        self._planes = cache(lambda label: drawn_planes(label.files[0]))

    def of(self, label: TreeSeries) -> list[TreeSeries]:
        """None, one, or the several that a label cites and fits."""
        by_series = [scan for uid in label.drawn.series for scan in self._by_uid.get(uid, ())]
        by_image = [self._by_instance[uid] for uid in label.drawn.instances if uid in self._by_instance]
        cited = self._own(label, by_series or by_image)
        # of several series that it cites it may have been drawn on one that is not there
        certain = len(cited) == 1 and (len(label.drawn.series) == 1 or not by_series)
        found = cited if certain else self._of_several(label, cited) if cited else self._of_nobody(label)
        if any(scan.patient != label.patient for scan in found):
            self.remarks.add(
                "labels of another Patient ID than their scan's",
                f"{self._name(label)} was drawn on a series that has another (0010,0020) Patient ID: taken as of the "
                "series' patient",
            )
        return found

    def _own(self, label: TreeSeries, cited: Sequence[TreeSeries]) -> list[TreeSeries]:
        """Of one UID under two patients those of the label's own; in the order of the tree."""
        wanted = {scan for scan in cited if scan.patient == label.patient} or set(cited)
        return [scan for scan in self.scans if scan in wanted]

    def _of_several(self, label: TreeSeries, cited: list[TreeSeries]) -> list[TreeSeries]:
        """A label that cites several series goes to all on whose planes it lies: phases, echoes, T2 and ADC."""
        fitting = [scan for scan in cited if self._fits(label, scan)]
        uids = {scan.uid for scan in fitting}
        if len(fitting) > 1 and len(uids) < len(fitting):
            fitting = _nearest(label, fitting)  # one series under two patients, or in two exports
        names = listed(map(self._name, fitting), 3)
        count = max(len(cited), len(label.drawn.series))
        if len(fitting) == 1:
            self.remarks.add(
                "labels that cite several series",
                f"{self._name(label)} cites {count} series and lies on the planes of {names}: paired with that",
            )
        elif fitting:
            self.remarks.add(
                "labels that cite several series",
                f"{self._name(label)} cites {count} series and lies on the planes of {len(fitting)} of them: each "
                f"is a case with it ({names})",
            )
        else:
            there = "" if count == len(cited) else f", of which {len(cited)} is there," if len(cited) == 1 else ""
            self._leave_out(label, f"cites {count} series{there} and lies on the planes of none")
        return fitting

    def _of_nobody(self, label: TreeSeries) -> list[TreeSeries]:
        """What it may be drawn on whose citations lead nowhere."""
        absent = bool(label.drawn.series or label.drawn.instances)
        related = self._related(label)
        fitting = [scan for scan in related if self._fits(label, scan)]
        cites = "cites a series ((0020,000E) Series Instance UID) that is not there" if absent else "cites no series"
        if not fitting and len(related) == 1 and not absent:
            self.remarks.add(
                "labels of the only series that may be meant",
                f"{self._name(label)} {cites}; {self._name(related[0])} is the only one of its patient and (0020,0052) "
                "Frame of Reference UID, though it does not lie on its planes",
            )
            return related
        if len(fitting) > 1:
            nearest = _nearest(label, fitting)
            if len(nearest) == 1:
                self.remarks.add(
                    "labels paired by their folder",
                    f"{self._name(label)} {cites}; of {len(fitting)} series on whose planes it lies it is paired with "
                    f"the one in its folder, {self._name(nearest[0])}",
                )
                return nearest
            self._leave_out(label, f"fits no series, or several: it {cites} and lies on the planes of {len(fitting)}")
            return []
        if not fitting:
            why = "no series of its patient and (0020,0052) Frame of Reference UID is there"
            if related:
                why = f"it lies on the planes of none of {counted(len(related), 'series', 'series')} that may be meant"
            self._leave_out(label, f"fits no series, or several: it {cites}, and {why}")
        elif absent:
            self.remarks.add(
                "labels paired by their planes",
                f"{self._name(label)} {cites}; it lies on the planes of {self._name(fitting[0])} alone, so that is "
                "taken for the scan",
            )
        return fitting

    def _related(self, label: TreeSeries) -> list[TreeSeries]:
        """The scans of its patient and frame of reference; where some are of its study, only those.

        The same frame of reference is the same patient, whatever number it bears.
        """
        every = [scan for scan in self.scans if scan.sort == "scan"]
        scans = [scan for scan in every if scan.patient == label.patient]
        if frame := label.frame_of_reference:
            scans = _in_frame(scans, frame) or _in_frame(every, frame) or _in_frame(scans, None)
        return [scan for scan in scans if scan.study == label.study] or scans

    def _fits(self, label: TreeSeries, scan: TreeSeries) -> bool:
        geometry, planes = self._geometry(scan), self._planes(label)
        return geometry is not None and lies_on(planes or [], geometry, pixels=label.kind == "seg")

    def _leave_out(self, label: TreeSeries, why: str) -> None:
        self.remarks.add(
            "labels that fit no series, or several", f"{self._name(label)} ({label.kind.upper()}) {why}; left out"
        )

    def _name(self, one: TreeSeries) -> str:
        return series_name(one, self.folder)


def series_name(one: TreeSeries, folder: Path) -> str:
    """A series as remarks call it: its file, or the folder of its files."""
    path = one.files[0] if len(one.files) == 1 else common_folder(one.files)
    return "." if path == folder else path.relative_to(folder).as_posix()


def _in_frame(scans: Sequence[TreeSeries], frame: str | None) -> list[TreeSeries]:
    return [scan for scan in scans if scan.frame_of_reference == frame]


def _nearest(label: TreeSeries, scans: Sequence[TreeSeries]) -> list[TreeSeries]:
    """Those that share most of their folders with the label."""
    depths = [len(common_folder([scan.files[0], label.files[0]]).parts) for scan in scans]
    return [scan for scan, depth in zip(scans, depths, strict=True) if depth == max(depths)]


# -- which label is the latest ------------------------------------------------------------------------------


def _latest(labels: Sequence[TreeSeries], folder: Path, remarks: Remarks) -> list[TreeSeries]:
    """The labels of one scan without those that another of them replaces."""
    replaces = _citations(labels, folder, remarks)
    replaced: dict[TreeSeries, list[TreeSeries]] = defaultdict(list)
    for later, those in replaces.items():
        for one in those:
            replaced[one].append(later)
    kept = [label for label in labels if label not in replaced]
    there = {plain_name(name) for label in kept for name in label.drawn.codes}
    for earlier, by in replaced.items():
        names = [series_name(label, folder) for label in by]
        lost = [name for name in earlier.drawn.codes if plain_name(name) not in there]
        only = f"; {', '.join(map(repr, lost))} of it is in no later one" if lost else ""
        how = "replaces" if len(by) == 1 else "each replace"
        also = "" if len(by) == 1 else " (all of them are read)"
        remarks.add(
            "labels that a later one replaces",
            f"{listed(names, 3)} {how} {series_name(earlier, folder)}, by {_PREDECESSOR}: that is left out{also}{only}",
        )
    return kept


def _citations(labels: Sequence[TreeSeries], folder: Path, remarks: Remarks) -> dict[TreeSeries, set[TreeSeries]]:
    """Label -> those of the others that it replaces. Labels that replace one another in a circle replace none of it."""
    bearers: dict[str, set[TreeSeries]] = defaultdict(set)  # of an instance UID, which two files may share
    for label in labels:
        for instance in label.instances:
            bearers[instance].add(label)
    cites = {
        label: {one for uid in label.drawn.predecessors for one in bearers.get(uid, ())} - {label} for label in labels
    }
    reach = {label: _reached(label, cites) for label in labels}
    circle = [label for label in labels if label in reach[label]]
    if circle:
        names = listed((series_name(label, folder) for label in circle), 3)
        remarks.add(
            "circles of labels", f"{names} replace one another in a circle, by {_PREDECESSOR}: all of them are read"
        )
    return {label: {one for one in cites[label] if label not in reach[one]} for label in labels}


def _reached(label: TreeSeries, cites: dict[TreeSeries, set[TreeSeries]]) -> set[TreeSeries]:
    """All that a label replaces, itself where it goes round in a circle."""
    found: set[TreeSeries] = set()
    open_ = list(cites[label])
    while open_:
        one = open_.pop()
        if one not in found:
            found.add(one)
            open_ += cites[one]
    return found
