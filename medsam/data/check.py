"""What is wrong with a manifest and the files it names. Looks at every file once, one case in memory at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from medsam.data.manifest import Case, Manifest, cross_case_problems
from medsam.data.manifest_json import parse_manifest
from medsam.data.patients import doubts
from medsam.errors import InputError, counted, listed
from medsam.io.files import is_there
from medsam.io.label_grid import LabelGridMismatch
from medsam.io.label_map import UnknownLabel
from medsam.io.labels import notes_on
from medsam.masks import LabelMasks, PackedMasks
from medsam.progress import ProgressCallback
from medsam.volume import Volume

Level = Literal["error", "warning", "note"]
Kind = Literal[
    "manifest",
    "cross-case",
    "missing-file",
    "image",
    "label",
    "grid",
    "unknown-label",
    "label-read",
    "empty-label",
    "never-present",
    "same-image",
    "patient",
    "not-finite",
    "constant",
    "no-label",
]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or worth knowing ("note").

    case, file: where, or None when it concerns the whole manifest.
    """

    level: Level
    kind: Kind
    message: str
    case: str | None = None
    file: Path | None = None


@dataclass(frozen=True)
class CheckReport:
    """What was found. present: structure -> how many cases it is in. manifest: None when it cannot be read."""

    manifest: Manifest | None
    problems: tuple[Problem, ...]
    present: Mapping[str, int]

    @property
    def patients(self) -> str | None:
        """How cases were counted as patients; None without a manifest."""
        if self.manifest is None or not self.manifest.cases:
            return None
        cases = self.manifest.cases
        silent = sum(not case.patient_stated for case in cases)
        stated = {case.patient for case in cases if case.patient_stated}
        parts = [f"{len(stated):,}, by `patient`"] if stated else []
        if silent:
            parts.append(f"{counted(silent, 'case')} without `patient`, each counted as one of its own")
        return "; ".join(parts)

    @property
    def errors(self) -> int:
        """How many problems are errors."""
        return sum(problem.level == "error" for problem in self.problems)

    @property
    def warnings(self) -> int:
        """How many problems are warnings."""
        return sum(problem.level == "warning" for problem in self.problems)


# what is wrong with a case, and the structures that are in it
CheckedCase = tuple[list[Problem], Counter[str]]
# (check of one case, the cases, progress) -> what it found in each, in their order
CheckEach = Callable[[Callable[[Case], CheckedCase], Sequence[Case], ProgressCallback | None], Iterable[CheckedCase]]


def check_manifest(
    path: str | Path, progress: ProgressCallback | None = None, each: CheckEach | None = None
) -> CheckReport:
    """Everything that is wrong with a manifest; never raises for what is.

    progress: called with (cases done, cases in all). each: who checks the cases; default: this process, one by one.
    """
    try:
        manifest = parse_manifest(path)
    except InputError as error:
        return CheckReport(None, (Problem("error", "manifest", str(error), file=Path(path)),), {})
    problems = [Problem("error", "cross-case", sentence) for sentence in cross_case_problems(manifest)]
    problems += _same_images(manifest)
    problems += [Problem("warning", "patient", sentence, case) for case, sentence in doubts(manifest.cases)]
    if not manifest.cases:
        problems.append(Problem("error", "manifest", "the manifest has no cases."))
    present: Counter[str] = Counter()
    notes: list[Problem] = []
    readable = 0
    for found, here in (each or _one_by_one)(check_case, manifest.cases, progress):
        present.update(here)
        readable += not any(problem.level == "error" for problem in found)
        problems += [problem for problem in found if problem.level != "note"]
        notes += [problem for problem in found if problem.level == "note"]
    problems += _absent(manifest, present, readable)
    return CheckReport(manifest, (*problems, *_once(notes)), dict(present))


def _one_by_one(
    check: Callable[[Case], CheckedCase], cases: Sequence[Case], progress: ProgressCallback | None
) -> Iterator[CheckedCase]:
    for number, case in enumerate(cases):
        yield check(case)
        if progress:
            progress(number + 1, len(cases))


def check_case(case: Case) -> CheckedCase:
    """What is wrong with a case; a defect of ours in one does not end the work on the others."""
    found, present = list[Problem](), Counter[str]()
    try:
        for problem in _check_case(case, present):
            found.append(problem)
    except Exception as error:
        message = f"a defect in medsam, not in your file; please report it: {type(error).__name__}: {error}"
        found.append(Problem("error", "image", message, case.id, case.image))
    return found, present


