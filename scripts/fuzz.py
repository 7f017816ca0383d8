"""Damaged and hostile files by the thousand: each is read right, or refused with an error of ours, in bounded time.

    ./scripts/fuzz --count 5000 --seed 1        # a few minutes on two cores
    ./scripts/fuzz --count 300 --kinds nifti.gz,mha.z

Small sound files of every readable kind are made, changed (bits, chunks, cuts, numbers of headers, DICOM elements) and
read in worker processes. A reader fails a file by any exception that is not ours, by dying, by taking more than 10 s or
500 MB, by naming the patient, or, where a checksum covers the change, by giving other voxels without a word. Failing
files are kept, with the traceback beside them. The same seed makes the same files. Exit status 1 on failures.
"""

from __future__ import annotations

import argparse
import gzip
import io
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
import torch
from fuzz_dicom import (
    GRID,
    INTEGERS,
    PATIENT,
    PATIENT_ID,
    SEGMENT_KINDS,
    VOXELS,
    damage,
    elements,
    enhanced,
    graphics,
    hospital,
    regions,
    report,
    run_lengths,
    saved,
    segmentation,
    series,
    slice_of,
    zipped,
)
from PIL import Image

from medsam.errors import MedSAMError

# of the processor; PATIENCE is by the clock, for readers that hang, and other programs may be at work
SECONDS, MEGABYTES, PATIENCE = 10.0, 500, 60.0
# what people and attackers write where a number belongs
NUMBERS = [
    b"0",
    b"-1",
    b"1",
    b"2",
    b"3",
    b"7",
    b"255",
    b"65536",
    b"2147483648",
    b"99999999999",
    b"1e30",
    b"-1e30",
    b"nan",
]
NUMBERS += [b"inf", b"1e400", b"1.5", b"", b"x", b"9" * 5000, "²".encode(), b"[" * 3, b'"a"', b"null", b"true", b"-0.0"]
FLOATS = [0.0, -0.0, -1.0, 1.5, 1e-30, 1e30, -1e30, 3.4e38, float("nan"), float("inf"), 352.0, 1e9]


# -- sound files ----------------------------------------------------------------------------------------------


def image(directory: Path, name: str, compressed: bool = False) -> Path:
    picture = sitk.GetImageFromArray(VOXELS)
    picture.SetSpacing((0.8, 0.9, 2.5))
    sitk.WriteImage(picture, str(directory / name), useCompression=compressed)
    return directory / name


def nifti(directory: Path, name: str) -> Path:
    nib.save(nib.Nifti1Image(VOXELS.T, np.diag([0.8, 0.9, 2.5, 1])), directory / name)
    return directory / name


def picture(directory: Path, name: str, pages: int = 1, **how: Any) -> Path:
    images = [Image.fromarray((plane % 256).astype(np.uint8)) for plane in VOXELS[:pages]]
    more: dict[str, Any] = {"save_all": True, "append_images": images[1:]} if pages > 1 else {}
    images[0].save(directory / name, **more, **how)
    return directory / name


def npz(directory: Path) -> Path:
    np.savez_compressed(
        directory / "a.npz", imgs=VOXELS, spacing=[0.8, 0.9, 2.5], origin=np.zeros(3), direction=np.eye(3)
    )
    return directory / "a.npz"


def text(directory: Path, name: str, document: Any) -> Path:
    (directory / name).write_text(json.dumps(document))
    return directory / name


def manifest(directory: Path) -> Path:
    nifti(directory, "scan.nii.gz")
    nib.save(nib.Nifti1Image((VOXELS.T > 500).astype(np.uint8), np.diag([0.8, 0.9, 2.5, 1])), directory / "mask.nii.gz")
    cases = [
        {"id": "a", "patient": "p1", "image": "scan.nii.gz", "label": "mask.nii.gz", "split": "train"},
        {
            "id": "b",
            "image": "scan.nii.gz",
            "label": {"liver": "mask.nii.gz"},
            "spacing_mm": [1, 1, 2],
            "modality": "MR",
        },
    ]
    return text(directory, "m.json", {"name": "x", "modality": "CT", "labels": {"liver": 1}, "cases": cases})


def prompts(directory: Path) -> Path:
    said = [
        {"label": "a", "box": [1, 1, 6, 8], "slice": 2},
        {"label": "b", "box3d": [1, 1, 0, 8, 9, 4]},
        {"label": "c", "points": [[3, 4, 1], [8, 9, 0]], "slice": 1},
    ]
    return text(directory, "p.json", {"axis": "k", "prompts": said})


