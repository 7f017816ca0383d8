"""An evaluation over many cases: a folder that grows case by case, can be interrupted, and ends in tables.

    DIR/run.json            protocol, models and environment; a folder holds one evaluation
    DIR/jobs.csv            of each case whether it is done, or why not, its seconds and host
    DIR/cases/CASE.json     rows of one finished case; what is there is not measured again
    DIR/overlays/CASE.npz   pictures for the report
    DIR/masks/...           with keep_masks
    DIR/groups.csv              with by: the groups each case is in
    DIR/metrics.csv, slices.csv, summary.json, report.html, table.tex     made from the above when all cases are done
    DIR/detection.csv           with the prompt auto: what was found in each case, and false alarms
    DIR/corrections.csv         with corrections: what each of them did

Cases are shared among workers by `run_cases`. Rows come from the case files in manifest order, so how a run was cut
and shared leaves no trace in the tables.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medsam._version import __version__
from medsam.data.attributes import Grouping, groupings
from medsam.data.manifest import Case
from medsam.errors import InputError, counted
from medsam.evaluation.case import CaseResult, EvaluationCase, evaluate_case
from medsam.evaluation.groups import about, by_group, case_table
from medsam.evaluation.protocol import Protocol
from medsam.evaluation.same_task import changes
from medsam.evaluation.tables import file_name
from medsam.files import holds_files, write_text, write_whole
from medsam.inference.jobs import JobLog, Workers, run_cases
from medsam.inference.predictor import Predictor
from medsam.io.files import read_json
from medsam.io.footprint import working_bytes
from medsam.io.save import check_folder, save_labels
from medsam.models.heads import head_digest
from medsam.progress import ProgressCallback
from medsam.volume import LabelVolume

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class EvaluationRun:
    """Where an evaluation is kept and how it is made.

    timing: whether the tables tell seconds; without, the same run gives the same bytes.
    by: attributes by which results are told apart (`medsam.data.attributes`); another choice measures nothing again.
    asked: what else the summary should tell: manifests, split, limit, command.
    """

    folder: Path
    protocol: Protocol
    keep_masks: bool = False
    timing: bool = True
    by: tuple[str, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)

    def case_file(self, case: str) -> Path:
        return self.folder / "cases" / f"{file_name(case)}.json"


def evaluate(
    run: EvaluationRun,
    cases: Sequence[tuple[str, Case]],
    models: Mapping[str, Predictor],
    *,
    workers: Workers = Workers(),  # noqa: B008  frozen
    progress: ProgressCallback | None = None,
) -> Path:
    """Measure what is not measured yet, then write the tables and the report. Returns the folder.

    cases: (id, case); ids are unique. models: name -> predictor. workers: that share the cases.
    progress: called with (cases done, cases to measure), also once a slice; what it raises ends the run, and the same
    call goes on from there.
    A case that cannot be read does not stop the others; they are all named at the end. A finished case is measured
    again when its files, its entry in the manifest or this program have changed.
    Raises InputError when the folder holds another evaluation, or cases could not be measured.
    """
    taken: dict[str, str] = {}
    for name, _ in cases:
        if taken.setdefault(file_name(name), name) != name:
            raise InputError(f"The cases {taken[file_name(name)]} and {name} would share a file. Rename one of them.")
    if run.by:
        groupings(cases, run.by)  # what is no attribute is said before hours of work
    _open_folder(run, models)
    names = [name for name, _ in cases]
    done = run_cases(
        cases,
        _Evaluation(run, dict(models)),
        workers,
        is_done=lambda named: _is_done(run, *named),
        bytes_of=lambda named: working_bytes(named[1].image),
        log=JobLog.in_file(run.folder / "jobs.csv", names),
        progress=progress,
    )
    done.raise_failures(names, "be measured", "The others are kept.")
    _write_tables(run, cases)
    return run.folder


@dataclass(frozen=True)
class _Evaluation:
    """Measures a case and keeps its rows, in any process."""

    run: EvaluationRun
    models: Mapping[str, Predictor]

    def __call__(self, named: tuple[str, Case], progress: ProgressCallback) -> None:
        name, case = named
        # before the files are read: a case whose files change meanwhile is measured again
        made_from = _made_from(case)
        for model in self.models.values():
            model.warm_up()  # not on the clock of the first case
        loaded = _loaded(name, case)
        result = evaluate_case(
            loaded, self.models, self.run.protocol, keep_masks=self.run.keep_masks, progress=progress
        )
        _write_case(self.run, name, result, made_from)


def _loaded(name: str, case: Case) -> EvaluationCase:
    scan = case.load_image()
    references = case.load_references(scan)
    labels = case.labels
    if not set(references) <= set(labels):
        # one file a structure: the manifest need not number them
        labels = {structure: number for number, structure in enumerate(references, start=1)}
    return EvaluationCase(name, case.id, case.patient, scan, references, labels, case.window)


def _made_from(case: Case) -> str:
    """A digest of everything a case's rows depend on: its entry, its files' sizes and times, and this program."""
    return hashlib.sha256(f"{case.fingerprint()} {__version__}".encode()).hexdigest()


def _is_done(run: EvaluationRun, name: str, case: Case) -> bool:
    try:
        return json.loads(run.case_file(name).read_text())["made_from"] == _made_from(case)
    except (OSError, ValueError, KeyError):
        return False


# -- the folder -------------------------------------------------------------------------------------------------


def _open_folder(run: EvaluationRun, models: Mapping[str, Predictor]) -> None:
    """Make the folder, or make sure that it holds this very evaluation."""
    check_folder(run.folder)
    for model in models.values():
        model.warm_up()  # from here on it is known who answers
    identity = {
        "protocol": run.protocol.as_dict(),
        "models": {name: predictor.images.weights for name, predictor in models.items()},
        # embeddings of another precision are other embeddings, and another engine takes other seconds
        "engines": {name: f"{model.engine.name} {model.precision}" for name, model in models.items()},
        "keep_masks": run.keep_masks,
        "timing": run.timing,
        **({"mask_thresholds": ends} if (ends := _mask_thresholds(models)) else {}),
        **({"trust": told} if (told := _told_by(models)) else {}),
        **({"heads": heads} if (heads := _heads_of(run, models)) else {}),
    }
    note = run.folder / "run.json"
    if note.exists():
        before = read_json(note)
        changed = differences(before, identity)
        if changed:
            raise InputError(
                f"{run.folder} holds an evaluation with another protocol: {'; '.join(changed)}. Name another folder, "
                "or remove that one."
            )
        return
    # folders, and what is unfinished, are what a run left that could not write its first file
    if holds_files(run.folder):
        raise InputError(f"{run.folder} is not empty and holds no evaluation. Name another folder.")
    for folder in ("cases", "overlays", *(["masks"] if run.keep_masks else [])):
        (run.folder / folder).mkdir(parents=True, exist_ok=True)
    _write_json(note, identity)


def _heads_of(run: EvaluationRun, models: Mapping[str, Predictor]) -> dict[str, list[str]]:
    """Digests of the heads that find, where that is asked."""
    if "auto" not in run.protocol.names:
        return {}
    return {name: [head_digest(source) for source in one.heads] for name, one in models.items()}


def _mask_thresholds(models: Mapping[str, Predictor]) -> dict[str, float]:
    """Of those that were trained to end their masks elsewhere than at 0: the same weights answer otherwise."""
    found = {name: predictor.images.sam.spec.mask_threshold for name, predictor in models.items()}
    return {name: threshold for name, threshold in found.items() if threshold}


def _told_by(models: Mapping[str, Predictor]) -> dict[str, str]:
    """Digests of what tells the expected Dice, where that is not what is shipped."""
    told = {name: one.images.trust for name, one in models.items()}
    return {
        name: hashlib.sha256(json.dumps(one.to_dict()).encode()).hexdigest()[:12]
        for name, one in told.items()
        if one is not None
    }


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What two descriptions of an evaluation differ in, with both values; of two weights only whose they are."""
    found = []
    for key, old, new in changes(there, here):
        if key == "models":
            old, new = (value if isinstance(value, Mapping) else {} for value in (old, new))
            if list(old) != list(new):
                found.append(f"models {', '.join(old) or 'none'} there, {', '.join(new)} here")
            else:
                found.append(f"other weights of {', '.join(name for name in new if old[name] != new[name])}")
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new)
        else:
            words = [json.dumps(value, ensure_ascii=False) for value in (old, new)]
            found.append(f"{key.replace('_', ' ')} {words[0]} there, {words[1]} here")
    return found


