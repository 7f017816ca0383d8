"""Seconds and memory of loading a CT of 512 x 512 x 300 from DICOM files, ours beside MONAI's LoadImage, in turn.

    .venv/bin/python scripts/speed/loading.py [--variants explicit jpeg-ls ...] [--pairs 7] [--json FILE]

The series is made of the 24 real slices of `lung_ct_dicom_rtstruct` (at $MEDSAM_DATA or ../shared/data), up and down
again until there are 300, each in a file of its own with its own position, number and UIDs. `--headers long` (the
default) adds to the real header of some 2 KB what scanners write beside it: a further 170 private elements, 12 KB, in
blocks as GE and Siemens have them, and sequences of references; `--headers real` adds nothing.

Every measurement is a fresh process: it imports, loads a series of three slices to have met every decoder, notes its
memory, loads the series once and tells the time and the peak above that memory (VmHWM, reset before: what
getrusage calls ru_maxrss begins with the parent's). The files were read before, so the disk plays no part. Sides:

    medsam            medsam.io.load.load_volume: the smallest type that holds every value
    medsam-float32    the same, then .astype(float32), as LoadImage returns
    medsam-monai      medsam's LoadScand, the door for MONAI's transforms
    monai             LoadImage()(folder): what it takes by itself (ITK where installed, else pydicom)
    monai-pydicom     LoadImage(reader="PydicomReader")
    monai-itk         LoadImage(reader="ITKReader"), where itk can be imported (`pip install itk`)

The reference of the ratios is the fastest of MONAI's sides by its median; a ratio is of the two measurements of one
round, the spread the lowest and the highest. All sides' voxels are compared once.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = ("explicit", "explicit-12", "implicit", "jpeg-ls", "jpeg-2000", "rle")
SLICES = 300


# -- the series ---------------------------------------------------------------------------------------------


def source() -> list[Path]:
    data = Path(os.environ.get("MEDSAM_DATA", ROOT.parent / "shared" / "data"))
    files = sorted((data / "lung_ct_dicom_rtstruct" / "ct_series").glob("*.dcm"))
    if not files:
        sys.exit("The slices of lung_ct_dicom_rtstruct are not there. Set MEDSAM_DATA to the folder of the data sets.")
    return files


def lengthen(dataset: Any) -> None:
    """Add what scanners add: private blocks of short numbers and texts, one long element, nested references."""
    from pydicom import Dataset

    for group, count in ((0x0009, 20), (0x0019, 40), (0x0021, 20), (0x0023, 10), (0x0027, 35), (0x0043, 40)):
        block = dataset.private_block(group, f"BENCH_{group:04X}_01", create=True)
        for n in range(count):
            vr, value = (
                ("DS", f"{n * 1.234567:.6f}"),
                ("SL", n * 1000),
                ("LO", f"parameter {n}"),
                ("SS", n),
                ("FL", n / 7),
                ("UI", f"1.2.840.113619.2.55.{n}"),
            )[n % 6]
            block.add_new(n, vr, value)
    block = dataset.private_block(0x0029, "BENCH CSA HEADER", create=True)
    block.add_new(0x10, "OB", bytes(range(256)) * 32)
    references = []
    for n in range(3):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = dataset.SOPClassUID, f"1.2.3.{n}"
        references.append(item)
    dataset.ReferencedImageSequence = references
    dataset.SourceImageSequence = copy.deepcopy(references)


def make(folder: Path, variant: str, headers: str, count: int = SLICES) -> None:
    """Write `count` slices in the encoding `variant` to `folder`."""
    import pydicom
    from pydicom.uid import (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGLSLossless,
        RLELossless,
        generate_uid,
    )

    folder.mkdir(parents=True)
    compress = {"jpeg-ls": JPEGLSLossless, "jpeg-2000": JPEG2000Lossless, "rle": RLELossless}.get(variant)
    originals = [pydicom.dcmread(file) for file in source()]
    originals.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    for dataset in originals[:count]:
        if variant == "explicit-12":
            dataset.BitsStored, dataset.HighBit = 12, 11
            dataset.PixelData = np.minimum(dataset.pixel_array, 4095).tobytes()
        if headers == "long":
            lengthen(dataset)
        if compress is not None:
            dataset.compress(compress, generate_instance_uid=False)
        else:
            syntax = ImplicitVRLittleEndian if variant == "implicit" else ExplicitVRLittleEndian
            dataset.file_meta.TransferSyntaxUID = syntax
            dataset.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    there_and_back = list(range(len(originals))) + list(range(len(originals) - 2, 0, -1))
    x, y, _ = map(float, originals[0].ImagePositionPatient)
    series = generate_uid()
    for k in range(count):
        dataset = originals[there_and_back[k % len(there_and_back)]] if count > 3 else originals[k]
        dataset.SeriesInstanceUID = series
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.ImagePositionPatient = [x, y, -500.0 + 1.5 * k]
        dataset.SliceLocation = -500.0 + 1.5 * k
        dataset.InstanceNumber = k + 1
        dataset.save_as(folder / f"CT.{k + 1:04d}.dcm", enforce_file_format=True)


# -- the sides ----------------------------------------------------------------------------------------------


def loaders() -> dict[str, Callable[[], Callable[[Path], Any]]]:
    """Name -> imports and returns what loads a folder."""

    def ours() -> Callable[[Path], Any]:
        from medsam.io.load import load_volume

        return lambda folder: load_volume(folder).array

    def ours_float() -> Callable[[Path], Any]:
        load = ours()
        return lambda folder: load(folder).astype(np.float32)

    def ours_monai() -> Callable[[Path], Any]:
        from medsam.transforms.reading import LoadScand

        load = LoadScand(keys="image")
        return lambda folder: load({"image": folder})["image"]

    def monai(reader: str | None = None) -> Callable[[], Callable[[Path], Any]]:
        def build() -> Callable[[Path], Any]:
            from monai.transforms import LoadImage

            load = LoadImage(reader=reader)
            return lambda folder: load(str(folder))

        return build

    found: dict[str, Callable[[], Callable[[Path], Any]]] = {
        "medsam": ours,
        "medsam-float32": ours_float,
        "medsam-monai": ours_monai,
        "monai": monai(),
        "monai-pydicom": monai("PydicomReader"),
    }
    if importlib.util.find_spec("itk"):
        found["monai-itk"] = monai("ITKReader")
    return found


def memory(line: str) -> float:
    """MiB of this process: VmRSS, or VmHWM, the most it was since the last reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{line}:")[1].split()[0]) / 1024