def masks(directory: Path) -> Path:
    from medsam.masks import RLE

    one = {"segmentation": {"size": [12, 10], "counts": [30, 12, 78]}, "bbox": [2, 6, 1, 5], "area": 12, "id": 1}
    two = {"segmentation": RLE.of(VOXELS[0] > 500).to_dict(), "bbox": [0, 0, 9, 11]}
    more = {
        "predicted_iou": 0.9,
        "stability_score": 0.8,
        "crop_box": [0, 0, 10, 12],
        "point_coords": [[2, 7]],
        "slice": 3,
    }
    head = {"image_id": 1, "width": 10, "height": 12, "file_name": "a", "axis": "k", "slices": 5}
    return text(directory, "s.json", {"image": head, "annotations": [one | more, two | more]})


def weights(directory: Path, name: str) -> Path:
    from medsam.models.build import build_model
    from medsam.models.checkpoint import save_checkpoint
    from medsam.models.specs import tiny_spec

    model = build_model(tiny_spec())
    if name.endswith(".safetensors"):
        save_checkpoint(model, directory / name)
    else:
        torch.save({"model": model.state_dict(), "epoch": 3, "loss": np.float64(0.3)}, directory / name)
    return directory / name


KEY = "0123456789abcdef" * 4


def embedding(directory: Path) -> Path:
    from medsam.inference.embeddings import EmbeddingCache

    EmbeddingCache(folder=directory / "cache").put(KEY, torch.arange(60.0).reshape(3, 4, 5))
    return directory / "cache"


def tree(directory: Path) -> Path:
    series(directory)
    for name in ("one", "two"):
        nifti(directory, f"{name}.nii.gz")
        nib.save(nib.Nifti1Image((VOXELS.T > 500).astype(np.uint8), np.eye(4)), directory / f"{name}_mask.nii.gz")
    picture(directory, "pic.png")
    return directory


# -- readers --------------------------------------------------------------------------------------------------


def scan(path: Path) -> np.ndarray:
    from medsam.io.load import load_volume

    return load_volume(path).array


def labels(path: Path) -> np.ndarray:
    from medsam.io.labels import load_labels, structures_in

    structures_in(path)
    return np.stack([mask for _, mask in sorted(load_labels(path, GRID).items())])


def measured(path: Path) -> np.ndarray:
    """A file of measurements beside its series, as prompts."""
    from medsam.io.load import load_volume
    from medsam.prompts.files import load_prompts

    said, _ = load_prompts(path, load_volume(path.parent / "ct"))
    return np.array([len(said), *sorted(prompt.slice or 0 for prompt in said)])


def written(path: Path) -> np.ndarray:
    """Labels of a series as SEG and RTSTRUCT: whatever its headers say, they are read back as they were."""
    from medsam.io.labels import load_labels
    from medsam.io.load import load_volume
    from medsam.io.save import save_labels

    volume = load_volume(path)
    mask = np.zeros(volume.shape, dtype=bool)
    mask[:, 1:-1, 1:-1] = True
    mask[1:, 4:6, 4:6] = False
    for kind in ("seg", "seg-labelmap", "rtstruct"):
        file = path.parent / f"{kind}.dcm"
        save_labels({"liver": mask}, file, path, geometry=volume.geometry, format=kind)
        if not np.array_equal(load_labels(file, volume.geometry)["liver"], mask):
            raise AssertionError(f"{kind}: read back with other voxels")
    return volume.array


def found(path: Path) -> np.ndarray:
    """A folder with a series, its SEG and its RTSTRUCT: a damaged one costs no more than itself."""
    from medsam.data.index import index_folder

    index_folder(path)
    return np.zeros(1)


def checked(path: Path) -> np.ndarray:
    from medsam.data.check import check_manifest

    check_manifest(path)
    return np.zeros(1)


def planned(path: Path) -> np.ndarray:
    from medsam.prompts.parse import read_prompts
    from medsam.prompts.plan import plan

    said, axis = read_prompts(path)
    plan(said, GRID, axis)
    return np.zeros(1)


def masks_of(path: Path) -> np.ndarray:
    from medsam.io.sa1b import read_sa1b

    return np.stack([mask.mask for mask in read_sa1b(path).masks])


def model(path: Path) -> np.ndarray:
    from medsam.models.checkpoint import load_checkpoint

    return np.concatenate([tensor.numpy().ravel() for tensor in load_checkpoint(path).state_dict().values()])


