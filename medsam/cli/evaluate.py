"""`medsam evaluate --manifest M.json --out DIR`: zero-shot scores against reference masks, with a report."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsam.cli.flags import comma_names
from medsam.cli.scan_options import add_network_arguments, add_trust_argument
from medsam.cli.table import print_line, print_table
from medsam.cli.workers import add_worker_arguments, workers_of
from medsam.errors import PromptError, counted
from medsam.progress import progress_bars

if TYPE_CHECKING:
    from medsam.data.manifest import Case, Manifest
    from medsam.evaluation.protocol import Protocol
    from medsam.inference.image_predictor import ImagePredictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam evaluate`."""
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="lists of cases; see docs/manifests.md")
    parser.add_argument(
        "--model", nargs="+", action="extend", help="known names or checkpoint files (default: litemedsam)"
    )
    _add_prompt_arguments(parser)
    parser.add_argument(
        "--zoom", default="auto", choices=("auto", "on", "off"), help="a closer look at each box (default: auto)"
    )
    parser.add_argument("--keep-islands", action="store_true", help="score masks with their small islands and holes")
    parser.add_argument("--window", default="auto", metavar="PRESET|L,W|auto", help="intensity window (default: auto)")
    parser.add_argument(
        "--axis", choices=("i", "j", "k"), help="slice axis (default: the largest spacing of each scan)"
    )
    parser.add_argument("--split", help="only the cases of this split of the manifests")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N cases of each manifest")
    parser.add_argument(
        "--slices", type=int, metavar="N", help="on at most N slices of each structure of a case, evenly spread"
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="only every Nth slice of each case is there, to be quick"
    )
    parser.add_argument(
        "--tolerance-mm",
        type=_tolerance,
        default=2.0,
        metavar="MM|organ",
        help="tolerance of the NSD: millimetres (default: 2), or each organ's own published one",
    )
    parser.add_argument(
        "--save-masks", action="store_true", help="write the label maps of the first --prompt to DIR/masks"
    )
    parser.add_argument(
        "--by",
        type=comma_names,
        action="extend",
        default=[],
        metavar="NAME,...",
        help="results by group: manufacturer, slice_thickness, sex, age, ..., a DICOM keyword or tag, or a key of "
        "`attributes` in the manifest; see docs/evaluation.md",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of tables and report")
    parser.add_argument(
        "--embeddings", type=Path, metavar="DIR", help="keep embeddings in this folder and use those that are there"
    )
    add_network_arguments(parser)
    add_trust_argument(parser)
    add_worker_arguments(parser, "--devices")
    parser.add_argument("--no-timing", action="store_true", help="leave seconds out: equal runs give equal bytes")
    parser.add_argument("--json", action="store_true", help="print summary.json on stdout instead of a table")


def _add_prompt_arguments(parser: argparse.ArgumentParser) -> None:
    """What is drawn from the references, and how."""
    parser.add_argument(
        "--prompt",
        nargs="+",
        action="extend",
        metavar="KIND",
        help="box, mask, lasso, line, lines, ellipse, scribble-pair, each also with +points:N or +scribbles:N; point, "
        "points:N, scribble, scribbles:N; propagate; auto, what --head finds without a prompt; several are measured at "
        "once (default: box)",
    )
    parser.add_argument(
        "--jitter-px",
        type=int,
        nargs="+",
        default=[0],
        metavar="N",
        help="move each edge of the box outwards by 0 to N pixels; several values make a robustness curve",
    )
    parser.add_argument(
        "--head", action="append", default=[], metavar="NAME|FILE", help="with --prompt auto: the head that finds"
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="with --prompt auto and one --head FILE: write the figures into that file; its structures are then tested",
    )
    parser.add_argument("--oracle", action="store_true", help="also score the best of three masks, as in SAM's paper")
    parser.add_argument(
        "--noise",
        default="clean",
        choices=("clean", "noisy"),
        help="draw clicks, scribbles, lassos, lines and rough masks as the protocol says, or as people in a hurry do",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn, and of the bootstrap (default: 0)")


def _tolerance(text: str) -> float | None:
    return None if text == "organ" else float(text)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and report. Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.data.manifest import check_files
    from medsam.data.manifest_json import read_manifest

    if arguments.limit is not None and arguments.limit < 1:
        raise PromptError(f"--limit takes a whole number from 1, not {arguments.limit}.")
    workers = workers_of(arguments)
    protocol = _protocol(arguments)
    models = _model_names(arguments.model or ["litemedsam"])
    manifests = [read_manifest(path) for path in arguments.manifest]
    cases = named_cases(manifests, arguments.split, arguments.limit)
    check_files((name, path) for name, case in cases for path in case.files)

    from medsam.evaluation.run import EvaluationRun, evaluate
    from medsam.inference.embeddings import EmbeddingCache
    from medsam.inference.predictor import Predictor

    predictors = {
        name: Predictor(
            source,
            arguments.device,
            EmbeddingCache(folder=arguments.embeddings),
            precision=arguments.precision,
            engine=arguments.engine,
            heads=arguments.head,
        )
        for name, source in models.items()
    }
    if arguments.trust is not None:
        _have_told(arguments.trust, [one.images for one in predictors.values()])
    asked = _asked(arguments, manifests, cases)
    by = tuple(dict.fromkeys(arguments.by))
    this = EvaluationRun(
        arguments.out, protocol, arguments.save_masks, timing=not arguments.no_timing, by=by, asked=asked
    )
    with progress_bars("Cases") as (progress,):
        folder = evaluate(this, cases, predictors, workers=workers, progress=progress)
    summary = json.loads((folder / "summary.json").read_text())
    _record(arguments, summary, manifests)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    else:
        _print_table(summary, folder)
    for name, groups in summary.get("groups", {}).items():
        if list(groups) == ["unknown"]:
            print(f"Note: no case states {name}, in its tags or in `attributes` of its manifest.", file=sys.stderr)
    skipped = summary["protocol"]["skipped"]
    if skipped:
        what = counted(len(skipped), "structure of a case was", "structures of cases were")
        listed = "the report lists it" if len(skipped) == 1 else "the report lists them"
        print(f"Note: {what} not measured; {listed}.", file=sys.stderr)


def _record(arguments: argparse.Namespace, summary: dict[str, Any], manifests: Sequence[Manifest]) -> None:
    """Write what was found without prompts into the head's file, where that is asked."""
    from medsam.evaluation.record import record

    if arguments.record:
        tested = record(Path(arguments.head[0]), summary, [one.name for one in manifests], arguments.split)
        print(f"{arguments.head[0]}: {', '.join(tested)} measured on {arguments.split}.", file=sys.stderr)


def _have_told(path: Path, networks: Sequence[ImagePredictor]) -> None:
    """Have the network that a file of expected Dice is about tell by it. Raises InputError where none is."""
    from medsam.inference.trust import read_trust

    trust = read_trust(path, *(one.weights for one in networks))
    for one in networks:
        one.trust = trust if one.weights == trust.weights else None


def _protocol(arguments: argparse.Namespace) -> Protocol:
    from medsam.evaluation.protocol import Protocol

    if arguments.record and (len(arguments.head) != 1 or not Path(arguments.head[0]).is_file()):
        raise PromptError("--record writes into the one file that --head names.")
    return Protocol(
        prompts=tuple(arguments.prompt or ["box"]),
        jitter_px=tuple(arguments.jitter_px),
        oracle=arguments.oracle,
        seed=arguments.seed,
        window=arguments.window,
        axis=arguments.axis,
        zoom=arguments.zoom,
        keep_islands=arguments.keep_islands,
        noise=arguments.noise,
        slices=arguments.slices,
        every=arguments.every,
        tolerance_mm=arguments.tolerance_mm,
    )


def _model_names(sources: list[str]) -> dict[str, str]:
    """Name in the tables -> known name or checkpoint file, of each model once."""
    from medsam.evaluation.summary import RESERVED
    from medsam.evaluation.tables import BASELINES

    sources = [*dict.fromkeys(sources)]
    names = [_model_name(source) for source in sources]
    for name in names:
        if name in (*BASELINES, *RESERVED) or names.count(name) > 1:
            raise PromptError(f"A model cannot be called {name} here, or two are. Rename the checkpoint file.")
    return dict(zip(names, sources, strict=True))


def _asked(arguments: argparse.Namespace, manifests: list[Manifest], cases: list[tuple[str, Case]]) -> dict[str, Any]:
    """What the summary tells of how this was started."""
    counts = Counter(case.dataset for _, case in cases)
    return {
        "manifests": [
            {"name": manifest.name, "reference": manifest.notes or "not stated", "cases": counts[manifest.name]}
            for manifest in manifests
        ],
        "split": arguments.split,
        "limit": arguments.limit,
        "command": shlex.join(["medsam", *sys.argv[1:]]),
    }


def _model_name(source: str) -> str:
    """What a model is called in the tables: its name, its file's, or for model.safetensors its training run's."""
    path = Path(source)
    if not path.suffix:
        return source
    return path.resolve().parent.name if path.name == "model.safetensors" else path.stem


def named_cases(manifests: list[Manifest], split: str | None, limit: int | None) -> list[tuple[str, Case]]:
    """(id, case) over all manifests; with several manifests an id is MANIFEST/CASE, so that none meets its twin."""
    named = []
    for manifest in manifests:
        chosen = [case for case in manifest.cases if case.label is not None and split in (None, case.split)]
        if not chosen:
            where = f" in the split {split!r}" if split else ""
            raise PromptError(f"The manifest {manifest.name} has no case with a reference{where}.")
        # patients too: p001 of one set is not p001 of another
        prefix = f"{manifest.name}/" if len(manifests) > 1 else ""
        named += [(f"{prefix}{case.id}", replace(case, patient=prefix + case.patient)) for case in chosen[:limit]]
    counts = Counter(name for name, _ in named)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise PromptError(f"Several cases are called {twice[0]}. Give the manifests different names.")
    return named


def _print_table(summary: dict[str, Any], folder: Path) -> None:
    from medsam.evaluation.summary import rows_of

    several = ["prompt"] if "prompts" in summary else []
    rows = []
    for model, prompt, entry in rows_of(summary):
        overall = entry["overall"]
        rows.append(
            (
                model,
                *([prompt or ""] if several else []),
                *_mean_and_interval(overall["dice"]),
                _number(overall["nsd"]["mean"], 3),
                _number(overall["hd95_mm"]["mean"], 1),
                str(len(entry["structures"])),
            )
        )
    print_table(("model", *several, "Dice", "95 % CI", "NSD", "HD95 mm", "structures"), rows, left=1 + len(several))
    _print_groups(summary)
    _print_detection(summary)
    print_line(f"wrote {folder / 'report.html'}")


def _print_groups(summary: dict[str, Any]) -> None:
    """A table for each name that results are told apart by."""
    from medsam.evaluation.summary import models_of
    from medsam.evaluation.tables import BASELINES

    models = [model for model in models_of(summary) if model not in BASELINES] or models_of(summary)[:1]
    for name, groups in summary.get("groups", {}).items():
        rows = []
        for group, found in groups.items():
            known = summary["protocol"]["by"][name][group]
            for model in models:
                dice = found[model]["overall"]["dice"] if model in found else {"mean": None, "ci95": None}
                marked = f"{known['patients']}{' (few)' if known['few'] else ''}"
                rows.append((group, model, *_mean_and_interval(dice), marked, str(known["cases"])))
        print_table((name, "model", "Dice", "95 % CI", "patients", "cases"), rows, left=2)


def _print_detection(summary: dict[str, Any]) -> None:
    """What was found without a prompt."""
    rows = []
    for model, structures in summary.get("detection", {}).items():
        for name, one in structures.items():
            alarms = f"{one['scans_without_with_alarm']} of {one['scans_without']}"
            at = [_number(one["sensitivity"][most], 2) for most in ("0.125", "0.5", "1", "4")]
            found = f"{one['found']} of {one['present']}"
            rows.append((model, name, found, str(one["false_alarms"]), alarms, *at, _number(one["presence_auc"], 3)))
    if rows:
        titles = ("false alarms", "scans without it")
        print_table(("model", "structure", "found", *titles, "at 1/8", "at 1/2", "at 1", "at 4", "AUC"), rows, left=2)


def _mean_and_interval(dice: dict[str, Any]) -> tuple[str, str]:
    """Two cells of a table. dice: its statistics in a summary."""
    interval = dice["ci95"]
    there = interval is not None and None not in interval
    return _number(dice["mean"], 3), f"{interval[0]:.3f} to {interval[1]:.3f}" if there else "-"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
