"""What a checkout answers to some 400 prompts on real scans, to the bit; and whether two checkouts answer alike.

    PYTHONPATH=CHECKOUT python scripts/parity/record_answers.py record --out FILE.json [--engine torch] [--only REGEX]
    python scripts/parity/record_answers.py compare BEFORE.json AFTER.json [--texts]

`record` asks the medsam that PYTHONPATH finds, with the LiteMedSAM weights: all kinds of prompts, three axes, every
zoom, windows, propagation, sessions with clicks and undo, automatic masks, and the files that the commands write. It
calls public names alone and accepts old and new names of what is returned. It keeps masks whole and floating-point
numbers exactly. `compare` lists what differs and exits with 1 when anything does; texts (notes, errors, reasons) are
listed apart and count with --texts alone.

One thread: with several, sums are split by their number, and the last bits of an answer depend on the machine's cores.
"""

from __future__ import annotations

import os

# before numpy and torch are imported
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import base64
import dataclasses
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from answer_cases import (
    SOURCES,
    Case,
    Data,
    click_prompts,
    inner_point,
    outer_point,
    propagations,
    refused,
    rough,
    several_prompts,
    single_prompts,
    tight,
)

import medsam

DATA = Path(os.environ.get("MEDSAM_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
# what a person reads: it may be reworded
TEXTS = {"notes", "stop_reasons", "error", "stderr"}
Record = dict[str, Any]


def first(thing: Any, *names: str) -> Any:
    """The first attribute that is there: new names before old ones."""
    for name in names:
        if hasattr(thing, name):
            return getattr(thing, name)
    raise AttributeError(f"{type(thing).__name__} has none of {', '.join(names)}")


def exact(value: Any) -> Any:
    """Numbers as hexadecimal text, which keeps every bit."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float | np.floating):
        return float(value).hex()
    if isinstance(value, Mapping):
        return {str(key): exact(one) for key, one in value.items()}
    return [exact(one) for one in value]


def packed(array: np.ndarray) -> Record:
    """An array of labels or a mask, whole, with its digest and the number of pixels of each value."""
    array = np.ascontiguousarray(array)
    values, counts = np.unique(array, return_counts=True)
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "sha256": digest(array),
        "pixels": {str(int(value)): int(count) for value, count in zip(values, counts, strict=True)},
        "zlib": base64.b64encode(zlib.compress(array.tobytes(), 6)).decode(),
    }


def unpacked(record: Record) -> np.ndarray:
    values = zlib.decompress(base64.b64decode(record["zlib"]))
    return np.frombuffer(values, record["dtype"]).reshape(record["shape"])


def digest(array: Any) -> str:
    array = np.asarray(array)
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def window(of: Any) -> Record:
    return {"name": of.name, "low": exact(float(of.low)), "high": exact(float(of.high))}


def segmentation(found: Any) -> Record:
    """What `Predictor.segment` returned."""
    usage = getattr(found, "usage", found)
    return {
        "labels": packed(found.labels.array),
        "names": {str(key): name for key, name in found.labels.names.items()},
        "results": [
            {
                "slice": int(one.slice),
                "label": int(one.label),
                "box": exact(one.box),
                "points": exact(one.points),
                "predicted_iou": exact(float(first(one, "predicted_iou", "quality"))),
                "pixels": int(one.pixels),
                "confidence": exact(one.confidence),
                "candidates": exact(first(one, "candidates", "candidate_ious")),
            }
            for one in first(found, "results", "prompt_results", "answers")
        ],
        "axis": found.plane.axis,
        "window": window(found.window),
        "engine": found.engine,
        "precision": found.precision,
        "encoded": int(usage.encoded),
        "alternatives": [packed(one.array) for one in found.alternatives],
        "notes": list(found.notes),
        "stop_reasons": exact(first(found, "stop_reasons", "stopped")),
    }


def answer(found: Any) -> Record | None:
    """What a step of a session returned."""
    if found is None:
        return None
    return {
        "mask": packed(found.mask),
        "predicted_iou": exact(float(first(found, "predicted_iou", "quality"))),
        "logits": digest(found.logits),
        "low_res_logits": digest(first(found, "low_res_logits", "memory").numpy()),
        "box": exact(found.box),
    }


def ask(predictor: Any, data: Data, case: Case) -> Record:
    try:
        found = predictor.segment(data.scan(case.scan), [medsam.Prompt(**one) for one in case.prompts], **case.options)
    except medsam.MedSAMError as error:
        return {"raised": type(error).__name__, "error": str(error)}
    return segmentation(found)


class Steps:
    """A session with a record of each step."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.record: list[Any] = []

    def __call__(self, step: str, *arguments: Any) -> None:
        try:
            returned = getattr(self.session, step)(*arguments)
        except medsam.MedSAMError as error:
            self.record.append({"step": step, "raised": type(error).__name__, "error": str(error)})
            return
        done = returned if returned is None or isinstance(returned, bool) else answer(returned)
        self.record.append({"step": step, "returned": done})

    def finish(self, *indices: int) -> Record:
        get = first(self.session, "result", "answer")
        return {
            "steps": self.record,
            "now": {str(index): answer(get(index)) for index in indices},
            "labels": packed(self.session.labels.array),
            "prompts": [
                {"slice": one.slice, "box": exact(one.box), "points": exact(one.points)} for one in self.session.prompts
            ],
        }


def session(predictor: Any, data: Data, name: str, structure: str, axis: str, zoom: str, begin: str) -> Record:
    """Box, clicks, a refused click, undo, redo, a second slice, reset, undo; then the same by `replay`."""
    value = SOURCES[name].values[structure]
    index = data.best_slice(name, axis, value)
    mask = data.plane(name, axis, index, value)
    make = partial(predictor.session, data.scan(name), axis=axis, zoom=zoom)
    steps = Steps(make())
    x, y, _ = inner_point(mask)
    u, v, _ = outer_point(mask)
    if begin == "box":
        steps("box", index, tight(mask, 1))
    elif begin == "mask":
        steps("mask", index, rough(mask))
    steps("click", index, x, y)
    steps("click", index, u, v, False)
    steps("click", index, u, v, True)
    steps("undo")
    steps("click", index, min(x + 2, mask.shape[1] - 1), y, True)
    steps("undo")
    steps("undo")
    steps("redo")
    steps("redo")
    steps("redo")
    steps("click", index, 1e6, y)
    steps("box", index + 1, tight(mask))
    steps("reset")
    steps("undo")
    record = steps.finish(index, index + 1, index + 2)
    again = Steps(make())
    again("replay", steps.session.prompts)
    return {"played": record, "replayed": again.finish(index, index + 1)}


SESSIONS = [
    ("ct", "kidney", "k", "auto", "box"),
    ("ct", "liver", "j", "auto", "mask"),
    ("mr", "spleen", "k", "off", "click"),
    ("hippocampus", "anterior", "i", "on", "box"),
    ("polyp", "polyp", "k", "auto", "click"),
    ("liver-dicom", "liver", "k", "auto", "box"),
]


def run_command(arguments: Sequence[str], folder: Path) -> Record:
    """Run `medsam ...` of the same checkout in `folder`. Returns its exit status, output, and files by digest."""
    root = Path(medsam.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "medsam.cli.main", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    record: Record = {"exit status": done.returncode, "stderr": done.stderr if done.returncode else ""}
    record["stdout"] = exact(_without_time(json.loads(done.stdout))) if done.stdout.startswith("{") else done.stdout
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix in {".html", ".md"} or path.name.startswith("given"):
            continue
        if path.suffix == ".json" and path.stat().st_size < 3_000_000:
            record[path.name] = exact(_without_time(json.loads(path.read_text())))
        elif path.suffix == ".png" and "mask" not in path.name:
            continue  # pictures for people
        else:
            # an NRRD says in a comment when it was written
            content = re.sub(rb"(?m)^#.*\n", b"", path.read_bytes()) if path.suffix == ".nrrd" else path.read_bytes()
            record[path.name] = hashlib.sha256(content).hexdigest()
            if path.suffix == ".csv":
                record[path.name + " text"] = path.read_text().splitlines()
    return record


def _without_time(value: Any) -> Any:
    """JSON without what another run or folder changes."""
    if isinstance(value, dict):
        return {
            key: _without_time(one)
            for key, one in value.items()
            if not re.search(r"second|time|environment|started|version|commit|path|manifest$|^command$", key)
        }
    return [_without_time(one) for one in value] if isinstance(value, list) else value


def manifest(data: Data, file: Path, names: Sequence[str]) -> str:
    """A list of cases for `medsam evaluate`."""
    cases = []
    for name in names:
        source = SOURCES[name]
        case: Record = {"id": name, "image": str(data.root / source.image), "label": str(data.root / source.label)}
        cases.append(case | {"labels": source.values} | ({"threshold": 127} if name in {"polyp", "acdc"} else {}))
    file.write_text(json.dumps({"name": "recorded", "cases": cases}))
    return str(file)


def commands(data: Data, folder: Path, engine: str) -> dict[str, list[str]]:
    """Name -> arguments of medsam. folder: empty, where they are run."""
    at = {name: str(data.root / source.image) for name, source in SOURCES.items()}
    box = ["--box", "60:20,20,60,60=organ"]
    few = ["--points-per-side", "8"]
    given = manifest(data, folder / "given.json", ["acdc", "polyp", "liver-dicom"])
    prompts = folder / "given-prompts.json"
    said = [{"label": "a", "box": [30, 30, 60, 70], "slice": 60}, {"label": "b", "points": [[70, 40, 1]], "slice": 61}]
    prompts.write_text(json.dumps({"prompts": said}))
    asked = {
        "segment-nifti": ["segment", at["ct"], *box, "--out", "found.mask.nii.gz", "--all-masks"],
        "segment-nrrd": ["segment", at["ct"], "--prompts", str(prompts), "--one-piece", "--out", "found.mask.nrrd"],
        "segment-mha": ["segment", at["liver-dicom"], "--box", "1:100,150,300,350", "--out", "found.mask.mha"],
        "segment-islands": ["segment", at["ct"], *box, "--keep-islands", "--smooth-mm", "4", "--out", "a.mask.nii.gz"],
        "segment-png": ["segment", at["polyp"], "--box", "100,100,300,300", "--out", "found.mask.png"],
        "segment-embeddings": ["segment", at["mr"], "--box", "10:30,30,60,60", "--embeddings", "given-kept"],
        "segment-propagate": ["segment", at["mr"], "--box", "10:30,30,60,60", "--propagate", "--max-mm", "9"],
        "everything-picture": ["everything", at["aorta-png"], *few, "--out", "found.masks.json"],
        "everything-crops": ["everything", at["polyp"], "--points-per-side", "6", "--crop-n-layers", "1"],
        "everything-slice": ["everything", at["ct"], "--slice", "60", *few, "--labels", "found.mask.nii.gz"],
        "everything-clicks": [
            *("everything", at["ct"], "--slice", "50", "--axis", "j", "--prompt", "point", *few),
            *("--pred-iou-thresh", "0.3", "--stability-score-thresh", "0.3"),
        ],
        "everything-volume": ["everything", at["hippocampus"], "--points-per-side", "5", "--pred-iou-thresh", "0.5"],
    }  # fmt: skip
    few_slices = ["evaluate", "--manifest", given, "--no-timing", "--out", "scores"]
    asked["evaluate-kinds"] = [*few_slices, "--jitter-px", "0", "4", "--prompt", "box", "point", "mask", "box+points:2"]
    asked["evaluate-oracle"] = [*few_slices, "--oracle", "--zoom", "off", "--save-masks"]
    volume = manifest(data, folder / "given-volume.json", ["hippocampus"])
    asked["evaluate-propagate"] = ["evaluate", "--manifest", volume, "--prompt", "propagate", "--no-timing"]
    asked["evaluate-propagate"] += ["--zoom", "off", "--out", "scores"]
    return {name: [*arguments, "--json", "--engine", engine] for name, arguments in asked.items()}


def command(data: Data, name: str, engine: str) -> Record:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        return run_command(commands(data, folder, engine)[name], folder)


def scan_record(data: Data, name: str) -> Record:
    scan = data.scan(name)
    return {
        "sha256": digest(scan.array),
        "dtype": scan.array.dtype.name,
        "shape": list(scan.array.shape),
        "affine": exact(np.asarray(scan.geometry.affine, dtype=np.float64).ravel().tolist()),
        "modality": scan.modality,
    }


def with_clicks_learnt(engine: Any) -> Any:
    """LiteMedSAM taken for a network that was trained with clicks and masks, and without priors for boxes.

    Its clicks mean little, but they take the way that SAM's and fine-tuned models' do.
    """
    sam = medsam.load_model("litemedsam")
    fields = {field.name for field in dataclasses.fields(sam.spec)}
    priors = "use_priors" if "use_priors" in fields else "evidence"
    changed: Any = {"prompts": ("box", "points", "mask"), priors: False}
    sam.spec = dataclasses.replace(sam.spec, **changed)
    return medsam.Predictor(sam, "cpu", engine=engine)


def tasks(data: Data, engine: Any) -> Iterator[tuple[str, Callable[[], Record]]]:
    """Name -> what makes its record."""
    for name in SOURCES:
        yield f"scan/{name}", partial(scan_record, data, name)
    predictor = medsam.Predictor("litemedsam", "cpu", engine=engine)
    for cases in (single_prompts, several_prompts, propagations, refused):
        for case in cases(data):
            yield case.name, partial(ask, predictor, data, case)
    for settings in SESSIONS:
        yield "session/" + "/".join(settings), partial(session, predictor, data, *settings)
    clicks = with_clicks_learnt(engine)
    for case in click_prompts(data):
        yield case.name, partial(ask, clicks, data, case)
    for settings in SESSIONS:
        yield "session-clicks/" + "/".join(settings), partial(session, clicks, data, *settings)
    with tempfile.TemporaryDirectory() as folder:
        names = list(commands(data, Path(folder), engine))
    for name in names:
        yield f"command/{name}", partial(command, data, name, engine)


def record(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    data = Data(arguments.data)
    about = {"medsam": medsam.__version__, "torch": torch.__version__, "engine": arguments.engine, "threads": 1}
    records: Record = {}
    if arguments.resume and arguments.out.exists():
        records = json.loads(arguments.out.read_text())["records"]
    spent: dict[str, float] = {}
    started = time.process_time(), time.perf_counter()
    for name, make in tasks(data, arguments.engine):
        if name in records or (arguments.only is not None and not re.search(arguments.only, name)):
            continue
        since = time.perf_counter()
        records[name] = make()
        group = name.split("/")[0]
        spent[group] = spent.get(group, 0.0) + time.perf_counter() - since
        if len(records) % 25 == 0:
            print(f"{len(records)} records, {name}", file=sys.stderr, flush=True)
            save(arguments.out, about, records)
    save(arguments.out, about, records)
    prompts = sum(len(one.get("results", ())) for one in records.values())
    print(
        f"{len(records)} records, {prompts} masks of prompts, of {Path(medsam.__file__).parents[1]}; "
        f"{time.perf_counter() - started[1]:.0f} s, {time.process_time() - started[0]:.0f} s of CPU "
        f"({', '.join(f'{group} {seconds:.0f} s' for group, seconds in spent.items())})"
    )
    return 0


def save(path: Path, about: Record, records: Record) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps({"about": about, "records": records}, indent=0))
    partial.replace(path)


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(where, what) of every difference."""
    if isinstance(before, dict) and isinstance(after, dict):
        if "zlib" in before and "zlib" in after:
            if (what := array_difference(before, after)) is not None:
                yield path, what
            return
        for key in before.keys() | after.keys():
            here = f"{path}.{key}"
            if key not in after or key not in before:
                yield here, "is missing " + ("after" if key in before else "before")
            else:
                yield from differences(before[key], after[key], here)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from differences(*pair, f"{path}[{number}]")
    elif before != after:
        yield path, f"{shown(before)} -> {shown(after)}"


def array_difference(before: Record, after: Record) -> str | None:
    if (before["shape"], before["dtype"]) != (after["shape"], after["dtype"]):
        return f"{before['dtype']} {before['shape']} -> {after['dtype']} {after['shape']}"
    if before["sha256"] == after["sha256"]:
        return None
    apart = np.argwhere(unpacked(before) != unpacked(after))
    low, high = apart.min(axis=0).tolist(), apart.max(axis=0).tolist()
    return f"{len(apart)} pixels differ, from {low} to {high}; counts {before['pixels']} -> {after['pixels']}"


def shown(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"-?0x[0-9a-f.]+p[-+]\d+", value):
        return f"{float.fromhex(value):.9g}"
    text = str(value)
    return text if len(text) < 300 else text[:300] + " ..."


def compare(arguments: argparse.Namespace) -> int:
    before, after = (json.loads(path.read_text())["records"] for path in (arguments.before, arguments.after))
    both = before.keys() & after.keys()
    texts: list[str] = []
    values: list[str] = []
    for name in sorted(both if arguments.common else before.keys() | after.keys()):
        if name not in after or name not in before:
            values.append(f"{name}: not recorded " + ("after" if name in before else "before"))
            continue
        for where, what in sorted(differences(before[name], after[name])):
            part = re.sub(r"\[\d+\]", "", where).split(".")
            (texts if TEXTS & set(part) else values).append(f"{name} {where.lstrip('.')}: {what}")
    for title, found in (("values", values), ("texts", texts)):
        for line in found[: arguments.show]:
            print(line)
        if len(found) > arguments.show:
            print(f"... {len(found) - arguments.show} more")
        print(f"{len(found)} {title} differ in {len({line.split(' ')[0] for line in found})} of {len(both)} records.")
    return int(bool(values) or (arguments.texts and bool(texts)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    doors = parser.add_subparsers(required=True)
    door = doors.add_parser("record", help="ask the medsam that PYTHONPATH finds")
    door.add_argument("--out", type=Path, required=True)
    door.add_argument("--engine", choices=("openvino", "torch"), default="openvino")
    door.add_argument("--data", type=Path, default=DATA, help="folder of the development data")
    door.add_argument("--only", help="regular expression of the records to make")
    door.add_argument("--resume", action="store_true", help="keep the records that OUT has and make the others")
    door.set_defaults(run=record)
    door = doors.add_parser("compare", help="list what differs; exit with 1 when anything does")
    door.add_argument("before", type=Path)
    door.add_argument("after", type=Path)
    door.add_argument("--texts", action="store_true", help="count reworded notes and errors as differences")
    door.add_argument("--common", action="store_true", help="only records that both files have")
    door.add_argument("--show", type=int, default=60, help="lines to print of each kind")
    door.set_defaults(run=compare)
    arguments = parser.parse_args()
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
