"""Seconds, size and memory of labels in DICOM: 40 structures in 300 x 512 x 512, beside highdicom and dcmqi.

    .venv/bin/python scripts/speed/seg.py [--sides write-medsam write-highdicom ...] [--rounds 5] [--json FILE]
    .venv/bin/python scripts/speed/seg.py --structures 4 --slices 60        # a smaller scan

The scan is made: 300 files with a header and random voxels. The structures are ellipsoids from the size of a liver to
that of an adrenal gland, none over another, so that a label map holds them as well as a bit a voxel.

Every measurement is a fresh process: it imports, reads the input (masks from a .npy), notes its memory, works once and
tells the seconds and the peak above that memory (VmHWM, reset before). dcmqi's programs start, read and write by
themselves; theirs is the time of the whole process. The files were read before, so the disk plays no part. Sides:

    write-medsam             save_labels of a label map to a SEG (BINARY), beside its series
    write-medsam-labelmap    the same, LABELMAP with run lengths
    write-medsam-rtstruct    the same, RTSTRUCT
    write-highdicom          highdicom.seg.Segmentation of the label map (BINARY) and save_as
    write-highdicom-labelmap the same, LABELMAP with run lengths
    write-dcmqi              itkimage2segimage of a NRRD label map, empty frames left out (BINARY)
    write-dcmqi-labelmap     the same, LABELMAP
    read-medsam, -labelmap, -rtstruct   load_labels of each on the grid of the series, header by header
    read-highdicom, -labelmap           segread and get_volume, a mask a structure (BINARY) or one label map
    read-dcmqi, -labelmap               segimage2itkimage to one NRRD (--mergeSegments)

What is read is compared once: every voxel of every structure, against the label map that all began with.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from medsam.geometry import VolumeGeometry

ROWS = 512
SPACING_MM, ORIGIN = (1.5, 0.8, 0.8), (-200.0, -200.0, 0.0)
SCRIPT = Path(__file__)
BIN = Path(sys.executable).parent
DicomFormat = Literal["seg", "seg-labelmap", "rtstruct"]


# -- the scan and its structures ----------------------------------------------------------------------------


def structures(slices: int, count: int) -> np.ndarray:
    """A label map, uint8 (K, J, I): ellipsoids 1 ... count, large ones first, the later ones cut out of them."""
    rng = np.random.default_rng(4)
    shape = (slices, ROWS, ROWS)
    labels = np.zeros(shape, np.uint8)
    for number, radius_mm in enumerate(np.geomspace(73, 8, count), start=1):
        radii = radius_mm * rng.uniform(0.8, 1.25, 3) / SPACING_MM
        low, high = radii + 4, np.array(shape) - radii - 4
        centre = rng.uniform(np.minimum(low, high), np.maximum(low, high))
        box = tuple(
            slice(max(int(c - r - 1), 0), min(int(c + r + 2), n)) for c, r, n in zip(centre, radii, shape, strict=True)
        )
        grid = np.ogrid[box]
        inside = sum(((x - c) / r) ** 2 for x, c, r in zip(grid, centre, radii, strict=True)) <= 1
        labels[box][inside] = number
    return labels


def names_of(labels: np.ndarray) -> dict[int, str]:
    """Number -> name, of structures with codes."""
    from medsam.labels import structures as known

    every = [found.name for found in known() if found.rt_type == "ORGAN"]
    return {int(number): every[at] for at, number in enumerate(np.unique(labels)[1:])}


def geometry_of(shape: tuple[int, int, int]) -> VolumeGeometry:
    """The grid of the scan and its structures."""
    from medsam.geometry import VolumeGeometry

    return VolumeGeometry.from_itk(shape, ORIGIN, SPACING_MM[::-1], tuple(np.eye(3).ravel()))


def make_series(folder: Path, slices: int) -> None:
    """A CT in one file a slice."""
    from served import write_dicom

    from medsam.volume import Volume

    shape = (slices, ROWS, ROWS)
    array = np.random.default_rng(0).integers(0, 2000, shape, dtype=np.int16)
    write_dicom(folder, Volume(array, geometry_of(shape), "CT"))


def make_inputs(folder: Path, slices: int, count: int) -> None:
    """The series, the label map as .npy and NRRD, and what dcmqi is told of it."""
    import SimpleITK as sitk

    labels = structures(slices, count)
    np.save(folder / "labels.npy", labels)
    make_series(folder / "ct", slices)
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(SPACING_MM[::-1])
    image.SetOrigin(ORIGIN)
    sitk.WriteImage(image, str(folder / "labels.nrrd"), useCompression=False)
    segments = [_dcmqi_segment(number, name) for number, name in names_of(labels).items()]
    told = {"ContentCreatorName": "", "SeriesDescription": "made", "SeriesNumber": "9", "InstanceNumber": "1"}
    (folder / "dcmqi.json").write_text(json.dumps(told | {"segmentAttributes": [segments]}))


def _dcmqi_segment(number: int, name: str) -> dict[str, Any]:
    from medsam.labels import structure

    found = structure(name)
    if found is None:
        raise SystemExit(f"{name} has no codes")
    told: dict[str, Any] = {
        "labelID": number,
        "SegmentLabel": name,
        "SegmentDescription": name,
        "SegmentAlgorithmType": "MANUAL",
        "recommendedDisplayRGBValue": list(found.rgb or (200, 0, 0)),
    }
    for key, code in (
        ("SegmentedPropertyCategoryCodeSequence", found.category),
        ("SegmentedPropertyTypeCodeSequence", found.type),
        ("SegmentedPropertyTypeModifierCodeSequence", found.modifier),
    ):
        if code:
            told[key] = {
                "CodeValue": code.value,
                "CodingSchemeDesignator": code.scheme,
                "CodeMeaning": code.meaning,
            }
    return told


# -- sides: input folder, file -> what is timed -------------------------------------------------------------


def write_medsam(kind: DicomFormat) -> Callable[[Path, Path], Callable[[], Any]]:
    def build(inputs: Path, out: Path) -> Callable[[], Any]:
        import_all()
        from medsam.io.load import load_volume
        from medsam.io.save import save_labels
        from medsam.volume import LabelVolume

        array = np.load(inputs / "labels.npy")
        labels = LabelVolume(array, load_volume(inputs / "ct").geometry, names_of(array))
        return lambda: save_labels(labels, out, inputs / "ct", format=kind)

    return build


def import_all() -> None:
    """What either side would import on its first use."""
    for name in ("highdicom", "medsam.io.dicom.seg_write", "medsam.io.dicom.rtstruct_write", "medsam.io.dicom.seg"):
        importlib.import_module(name)


def write_highdicom(kind: str) -> Callable[[Path, Path], Callable[[], Any]]:
    def build(inputs: Path, out: Path) -> Callable[[], Any]:
        import highdicom as hd
        import pydicom
        from pydicom.sr.codedict import codes
        from pydicom.uid import ExplicitVRLittleEndian, RLELossless

        from medsam.labels import structure

        array = np.load(inputs / "labels.npy")
        names = names_of(array)

        def described(number: int, name: str) -> Any:
            found = structure(name)
            if found is None:
                raise SystemExit(f"{name} has no codes")
            return hd.seg.SegmentDescription(
                number,
                name,
                hd.sr.CodedConcept(found.category.value, found.category.scheme, found.category.meaning),
                hd.sr.CodedConcept(found.type.value, found.type.scheme, found.type.meaning),
                "SEMIAUTOMATIC",
                hd.AlgorithmIdentificationSequence("made", codes.DCM.ArtificialIntelligence, "1"),
            )

        def run() -> None:
            sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in sorted((inputs / "ct").iterdir())]
            seg = hd.seg.Segmentation(
                sources,
                array,
                "LABELMAP" if kind == "labelmap" else "BINARY",
                [described(number, name) for number, name in names.items()],
                series_instance_uid=hd.UID(),
                series_number=9,
                sop_instance_uid=hd.UID(),
                instance_number=1,
                manufacturer="made",
                manufacturer_model_name="made",
                software_versions="1",
                device_serial_number="1",
                transfer_syntax_uid=RLELossless if kind == "labelmap" else ExplicitVRLittleEndian,
            )
            seg.save_as(out)

        return run

    return build


def read_medsam() -> Callable[[Path, Path], Callable[[], Any]]:
    def build(inputs: Path, out: Path) -> Callable[[], Any]:
        import_all()
        from medsam.io.labels import load_labels

        array = np.load(inputs / "labels.npy", mmap_mode="r")
        geometry, names = geometry_of(array.shape), names_of(array)

        return lambda: {"masks": load_labels(out, geometry), "names": names}

    return build


def read_highdicom(kind: str) -> Callable[[Path, Path], Callable[[], Any]]:
    def build(inputs: Path, out: Path) -> Callable[[], Any]:
        import highdicom as hd

        return lambda: {"volume": hd.seg.segread(out).get_volume(combine_segments=kind == "labelmap")}

    return build


def dcmqi(command: str, *arguments: str) -> Callable[[Path, Path], list[str]]:
    def build(inputs: Path, out: Path) -> list[str]:
        return [str(BIN / command), *(part.format(inputs=inputs, out=out) for part in arguments)]

    return build


_FROM = ("--inputImageList", "{inputs}/labels.nrrd", "--inputDICOMDirectory", "{inputs}/ct")
_WRITE = (*_FROM, "--inputMetadata", "{inputs}/dcmqi.json", "--outputDICOM", "{out}", "--skip", "1")
_READ = ("--inputDICOM", "{out}", "--outputDirectory", "{inputs}/read", "-t", "nrrd", "--mergeSegments")
SIDES: dict[str, Callable[[Path, Path], Any]] = {
    "write-medsam": write_medsam("seg"),
    "write-highdicom": write_highdicom("seg"),
    "write-dcmqi": dcmqi("itkimage2segimage", *_WRITE),
    "write-medsam-labelmap": write_medsam("seg-labelmap"),
    "write-highdicom-labelmap": write_highdicom("labelmap"),
    "write-dcmqi-labelmap": dcmqi("itkimage2segimage", *_WRITE, "--segmentationType", "labelmap"),
    "write-medsam-rtstruct": write_medsam("rtstruct"),
    "read-medsam": read_medsam(),
    "read-highdicom": read_highdicom("seg"),
    "read-dcmqi": dcmqi("segimage2itkimage", *_READ),
    "read-medsam-labelmap": read_medsam(),
    "read-highdicom-labelmap": read_highdicom("labelmap"),
    "read-dcmqi-labelmap": dcmqi("segimage2itkimage", *_READ),
    "read-medsam-rtstruct": read_medsam(),
}


def file_of(side: str, inputs: Path) -> Path:
    """What a side writes; what it reads is ours, else highdicom's, of that kind."""
    what, who, *kind = side.split("-")
    name = "-".join([who, *kind])
    if what == "write":
        return inputs / f"{name}.dcm"
    ending = "".join(f"-{part}" for part in kind) + ".dcm"
    return next((file for who in ("medsam", "highdicom") if (file := inputs / f"{who}{ending}").exists()), inputs)