def kept(path: Path) -> np.ndarray:
    from medsam.inference.embeddings import EmbeddingCache

    found = EmbeddingCache(folder=path).get(KEY)
    return np.arange(60.0) if found is None else found.features.numpy().ravel()


def indexed(path: Path) -> np.ndarray:
    """One damaged file must not cost more than the case it belongs to, of four."""
    from medsam.data.index import index_folder

    try:
        cases = index_folder(path).manifest.cases
    except MedSAMError as error:
        raise AssertionError("one damaged file stopped the folder") from error
    if len(cases) < 2:
        raise AssertionError(f"one damaged file, and {len(cases)} cases are left")
    return np.zeros(1)


@dataclass(frozen=True)
class Kind:
    """make: a sound file or folder. read: what is compared. covered: from which byte on a checksum covers a change;
    None where none does. share: how often, beside the others."""

    make: Callable[[Path], Path]
    read: Callable[[Path], np.ndarray]
    covered: Callable[[bytes], int] | None = None
    share: float = 1.0


def behind(mark: bytes) -> Callable[[bytes], int]:
    return lambda content: content.index(mark) + len(mark)


def whole(content: bytes) -> int:
    return 0


KINDS: dict[str, Kind] = {
    "nifti": Kind(lambda d: nifti(d, "a.nii"), scan),
    "nifti.gz": Kind(lambda d: nifti(d, "a.nii.gz"), scan, whole),
    "nrrd": Kind(lambda d: image(d, "a.nrrd"), scan),
    "nrrd.gz": Kind(lambda d: image(d, "a.nrrd", True), scan, behind(b"\n\n")),
    "mha": Kind(lambda d: image(d, "a.mha"), scan),
    "mha.z": Kind(lambda d: image(d, "a.mha", True), scan, behind(b"LOCAL\n")),
    "png": Kind(lambda d: picture(d, "a.png"), scan, whole),
    "jpeg": Kind(lambda d: picture(d, "a.jpg"), scan),
    "tiff": Kind(lambda d: picture(d, "a.tif", 3), scan),
    "tiff.z": Kind(lambda d: picture(d, "a.tif", compression="tiff_adobe_deflate"), scan),
    "npz": Kind(npz, scan, whole),
    "zip": Kind(zipped, scan, whole),
    "dicom": Kind(lambda d: saved(slice_of(0), d / "a.dcm"), scan),
    "dicom.series": Kind(series, scan),
    "dicom.frames": Kind(enhanced, scan),
    "dicom.rle": Kind(run_lengths, scan),
    **{f"seg.{kind.lower()}": Kind(partial(segmentation, kind=kind), labels) for kind in SEGMENT_KINDS},
    "rtstruct": Kind(regions, labels),
    "gsps": Kind(graphics, measured),
    "sr": Kind(report, measured),
    "written": Kind(series, written),
    "hospital": Kind(hospital, found, None, 0.5),
    "manifest": Kind(manifest, checked),
    "prompts": Kind(prompts, planned),
    "sa1b": Kind(masks, masks_of),
    "pth": Kind(lambda d: weights(d, "w.pth"), model, whole, 0.5),
    "safetensors": Kind(lambda d: weights(d, "w.safetensors"), model, None, 0.5),
    "embedding": Kind(embedding, kept, whole, 0.5),
    "folder": Kind(tree, indexed, None, 0.5),
}


# -- changes --------------------------------------------------------------------------------------------------


def words(content: bytes, rng: random.Random) -> bytes:
    """Another number somewhere in a header or document of text."""
    head = content[:4000]
    found = list(re.finditer(rb"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])", head)) or list(re.finditer(rb"\w+", head))
    if not found:
        return damage(content, rng)[0]
    match = rng.choice(found)
    return content[: match.start()] + rng.choice(NUMBERS) + content[match.end() :]