def _absent(manifest: Manifest, present: Counter[str], readable: int) -> Iterator[Problem]:
    """Structures, or labels altogether, that are in no case."""
    if manifest.cases and all(case.label is None for case in manifest.cases):
        yield Problem("warning", "no-label", "no case has a label: nothing can be trained or measured.")
    elif readable:
        expected = dict.fromkeys(s for case in manifest.cases if case.label is not None for s in case.structures)
        expected |= dict.fromkeys(manifest.labels)
        for name in expected:
            if not present[name]:
                yield Problem("warning", "never-present", f"the structure {name!r} is in no case.")


def _once(notes: list[Problem]) -> Iterator[Problem]:
    """A note that holds for many cases once, at the first of them."""
    by_message: dict[str, list[Problem]] = {}
    for note in notes:
        by_message.setdefault(note.message, []).append(note)
    for message, same in by_message.items():
        others = f" So in {counted(len(same) - 1, 'more case')}." if len(same) > 1 else ""
        yield replace(same[0], message=message + others)


def _check_case(case: Case, present: Counter[str]) -> Iterator[Problem]:
    missing = [path for path in case.files if not is_there(path)]
    for path in missing:
        what = "the image" if path == case.image else "the label"
        yield Problem("error", "missing-file", f"{what} {path} does not exist.", case.id, path)
    if case.image in missing:
        return
    try:
        scan = case.load_image()
    except InputError as error:
        yield Problem("error", "image", _without_case(error, case), case.id, case.image)
        return
    yield from _voxels(case, scan)
    if case.label is None or missing:
        return
    try:
        masks = case.load_references(scan)
    except InputError as error:
        yield _label_problem(case, error)
        return
    for note in notes_on(masks):
        yield Problem("note", "label-read", note, case.id, case.label_files[0])
    yield from _empty_masks(case, masks, present)


def _label_problem(case: Case, error: InputError) -> Problem:
    kind: Kind = "label"
    if isinstance(error, LabelGridMismatch):
        kind = "grid"
    elif isinstance(error, UnknownLabel):
        kind = "unknown-label"
    culprit = next((path for path in case.label_files if path.name in str(error)), case.label_files[0])
    return Problem("error", kind, _without_case(error, case), case.id, culprit)


def _empty_masks(case: Case, masks: Mapping[str, np.ndarray], present: Counter[str]) -> Iterator[Problem]:
    """A label without any structure, and masks without a voxel. present: counts the structures that are there."""
    if isinstance(masks, LabelMasks | PackedMasks):
        counts: Mapping[str, int] = masks.voxels
    else:
        counts = {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}
    here = [name for name, count in counts.items() if count]
    present.update(here)
    if not here:
        yield Problem(
            "warning", "empty-label", "its label is empty: no structure is in it.", case.id, case.label_files[0]
        )
    elif isinstance(case.label, dict) and len(here) < len(counts):
        # a line a case, not a line a mask: whole-body sets keep an empty file for every organ out of view
        empty = [name for name in counts if name not in here]
        names = listed(empty, 4)
        message = (
            f"{len(empty)} of its {counted(len(counts), 'mask')} {'is' if len(empty) == 1 else 'are'} empty: {names}."
        )
        yield Problem("warning", "empty-label", message, case.id, case.label[empty[0]][0])


def _voxels(case: Case, scan: Volume) -> Iterator[Problem]:
    array = scan.array
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            share = 1 - np.count_nonzero(finite) / array.size
            odd = counted(int(array.size - np.count_nonzero(finite)), "voxel is", "voxels are")
            message = f"{odd} NaN or infinite ({share:.2%} of the image)."
            yield Problem("warning", "not-finite", message, case.id, case.image)
            array = array[finite]
    if array.size == 0 or array.min() == array.max():
        yield Problem("warning", "constant", "every voxel of the image has the same value.", case.id, case.image)


def _same_images(manifest: Manifest) -> Iterator[Problem]:
    """One image under several patients or splits. Two references of one image are nothing wrong."""
    seen: dict[tuple[object, ...], Case] = {}
    for case in manifest.cases:
        first = seen.setdefault((case.image, case.series, case.frame), case)
        if first is case:
            continue
        if first.split and case.split and first.split != case.split:
            message = f"its image is that of case {first.id}, which is in another split ({first.split}, {case.split})."
            yield Problem("error", "same-image", message, case.id, case.image)
        elif first.patient != case.patient:
            message = f"its image is that of case {first.id}, which is said to be another patient."
            yield Problem("error", "same-image", message, case.id, case.image)


def _without_case(error: InputError, case: Case) -> str:
    """The table has a column for the case."""
    text = str(error)
    for part in ("image", "label"):
        text = text.removeprefix(f"Case {case.id}, {part}: ")
    return text
