"""Seconds and memory of every stage, ours beside its reference, in turn on the same input; and whether they agree.

    scripts/reference-env
    .venv/bin/python scripts/speed/ruler.py [--stages encode decode ...] [--pairs 7] [--precision auto] [--json FILE]

A stage is one process of ours (.venv) and one of the reference (.venv-reference, reference_ruler.py), both with the
same number of threads and nothing else to do. They take turns, ours, reference, ours, ...; while one works the other
sleeps (OMP_WAIT_POLICY=PASSIVE for both, so that no idle thread spins). The first turn of each is not counted. A
ratio is of the two turns of one pair; told are the median, the lowest and the highest.

    stage        ours                                                   reference
    preprocess   medsam.transforms.prepare on a CT slice of 512 x 512   LiteMedSAM's recipe, antialiased bilinear
    preprocess-area   the same                                          its own: OpenCV's INTER_AREA (other pixels)
    encode       Predictor.encode, LiteMedSAM, a slice                  image_encoder of the public code
    decode       Predictor.predict, the first box on an embedding       prompt_encoder and mask_decoder
    decode-next  a further box on the same embedding                    the same: it keeps nothing
    decode20     20 boxes on the same slice in one call                 20 times one box
    decode20-near    the same, only what masks reach, see --zoom off    20 times one box
    decode20-inside  the same, logits outside the boxes not made        20 times one box
    restore      logits of 20 boxes -> masks at 512 x 512               crop, enlarge, sigmoid > 0.5, one by one
    metrics      medsam.metrics.measure, 3 organs in 512 x 512 x 300    surface-distance
    encode-vit-b Predictor.encode, SAM ViT-B at 1024, random weights    image_encoder of segment-anything
    ct           Predictor.segment without zoom and cleaning: a whole   slice by slice, box by box, label map by the
                 CT, a tight box a slice and structure (--ct)           same rule (higher predicted IoU)
    segment      the command `medsam segment` on a CT, as a process     a script with nibabel, as a process
    load         loading.py: a DICOM series beside MONAI's LoadImage
    training     training.py: a step of fine-tuning beside the public loop

Answers are compared in every stage of this script, and the exit status is 1 when they differ by more than the stage
allows: a ratio without agreement is worth nothing. Embeddings: the largest difference over the largest value, 1e-3 in
float32, or in lower precision the relative RMS, 0.1, and the Dice of the masks that a decoder in float32 finds in
both. Masks: Dice > 0.99, in float32 > 0.999 on the same embedding, and logits within 0.01. Label maps: Dice > 0.99 of
all voxels and as the mean of structures. Metrics: 1e-6 (Dice) and 1e-3. Pixels: two grey levels of 256.
`training` compares nothing: its two sides have different losses.

Memory is the peak of the resident set (VmHWM): of the process from its start, libraries and model included, and
"working", from the end of the warm-up on. The machine's limit is the best matrix product of 2048 x 2048 that either
torch does in this run, in float32 and, where the processor has it, bfloat16; a stage's limit is its floating-point
operations (a multiply and an add are two) divided by that. Both sides' operations are counted by torch's
FlopCounterMode, ours in the eager model, and the fewer count: eager, our ViT has more than the public code, since its
keys carry their positions, and ours shares what 20 boxes have in common. A graph that leaves work out may be below.
`others` is how many cores other programs used during the turns: above 0.2 a row is to be measured again. The ratio of
CPU seconds stands beside: other programs disturb it less, but it does not see a side that leaves a core idle.

JSON: {"machine": {processor, threads, float32_gflops, bfloat16_gflops, ...}, "settings": {...}, "stages": {NAME:
{"what", "ours" and "reference": {"seconds" (median), "low", "high", "all", "cpu_seconds", "peak_mib", "working_mib",
"setup_seconds", "facts"}, "ratio", "ratio_low", "ratio_high", "cpu_ratio", "goal", "agreement": {measure: number, ...},
"agrees", "others", "gflop": {side: number}, "limit_seconds": {precision: seconds}}}, "load": JSON of loading.py,
"training": of training.py}. Written anew after every stage.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from inputs import REFERENCE, file_name, make_inputs
from report import failures, markdown, processor, result
from stages import CTS, ELSEWHERE, NETWORK, STAGES, Ours, our_side, stages_of
from turns import THREADS, Arrays, Others, Worker, cold, serve

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]


@contextmanager
def workers(
    name: str, arguments: argparse.Namespace, folder: Path, wanted: tuple[str, ...] = ("ours", "reference")
) -> Iterator[dict[str, Worker]]:
    inputs = folder / f"{file_name(name)}.npz"
    # graphs of random weights are not worth keeping
    cache = {"MEDSAM_CACHE": str(folder / "cache")} if name == "encode-vit-b" else {}
    ours = [sys.executable, "-W", "ignore", HERE, "--side", name, inputs]
    ours += ["--model", arguments.model, "--precision", arguments.precision, "--engine", arguments.engine]
    theirs = [REFERENCE, "-W", "ignore", HERE.with_name("reference_ruler.py"), name, inputs]
    alive: dict[str, Worker] = {}
    try:
        for side, command in (("ours", ours), ("reference", theirs)):
            if side in wanted:
                log = folder / f"{file_name(name)}.{side}.log"
                alive[side] = Worker(f"{name}, {side}", command, log, cache)
        yield alive
    finally:
        for worker in alive.values():
            worker.process.kill()
            worker.process.wait()


def write_graphs(names: list[str], arguments: argparse.Namespace, folder: Path) -> None:
    """What ours writes once a machine (exported graphs) is there before anything is measured."""
    for name in [*(["decode"] if NETWORK & set(stages_of(names)) else []), *({"encode-vit-b"} & set(names))]:
        with workers(name, arguments, folder, ("ours",)) as sides:
            sides["ours"].ask("turn 1")


def limits(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """GFLOP/s by precision: the best of three turns of each side."""
    best: dict[str, float] = {}
    with workers("machine", arguments, folder) as sides:
        for turn in range(3):
            for side, worker in sides.items():
                worker.ask("turn 1")
                path = folder / f"machine.{side}.{turn}.npz"
                worker.ask(f"answer {path}")
                with np.load(path) as found:
                    for kind in found.files:
                        best[kind] = max(best.get(kind, 0.0), float(found[kind]))
    return best


def take_turns(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both sides of a stage, `pairs` times each after a warm-up, and their answers."""
    stage = STAGES[name.partition(":")[0]]
    others = Others()
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "reference": []}
    answers: dict[str, Arrays] = {}
    facts: dict[str, dict[str, Any]] = {}
    with workers(name, arguments, folder) as sides:
        for turn in range(arguments.pairs + 1):
            for side, worker in sides.items():
                if not turn:
                    worker.ask("turn 1")
                    worker.ask("reset")
                    continue
                told = others.turn(partial(worker.ask, f"turn {stage.repeats}"), stage.repeats)
                found[side].append(told)
                print(f"{name} {turn}: {side} {told['seconds']:.4f} s", file=sys.stderr)
        for side, worker in sides.items():
            path = folder / f"{file_name(name)}.{side}.npz"
            last = worker.ask(f"answer {path}")
            facts[side] = worker.ready | {"facts": last["facts"]}
            with np.load(path) as file:
                answers[side] = {key: file[key] for key in file.files}
    exact = facts["ours"]["facts"].get("precision", "float32") == "float32"
    return result(stage, found, facts, stage.compare(answers["ours"], answers["reference"], exact), others)


