"""One command for many scans: which scans, a folder of results that goes on where it was, and workers.

DIR/run.json            what was asked, and of which model; a folder holds one job
DIR/jobs.csv            of each case whether it is done, or why not, its seconds and host
DIR/cases/CASE.json     what is told of a result; what is there is not made again
DIR/masks/CASE.nii.gz   the masks
DIR/previews/CASE.png   with --previews
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from medsam._version import __version__
from medsam.cli.scan_options import add_embeddings_argument, add_view_arguments
from medsam.cli.table import print_line
from medsam.cli.workers import add_worker_arguments, workers_of
from medsam.errors import InputError, PromptError, counted
from medsam.io.storage import Mirror, Storage, is_url
from medsam.progress import ProgressCallback, progress_bars

if TYPE_CHECKING:
    from medsam.data.manifest import Case, Manifest
    from medsam.inference.jobs import CaseResults, JobLog, Workers
    from medsam.inference.predictor import Predictor

# what says who does the work, where and on which of the scans, and nothing of the masks
_NOT_ASKED = (
    *("command", "debug", "remote", "scans", "out", "split", "limit", "part", "json", "embeddings", "device", "clip"),
    *("processes", "threads", "memory", "ray"),
)

# (options of this case, the model, its case, the folder to write to, progress) -> what is told of the result
OneScan = Callable[[argparse.Namespace, "Predictor", "Case", Path, ProgressCallback], dict[str, Any]]


def add_many_arguments(parser: argparse.ArgumentParser) -> None:
    """Which scans, which model, where to, and who."""
    parser.add_argument(
        "scans",
        nargs="+",
        metavar="SCANS",
        help="manifests (ours, Decathlon, nnU-Net), or folders of scans; by path, or manifests by a URL such as s3://",
    )
    add_view_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results, by path or URL")
    parser.add_argument("--previews", action="store_true", help="also write a picture of each result")
    add_embeddings_argument(parser)
    parser.add_argument("--split", help="only the cases of this split of the manifests")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N cases of each manifest")
    parser.add_argument(
        "--part",
        metavar="I/N",
        help="only every N-th case, from number I (0 to N - 1) on: for the I-th of N jobs of a queue",
    )
    add_worker_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout instead of a line")
    parser.epilog = (
        "In every option {id}, {patient}, {name} (of the file, without suffix), {folder} and {label} stand for what "
        "they are of each case: 'prompts/{id}.json'. Exit status 2 when a scan failed; the others are there."
    )


def run_many(
    arguments: argparse.Namespace,
    predictor_for: Callable[[argparse.Namespace], Predictor],
    one_scan: OneScan,
    done_word: str,
) -> None:
    """Do what is not there yet. Raises MedSAMError subclasses for everything a user can fix.

    predictor_for: gives the model. one_scan: a function of a module, for other processes. done_word: "segmented", what
    becomes of a scan.
    """
    workers = workers_of(arguments)
    if arguments.limit is not None and arguments.limit < 1:
        raise PromptError(f"`limit` takes a whole number from 1, not {arguments.limit}.", parameter="limit")
    with TemporaryDirectory(prefix="medsam-") as scratch:
        cases = _part(_cases(arguments, Path(scratch)), arguments.part)

        from medsam.inference.jobs import JobLog

        _filled(arguments, cases[0])  # a template that fits no case is said before the model is loaded
        out = Storage(arguments.out)
        predictor = predictor_for(arguments)
        predictor.warm_up()
        work = _Work(arguments, predictor, out, one_scan)
        _open(out, _asked(arguments, predictor))
        table = f"jobs{'' if arguments.part is None else '.' + arguments.part.replace('/', '-of-')}.csv"
        names = [one.case.id for one in cases]
        log = JobLog(names, lambda text: out.write_text(table, text), out.read_text(table))
        started, there = time.perf_counter(), [work.is_done(one) for one in cases]
        results = _done_by(workers, cases, work, there, log)
    report: dict[str, Any] = {
        "out": str(out),
        "cases": len(cases),
        "done": len(cases) - sum(there) - len(results.failures),
        "already_there": sum(there),
        "failed": [{"case": names[number], "why": why} for number, why in results.failures.items()],
        "seconds": time.perf_counter() - started,
    }
    if arguments.json:
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        made, failed = counted(report["done"], "scan"), len(results.failures)
        print_line(
            f"wrote {out}: {made} {done_word}, {sum(there)} already there, {failed} failed, {report['seconds']:.1f} s; "
            f"see {out.at(table)}"
        )
    results.raise_failures(names, f"be {done_word}", "The others are there.")


def _done_by(
    workers: Workers, cases: Sequence[_Scan], work: _Work, there: Sequence[bool], log: JobLog
) -> CaseResults[None]:
    """Have workers do what is not there. Raises InputError where results cannot be written."""
    from medsam.inference.jobs import JobFailed, run_cases
    from medsam.io.footprint import working_bytes

    known = {one.case.id for one, done in zip(cases, there, strict=True) if done}
    with progress_bars("Scans", "Slices") as (progress, case_progress):
        try:
            return run_cases(
                cases,
                work,
                workers,
                is_done=lambda one: one.case.id in known or work.is_done(one),
                bytes_of=lambda one: working_bytes(one.case.image),
                log=log,
                progress=progress,
                case_progress=case_progress,
            )
        except (JobFailed, OSError) as error:
            raise InputError(f"{work.out} cannot be written: {error}") from error


@dataclass(frozen=True)
class _Scan:
    """A case. mirror: where its files come from, when they are not on this machine."""

    case: Case
    mirror: Mirror | None = None

    @contextmanager
    def here(self) -> Iterator[Case]:
        """The case with files that can be read."""
        if self.mirror is None:
            yield self.case
            return
        with TemporaryDirectory(prefix="medsam-") as folder:
            case = replace(self.case, image=self.mirror.fetch(self.case.image, Path(folder)))
            if isinstance(case.label, Path):
                case = replace(case, label=self.mirror.fetch(case.label, Path(folder)))
            yield case


@dataclass(frozen=True)
class _Work:
    """Does a scan and keeps the result, in any process of any machine."""

    arguments: argparse.Namespace
    predictor: Predictor
    out: Storage
    one_scan: OneScan

    def __call__(self, scan: _Scan, progress: ProgressCallback) -> None:
        from medsam.inference.jobs import JobFailed

        made_from, record = self.made_from(scan), _record(scan.case)
        with scan.here() as case:
            one = _filled(self.arguments, _Scan(case))
            vars(one).update(scan=case.image, series=case.series, frame=case.frame, send=None, remote=None)
            one.window, one.preview = case.window or one.window, None
            try:
                with self.out.publishing(record) as folder:
                    for name in ("cases", "masks", *(["previews"] if one.previews else [])):
                        (folder / name).mkdir()
                    if one.previews:
                        one.preview = folder / "previews" / f"{_file_name(case.id)}.png"
                    one.name = _file_name(case.id)
                    content = self.one_scan(one, self.predictor, case, folder, progress)
                    text = json.dumps({"case": case.id, "made_from": made_from, **content}, indent=1, allow_nan=False)
                    (folder / record).write_text(text + "\n", encoding="utf-8")
            except OSError as error:
                # a full disk, a share that has gone: further scans would be worked on for nothing
                raise JobFailed(f"{error.strerror or error}.") from error

    def made_from(self, scan: _Scan) -> str:
        """A digest of all that a result depends on: the case's entry, its files, those of its prompts, this program."""
        case = scan.case
        files = [str(path) for path in _paths(vars(_filled(self.arguments, scan)))]
        if scan.mirror is None:
            marks = [case.fingerprint()]
        else:
            entry = replace(case, image=Path(case.image.name), label=None)
            marks = [repr(entry), *(mark for path in case.files for mark in scan.mirror.mark(path))]
        for file in files:
            with suppress(OSError):
                about = Path(file).stat()
                marks.append(f"{file} {about.st_size} {about.st_mtime_ns}")
        return hashlib.sha256(repr((marks, __version__)).encode()).hexdigest()

    def is_done(self, scan: _Scan) -> bool:
        """Whether its result is there, of the files as they are now."""
        with suppress(ValueError, KeyError, TypeError):
            return json.loads(self.out.read_text(_record(scan.case)) or "")["made_from"] == self.made_from(scan)
        return False


