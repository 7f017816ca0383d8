"""`kill -9` at random moments: nothing that was accepted is lost, and what comes out equals an unbroken run's.

    ./scripts/kill                                   # over a hundred moments of all kinds, with tiny configurations
    ./scripts/kill --kinds 'fit|evaluate' --moments 6 --seed 2 --table FILE.csv

A command runs in a process of its own, forked from one that has imported everything, so that a start takes no second.
After a time drawn from the length of an unbroken run it is killed, alone or with all processes it started; then the
same command goes on in the same folder, is killed again, and after four moments is let finish. After each kill every
finished file that stood before stands unchanged, and none is half written; at the end all files of results equal those
of the unbroken run. `store`, `serve` and `listen` are `parity/serve_kill.py`, `serve_kill_http.py`, `listen_kill.py`.
Exit status 1 for a fault.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import lightning  # noqa: F401 - every command begins with everything imported
import numpy as np
import torch
from annotated import draw, project  # type: ignore[import-not-found]
from dicom_files import series as dicom_series  # type: ignore[import-not-found]
from safetensors.torch import load_file
from tiny_training import drawn, tiny_model, write_case, write_manifest  # type: ignore[import-not-found]

import medsam.cli.train  # noqa: F401
from medsam.annotation.project import AnnotationProject
from medsam.cli.main import main as medsam_main
from medsam.models.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
# kills of one folder before its command is let finish
ROUNDS = 4
# what a folder may keep of a process that was killed: unfinished, and under a name that nothing reads
_UNFINISHED = re.compile(r"(^|/)\.medsam-[^/]+/|\.(part|tmp|lock)$|events\.out")
_PATIENCE = 120.0


@dataclass(frozen=True)
class Kind:
    """words: of the command that begins or goes on in a folder. results: what has to be equal at the end, by name.

    kept: files that, once there, stay as they are while the command goes on.
    """

    words: Callable[[Path], list[str]]
    results: Callable[[Path], dict[str, str]]
    kept: Callable[[Path], list[Path]]


@dataclass
class Score:
    """What was done, and what was wrong."""

    moments: int = 0
    before_the_end: int = 0
    finished: int = 0
    compared: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files(folder: Path, *patterns: str) -> list[Path]:
    found = (path for pattern in patterns for path in folder.rglob(pattern) if path.is_file())
    return sorted(path for path in found if not _UNFINISHED.search(path.relative_to(folder).as_posix()))


def digests(folder: Path, *patterns: str) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): digest(path) for path in files(folder, *patterns)}


def weights(folder: Path) -> dict[str, str]:
    """Of the model that a training ended with: the numbers, and not the card, which tells when."""
    path = folder / "model.safetensors"
    if not path.exists():
        return {}
    sha = hashlib.sha256()
    for name, tensor in sorted(load_checkpoint(path).state_dict().items()):
        sha.update(name.encode() + tensor.numpy().tobytes())
    return {"weights": sha.hexdigest()}


def embeddings(folder: Path) -> dict[str, str]:
    """By key, of the numbers: in which order a file tells its key and its checksum is each process's own."""
    found = {path.relative_to(folder).as_posix(): load_file(path) for path in files(folder, "*.safetensors")}
    return {
        name: hashlib.sha256(b"".join(one.numpy().tobytes() for one in tensors.values())).hexdigest()
        for name, tensors in found.items()
    }


# -- commands -------------------------------------------------------------------------------------------------


