"""Damaged and hostile files by the thousand: each is read right, or refused with an error of ours, in bounded time.

    ./scripts/fuzz                                # 10,000 files of all kinds: some ten minutes of one core
    ./scripts/fuzz --count 300 --kinds nifti.gz,mha.z --seed 7
    ./scripts/fuzz --out DIR --table FILE.csv     # run again with the same DIR: what is done is not done again
    ./scripts/fuzz --coverage KIND                # files that reach new code, by atheris: see `fuzz_coverage`

Small sound files of every readable kind are made, changed (bits, chunks, cuts, numbers of headers, nodes of documents,
DICOM elements, fields that place voxels) and read in worker processes. A reader fails a file by any exception that is
not ours, by dying, by taking more than 10 s or four times the memory of the sound file (32 MB are let go), by naming
the patient (in an error or a note), by giving other voxels without a word where a checksum covers the change, or by
placing voxels elsewhere than a second reader of the header finds them. Bodies of requests go to a server, which fails
by a status from 500 on.
Failing files are kept, with the traceback beside them. The same seed makes the same files. Exit status 1 on failures.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
import torch
from fuzz_changes import Change, change
from fuzz_dicom import PATIENT, PATIENT_ID
from fuzz_grids import differ
from fuzz_kinds import KINDS
from fuzz_server import house

from medsam.errors import MedSAMError
from medsam.volume import Volume

# of the processor; PATIENCE is by the clock, for readers that hang, and other programs may be at work
SECONDS, PATIENCE = 10.0, 60.0
# of memory: MB that count for nothing, and times the sound file's
FLOOR, TIMES = 32.0, 4.0
_SEEDS = Path()


class Verdict(NamedTuple):
    """verdict: "right", "changed" (read, with another value than before), "refused" or "FAILED"."""

    verdict: str
    why: str
    seconds: float = 0.0
    mb: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What a reader gave. affine: of a volume. notes: what the reader said about it."""

    values: np.ndarray
    affine: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def equals(self, other: Answer) -> bool:
        pairs = [(self.values, other.values), (self.affine, other.affine)]
        return all(
            one is two or (one is not None and two is not None and one.shape == two.shape and _same(one, two))
            for one, two in pairs
        )


def _same(one: np.ndarray, two: np.ndarray) -> bool:
    return np.array_equal(one, two, equal_nan=one.dtype.kind == "f")


def answer_of(found: np.ndarray | Volume) -> Answer:
    if isinstance(found, Volume):
        return Answer(found.array, found.geometry.affine, tuple(found.notes))
    return Answer(found)


@cache
def right_of(seeds: Path, kind: str) -> Answer:
    with np.load(seeds / f"{kind}.npz") as arrays:
        return Answer(arrays["values"], arrays["affine"] if arrays["affine"].size else None)


# -- one case -------------------------------------------------------------------------------------------------


def target_of(path: Path, rng: random.Random) -> Path:
    """The file to change, of a folder one."""
    return path if path.is_file() else rng.choice(sorted(file for file in path.rglob("*") if file.is_file()))


def one(kind: str, seeds: Path, number: int, seed: int, into: Path) -> Verdict:
    """Make a case in `into` and read it."""
    rng = random.Random(f"{kind} {number} {seed}")
    shutil.copytree(seeds / kind, into, dirs_exist_ok=True)
    path = into / (seeds / f"{kind}.path").read_text()
    file = target_of(path, rng)
    before = file.read_bytes()
    changed = change(file, rng)
    return judged(kind, path, right_of(seeds, kind), changed, before)


def judged(kind: str, path: Path, right: Answer, changed: Change, before: bytes) -> Verdict:
    """Read what was changed."""
    covered = KINDS[kind].covered
    matters = covered is not None and changed.at is not None and changed.at >= covered(before)
    try:
        usual = honest(kind)
    except Exception:
        return Verdict("FAILED", f"the sound file: {traceback.format_exc()}")
    Path("/proc/self/clear_refs").write_text("5")
    base = resident("VmRSS")
    started = time.process_time()
    found: Answer | None = None
    try:
        found = answer_of(KINDS[kind].read(path))
    except MedSAMError as error:
        verdict, why = refusal(str(error))
    except BaseException:
        verdict, why = "FAILED", traceback.format_exc()
    else:
        verdict, why = "right" if found.equals(right) else "changed", ""
        if verdict == "changed" and matters:
            verdict, why = "FAILED", f"other voxels, and no word, after a change at byte {changed.at}"
        elif KINDS[kind].placed and changed.moved and verdict == "right" and found.values.any():
            verdict, why = "FAILED", "what was moved came back where it was"
        elif says := misplaced(kind, path, found):
            verdict, why = "FAILED", says
        for note in found.notes:
            if refusal(note)[0] == "FAILED":
                verdict, why = "FAILED", f"a note: {refusal(note)[1]}"
    took, grew = time.process_time() - started, resident("VmHWM") - base
    size = 0.0 if found is None else found.values.nbytes / 2**20
    if took > SECONDS:
        verdict, why = "FAILED", f"{took:.1f} s. {why}"
    if grew > max(FLOOR, TIMES * usual, TIMES * size):
        verdict, why = "FAILED", f"{grew:.0f} MB, and a sound file takes {usual:.0f}. {why}"
    return Verdict(verdict, why, took, grew)