def _record(case: Case) -> str:
    return f"cases/{_file_name(case.id)}.json"


def _file_name(case: str) -> str:
    from medsam.evaluation.tables import file_name

    return file_name(case)


def _cases(arguments: argparse.Namespace, scratch: Path) -> list[_Scan]:
    """The cases of all manifests and folders; of several, ids are MANIFEST/CASE."""
    from medsam.data.manifest import check_files

    found: list[_Scan] = []
    for place in arguments.scans:
        mirror = Mirror(place, scratch) if is_url(place) else None
        manifest = _manifest(Path(place) if mirror is None else mirror.path)
        chosen = [case for case in manifest.cases if arguments.split in (None, case.split)]
        if not chosen:
            where = f" in the split {arguments.split!r}" if arguments.split else ""
            raise PromptError(f"{manifest.name} has no case{where}.")
        prefix = f"{manifest.name}/" if len(arguments.scans) > 1 else ""
        found += [_Scan(replace(case, id=prefix + case.id), mirror) for case in chosen[: arguments.limit]]
    files = Counter(_file_name(one.case.id) for one in found)
    if twice := [name for name, count in files.items() if count > 1]:
        raise PromptError(f"Several cases would be called {twice[0]}. Rename one of them, or its manifest.")
    check_files((one.case.id, one.case.image) for one in found if one.mirror is None)
    return found