def kinds_of(home: Path) -> dict[str, Kind]:
    """home: where scans, a manifest and a model of random weights are made."""
    data = home / "data"
    data.mkdir()
    cases = [write_case(data, f"c{n}", *drawn(n), ("train", "train", "val", "test")[n % 4]) for n in range(8)]
    manifest, model = write_manifest(data, cases), tiny_model(home / "tiny.safetensors")
    network = ["--model", str(model), "--engine", "torch", "--device", "cpu"]
    listed = ["--manifest", str(manifest), *network]

    def fit(out: Path) -> list[str]:
        again = ["--ckpt_path", "last"] if (out / "checkpoints" / "last.ckpt").exists() else []
        return [
            *("fit", "--model.model", str(model), "--data.manifests", f"[{manifest}]", "--out", str(out)),
            *("--data.batch_size", "2", "--data.epoch_slices", "12", "--data.masks_per_image", "2"),
            *("--model.optimiser.lr", "1e-3", "--model.optimiser.warmup_steps", "2", "--save_every", "3"),
            *("--trainer.accelerator", "cpu", "--trainer.max_steps", "18", "--trainer.logger", "false", *again),
        ]

    def evaluate(out: Path, *more: str) -> list[str]:
        return ["evaluate", *listed, "--out", str(out), "--save-masks", "--no-timing", *more]

    tables = ("metrics.csv", "slices.csv", "masks/*")
    return {
        "fit": Kind(fit, weights, lambda out: []),
        "evaluate": Kind(evaluate, lambda out: digests(out, *tables), lambda out: files(out, "cases/*.json")),
        "evaluate, 2 processes": Kind(
            lambda out: evaluate(out, "--devices", "2"),
            *(lambda out: digests(out, *tables), lambda out: files(out, "cases/*.json")),
        ),
        # jobs.csv tells how far it is, and changes
        "embed": Kind(
            lambda out: ["embed", *listed, "--out", str(out)],
            *(embeddings, lambda out: files(out, "*.safetensors")),
        ),
        "segment": Kind(
            lambda out: ["segment", str(data / "c0.nii.gz"), *network, *_boxes(), "--out", str(out / "mask.nii.gz")],
            *(lambda out: digests(out, "*"), lambda out: []),
        ),
        "segment-many": Kind(
            lambda out: ["segment-many", str(manifest), *network, "--box", "1:4,4,16,14=disc", "--out", str(out)],
            *(lambda out: digests(out, "masks/*"), lambda out: files(out, "cases/*.json", "masks/*")),
        ),
        "everything": Kind(
            lambda out: [
                *("everything", str(data / "c0.nii.gz"), *network, "--slice", "1", "--points-per-side", "6"),
                *("--out", str(out / "all.json")),
            ],
            *(lambda out: digests(out, "*"), lambda out: []),
        ),
        "round": _round(home, model),
        **_data_kinds(home, data),
    }


def _data_kinds(home: Path, data: Path) -> dict[str, Kind]:
    """What makes data ready: DICOM without names, a manifest of a folder."""
    (home / "key").write_text("ab" * 32 + "\n")
    for number, pixels in enumerate(np.random.default_rng(1).integers(0, 1000, (3, 12, 64, 64)).astype(np.int16), 1):
        uid = f"1.2.3.{number}"
        dicom_series(
            home / "dicom" / uid, pixels, SeriesInstanceUID=uid, PatientID=f"{number}", BodyPartExamined="ABDOMEN"
        )

    def cleaned(out: Path) -> dict[str, str]:
        found, report = digests(out, "*.dcm"), out / "clean" / "report.json"
        if report.exists() and (told := json.loads(report.read_text()))["complete"]:
            # of a file it says whether this run wrote it, or an earlier one
            found["report"] = repr((sum(told["files"].values()), told["settings"]))
        return found

    return {
        "deidentify": Kind(
            lambda out: ["data", "deidentify", str(home / "dicom"), str(out / "clean"), "--key", str(home / "key")],
            *(cleaned, lambda out: files(out, "*.dcm")),
        ),
        "index": Kind(
            lambda out: ["data", "index", str(home / "dicom"), "--out", str(out / "manifest.json")],
            *(lambda out: digests(out, "*"), lambda out: files(out, "*")),
        ),
    }