def binary(content: bytes, rng: random.Random, end: int) -> bytes:
    """Another number in the first `end` bytes, at an even place."""
    kind = rng.choice(["<h", "<H", "<i", "<I", ">h", ">I", "<f", "<f"])
    value = rng.choice(FLOATS if kind.endswith("f") else INTEGERS)
    if not kind.endswith("f"):
        bits = 8 * struct.calcsize(kind)
        value = value % 2**bits
        value = value - 2**bits if kind[1].islower() and value >= 2 ** (bits - 1) else value
    at = 2 * rng.randrange(max(1, min(end, len(content) - 4) // 2))
    return content[:at] + struct.pack(kind, value) + content[at + struct.calcsize(kind) :]


def nifti_fields(content: bytes, rng: random.Random) -> bytes:
    dims, pitches = [(at, "<h") for at in range(40, 56, 2)], [(at, "<f") for at in (76, 80, 84, 88, 108, 112, 116)]
    types, places = [(at, "<h") for at in (70, 72, 252, 254)], [(280, "<f"), (300, "<f"), (0, "<i")]
    at, kind = rng.choice(dims + pitches + types + places)
    value = (
        rng.choice(FLOATS) if kind == "<f" else rng.choice([-1, 0, 1, 2, 3, 4, 5, 7, 16, 64, 512, 2304, 30000, 32767])
    )
    return content[:at] + struct.pack(kind, value) + content[at + struct.calcsize(kind) :]


def png_fields(content: bytes, rng: random.Random) -> bytes:
    head = bytearray(content[16:29])
    if rng.random() < 0.5:
        head[rng.randrange(8)] = rng.randrange(256)
    else:
        head[8 + rng.randrange(5)] = rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 255])
    return content[:16] + bytes(head) + struct.pack(">I", zlib.crc32(content[12:16] + head)) + content[33:]


def members(content: bytes, rng: random.Random) -> bytes:
    """A zip whose member is damaged under a checksum that is right."""
    source, target = io.BytesIO(content), io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        entries = old.infolist()
        chosen = rng.randrange(len(entries))
        for index, entry in enumerate(entries):
            data = old.read(entry)
            if index == chosen and data:
                data = words(data, rng) if rng.random() < 0.5 else damage(data, rng)[0]
            new.writestr(entry.filename, data)
    return target.getvalue()


def safetensors_fields(content: bytes, rng: random.Random) -> bytes:
    size = int.from_bytes(content[:8], "little")
    head = content[8 : 8 + size]
    found = list(re.finditer(rb"\d+", head))
    match = rng.choice(found)
    head = head[: match.start()] + rng.choice(NUMBERS) + head[match.end() :]
    return len(head).to_bytes(8, "little") + head + content[8 + size :]


def change(kind: str, path: Path, rng: random.Random) -> int | None:
    """Change one file in place. Returns the first byte that changed, None when its checksum was made right again."""
    content = path.read_bytes()
    plain = rng.random() < 0.5
    if plain:
        changed, at = damage(content, rng)
        path.write_bytes(changed)
        return at
    if path.suffix == ".dcm":
        try:
            for _ in range(rng.choice([1, 1, 1, 2, 4])):
                elements(path, rng)
        except Exception:  # pydicom does not write everything; what was asked for is then damaged plainly
            path.write_bytes(damage(content, rng)[0])
        return None
    name = path.name
    if name.endswith((".nii", ".nii.gz")):
        packed = content[:2] == b"\x1f\x8b"
        inside = gzip.decompress(content) if packed else content
        inside = nifti_fields(inside, rng) if rng.random() < 0.8 else damage(inside, rng)[0]
        changed = gzip.compress(inside, 1) if packed else inside
    elif name.endswith((".npz", ".zip", ".pth")):
        changed = members(content, rng)
    elif name.endswith(".png"):
        changed = png_fields(content, rng)
    elif name.endswith((".tif", ".jpg")):
        changed = binary(content, rng, len(content) if name.endswith(".tif") else 600)
    elif name.endswith(".safetensors"):
        changed = safetensors_fields(content, rng)
    else:
        changed = words(content, rng)
    path.write_bytes(changed)
    return None


# -- one case -------------------------------------------------------------------------------------------------


def target_of(path: Path, rng: random.Random) -> Path:
    """The file to change, of a folder one."""
    return path if path.is_file() else rng.choice(sorted(file for file in path.rglob("*") if file.is_file()))


