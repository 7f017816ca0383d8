"""A project begun, and scans that come later: what is to be drawn, and which patients the measure is kept on.

A patient is on one side of the split, for ever. A split that the data has is kept. Where it has none, patients are
drawn by the seed: those on the test side are frozen, nothing is ever trained on them. Data that is all to train on, as
a folder of that name or a challenge's training scans, has no split: without patients to measure on no model is ever
promoted. Scans whose references cover what
is asked for are used as they are; every other one becomes a task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import Settings
from medsam.data.index import NO_LABEL, index_folder
from medsam.data.manifest import Case, Manifest, Split, check_files
from medsam.data.manifest_json import document_of, read_manifest
from medsam.data.patients import assign
from medsam.data.split import check_shares, draw_sides
from medsam.errors import InputError, counted, listed
from medsam.io.dicom.tree import patient_digest
from medsam.labels.names import canonical_name, names
from medsam.progress import ProgressCallback
from medsam.store.project_records import NewScan, NewTask, StoredScan, Task
from medsam.store.readers import Reader

# what patients on a side are for
_ASIDE: dict[Split, str] = {"test": "to be measured on", "val": "to stop training by"}


@dataclass(frozen=True)
class Added:
    """What came into a project. remarks: sentences on what was guessed or left out."""

    scans: tuple[StoredScan, ...]
    tasks: tuple[Task, ...]
    remarks: tuple[str, ...]


def read_data(
    path: Path, labels: Mapping[str, int] | None = None, progress: ProgressCallback | None = None
) -> tuple[Manifest, tuple[str, ...]]:
    """Scans from a manifest (ours, Decathlon, nnU-Net), or from a folder, which is indexed; and remarks on it.

    labels: structure -> value in the label maps of a folder. Raises InputError where there is no scan.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist: name a folder of scans, or a manifest.", parameter="data")
    if path.is_dir() and not (path / "manifest.json").is_file():
        found = index_folder(path, labels=labels, progress=progress)
        # that nothing is drawn yet is why there is a project
        manifest, remarks = found.manifest, tuple(one for one in found.remarks if one != NO_LABEL)
    else:
        manifest, remarks = read_manifest(path), ()
    if not manifest.cases:
        raise InputError(f"{path} holds no scan.", parameter="data")
    check_files((case.id, file) for case in manifest.cases for file in case.files)
    assigned = assign(manifest.cases)
    return replace(manifest, cases=assigned.cases), (*remarks, *assigned.remarks)


def start_project(
    folder: Path,
    manifest: Manifest,
    structures: Sequence[str],
    settings: Settings,
    *,
    name: str | None = None,
    frozen: float = 0.2,
    val: float = 0.1,
    by: Reader | None = None,
    progress: ProgressCallback | None = None,
    url: str | None = None,
    weights: str | None = None,
) -> tuple[AnnotationProject, Added]:
    """A new project in `folder`, with the scans of a manifest, each whose patient is known (`read_data`).

    frozen, val: shares of the patients to be measured on, and to stop training by, where the manifest has no such side.
    progress: called with (scans done, scans), where slices are counted. url: see `Store.open`. weights: digest of those
    of `settings.model`, where it is known.
    Whoever calls it closes the project.
    Raises InputError for shares that are none, structures that will not do, too few patients, and where there is a
    project already.
    """
    check_shares(frozen=frozen, val=val)
    asked = checked_structures(structures)
    sides, said = _sides(manifest.cases, asked, frozen, val, settings.seed)
    new = [_new_scan(case, sides[case.patient], asked) for case in manifest.cases]
    slices = _slices_of(new, manifest.cases, settings, progress)
    project = AnnotationProject.create(folder, name or manifest.name, asked, settings, by, url=url, weights=weights)
    try:
        scans = project.store.add_scans(new)
        remarks = (*said, *_name_remarks(asked, manifest), *_left_out(manifest.cases, asked))
        return project, Added(tuple(scans), tuple(_add_tasks(project, slices)), remarks)
    except BaseException:
        project.close()
        raise