def _round(home: Path, model: Path) -> Kind:
    """A round of the data engine: each step with its digest, as the store has it. home: where its project is made."""
    (home / "begun").mkdir()
    with project(home / "begun", model) as made:
        draw(made)
        masks = made.store.last_annotation()

    def words(out: Path) -> list[str]:
        if not (out / "project").exists():
            shutil.copytree(home / "begun" / "project", out / "project")
        # a round that is over is not followed by another one
        return ["annotate", "round", str(out / "project"), "--if-due", "--every", str(masks)]

    def results(out: Path) -> dict[str, str]:
        with AnnotationProject.open(out / "project") as there:
            steps = {kind: details for one in there.store.rounds() for kind, (_, details) in one.events.items()}
        return {kind: json.dumps(details) for kind, details in steps.items()}

    return Kind(words, results, lambda out: files(out, "cases/*.json", "labels/*"))


def _boxes() -> list[str]:
    return [word for k in range(4) for word in ("--box", f"{k}:4,4,16,14=disc")]


# -- processes ------------------------------------------------------------------------------------------------


def begun(words: Sequence[str], log: Path, before: Callable[[], None] | None = None) -> int:
    """A process of a group of its own that runs a command. before: called in it."""
    child = os.fork()
    if child:
        # whoever of the two comes first
        with suppress(OSError):
            os.setpgid(child, child)
        return child
    status = 1
    try:
        os.setpgid(0, 0)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        # of another kind of file than before
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
        torch.set_num_threads(1)
        if before is not None:
            before()
        status = medsam_main(list(words))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(child: int, seconds: float) -> int | None:
    """The status of a process that ends by itself, None while it runs after so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def group_is_gone(child: int) -> bool:
    """Whether every process of a group ends within 90 s of the first one's end: one that still imports looks later."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        try:
            os.killpg(child, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    return False


def killed(words: list[str], log: Path, after: float, alone: bool) -> tuple[bool, str]:
    """Whether the command was killed before its end; and what is wrong, if anything is."""
    child = begun(words, log)
    status = ended(child, after)
    if status is not None:
        return False, "" if status == 0 else f"it ended with {status}: {log.read_text()[-300:]}"
    (os.kill if alone else os.killpg)(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True, "" if group_is_gone(child) else "processes outlived the first one by 90 s"


# -- one folder -----------------------------------------------------------------------------------------------


def unbroken(kind: Kind, home: Path) -> tuple[dict[str, str], float]:
    """Results of a run that nothing ends, and its seconds."""
    out = home / "unbroken"
    out.mkdir()
    started = time.monotonic()
    status = ended(begun(kind.words(out), home / "unbroken.log"), _PATIENCE)
    if status != 0:
        raise SystemExit(f"The unbroken run ended with {status}: {(home / 'unbroken.log').read_text()[-2000:]}")
    return kind.results(out), time.monotonic() - started


def broken(
    name: str, kind: Kind, home: Path, right: dict[str, str], length: float, moments: int, rng: random.Random
) -> Score:
    """A folder whose command is killed `moments` times and then let finish."""
    score, out, log = Score(), home / "out", home / "broken.log"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    log.write_text("")
    for _ in range(moments):
        before = {path: digest(path) for path in kind.kept(out)}
        cut, wrong = killed(kind.words(out), log, rng.uniform(0, 1.05 * length), rng.random() < 0.5)
        score.moments += 1
        score.before_the_end += cut
        score.faults += [wrong] if wrong else []
        changed = [path.name for path, sha in before.items() if not path.exists() or digest(path) != sha]
        score.faults += [f"{file} was finished, and has changed" for file in changed]
        whole = kind.results(out)
        half = [one for one, sha in whole.items() if right.get(one) != sha]
        score.faults += [f"half written, or another: {one}" for one in half]
        if name in ("segment", "everything", "index") and whole:
            # these begin anew
            shutil.rmtree(out)
            out.mkdir()
    status = ended(begun(kind.words(out), log), _PATIENCE)
    if status != 0:
        score.faults.append(f"it did not go on: {status}, {log.read_text()[-300:]}")
    score.finished, found = 1, kind.results(out)
    score.compared = len(right)
    if found != right:
        differ = sorted(key for key in {*found, *right} if found.get(key) != right.get(key))
        score.faults.append(f"other results than unbroken: {differ[:5]}")
    return score


def worked(name: str, kind: Kind, home: Path, moments: int, rng: random.Random) -> Score:
    home.mkdir()
    started = time.monotonic()
    right, length = unbroken(kind, home)
    if not right:
        raise SystemExit(f"{name} has no results")
    total = Score()
    while total.moments < moments:
        one = broken(name, kind, home, right, length, min(ROUNDS, moments - total.moments), rng)
        for key in ("moments", "before_the_end", "finished", "compared", "faults"):
            setattr(total, key, getattr(total, key) + getattr(one, key))
    if not total.before_the_end:
        total.faults.append("no kill came before its end")
    total.seconds = time.monotonic() - started
    return total


def servers(script: str, moments: int, seed: int, *more: str) -> Score:
    """What another script of kills says."""
    started = time.monotonic()
    command = [sys.executable, str(ROOT / "scripts" / "parity" / script), "--kills", str(moments), "--seed", str(seed)]
    run = subprocess.run([*command, *more], capture_output=True, text=True, check=False, cwd=ROOT)
    found = re.search(r"(\d+) confirmed changes|(?:masks checked|instances compared)\s*\|\s*(\d+)", run.stdout)
    compared = 0 if found is None else int(found[1] or found[2])
    faults = [] if run.returncode == 0 else [(run.stdout + run.stderr)[-1500:]]
    if not faults and not compared:
        faults.append("nothing was compared")
    return Score(moments, moments, 1, compared, faults, time.monotonic() - started)


# moments of each kind, where none are asked for
SHARES = {
    "fit": 12,
    "evaluate": 12,
    "evaluate, 2 processes": 4,
    "embed": 12,
    "segment": 8,
    "segment-many": 8,
    "everything": 8,
    "store": 20,
    "round": 4,
    "serve": 12,
    "deidentify": 8,
    "index": 4,
    "listen": 12,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--moments", type=int, help=f"of each kind (default: {sum(SHARES.values())} over all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="|".join(SHARES), help=f"some of {', '.join(SHARES)}, with | between")
    parser.add_argument("--table", type=Path, help="a CSV of what came out")
    arguments = parser.parse_args()
    head = ["kind", "moments", "before its end", "runs finished", "results compared", "faults", "seconds"]
    rows, faults = [head], list[str]()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="medsam-kill-") as name:
        home = Path(name)
        kinds = kinds_of(home)
        model = str(home / "tiny.safetensors")
        for number, kind in enumerate(arguments.kinds.split("|")):
            moments = arguments.moments or SHARES[kind]
            if kind == "store":
                score = servers("serve_kill.py", moments, arguments.seed)
            elif kind == "serve":
                more = ("--model", model, "--clients", "2", "--rows", "96", "--slices", "8", "--most-s", "3")
                score = servers("serve_kill_http.py", moments, arguments.seed, *more)
            elif kind == "listen":
                score = servers("listen_kill.py", moments, arguments.seed)
            else:
                rng = random.Random(f"{kind} {arguments.seed}")
                score = worked(kind, kinds[kind], home / str(number), moments, rng)
            counts = [score.moments, score.before_the_end, score.finished, score.compared, len(score.faults)]
            rows.append([kind, *map(str, counts), f"{score.seconds:.0f}"])
            faults += [f"{kind}: {one}" for one in score.faults]
            print("; ".join(f"{what} {cell}" for what, cell in zip(head, rows[-1], strict=True)), flush=True)
    if arguments.table is not None:
        with arguments.table.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    for text in faults:
        print(f"FAULT {text}", file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