def refusal(why: str) -> tuple[str, str]:
    """What to think of an error's words."""
    if PATIENT in why or PATIENT_ID in why:
        return "FAILED", f"the message names the patient: {why}"
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", why):
        return "FAILED", f"the message holds control characters: {why!r}"
    return "refused", why


def misplaced(kind: str, path: Path, found: Answer) -> str:
    """What is wrong with where the voxels lie; nothing where a note says a word, or no second reader can tell."""
    grid = KINDS[kind].grid
    if grid is None or found.affine is None or found.notes:
        return ""
    try:
        with np.errstate(all="ignore"):
            said = grid(path)
    except Exception:
        return ""
    if said is None or not np.isfinite(said).all() or not differ(found.affine, said):
        return ""
    return f"voxels lie at {found.affine[:3].round(4).tolist()}, and the header says {said[:3].round(4).tolist()}"


@cache
def honest(kind: str) -> float:
    """MB that reading the sound file takes, the second time."""
    if kind == "http":
        house().hear_all()
        # what argon2id takes on purpose for a password
        return 64.0
    path = _SEEDS / kind / (_SEEDS / f"{kind}.path").read_text()
    for _ in range(2):
        Path("/proc/self/clear_refs").write_text("5")
        base = resident("VmRSS")
        KINDS[kind].read(path)
        grew = resident("VmHWM") - base
    return grew


def resident(name: str) -> float:
    """MB of this process."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def worker(channel: Any, seeds: Path, seed: int, room: Path) -> None:
    """Cases in, verdicts out, until None comes."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 16 * 2**30, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")
    global _SEEDS
    _SEEDS = seeds
    while (case := channel.recv()) is not None:
        kind, number = case
        into = room / f"{kind}-{number}"
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        verdict = one(kind, seeds, number, seed, into)
        if verdict.verdict != "FAILED":
            shutil.rmtree(into)
        channel.send(verdict)


# -- all of them ----------------------------------------------------------------------------------------------


class Hand:
    """A worker process, and the case it has. known: kinds of which it had one before: the first imports and starts."""

    case: tuple[str, int]
    since: float

    def __init__(self, seeds: Path, seed: int, room: Path) -> None:
        self.known: set[str] = set()
        self.channel, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=worker, args=(theirs, seeds, seed, room))
        self.process.start()
        theirs.close()

    def give(self, case: tuple[str, int]) -> None:
        self.case, self.since = case, time.monotonic()
        self.channel.send(case)

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def cases_of(count: int, kinds: list[str]) -> list[tuple[str, int]]:
    share = sum(KINDS[kind].share for kind in kinds)
    numbers = {kind: max(1, round(count * KINDS[kind].share / share)) for kind in kinds}
    rows = [(number / numbers[kind], kind, number) for kind in kinds for number in range(numbers[kind])]
    return [(kind, number) for _, kind, number in sorted(rows)]


class Book:
    """Verdicts as they come, in a file: what stands there is not done again."""

    def __init__(self, out: Path, name: str) -> None:
        self.out, self.path = out, out / name
        self.rows: dict[tuple[str, int], Verdict] = {}
        if self.path.exists():
            with self.path.open(newline="") as file:
                for kind, number, verdict, seconds, mb in csv.reader(file):
                    self.rows[kind, int(number)] = Verdict(verdict, "", float(seconds), float(mb))
        self.file = self.path.open("a", newline="")

    def note(self, case: tuple[str, int], verdict: Verdict) -> None:
        kind, number = case
        self.rows[case] = verdict
        csv.writer(self.file).writerow([kind, number, verdict.verdict, f"{verdict.seconds:.3f}", f"{verdict.mb:.1f}"])
        self.file.flush()
        if verdict.verdict == "FAILED":
            (self.out / f"{kind}-{number}").mkdir(exist_ok=True)
            (self.out / f"{kind}-{number}" / "WHY.txt").write_text(verdict.why, errors="backslashreplace")
            print(f"{kind} {number}: {verdict.why.strip().splitlines()[-1][:150]}", file=sys.stderr)
        if len(self.rows) % 500 == 0:
            print(f"{len(self.rows)} done", file=sys.stderr)

    def table(self, kinds: list[str]) -> Iterator[list[str]]:
        """A head, a row for each kind, and one for all."""
        yield ["kind", "files", "right", "other", "refused", "failed", "slowest s", "most MB"]
        by_kind: dict[str, list[Verdict]] = defaultdict(list)
        for (kind, _), verdict in self.rows.items():
            by_kind[kind].append(verdict)
        for name in [*kinds, "all"]:
            found = list(self.rows.values()) if name == "all" else by_kind[name]
            counts = [sum(one.verdict == what for one in found) for what in ("right", "changed", "refused", "FAILED")]
            slowest, most = (
                max((one.seconds for one in found), default=0.0),
                max((one.mb for one in found), default=0.0),
            )
            yield [name, str(len(found)), *map(str, counts), f"{slowest:.2f}", f"{most:.0f}"]