def add_scans(project: AnnotationProject, manifest: Manifest, progress: ProgressCallback | None = None) -> Added:
    """Further scans of a project; those that it has stay as they are, and so do its sides.

    A patient who is new trains, unless the manifest says otherwise: the measure of earlier rounds stays the same. Scans
    that were left without a task by a process that was killed get theirs.
    """
    asked, there = project.asked.structures, project.store.scans()
    known = {_place(scan.document) for scan in there}
    cases = [case for case in manifest.cases if _place(document_of(case)) not in known]
    remarks = []
    if len(cases) < len(manifest.cases):
        remarks.append(f"{counted(len(manifest.cases) - len(cases), 'scan')} of these the project has already.")
    cases = _renamed(cases, there)
    stated = {case.patient: case.split for case in cases if case.split is not None}
    sides = {scan.patient: scan.side for scan in there}
    new = [_new_scan(case, sides.get(case.patient) or stated.get(case.patient) or "train", asked) for case in cases]
    slices = _slices_of(new, cases, project.settings, progress)
    scans = project.store.add_scans(new)
    return Added(tuple(scans), tuple(_add_tasks(project, slices)), tuple(remarks))


def checked_structures(structures: Sequence[str]) -> tuple[str, ...]:
    """Their names, tidied. Raises InputError where there is none, one without a letter, or one structure twice."""
    asked = tuple(one.strip() for one in structures if one.strip())
    if not asked:
        raise InputError("Name the `structures` to be drawn.", parameter="structures")
    first: dict[str, str] = {}
    for one in asked:
        try:
            plain = canonical_name(one)
        except InputError as error:
            raise InputError(str(error), parameter="structures") from error
        if plain in first:
            raise InputError(
                f"{first[plain]!r} and {one!r} are one structure: name it once in `structures`.",
                parameter="structures",
            )
        first[plain] = one
    return asked