# -- one measurement ----------------------------------------------------------------------------------------


def memory_mib(line: str) -> float:
    return int(Path("/proc/self/status").read_text().split(f"{line}:")[1].split()[0]) / 1024


def one(side: str, inputs: Path, compare: bool) -> dict[str, Any]:
    """Time one side in this process."""
    out = file_of(side, inputs)
    shutil.rmtree(inputs / "read", ignore_errors=True)
    (inputs / "read").mkdir()
    warnings.simplefilter("ignore")
    built = SIDES[side](inputs, out)
    if isinstance(built, list):
        return program(built, side, inputs)
    Path("/proc/self/clear_refs").write_text("5")
    base = memory_mib("VmRSS")
    start, start_cpu = time.perf_counter(), time.process_time()
    found = built()
    told: dict[str, Any] = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - start_cpu}
    told["added_mib"] = memory_mib("VmHWM") - base
    if side.startswith("read") and compare:
        told["same"] = same(found, np.load(inputs / "labels.npy"))
    return told


def program(command: list[str], side: str, inputs: Path) -> dict[str, Any]:
    """Time a program of dcmqi."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = process.communicate()[0]
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(output[-1500:])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "added_mib": used.ru_maxrss / 1024}


def same(found: Any, labels: np.ndarray) -> bool:
    """Whether every structure was read as it was written."""
    if "masks" in found:
        return all(np.array_equal(found["masks"][name], labels == number) for number, name in found["names"].items())
    array = found["volume"].array
    if array.ndim == 4:
        array = (array * np.arange(1, array.shape[3] + 1, dtype=np.uint8)).max(axis=3)
    touched = np.flatnonzero(labels.any(axis=(1, 2)))
    part = labels[touched[0] : touched[-1] + 1]
    return bool(np.array_equal(array, part) or np.array_equal(array[::-1], part) or np.array_equal(array, labels))


# -- all of them --------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES), metavar="SIDE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--structures", type=int, default=40)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--inputs", type=Path, help="keep scan and files in this folder, or take them from it")
    parser.add_argument("--one", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--compare", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one, arguments.inputs, arguments.compare)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        inputs = arguments.inputs or Path(temporary)
        inputs.mkdir(exist_ok=True)
        if not (inputs / "dcmqi.json").exists():
            make_inputs(inputs, arguments.slices, arguments.structures)
        rows: dict[str, list[dict[str, Any]]] = {side: [] for side in arguments.sides}
        for number in range(arguments.rounds):
            for side in arguments.sides:
                rows[side].append(measured(side, inputs, number == 0))
                print(f"{number + 1} {side:<26} {rows[side][-1]['seconds']:7.2f} s", file=sys.stderr, flush=True)
        return report(rows, inputs, arguments.json)


def measured(side: str, inputs: Path, compare: bool) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), "--one", side, "--inputs", str(inputs), *(["--compare"] if compare else [])]
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{side}:\n{done.stdout[-500:]}{done.stderr[-1500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(rows: dict[str, list[dict[str, Any]]], inputs: Path, file: Path | None) -> int:
    """The table; 1 when a side read something else than was written."""
    told, wrong = {}, False
    print(f"{'side':<26}{'seconds':>9}{'lowest':>8}{'highest':>9}{'CPU s':>8}{'added MiB':>11}{'file MB':>9}")
    for side, found in rows.items():
        seconds = sorted(row["seconds"] for row in found)
        added = max(row["added_mib"] for row in found)
        size = file_of(side, inputs).stat().st_size / 1e6
        ok = all(row.get("same", True) for row in found)
        wrong |= not ok
        middle, cpu = statistics.median(seconds), statistics.median(row["cpu"] for row in found)
        told[side] = {
            "seconds": middle,
            "cpu": cpu,
            "lowest": seconds[0],
            "highest": seconds[-1],
            "added_mib": added,
            "mb": size,
        }
        print(
            f"{side:<26}{middle:9.2f}{seconds[0]:8.2f}{seconds[-1]:9.2f}{cpu:8.2f}{added:11.0f}{size:9.1f}"
            + ("" if ok else "  OTHER VOXELS")
        )
    if file:
        file.write_text(json.dumps(told, indent=2) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