def environment() -> dict[str, Any]:
    """What a reader needs to judge times and to repeat the run; nothing that names a person or a machine."""
    return {
        "medsam": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": metadata.version("monai"),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _write_case(run: EvaluationRun, name: str, result: CaseResult, made_from: str) -> None:
    """The case file comes last: while it is missing the case counts as not done."""
    pictures = {
        f"{kind}/{number}": entry.pop(kind)
        for number, entry in enumerate(result.overlays)
        for kind in ("image", "reference", "prediction")
    }
    pictures["index"] = np.array(json.dumps(result.overlays))
    path = run.folder / "overlays" / f"{file_name(name)}.npz"
    with write_whole(path) as part:
        np.savez_compressed(part, **pictures)
    for model, labels in result.masks.items():
        save_labels(labels, run.folder / "masks" / f"{file_name(name)}.{file_name(model)}.nii.gz")
    for (model, structure), mask in result.alone.items():
        geometry = result.masks[model].geometry
        file = f"{file_name(name)}.{file_name(model)}.{file_name(structure)}.nii.gz"
        save_labels(LabelVolume(mask.astype(np.uint8), geometry, {1: structure}), run.folder / "masks" / file)
    rows = [{**row, "seconds": row["seconds"] if run.timing else None} for row in result.rows]
    slices = [{**row, "seconds": row["seconds"] if run.timing else None} for row in result.slices]
    about = {key: getattr(result, key) for key in ("window", "notes", "skipped", "spacing_mm")}
    tables = {"rows": rows, "slices": slices, "corrections": result.steps, "detections": result.detections}
    _write_json(run.case_file(name), {"case": name, "made_from": made_from, **about, **tables})


def _write_tables(run: EvaluationRun, cases: Sequence[tuple[str, Case]]) -> None:
    import pandas as pd

    from medsam.evaluation.report import write_report
    from medsam.evaluation.tables import COLUMNS, TRUST

    names = [name for name, _ in cases]
    done = [_finished(run, name, case) for name, case in cases]
    # prompt by prompt: the first row tells the primary prompt, also where the first case could not be asked with it
    order = {prompt: place for place, prompt in enumerate(run.protocol.names)}
    tables = {
        "metrics.csv": pd.DataFrame([row for case in done for row in case["rows"]], columns=[*COLUMNS]),
        "slices.csv": pd.DataFrame(
            [row for case in done for row in case["slices"]], columns=[*COLUMNS, "slice", *TRUST]
        ),
    }
    if tables["metrics.csv"].empty:
        raise InputError(
            f"None of {counted(len(names), 'case')} has a structure of {run.protocol.min_pixels} pixels in a slice"
            f"{' of several' if run.protocol.prompts == ('propagate',) else ''}: there is nothing to measure. Check "
            "the manifest with: medsam data check."
        )
    for file, unsorted in tables.items():
        table = unsorted.sort_values("prompt", key=lambda prompts: prompts.map(order), kind="stable")
        _write_table(run.folder / file, table)
    # what is for the summary alone has no column
    more = {"corrections": ("corrections", []), "detections": ("detection", ["candidates", "presence"])}
    for kind, (file, inner) in more.items():
        if rows := _rows(done, kind):
            _write_table(run.folder / f"{file}.csv", pd.DataFrame(rows).drop(columns=inner))
    groups = _groupings(run, cases, done)
    if groups:
        _write_table(run.folder / "groups.csv", case_table(groups, names))
    else:
        (run.folder / "groups.csv").unlink(missing_ok=True)  # of an earlier choice
    _write_json(run.folder / "summary.json", _summary(run, done, groups))
    write_report(run.folder)


def _finished(run: EvaluationRun, name: str, case: Case) -> dict[str, Any]:
    """A case file. Raises InputError for one that another version has written meanwhile, or of files that changed."""
    document: dict[str, Any] = json.loads(run.case_file(name).read_text())
    if document["made_from"] != _made_from(case):
        raise InputError(
            f"{name} was measured by another version of medsam, or its files were changed, while this ran. See that "
            "nothing else works in the folder, and run the same command again."
        )
    return document


def _rows(done: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Of all cases; files of earlier versions lack some."""
    return [row for case in done for row in case.get(kind, ())]


def _write_table(path: Path, table: pd.DataFrame) -> None:
    with write_whole(path) as part:
        table.to_csv(part, index=False, lineterminator="\n")


def _groupings(
    run: EvaluationRun, cases: Sequence[tuple[str, Case]], done: Sequence[Mapping[str, Any]]
) -> list[Grouping]:
    """The groups of the cases. done: the case files, which tell the spacing that was measured."""
    more = {}
    for case in done:
        if case.get("spacing_mm"):  # files of earlier versions lack it
            along_row, _, across = case["spacing_mm"]
            more[case["case"]] = {"PixelSpacing": along_row, "SpacingBetweenSlices": across}
    return groupings(cases, run.by, more) if run.by else []


def _summary(run: EvaluationRun, done: Sequence[Mapping[str, Any]], groups: Sequence[Grouping]) -> dict[str, Any]:
    """What summary.json holds. done: the case files."""
    from medsam.evaluation.automatic import summarise_detection
    from medsam.evaluation.calibration import calibration
    from medsam.evaluation.steps import summarise_steps
    from medsam.evaluation.summary import by_dataset, robustness, summarise
    from medsam.evaluation.tables import read_table

    # read back, so that the summary tells of the numbers that are in the file
    metrics, slices = read_table(run.folder, "metrics"), read_table(run.folder, "slices")
    corrections, found = _rows(done, "corrections"), _rows(done, "detections")
    seed = run.protocol.seed
    note = json.loads((run.folder / "run.json").read_text())
    return {
        **summarise(metrics, seed=seed),
        **({"datasets": sets} if (sets := by_dataset(metrics, seed=seed)) else {}),
        **({"groups": by_group(metrics, groups, seed=seed)} if groups else {}),
        "robustness": robustness(metrics, seed=seed),
        "calibration": calibration(slices),
        **({"corrections": steps} if (steps := summarise_steps(corrections)) else {}),
        **({"detection": summarise_detection(found)} if found else {}),
        "protocol": {
            **note["protocol"],
            "nsd_tolerance_mm": {
                name: run.protocol.tolerance_of(name) for name in dict.fromkeys(metrics["structure"].astype(str))
            },
            "cases": len(done),
            "models": note["models"],
            "engines": note["engines"],
            "windows": dict(Counter(case["window"] for case in done)),
            "notes": [f"{case['case']}: {text}" for case in done for text in case["notes"]],
            "skipped": [{"case": case["case"], **entry} for case in done for entry in case["skipped"]],
            **({"by": about(metrics, groups, seed=seed)} if groups else {}),
            **run.asked,
        },
        "environment": environment(),
    }


def _write_json(path: Path, document: Any) -> None:
    write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