def work(side: str, folder: Path, warm_up: Path) -> None:
    """Load once and tell of it in a line of JSON."""
    warnings.simplefilter("ignore")
    load = loaders()[side]()
    load(warm_up)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    start = time.perf_counter()
    loaded = load(folder)
    seconds = time.perf_counter() - start
    peak = memory("VmHWM") - before
    size = loaded.nbytes / 2**20
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "volume_mib": size, "dtype": str(loaded.dtype)}))


def compare(folder: Path) -> dict[str, bool]:
    """Whether each side has the voxels ours has, whichever way its slices run."""
    warnings.simplefilter("ignore")
    sides = loaders()
    ours = sides.pop("medsam")()(folder)
    same = {}
    for name, build in sides.items():
        theirs = np.asarray(build()(folder)).squeeze()
        if not name.startswith("medsam-f"):
            theirs = theirs.transpose(2, 1, 0)
        same[name] = theirs.shape == ours.shape and any(np.array_equal(ours, t) for t in (theirs, theirs[::-1]))
    return same


# -- the measurement ----------------------------------------------------------------------------------------


def measure(side: str, folder: Path, warm_up: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, str(folder), str(warm_up)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(told.splitlines()[-1])


def table(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    def median(side: str) -> float:
        return statistics.median(one["seconds"] for one in found[side])

    reference = min((side for side in found if not side.startswith("medsam")), key=median)
    float_mib = 512 * 512 * SLICES * 4 / 2**20
    rows: dict[str, Any] = {}
    for side, told in found.items():
        times = [one["seconds"] for one in told]
        ratios = [theirs["seconds"] / one["seconds"] for theirs, one in zip(found[reference], told, strict=True)]
        peak = max(one["peak_mib"] for one in told)
        rows[side] = {
            "seconds": statistics.median(times),
            "seconds_low": min(times),
            "seconds_high": max(times),
            "ratio": statistics.median(ratios),
            "ratio_low": min(ratios),
            "ratio_high": max(ratios),
            "peak_mib": peak,
            "dtype": told[0]["dtype"],
            "peak_volumes": peak / told[0]["volume_mib"],
            "peak_float32_volumes": peak / float_mib,
        }
    return {"reference": reference, "sides": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description="Loading a DICOM series, ours beside MONAI's LoadImage.")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--headers", choices=("long", "real"), default="long")
    parser.add_argument("--sides", nargs="+", choices=list(loaders()), default=list(loaders()))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the series are made, and kept (default: gone afterwards)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", nargs=3, metavar=("NAME", "FOLDER", "WARM_UP"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        work(arguments.side[0], Path(arguments.side[1]), Path(arguments.side[2]))
        return

    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        home = arguments.folder or Path(scratch)
        for variant in arguments.variants:
            folder, warm_up = (home / f"{variant}-{arguments.headers}-{n}" for n in (SLICES, 3))
            for place, count in ((folder, SLICES), (warm_up, 3)):
                if not place.exists():
                    print(f"{variant}: making {count} slices", file=sys.stderr)
                    make(place, variant, arguments.headers, count)
            files = list(folder.iterdir())
            size = sum(len(file.read_bytes()) for file in files) / 2**20
            same = compare(folder)
            found: dict[str, list[dict[str, Any]]] = {side: [] for side in arguments.sides}
            for turn in range(arguments.pairs):
                # every other round backwards, so that no side always follows the same one
                for side in arguments.sides[:: 1 if turn % 2 == 0 else -1]:
                    found[side].append(measure(side, folder, warm_up))
                    print(f"{variant} {turn + 1}: {side} {found[side][-1]['seconds']:.2f} s", file=sys.stderr)
            results[variant] = table(found) | {"files_mib": size, "voxels_equal": same}
            show(variant, results[variant], arguments.pairs)
            if arguments.folder is None:
                for file in files:
                    file.unlink()
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


def show(variant: str, result: dict[str, Any], pairs: int) -> None:
    print(
        f"\n{variant}: {SLICES} files, {result['files_mib']:.0f} MiB, {pairs} rounds, "
        f"{len(os.sched_getaffinity(0))} processors; ratio: {result['reference']} / side"
    )
    for side, row in result["sides"].items():
        same = result["voxels_equal"].get(side)
        print(
            f"  {side:15} {row['seconds']:6.2f} s ({row['seconds_low']:.2f} to {row['seconds_high']:.2f})"
            f"   {row['ratio']:5.2f} x ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
            f"   {row['peak_mib']:5.0f} MiB = {row['peak_volumes']:.2f} x {row['dtype']:13}"
            f" = {row['peak_float32_volumes']:.2f} x float32"
            f"{'' if same is None else '   same voxels' if same else '   OTHER VOXELS'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