def run(cases: list[tuple[str, int]], seeds: Path, seed: int, jobs: int, book: Book) -> None:
    left, hands = iter([case for case in cases if case not in book.rows]), []
    for case in itertools.islice(left, jobs):
        hands.append(Hand(seeds, seed, book.out))
        hands[-1].give(case)
    while hands:
        wait([hand.channel for hand in hands], timeout=0.5)
        for hand in list(hands):
            verdict, dead = finished(hand)
            if verdict is None:
                continue
            book.note(hand.case, verdict)
            following = next(left, None)
            if dead or following is None:
                hand.end()
                hands.remove(hand)
            if following is not None:
                if dead:
                    hand = Hand(seeds, seed, book.out)
                    hands.append(hand)
                hand.give(following)


def finished(hand: Hand) -> tuple[Verdict | None, bool]:
    """The verdict on what a hand has, None while it is at work; and whether the hand is to be replaced."""
    if hand.channel.poll():
        try:
            verdict = hand.channel.recv()
            hand.known.add(hand.case[0])
            return verdict, False
        except EOFError:
            hand.process.join()
            return Verdict("FAILED", f"the process died ({hand.process.exitcode})"), True
    patience = PATIENCE if hand.case[0] in hand.known else 10 * PATIENCE
    late = time.monotonic() - hand.since > patience
    return (Verdict("FAILED", f"more than {patience:.0f} s", patience), True) if late else (None, False)


def sow(seeds: Path, kinds: list[str]) -> None:
    """Sound files, and what is read from them."""
    for kind in kinds:
        (seeds / kind).mkdir()
        path = KINDS[kind].make(seeds / kind)
        (seeds / f"{kind}.path").write_text(str(path.relative_to(seeds / kind)))
        found = answer_of(KINDS[kind].read(path))
        grid = KINDS[kind].grid
        if grid is not None and (found.affine is None or found.notes or grid(path) is None):
            raise SystemExit(f"The second reader of {kind} has nothing to say of the sound file.")
        if said := misplaced(kind, path, found):
            raise SystemExit(f"The sound file of {kind} is misplaced: {said}")
        affine = np.zeros(0) if found.affine is None else found.affine
        np.savez(seeds / f"{kind}.npz", values=found.values, affine=affine)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="how many files (default: 10000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"some of {', '.join(KINDS)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table", type=Path, help="a CSV of what came out")
    parser.add_argument(
        "--out", type=Path, help="where verdicts and failing files stay (default: a new folder in the temporary one)"
    )
    arguments = parser.parse_args()
    kinds = arguments.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"no such kinds: {', '.join(sorted(unknown))}")
    out = arguments.out or Path(tempfile.mkdtemp(prefix="medsam-fuzz-"))
    out.mkdir(parents=True, exist_ok=True)
    # what is written wrong on purpose need not be valid
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    started = time.monotonic()
    book = Book(out, f"verdicts-{arguments.seed}-{arguments.count}.csv")
    with tempfile.TemporaryDirectory() as temporary:
        sow(Path(temporary), kinds)
        run(cases_of(arguments.count, kinds), Path(temporary), arguments.seed, arguments.jobs, book)
    rows = list(book.table(kinds))
    for row in rows:
        print(f"{row[0]:<16}" + "".join(f"{cell:>10}" for cell in row[1:]))
    print(f"{time.monotonic() - started:.0f} s, seed {arguments.seed}; other: read, with another value than before")
    if arguments.table is not None:
        with arguments.table.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    failed = any(one.verdict == "FAILED" for one in book.rows.values())
    if failed:
        print(f"Failing files and why: {out}")
    elif arguments.out is None:
        shutil.rmtree(out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