def take_cold_turns(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The command against a script, every turn a process from its start to its end."""
    stage = STAGES["segment"]
    asked = folder / "segment.json"
    about = json.loads(asked.read_text())
    outs = {side: folder / f"segment.{side}.nii.gz" for side in ("ours", "reference")}
    program = Path(sys.executable).with_name("medsam")
    command = [program, "segment", about["scan"], "--model", arguments.model, "--device", "cpu", "--out", outs["ours"]]
    command += ["--zoom", "off", "--keep-islands", "--precision", arguments.precision]
    if arguments.engine != "auto":
        raise SystemExit("medsam segment chooses its engine itself: leave --engine or the stage segment out.")
    for prompt in about["prompts"]:
        command += ["--box", f"{prompt['slice']}:{','.join(map(str, prompt['stored']))}={prompt['label']}"]
    commands = {
        "ours": command,
        "reference": [
            REFERENCE, "-W", "ignore", HERE.with_name("reference_ruler.py"), "--cold", asked, outs["reference"],
        ],
    }  # fmt: skip
    others = Others()
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "reference": []}
    for turn in range(arguments.pairs + 1):
        for side, line in commands.items():
            told = others.turn(partial(cold, [str(part) for part in line], folder / f"segment.{side}.log"), 1)
            if turn:
                found[side].append(told)
                print(f"segment {turn}: {side} {told['seconds']:.2f} s", file=sys.stderr)
    names = list(dict.fromkeys(prompt["label"] for prompt in about["prompts"]))
    answers = {side: {"labels": canonical(path)} for side, path in outs.items()}
    written = json.loads((folder / "segment.reference.nii.gz.json").read_text())
    if written != names:
        raise SystemExit("The label ids of the reference are not in the order of the prompts.")
    facts: dict[str, Any] = {
        "ours": {"facts": {"command": " ".join(map(str, command[1:2]))}},
        "reference": {"facts": {}},
    }
    return result(stage, found, facts, stage.compare(answers["ours"], answers["reference"], False), others)


def canonical(path: Path) -> np.ndarray:
    """A label map in one orientation, however it is stored."""
    import nibabel

    return np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj).astype(np.int64)


def elsewhere(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What has a script of its own; its JSON."""
    script, extra = {
        "load": ("loading.py", ["--variants", "explicit", "--pairs"]),
        "training": ("training.py", ["--steps"]),
    }[name]
    path = folder / f"{name}.json"
    command = [sys.executable, HERE.with_name(script), *extra, str(arguments.pairs), "--json", path]
    subprocess.run([str(part) for part in command], check=True)
    return json.loads(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description="Every stage, ours beside its reference, in turn.")
    parser.add_argument("--stages", nargs="+", choices=(*STAGES, *ELSEWHERE), default=[*STAGES, *ELSEWHERE])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--precision", default="auto", help="of ours, as Predictor takes it")
    parser.add_argument("--engine", default="auto", help="of ours; the same")
    parser.add_argument("--model", default="litemedsam", help="ours: a known name, or a checkpoint of the same weights")
    parser.add_argument("--ct", nargs="+", choices=CTS, default=[CTS[0], CTS[2]], help="the CTs of the stage ct")
    default = os.environ.get("MEDSAM_DATA") or ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default, help="the folder of real scans")
    parser.add_argument("--json", type=Path, default=ROOT / "out" / "ruler.json")
    parser.add_argument("--side", nargs=2, metavar=("STAGE", "INPUTS"), help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        import torch

        torch.set_num_threads(THREADS)
        ours = Ours(arguments.model, arguments.precision, arguments.engine)
        serve(our_side(arguments.side[0], ours), Path(arguments.side[1]))
        return
    names = [
        each for name in arguments.stages for each in ([f"ct:{ct}" for ct in arguments.ct] if name == "ct" else [name])
    ]
    own = [name for name in names if name not in ELSEWHERE]
    if arguments.make:
        make_inputs(own, arguments.data, arguments.make, arguments.model)
        return
    if arguments.pairs < 1:
        parser.error("--pairs counts from 1")
    if not REFERENCE.exists():
        sys.exit("Make the reference's environment first: scripts/reference-env")

    report: dict[str, Any] = {
        "machine": {"processor": processor(), "threads": THREADS, "python": platform.python_version()},
        "settings": {name: getattr(arguments, name) for name in ("pairs", "precision", "engine", "model")},
        "stages": {},
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ruler-") as scratch:
        folder = Path(scratch)
        if own:
            repeated = ["--stages", *stages_of(own), "--ct", *arguments.ct]
            command = [sys.executable, "-W", "ignore", HERE, "--make", folder, *repeated]
            command += ["--data", arguments.data, "--model", arguments.model]
            subprocess.run([str(part) for part in command], check=True)
            gflop = json.loads((folder / "gflop.json").read_text())
            write_graphs(own, arguments, folder)
        speeds: dict[str, float] = {}
        for name in names:
            for kind, speed in (limits(arguments, folder) if own and name in gflop else {}).items():
                speeds[kind] = max(speed, speeds.get(kind, 0.0))
            if name in ELSEWHERE:
                report[name] = elsewhere(name, arguments, folder)
            else:
                row = take_cold_turns(arguments, folder) if name == "segment" else take_turns(name, arguments, folder)
                if name in gflop:
                    row["gflop"] = {"ours": gflop[name]}
                    if (theirs := row["reference"]["facts"].get("gflop")) is not None:
                        row["gflop"]["reference"] = theirs
                report["stages"][name] = row
            report["machine"] |= {"precisions": list(speeds)} | {f"{kind}_gflops": s for kind, s in speeds.items()}
            for row in report["stages"].values():
                if "gflop" in row:
                    least = min(row["gflop"].values())
                    row["limit_seconds"] = {kind: least / speed for kind, speed in speeds.items()}
            arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))
    below = [name for name, row in report["stages"].items() if row["goal"] and row["ratio"] < row["goal"]]
    if below:
        print(f"\nBelow the goal: {', '.join(below)}")
    if wrong := failures(report):
        sys.exit(f"\nAnswers do not agree: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
