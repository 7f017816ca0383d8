"""`medsam data check | index | split | recipe | fetch-decathlon | deidentify`: lists of cases, made and checked."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsam.cli import deidentify
from medsam.cli.flags import comma_names, with_flags
from medsam.cli.table import print_line, print_table
from medsam.cli.workers import add_worker_arguments, workers_of
from medsam.errors import InputError, counted
from medsam.io.files import is_whole
from medsam.progress import ProgressCallback, progress_bars

if TYPE_CHECKING:
    from medsam.data.check import CheckEach, CheckedCase
    from medsam.data.manifest import Case
    from medsam.inference.jobs import Workers

# what remarks on an index may advise
_INDEX_OPTIONS = ("labels", "threshold", "newest", "all_series", "vocabulary")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    checking = actions.add_parser("check", help="open every file of a manifest and say what is wrong")
    checking.add_argument(
        "manifests", nargs="+", type=Path, metavar="MANIFEST", help="ours, Decathlon or nnU-Net; a file or its folder"
    )
    checking.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_worker_arguments(checking)

    _add_index_arguments(
        actions.add_parser("index", help="write a manifest of a folder: a DICOM tree, or pairs by name")
    )

    splitting = actions.add_parser("split", help="assign train, val and test by patient")
    splitting.add_argument("manifest", type=Path)
    splitting.add_argument("--out", type=Path, required=True, metavar="FILE", help="the manifest to write")
    splitting.add_argument("--test", type=float, metavar="SHARE", help="of the patients (default: 0.2)")
    splitting.add_argument("--val", type=float, default=0.1, metavar="SHARE", help="of the patients (default: 0.1)")
    splitting.add_argument("--folds", type=int, metavar="K", help="cross-validation: K test parts ...")
    splitting.add_argument("--fold", type=int, metavar="N", help="... of which this is number N, from 0")
    splitting.add_argument("--seed", type=int, default=0)
    splitting.add_argument(
        "--stratify",
        choices=("label", "modality", "none"),
        default="label",
        help="spread structures or modalities evenly over the parts (default: label)",
    )

    splitting.add_argument("--force", action="store_true", help="overwrite --out when it holds something else")

    cooking = actions.add_parser("recipe", help="write the manifest of a known data set")
    cooking.add_argument("name", nargs="?", metavar="NAME", help="a card in datasets/; none: list them")
    cooking.add_argument("--root", type=Path, metavar="DIR", help="the data set's folder, or the one that holds it")
    cooking.add_argument("--out", type=Path, metavar="FILE", help="the manifest to write; with --all, a folder")
    cooking.add_argument("--card", type=Path, metavar="FILE", help="a card of your own instead of NAME")
    cooking.add_argument("--all", action="store_true", help="every known data set whose files are below --root")

    cooking.add_argument("--force", action="store_true", help="overwrite --out when it holds something else")

    deidentifying = actions.add_parser("deidentify", help="copy DICOM without names, numbers and dates of patients")
    deidentify.add_arguments(deidentifying)

    fetching = actions.add_parser("fetch-decathlon", help="download a Medical Segmentation Decathlon task (MONAI)")
    fetching.add_argument("task", metavar="TASK", help="e.g. Task04_Hippocampus")
    fetching.add_argument("--root", type=Path, required=True, metavar="DIR", help="where to; the tar file stays there")


def _add_index_arguments(indexing: argparse.ArgumentParser) -> None:
    indexing.add_argument("folder", type=Path)
    indexing.add_argument("--out", type=Path, required=True, metavar="FILE", help="the manifest to write")
    indexing.add_argument("--name", help="of the data set (default: the folder's)")
    indexing.add_argument("--modality", help="CT, MR, ... when the files do not say")
    indexing.add_argument(
        "--labels",
        metavar="A=1,B=2",
        help="what the label values mean (default: label_1, ...); of a DICOM tree, the structures to keep",
    )
    indexing.add_argument(
        "--vocabulary",
        choices=("written", "standard"),
        default="written",
        help="DICOM: structures are called as the first file spells them, or by their standard names",
    )

    indexing.add_argument(
        "--threshold", type=float, metavar="N", help="label pictures are masks: what is brighter is inside (e.g. 127)"
    )
    indexing.add_argument(
        "--newest", action="store_true", help="DICOM: of a structure in several files of a series the newest alone"
    )
    indexing.add_argument(
        "--all-series", action="store_true", help="DICOM: also localizers and pictures of screens without a label"
    )
    indexing.add_argument(
        "--keep",
        type=comma_names,
        action="extend",
        default=[],
        metavar="NAME,...",
        help="write what `evaluate --by` reads into the manifest: manufacturer, slice_thickness, sex, age, ...",
    )
    indexing.add_argument(
        "--key", type=Path, metavar="FILE", help="DICOM: call patients as `data deidentify --key FILE` does, not p001"
    )
    indexing.add_argument("--force", action="store_true", help="overwrite --out when it holds something else")


def run(arguments: argparse.Namespace) -> None:
    {
        "check": _check,
        "index": _index,
        "split": _split,
        "recipe": _recipe,
        "deidentify": deidentify.run,
        "fetch-decathlon": _fetch_decathlon,
    }[arguments.action](arguments)


def _check(arguments: argparse.Namespace) -> None:
    from medsam.data.check import check_manifest

    alone = arguments.ray is None and (arguments.processes or 1) == 1
    each = None if alone else _shared(workers_of(arguments))
    results = []
    for path in arguments.manifests:
        with progress_bars(f"Checking {path.name}") as (progress,):
            results.append((path, check_manifest(path, progress, each)))
    errors = sum(checked.errors for _, checked in results)
    warnings = sum(checked.warnings for _, checked in results)
    if arguments.json:
        print(json.dumps(_report(results, errors, warnings), indent=2, ensure_ascii=False))
    else:
        _print_report(results)
    if errors:
        raise InputError(
            f"{counted(errors, 'error')} and {counted(warnings, 'warning')} in {counted(len(results), 'manifest')}."
        )


def _shared(workers: Workers) -> CheckEach:
    """Cases checked by workers."""
    from medsam.data.check import Problem
    from medsam.inference.jobs import run_cases
    from medsam.io.footprint import working_bytes

    def each(
        check: Callable[[Case], CheckedCase], cases: Sequence[Case], progress: ProgressCallback | None
    ) -> Iterator[CheckedCase]:
        done = run_cases(
            cases, _Checking(check), workers, bytes_of=lambda case: working_bytes(case.image), progress=progress
        )
        for number, (case, found) in enumerate(zip(cases, done.results, strict=True)):
            # of a process that ended by itself
            why = done.failures.get(number, "it was not checked.")
            yield found or ([Problem("error", "image", why, case.id, case.image)], Counter())

    return each


@dataclass(frozen=True)
class _Checking:
    check: Callable[[Case], CheckedCase]

    def __call__(self, case: Case, progress: ProgressCallback) -> CheckedCase:
        progress(0, 1)
        return self.check(case)


def _report(results: list[tuple[Path, Any]], errors: int, warnings: int) -> dict[str, Any]:
    return {
        "manifests": [
            {
                "path": str(path),
                "name": checked.manifest.name if checked.manifest else None,
                "cases": len(checked.manifest.cases) if checked.manifest else None,
                "patients": checked.patients,
                "present": dict(checked.present),
                "problems": [
                    {
                        "level": problem.level,
                        "kind": problem.kind,
                        "case": problem.case,
                        "file": None if problem.file is None else str(problem.file),
                        "message": problem.message,
                    }
                    for problem in checked.problems
                ],
            }
            for path, checked in results
        ],
        "errors": errors,
        "warnings": warnings,
    }


def _print_report(results: list[tuple[Path, Any]]) -> None:
    for path, checked in results:
        count = len(checked.manifest.cases) if checked.manifest else 0
        numbers = ((count, "case"), (checked.errors, "error"), (checked.warnings, "warning"))
        said = ", ".join(counted(number, what) for number, what in numbers)
        print_line(f"{path}: {said}")
        if checked.patients:
            print_line(f"  patients: {checked.patients}")
        rows = [
            (one.level, one.kind, one.case or "", "" if one.file is None else one.file.name, one.message)
            for one in checked.problems
        ]
        if rows:
            print_table(("level", "problem", "case", "file", "what"), rows, left=5, fold_last=True)


def _index(arguments: argparse.Namespace) -> None:
    from medsam.data.index import index_folder
    from medsam.data.index_dicom import TreeOptions
    from medsam.data.manifest_json import write_manifest
    from medsam.io.dicom.deidentify.keys import read_key

    labels = None if arguments.labels is None else parse_labels(arguments.labels)
    tree = TreeOptions(
        newest=arguments.newest,
        all_series=arguments.all_series,
        vocabulary=arguments.vocabulary,
        key=None if arguments.key is None else read_key(arguments.key),
    )
    with progress_bars("Reading headers and labels") as (progress,):
        found = index_folder(
            arguments.folder,
            name=arguments.name,
            modality=arguments.modality,
            labels=labels,
            threshold=arguments.threshold,
            tree=tree,
            keep=arguments.keep,
            progress=progress,
        )
    for remark in found.remarks:
        print(with_flags(remark, _INDEX_OPTIONS, arguments), file=sys.stderr)
    write_manifest(found.manifest, arguments.out, force=arguments.force)
    cases = found.manifest.cases
    labelled = sum(case.label is not None for case in cases)
    print(f"wrote {arguments.out}: {_count(cases)}, {labelled} with a label")


def _split(arguments: argparse.Namespace) -> None:
    from medsam.data.manifest import SPLITS
    from medsam.data.manifest_json import parse_manifest, write_manifest
    from medsam.data.patients import assign, doubts
    from medsam.data.split import fold_manifest, split_manifest

    if (arguments.folds is None) != (arguments.fold is None):
        raise InputError("--folds K and --fold N go together.")
    if arguments.folds is not None and arguments.test is not None:
        raise InputError("--test does not go with --folds: each fold is a test part of its own.")
    # a manifest that is split wrongly is what this fixes, so it may be read
    manifest = parse_manifest(arguments.manifest)
    assigned = assign(manifest.cases)
    manifest = replace(manifest, cases=assigned.cases)
    unread: list[str] = []
    given = {"val": arguments.val, "seed": arguments.seed, "stratify": arguments.stratify, "unread": unread}
    with progress_bars("Reading labels") as (progress,):
        if arguments.folds is not None:
            manifest = fold_manifest(manifest, folds=arguments.folds, fold=arguments.fold, progress=progress, **given)
        else:
            test = 0.2 if arguments.test is None else arguments.test
            manifest = split_manifest(manifest, test=test, progress=progress, **given)
    if unread:
        more = f"; and {len(unread) - 20} more" if len(unread) > 20 else ""
        what = counted(len(unread), "label that cannot be read is", "labels that cannot be read are")
        print(f"{what} spread by patient alone: {'; '.join(unread[:20])}{more}", file=sys.stderr)
    for remark in (*assigned.remarks, *(sentence for _, sentence in doubts(manifest.cases))):
        print(remark, file=sys.stderr)
    write_manifest(manifest, arguments.out, force=arguments.force)
    sizes = []
    for split in SPLITS:
        cases = manifest.in_split(split)
        patients = len({case.patient for case in cases})
        sizes.append(f"{split} {counted(len(cases), 'case')} ({counted(patients, 'patient')})")
    print(f"wrote {arguments.out}: {', '.join(sizes)}")


def _recipe(arguments: argparse.Namespace) -> None:
    from medsam.data.cards import build, find_card, read_card
    from medsam.data.manifest_json import write_manifest

    if sum([arguments.name is not None, arguments.card is not None, arguments.all]) > 1:
        raise InputError("Give one of NAME, --card FILE and --all.")
    if arguments.name is None and arguments.card is None and not arguments.all:
        _print_cards()
        return
    if arguments.root is None or arguments.out is None:
        raise InputError("--root DIR (where the files are) and --out (what to write) are needed.")
    if arguments.all:
        _all_recipes(arguments)
        return
    card = read_card(arguments.card) if arguments.card is not None else find_card(arguments.name)
    built = build(card, arguments.root)
    write_manifest(built.manifest, arguments.out, force=arguments.force)
    _say(card.name, built, arguments.out)


def _print_cards() -> None:
    from medsam.data.cards import list_cards

    for card in list_cards():
        recipe = "" if card.recipe else " (no recipe)"
        print(f"{card.name:28} {'/'.join(card.modalities):10} {card.title}; {card.licence}{recipe}")


def _all_recipes(arguments: argparse.Namespace) -> None:
    """A manifest of every known data set in --root, in the folder --out."""
    from medsam.data.cards import build, list_cards
    from medsam.data.manifest_json import in_the_way, manifest_text, write_manifest

    if not arguments.root.is_dir():
        raise InputError(f"With --all, --root is a folder that exists, not {arguments.root}.")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise InputError(f"With --all, --out is a folder, and {arguments.out} is a file.")
    # the folder must bear the set's name: templates such as images/*.png fit other data sets too
    there = [card for card in list_cards() if card.recipe and (arguments.root / card.folder).is_dir()]
    if not there:
        raise InputError(f"{arguments.root} holds no folder of a known data set.")
    all_built = {arguments.out / f"{card.name}.json": (card.name, build(card, arguments.root)) for card in there}
    arguments.out.mkdir(parents=True, exist_ok=True)
    # all or none: half a folder of new manifests is worse than a message
    texts = {out: manifest_text(built.manifest, out) for out, (_, built) in all_built.items()}
    in_the_way(texts, force=arguments.force)
    for out, (name, built) in all_built.items():
        write_manifest(built.manifest, out, force=arguments.force)
        _say(name, built, out)


def _say(name: str, built: Any, out: Path) -> None:
    cases = built.manifest.cases
    if built.without_label:
        some = ", ".join(path.name for path in built.without_label[:3])
        print(
            f"{name}: {counted(len(built.without_label), 'image')} without a label left out, e.g. {some}",
            file=sys.stderr,
        )
    print(f"wrote {out}: {_count(cases)}")


def _count(cases: Any) -> str:
    patients = len({case.patient for case in cases})
    return f"{counted(len(cases), 'case')} of {counted(patients, 'patient')}"


def _fetch_decathlon(arguments: argparse.Namespace) -> None:
    from medsam.transforms.decathlon import fetch_decathlon

    print(fetch_decathlon(arguments.task, arguments.root))


def parse_labels(text: str) -> dict[str, int]:
    """ "a=1,b=2" -> {"a": 1, "b": 2}."""
    labels: dict[str, int] = {}
    for part in text.split(","):
        name, sign, number = part.partition("=")
        name = name.strip()
        if not sign or not name or not is_whole(number.strip()) or int(number) < 1:
            raise InputError(f"--labels {text!r}: {part!r} is not NAME=NUMBER with a number from 1.")
        if name in labels or int(number) in labels.values():
            raise InputError(f"--labels {text!r}: {part!r} uses a name or a number a second time.")
        labels[name] = int(number)
    return labels
