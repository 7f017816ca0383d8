"""`medsam embed --manifest M.json --out DIR`: slices of a manifest encoded now, so that prompts cost a decode only."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsam.cli.scan_options import add_network_arguments
from medsam.cli.workers import add_worker_arguments, workers_of
from medsam.errors import InputError, PromptError, counted
from medsam.progress import ProgressCallback, progress_bars

if TYPE_CHECKING:
    from medsam.data.manifest import Case
    from medsam.geometry import Axis
    from medsam.inference.predictor import Predictor
    from medsam.volume import Volume

# Slices handed over together; a GPU encodes them in one batch. More would only make the progress bar jump.
_BATCH = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam embed`."""
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="lists of cases; see docs/manifests.md")
    parser.add_argument("--model", default="litemedsam", help="a known name (medsam models list) or a checkpoint file")
    parser.add_argument("--split", help="only the cases of this split of the manifests")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N cases of each manifest")
    parser.add_argument(
        "--axis", choices=("i", "j", "k"), help="slice axis (default: the largest spacing of each scan)"
    )
    parser.add_argument("--window", default="auto", metavar="PRESET|L,W|auto", help="intensity window (default: auto)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--prompted-only",
        action="store_true",
        help="only the slices that medsam evaluate prompts: a structure has 10 reference pixels there (default)",
    )
    which.add_argument("--all-slices", action="store_true", help="every slice; cases need no reference")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill, about 4 MiB a slice")
    add_network_arguments(parser)
    add_worker_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout instead of a line")


def run(arguments: argparse.Namespace) -> None:
    """Encode what is not there yet. Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.io.footprint import working_bytes
    from medsam.io.save import check_folder
    from medsam.transforms.intensity import fixed_window

    fixed_window(arguments.window)  # a wrong one is reported before seconds go into loading a model
    check_folder(arguments.out)
    workers = workers_of(arguments)
    cases = _cases(arguments)

    from medsam.inference.embeddings import EmbeddingCache
    from medsam.inference.jobs import JobFailed, JobLog, run_cases
    from medsam.inference.predictor import Predictor

    # no slice is asked for twice here: memory would only fill up
    cache = EmbeddingCache(memory_bytes=0, folder=arguments.out)
    predictor = Predictor(
        arguments.model, arguments.device, cache, precision=arguments.precision, engine=arguments.engine
    )
    predictor.warm_up()
    started = time.perf_counter()
    work = _Embedding(predictor, arguments.axis, arguments.window, arguments.all_slices)
    with progress_bars("Cases", "Slices") as (progress, case_progress):
        try:
            done = run_cases(
                cases,
                work,
                workers,
                bytes_of=lambda case: working_bytes(case.image),
                log=JobLog.in_file(arguments.out / "jobs.csv", [case.id for case in cases]),
                progress=progress,
                case_progress=case_progress,
            )
        except JobFailed as error:
            raise InputError(str(error)) from error
    counts = [result for result in done.results if result is not None]
    slices, encoded, written = (sum(count) for count in zip(*counts, strict=True)) if counts else (0, 0, 0)
    report = {
        "model": predictor.name,
        "engine": predictor.engine.name,
        "precision": predictor.precision,
        "cases": len(cases) - len(done.failures),
        "slices": slices,
        "encoded": encoded,
        "already_there": slices - encoded,
        "bytes_written": written,
        "seconds": time.perf_counter() - started,
        "failed": [{"case": cases[number].id, "why": why} for number, why in done.failures.items()],
        "out": str(arguments.out),
    }
    if arguments.json:
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        print(_sentence(report))
    done.raise_failures([case.id for case in cases], "be read", "The others are encoded.")


@dataclass(frozen=True)
class _Embedding:
    """Encodes the slices of a case that are not kept yet; gives how many, how many were encoded, and bytes."""

    predictor: Predictor
    axis: Axis | None
    window: str
    all_slices: bool

    def __call__(self, case: Case, progress: ProgressCallback) -> tuple[int, int, int]:
        from medsam.inference.image_predictor import Crop
        from medsam.inference.jobs import JobFailed

        scan = case.load_image()
        indices = _indices(case, scan, self.axis, self.all_slices)
        scan_encoder = self.predictor.encoder_for(scan, axis=self.axis, window=case.window or self.window)
        encoded, before = 0, self.predictor.cache.written
        for start in range(0, len(indices), _BATCH):
            progress(start, len(indices))
            try:
                found = scan_encoder.encode_many([Crop(index) for index in indices[start : start + _BATCH]])
            except InputError as error:
                # the folder cannot be written: further cases would be encoded for nothing
                raise JobFailed(str(error)) from error
            encoded += sum(embedding.usage.encoded for embedding in found)
        return len(indices), encoded, self.predictor.cache.written - before


def _cases(arguments: argparse.Namespace) -> list[Case]:
    """The cases to encode, once their files are known to be there."""
    from medsam.data.manifest import check_files
    from medsam.data.manifest_json import read_manifest

    if arguments.limit is not None and arguments.limit < 1:
        raise PromptError(f"--limit takes a whole number from 1, not {arguments.limit}.")
    cases: list[Case] = []
    for path in arguments.manifest:
        manifest = read_manifest(path)
        chosen = [
            case
            for case in manifest.cases
            if arguments.split in (None, case.split) and (arguments.all_slices or case.label is not None)
        ]
        if not chosen:
            what = "case" if arguments.all_slices else "case with a reference"
            where = f" in the split {arguments.split!r}" if arguments.split else ""
            hint = "" if arguments.all_slices else " --all-slices needs no reference."
            raise PromptError(f"The manifest {manifest.name} has no {what}{where}.{hint}")
        cases += chosen[: arguments.limit]
    check_files((case.id, path) for case in cases for path in ((case.image,) if arguments.all_slices else case.files))
    return cases


def _indices(case: Case, scan: Volume, axis: Axis | None, everything: bool) -> list[int]:
    """The slices to encode: all, or those `medsam evaluate` would prompt."""
    from medsam.data.slices import slice_pixels
    from medsam.prompts.simulate import MIN_PIXELS

    count = scan.geometry.plane(axis).count
    if everything:
        return list(range(count))
    pixels = slice_pixels(case, scan, axis).values()
    return [index for index in range(count) if any(each[index] >= MIN_PIXELS for each in pixels)]


def _sentence(report: dict[str, Any]) -> str:
    return (
        f"wrote {report['out']}: {counted(report['encoded'], 'slice')} encoded, {report['already_there']} already "
        f"there, {report['bytes_written'] / 2**20:.0f} MiB, {report['seconds']:.1f} s"
    )