def one(kind: str, seeds: Path, number: int, seed: int, into: Path) -> tuple[str, str]:
    """Make a case in `into` and read it: (verdict, why)."""
    rng = random.Random(f"{kind} {number} {seed}")
    shutil.copytree(seeds / kind, into, dirs_exist_ok=True)
    path = into / (seeds / f"{kind}.path").read_text()
    right = np.load(seeds / f"{kind}.npy")
    file = target_of(path, rng)
    before = file.read_bytes()
    at = change(kind, file, rng)
    covered = KINDS[kind].covered
    matters = covered is not None and at is not None and at >= covered(before)
    Path("/proc/self/clear_refs").write_text("5")
    base = resident("VmRSS")
    started = time.process_time()
    try:
        found = KINDS[kind].read(path)
    except MedSAMError as error:
        verdict, why = "refused", str(error)
        if PATIENT in why or PATIENT_ID in why:
            verdict, why = "FAILED", f"the message names the patient: {why}"
        if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", why):
            verdict, why = "FAILED", f"the message holds control characters: {why!r}"
    except BaseException:
        verdict, why = "FAILED", traceback.format_exc()
    else:
        same = found.shape == right.shape and np.array_equal(found, right, equal_nan=found.dtype.kind == "f")
        verdict, why = ("right", "") if same else ("changed", "")
        if not same and matters:
            verdict, why = "FAILED", f"other voxels, and no word, after a change at byte {at} of {file.name}"
    took, grew = time.process_time() - started, resident("VmHWM") - base
    if took > SECONDS:
        verdict, why = "FAILED", f"{took:.1f} s. {why}"
    if grew > MEGABYTES:
        verdict, why = "FAILED", f"{grew:.0f} MB. {why}"
    return verdict, why


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
    while (case := channel.recv()) is not None:
        kind, number = case
        into = room / f"{kind}-{number}"
        into.mkdir()
        verdict, why = one(kind, seeds, number, seed, into)
        if verdict != "FAILED":
            shutil.rmtree(into)
        channel.send((verdict, why))


# -- all of them ----------------------------------------------------------------------------------------------


class Hand:
    """A worker process, and the case it has."""

    case: tuple[str, int]
    since: float

    def __init__(self, seeds: Path, seed: int, room: Path) -> None:
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


def run(cases: list[tuple[str, int]], seeds: Path, seed: int, jobs: int, out: Path) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    left, hands = iter(cases), []
    done = 0

    def note(case: tuple[str, int], verdict: str, why: str) -> None:
        kind, number = case
        counts[kind][verdict] += 1
        if verdict == "FAILED":
            (out / f"{kind}-{number}").mkdir(exist_ok=True)
            (out / f"{kind}-{number}" / "WHY.txt").write_text(why, errors="backslashreplace")
            print(f"{kind} {number}: {why.strip().splitlines()[-1][:150]}", file=sys.stderr)

    for case in itertools.islice(left, jobs):
        hands.append(Hand(seeds, seed, out))
        hands[-1].give(case)
    while hands:
        wait([hand.channel for hand in hands], timeout=0.5)
        for hand in list(hands):
            case, dead = hand.case, False
            if hand.channel.poll():
                try:
                    note(case, *hand.channel.recv())
                except EOFError:
                    hand.process.join()
                    note(case, "FAILED", f"the process died ({hand.process.exitcode})")
                    dead = True
            elif time.monotonic() - hand.since > PATIENCE:
                note(case, "FAILED", f"more than {PATIENCE:.0f} s")
                dead = True
            else:
                continue
            done += 1
            if done % 500 == 0:
                print(f"{done} of {len(cases)}", file=sys.stderr)
            following = next(left, None)
            if dead or following is None:
                hand.end()
                hands.remove(hand)
            if following is not None:
                if dead:
                    hand = Hand(seeds, seed, out)
                    hands.append(hand)
                hand.give(following)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="how many files (default: 1000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"some of {', '.join(KINDS)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--out", type=Path, help="where failing files stay (default: a new folder in the temporary one)"
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
    with tempfile.TemporaryDirectory() as temporary:
        seeds = Path(temporary)
        for kind in kinds:
            (seeds / kind).mkdir()
            path = KINDS[kind].make(seeds / kind)
            (seeds / f"{kind}.path").write_text(str(path.relative_to(seeds / kind)))
            np.save(seeds / f"{kind}.npy", KINDS[kind].read(path))
        counts = run(cases_of(arguments.count, kinds), seeds, arguments.seed, arguments.jobs, out)
    print(f"{'kind':<14}{'files':>7}{'right':>7}{'other':>7}{'refused':>9}{'failed':>8}")
    total: Counter[str] = Counter()
    for kind in kinds:
        total += counts[kind]
    for kind, row in [*((kind, counts[kind]) for kind in kinds), ("all", total)]:
        print(f"{kind:<14}{row.total():>7}{row['right']:>7}{row['changed']:>7}{row['refused']:>9}{row['FAILED']:>8}")
    print(f"{time.monotonic() - started:.0f} s, seed {arguments.seed}; other: read, with another value than before")
    if total["FAILED"]:
        print(f"Failing files and why: {out}")
    elif arguments.out is None:
        out.rmdir()
    return 1 if total["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
