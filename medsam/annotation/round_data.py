"""What a round learns from and what it is measured on, as manifests.

PROJECT/rounds/N/manifest.json, labels/   train and val: standing masks up to the round's last one, and references that
                                          scans came with
PROJECT/frozen/DIGEST/                    the same of the test side, for every round that sees the same of it

A scan stays on the side that its patient was given. Only slices that somebody drew on are there: on the others the
structures are not absent but unknown. `fit` learns a prompted answer from slices on which a structure has pixels, and
`evaluate` asks about such slices alone, so neither takes the others for empty; a detector would.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medsam.annotation.label_files import asked_case, drawn_case, joined_masks, write_label
from medsam.annotation.project import AnnotationProject
from medsam.data.manifest import Case, Manifest
from medsam.data.manifest_json import manifest_text
from medsam.errors import InputError, counted
from medsam.files import write_text
from medsam.store.project_records import Annotation, Round, Side, StoredScan

MANIFEST = "manifest.json"


@dataclass
class Counted:
    """What a side has: scans, patients, masks (of a slice) that were drawn, scans that came with a reference."""

    scans: int = 0
    masks: int = 0
    labelled: int = 0
    patients: set[str] = field(default_factory=set)

    def add(self, scan: StoredScan, masks: int) -> None:
        self.scans, self.masks = self.scans + 1, self.masks + masks
        self.labelled += scan.labelled
        self.patients.add(scan.patient)

    def as_dict(self) -> dict[str, int]:
        """Numbers alone: of patients how many they are."""
        return {"scans": self.scans, "patients": len(self.patients), "masks": self.masks, "labelled": self.labelled}


def write_training_data(project: AnnotationProject, this: Round, tell: Callable[[str], None]) -> dict[str, Any]:
    """The manifest of train and val, and its labels. Returns counts and digests, which tell no path and no patient."""
    folder = project.folder / "rounds" / str(this.number)
    sides: dict[str, Counted] = {"train": Counted(), "val": Counted()}
    cases, digest = list[Case](), hashlib.sha256()
    scans = [scan for scan in _scans(project, this) if scan.side in sides]
    for scan, masks, case in _cases(project, this, scans, folder / "labels"):
        sides[scan.side].add(scan, masks)
        cases.append(case)
        digest.update(json.dumps([scan.name, scan.side, _digests(case)]).encode())
        if len(cases) % 100 == 0:
            tell(f"{len(cases)} scans are in the manifest")
    numbers = _numbers(project, this)
    text = _write_manifest(project.asked.name, numbers, cases, folder)
    return {
        **{side: counts.as_dict() for side, counts in sides.items()},
        "structures": structures_in(cases, list(numbers)),
        "labels": digest.hexdigest(),
        "manifest": hashlib.sha256(text.encode()).hexdigest(),
    }


def write_frozen(project: AnnotationProject, this: Round) -> dict[str, Any]:
    """The manifest of the test side in the folder of its digest, where it is not there yet. Returns its counts."""
    counts, numbers = Counted(), _numbers(project, this)
    scans = _scans(project, this, "test")
    # masks along another axis are left out
    axis = this.settings.get("axis", project.settings.axis)
    seen = hashlib.sha256(json.dumps(numbers if axis is None else [numbers, axis]).encode())
    for scan in scans:
        drawn = [] if scan.labelled else _drawn(project, this, scan, people=True)
        if scan.labelled or drawn:
            what = project.case(scan).fingerprint() if scan.labelled else [one.id for one in drawn]
            seen.update(json.dumps([scan.name, what]).encode())
            counts.add(scan, len(drawn))
    name = seen.hexdigest()[:16]
    folder = project.folder / "frozen" / name
    if not (folder / MANIFEST).is_file():
        found = [case for _, _, case in _cases(project, this, scans, folder / "labels", people=True)]
        _write_manifest(project.asked.name, numbers, found, folder)
    return {"digest": name, **counts.as_dict()}


def check_enough(project: AnnotationProject) -> None:
    """Raise InputError where a round could not learn, or not be measured."""

    def some(side: Side) -> bool:
        scans = project.store.scans(side)
        return any(scan.labelled or any(True for _ in project.store.standing(scan.id)) for scan in scans)

    if not some("train"):
        raise InputError("No scan of the train side has masks yet: there is nothing to learn from. Draw some first.")
    if not some("test"):
        raise InputError(
            "No scan of the test side has a reference or masks, so nothing would tell whether a model is better. Draw "
            "some there (`medsam annotate init --frozen` sets their share), or begin with labelled scans."
        )


def structures_in(cases: Iterable[Case], asked: Sequence[str]) -> list[str]:
    """Those that a label of the cases names, in the project's order."""
    there = {name for case in cases for name in case.structures}
    return [name for name in asked if name in there]


def _scans(project: AnnotationProject, this: Round, side: Side | None = None) -> list[StoredScan]:
    """Those that were there when the round began."""
    scans = project.store.scans(side)
    return [scan for scan in scans if scan.id <= this.settings.get("scans", scan.id)]


def _numbers(project: AnnotationProject, this: Round) -> dict[str, int]:
    """Structure -> its value, as it was when the round began."""
    return dict(this.settings.get("labels") or project.labels)


def _cases(
    project: AnnotationProject, this: Round, scans: Iterable[StoredScan], folder: Path, people: bool = False
) -> Iterator[tuple[StoredScan, int, Case]]:
    """(scan, masks, case with its label) of scans that have one; label files are written on the way."""
    numbers = _numbers(project, this)
    for scan in scans:
        case = project.case(scan)
        if scan.labelled:
            if (asked := asked_case(case, numbers)) is not None:
                yield scan, 0, asked
            continue
        drawn = _drawn(project, this, scan, people)
        if not drawn:
            continue
        try:
            image = case.load_image()
            axis = image.geometry.plane(this.settings.get("axis", project.settings.axis)).axis
            drawn = [one for one in drawn if one.axis == axis]
            masks = joined_masks(drawn, image.geometry, scan.name)
        except InputError as error:
            raise error if scan.name in str(error) else error.within(f"Scan {scan.name}") from error
        if drawn:
            written = write_label(masks, numbers, image.geometry, case.image, folder / scan.name)
            yield scan, len(drawn), drawn_case(case, written.label, numbers)


def _drawn(project: AnnotationProject, this: Round, scan: StoredScan, people: bool = False) -> list[Annotation]:
    """people: without what a model was left alone with, which would be measured against itself."""
    there = project.store.standing(scan.id, last=this.last, structures=list(_numbers(project, this)))
    return [one for one in there if one.mask.area and not (people and one.by is None)]


def _digests(case: Case) -> dict[str, list[str]]:
    """Structure, or "" for all -> sha256 of the label's files."""
    found: dict[str, list[str]] = {}
    label = case.label if isinstance(case.label, dict) else {"": case.label_files}
    for name, paths in label.items():
        files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
        found[name] = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]
    return found


def _write_manifest(name: str, numbers: Mapping[str, int], cases: Sequence[Case], folder: Path) -> str:
    """Under its name last: a folder without one is not finished."""
    if not cases:
        raise InputError("None of the scans has a mask on the slices that are learned from.")
    manifest = Manifest(
        name,
        None,
        dict(numbers),
        tuple(replace(case, notes=None) for case in cases),
        f"{counted(len(cases), 'scan')} of a project of the data engine.",
    )
    text = manifest_text(manifest, folder / MANIFEST)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / MANIFEST, text)
    return text