def spread_slices(count: int, wanted: int) -> tuple[int, ...]:
    """So many of `count` slices, each in the middle of an equal part of them; all of them where there are no more."""
    return tuple(sorted({(2 * part + 1) * count // (2 * wanted) for part in range(wanted)}))


# -- sides ----------------------------------------------------------------------------------------------------------


def _sides(
    cases: Sequence[Case], asked: Sequence[str], frozen: float, val: float, seed: int
) -> tuple[dict[str, Split], list[str]]:
    """Patient -> side, and a sentence where the data says otherwise. What the manifest says stands, and a side that it
    has is not drawn for."""
    stated: dict[str, Split] = {case.patient: case.split for case in cases if case.split is not None}
    sides = set(stated.values())
    test, stop = 0.0 if "test" in sides else frozen, 0.0 if "val" in sides else val
    tags = _drawn_for(cases, asked, stated, test + stop > 0)
    if not tags:
        return stated, []
    drawn = draw_sides(tags, test=test, val=stop, seed=seed)
    if drawn is None:
        raise InputError(
            f"{counted(len(tags), 'patient')} cannot be shared among those who are trained on, those who stop training "
            "(`val`) and those whom the measure is kept on (`frozen`). Add scans, or say 0 for a share.",
            parameter=("frozen", "val"),
        )
    return {**stated, **drawn}, _side_remarks(Counter(side for patient, side in drawn.items() if patient in stated))


def _drawn_for(
    cases: Sequence[Case], asked: Sequence[str], stated: Mapping[str, Split], any_share: bool
) -> dict[str, set[str]]:
    """Patients of no side yet, with what is to be spread evenly: those with a reference are a measure from the start.

    Where all are to train on and none are to be measured on, that is no split: they are drawn from as well.
    """
    free = {case.patient for case in cases} - stated.keys()
    if not free and any_share and "test" not in stated.values():
        free = {patient for patient, side in stated.items() if side == "train"}
    tags: dict[str, set[str]] = {patient: set() for patient in sorted(free)}
    for case in cases:
        if case.patient in tags and _covers(case, asked):
            tags[case.patient].add("labelled")
    return tags


def _side_remarks(counts: Mapping[str, int]) -> list[str]:
    """counts: side -> patients whom the data calls training."""
    aside = " and ".join(f"{counted(counts[side], 'patient')} {what}" for side, what in _ASIDE.items() if counts[side])
    if not aside:
        return []
    return [f"The data has no test side: of its training patients {aside} are set aside (`--frozen 0 --val 0`: none)."]


def _covers(case: Case, asked: Sequence[str]) -> bool:
    """Whether a case has a reference that holds, or may hold, all that is asked for."""
    return case.label is not None and set(map(canonical_name, asked)) <= set(map(canonical_name, case.structures))


# -- scans ----------------------------------------------------------------------------------------------------------


def _new_scan(case: Case, side: Split, asked: Sequence[str]) -> NewScan:
    labelled = _covers(case, asked)
    document = document_of(_spelled(case, asked) if labelled else replace(case, label=None))
    return NewScan(case.id, case.patient, side, labelled, document, case.modality)


def _spelled(case: Case, asked: Sequence[str]) -> Case:
    """A case whose reference calls structures as the project does."""
    ours = {canonical_name(one): one for one in asked}
    spelling = {one: ours.get(canonical_name(one), one) for one in (*case.labels, *case.structures)}
    aliases = {theirs: spelling.get(name, name) for theirs, name in case.aliases.items()}
    aliases |= {theirs: name for theirs, name in spelling.items() if theirs != name and theirs not in aliases}
    labels = {spelling[name]: value for name, value in case.labels.items()}
    label = case.label
    if isinstance(label, dict):
        label = {spelling[name]: paths for name, paths in label.items()}
    return replace(case, labels=labels, label=label, aliases=aliases)


def _place(document: Mapping[str, object]) -> tuple[object, ...]:
    """What tells two scans apart, of their entries in manifests."""
    return document["image"], document.get("series"), document.get("frame")


def _renamed(cases: Sequence[Case], there: Sequence[StoredScan]) -> list[Case]:
    """Cases whose ids and patients mean nothing else in the project.

    The patients of a DICOM folder are numbered in order, so two folders call different people the same, and one person
    differently: their files say who is who.
    """
    taken = {scan.name.casefold() for scan in there}
    digests = {scan.patient: patient_digest(Path(str(scan.document["image"]))) for scan in there}
    people = {digest: patient for patient, digest in digests.items() if digest is not None}
    called: dict[str, str] = {}
    renamed = []
    for case in cases:
        digest = patient_digest(case.image)
        patient = people.get(digest or "")
        if patient is None:
            other = digest is not None and digests.get(case.patient) is not None
            patient = called.setdefault(case.patient, _free(case.patient, set(digests))) if other else case.patient
            if digest is not None:
                people[digest] = patient
        name = _free(case.id, taken)
        taken.add(name.casefold())
        renamed.append(replace(case, id=name, patient=patient, patient_stated=True))
    return renamed


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 1
    while found.casefold() in taken or found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


def _left_out(cases: Sequence[Case], asked: Sequence[str]) -> list[str]:
    """On references that hold a part of what is asked for: to learn from them would teach that the rest is nowhere."""
    partial = sum(case.label is not None and not _covers(case, asked) for case in cases)
    if not partial:
        return []
    return [
        f"{counted(partial, 'scan')} with a reference that lacks some of the structures: it is left out, all of them "
        "are to be drawn, and `medsam annotate import` brings in what it has."
    ]


def _name_remarks(asked: Sequence[str], manifest: Manifest) -> list[str]:
    """On names that neither the data nor the list of structures has: a slip of the pen would be drawn for weeks."""
    there = {canonical_name(one) for one in manifest.labels} | {
        canonical_name(one) for case in manifest.cases for one in case.structures
    }
    unknown = [one for one in asked if canonical_name(one) not in names() | there]
    if not unknown:
        return []
    return [f"{listed(unknown)}: on no list of structures, so taken as typed; out of DICOM it goes without a code."]


# -- tasks ----------------------------------------------------------------------------------------------------------


def _slices_of(
    new: Sequence[NewScan], cases: Sequence[Case], settings: Settings, progress: ProgressCallback | None
) -> dict[str, tuple[int, ...]]:
    """Name of a scan -> slices to be drawn on, where a number of them is asked for."""
    if settings.slices is None:
        return {}
    todo = [(scan.name, case) for scan, case in zip(new, cases, strict=True) if not scan.labelled]
    found = {}
    for number, (name, case) in enumerate(todo):
        if progress is not None:
            progress(number, len(todo))
        found[name] = spread_slices(case.load_image().geometry.plane(settings.axis).count, settings.slices)
    return found


def _add_tasks(project: AnnotationProject, slices: Mapping[str, tuple[int, ...]]) -> list[Task]:
    """A task for every scan that is to be drawn on and has none."""
    store, asked, settings = project.store, project.asked, project.settings
    have = {task.scan for task in store.tasks(kinds=["draw"])}
    todo = [scan for scan in store.scans() if not scan.labelled and scan.id not in have]
    if settings.slices is not None and (lost := [scan for scan in todo if scan.name not in slices]):
        cases = [project.case(scan) for scan in lost]
        new = [NewScan(scan.name, scan.patient, scan.side, False, scan.document) for scan in lost]
        slices = {**slices, **_slices_of(new, cases, settings, None)}
    return store.add_tasks(
        [NewTask(scan.id, asked.structures, stage=settings.stage, slices=slices.get(scan.name)) for scan in todo]
    )