def _manifest(path: Path) -> Manifest:
    """A manifest, or the scans of a folder without one."""
    from medsam.data.index import index_folder
    from medsam.data.manifest_json import read_manifest

    if not path.is_dir() or any((path / name).is_file() for name in ("manifest.json", "dataset.json")):
        return read_manifest(path)
    with progress_bars("Reading headers") as (progress,):
        found = index_folder(path, progress=progress)
    for remark in found.remarks:
        print(f"Note: {remark}", file=sys.stderr)
    return found.manifest


def _part(cases: Sequence[_Scan], part: str | None) -> list[_Scan]:
    if part is None:
        return [*cases]
    number, _, of = part.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise PromptError(f"`part` takes I/N with I from 0 to N - 1, not {part!r}.", parameter="part")
    chosen = [*cases[int(number) :: int(of)]]
    if not chosen:
        raise PromptError(f"There are fewer than {of} cases, and none for part {number}.", parameter="part")
    return chosen


def _filled(arguments: argparse.Namespace, scan: _Scan) -> argparse.Namespace:
    """The options for one case. Raises PromptError for words in braces that stand for nothing, or nothing here."""
    from medsam.io.formats import suffix_of

    case = scan.case
    words = {
        "id": case.id,
        "patient": case.patient,
        "name": case.image.name.removesuffix(suffix_of(case.image) if case.image.suffix else ""),
        "folder": case.image.parent.as_posix(),
    }
    if isinstance(case.label, Path):
        words["label"] = case.label.as_posix()

    def fill(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(fill(one) for one in value)
        if not isinstance(value, str | Path) or "{" not in str(value):
            return value
        try:
            return type(value)(str(value).format_map(words))
        except (KeyError, ValueError, IndexError, AttributeError):
            known = ", ".join(f"{{{word}}}" for word in words)
            raise PromptError(f"{value}: of the case {case.id} there is {known}, and nothing else.") from None

    skipped = ("out", "scans", "ray")
    return argparse.Namespace(**{k: v if k in skipped else fill(v) for k, v in vars(arguments).items()})


def _paths(values: Any) -> Iterator[Path]:
    """Every file that is named in options."""
    if isinstance(values, Path) and values.is_file():
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _paths(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _paths(value)


def _asked(arguments: argparse.Namespace, predictor: Predictor) -> dict[str, Any]:
    """What the folder holds the answer to: options, and who answers."""
    options = {key: value for key, value in vars(arguments).items() if key not in _NOT_ASKED}
    about = {"weights": predictor.images.weights, "engine": f"{predictor.engine.name} {predictor.precision}"}
    return json.loads(json.dumps({**options, **about}, default=str))


def _open(out: Storage, asked: dict[str, Any]) -> None:
    """Begin the folder, or make sure that it is of this very job. Raises InputError."""
    try:
        there = out.read_text("run.json")
        if there is None:
            if not out.is_empty():
                raise InputError(f"{out} is not empty and holds no job of segment-many. Name another folder.")
            out.write_text("run.json", json.dumps(asked, indent=1) + "\n")
            return
    except OSError as error:
        raise InputError(f"{out} cannot be used: {error.strerror or error}. Name another folder.") from error
    before = {}
    with suppress(ValueError):
        before = json.loads(there)
    changed = [
        f"{key} {before.get(key)!r} there, {asked.get(key)!r} here"
        for key in {**before, **asked}
        if before.get(key) != asked.get(key)
    ]
    if changed:
        raise InputError(
            f"{out} holds a job with other options: {'; '.join(changed)}. Name another folder, or remove that one."
        )
