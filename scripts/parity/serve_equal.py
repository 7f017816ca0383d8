"""Is each mask of the server the one that `medsam segment` gives for the same file and prompts, voxel by voxel?

    .venv/bin/python scripts/parity/serve_equal.py [--data FOLDER] [--only NAME ...] [--json FILE]

FOLDER has the real scans (tests/conftest.py says where). A CT in DICOM, a sagittal MR, an ultrasound picture, and of a
CT and the MR copies that are stored flipped, with axes swapped, and oblique. On each, through the client, every kind of
prompt is made as an object of its own, each refined, and masks are drawn; then the labels are exported (NIfTI; of DICOM
also SEG; of the picture PNG) and compared with what `medsam segment SCAN --prompts FILE --out ...` writes in a process
of its own, of prompts as the session gives them. Then one object is propagated, and compared with `medsam segment
--propagate`.
Exit status 1 where a voxel differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "speed"))

from served import Server, about_machine, report

import medsam
from medsam.client.client import Client
from medsam.client.session import RemoteSession
from medsam.io.save import sidecar

DATA = Path(os.environ.get("MEDSAM_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
CT, MR = "totalseg_abdomen_ct/images/ct_slab.nii.gz", "spinal_cord_mr/t2_image.nii.gz"


def scans(data: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and files. Copies are written to `folder`."""
    yield "CT, DICOM", data / "lung_ct_dicom_rtstruct" / "ct_series"
    ct, mr = data / CT, data / MR
    yield "CT", ct
    yield "MR, sagittal", mr
    yield "ultrasound", min((data / "breast_ultrasound_busbra" / "images").iterdir())
    for name, path in (("CT", ct), ("MR", mr)):
        for how in ("flipped", "swapped", "oblique"):
            yield f"{name}, {how}", changed(path, how, folder / f"{name}-{how}.nii.gz")


def changed(path: Path, how: str, target: Path) -> Path:
    """A copy whose voxels are stored otherwise, or which lies obliquely."""
    import nibabel
    from nibabel.orientations import apply_orientation, inv_ornt_aff

    image = nibabel.load(path)
    array, affine = np.asarray(image.dataobj), image.affine
    if how == "oblique":
        turned = np.eye(4)
        a, b = np.deg2rad(17), np.deg2rad(-11)
        about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
        about_z = [[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]]
        turned[:3, :3] = np.array(about_x) @ np.array(about_z)
        affine = turned @ affine
    else:
        orientation = np.array([[0, -1], [1, 1], [2, -1]] if how == "flipped" else [[2, 1], [0, -1], [1, 1]])
        affine = affine @ inv_ornt_aff(orientation, array.shape)
        array = apply_orientation(array, orientation)
    nibabel.save(nibabel.Nifti1Image(array, affine), target)
    return target


def steps(session: RemoteSession) -> int:
    """Every kind of prompt on the slice in the middle, each about an object of its own. Returns that slice."""
    index = session.slices // 2
    plane = session.geometry.plane(session.axis)
    rows, columns = plane.shape

    def at(x: float, y: float) -> tuple[float, float]:
        """A position in shares of the slice."""
        return round(x * columns), round(y * rows)

    def box(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        return (*at(x0, y0), *at(x1, y1))

    rough = np.zeros(plane.shape, dtype=bool)
    (x0, y0), (x1, y1) = at(0.55, 0.55), at(0.8, 0.75)
    rough[int(y0) : int(y1), int(x0) : int(x1)] = True
    session.box(index, box(0.15, 0.2, 0.4, 0.45), "box")
    session.click(index, *at(0.3, 0.6), label="click")
    session.box(index, box(0.45, 0.15, 0.75, 0.5), "box and clicks")
    session.click(index, *at(0.6, 0.3), label="box and clicks")
    session.click(index, *at(0.5, 0.2), inside=False, label="box and clicks")
    session.lasso(index, [at(0.2, 0.5), at(0.45, 0.5), at(0.4, 0.8), at(0.22, 0.7)], "lasso")
    session.line(index, (at(0.5, 0.5), at(0.7, 0.7)), (at(0.55, 0.65), at(0.65, 0.55)), "line")
    session.ellipse(index, box(0.6, 0.2, 0.85, 0.5), "ellipse")
    session.mask(index, rough, "mask")
    session.scribble(index, [at(0.4, 0.75), at(0.5, 0.8), at(0.6, 0.75)], width_px=3, label="stroke")
    session.box(index, box(0.1, 0.4, 0.5, 0.9), "box and stroke")
    session.scribble(index, [at(0.15, 0.45), at(0.2, 0.5)], inside=False, width_px=3, label="box and stroke")
    drawn = np.roll(rough, -int(rows * 0.3), axis=0)
    session.draw(index, drawn, "drawn")
    session.draw(index, np.roll(drawn, int(columns * 0.1), axis=1), "drawn and clicked")
    session.click(index, *at(0.8, 0.4), inside=False, label="drawn and clicked")
    session.scribble(index, [at(0.4, 0.3), at(0.45, 0.35)], width_px=3, label="drawn and clicked")
    if index > 2:
        session.draw(index - 3, drawn, "drawn")
        session.interpolate("drawn")
    for name in session.names.values():
        session.wait_refined(index, name, timeout_s=120)
    return index


def segment(scan: Path, folder: Path, axis: str, out: str, prompts: list[medsam.Prompt], *more: str) -> Path:
    """What the program writes."""
    medsam.write_prompts(folder / "prompts.json", prompts, axis, force=True)  # type: ignore[arg-type]
    command = [sys.executable, "-m", "medsam.cli.main", "segment", str(scan), "--prompts", str(folder / "prompts.json")]
    done = subprocess.run([*command, "--out", str(folder / out), "--json", *more], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"medsam segment: {done.stderr[-2000:]}")
    return folder / out


def compared(ours: Path, theirs: Path, scan: medsam.Volume) -> dict[str, int]:
    """Name -> how many voxels of a structure differ; "grid" where the files lie elsewhere."""
    found = [medsam.load_labels(path, scan.geometry) for path in (ours, theirs)]
    differ = {}
    for name in sorted(found[0].keys() | found[1].keys()):
        masks = [one[name] if name in one else np.zeros(scan.shape, bool) for one in found]
        differ[name] = int((masks[0] != masks[1]).sum())
    return differ


def one_scan(client: Client, name: str, path: Path, folder: Path) -> Iterator[tuple[str, dict[str, int], int]]:
    """(what was compared, voxels that differ by structure, voxels inside) of a scan."""
    scan = medsam.load_volume(path)
    is_dicom, is_picture = path.is_dir(), not scan.geometry.calibrated
    case = client.upload(zipped(path, folder) if is_dicom else path)
    formats: list[tuple[str, str, tuple[str, ...]]] = [("png", "png", ()) if is_picture else ("nifti", "nii.gz", ())]
    formats += [("seg", "dcm", ("--format", "seg"))] if is_dicom else []
    with client.open(case) as session:
        index = steps(session)
        prompts, inside = session.prompts, int((session.labels.array > 0).sum())
        for kind, suffix, more in formats:
            ours = folder / f"ours.{suffix}"
            session.export(kind, ours)  # type: ignore[arg-type]
            named(ours, session)
            theirs = segment(path, folder, session.axis, f"theirs.{suffix}", prompts, *more)
            yield f"all prompts, {kind}", compared(ours, theirs, scan), inside
        session.reset()
        if session.slices == 1:
            return
        (box,) = (prompt.box for prompt in prompts if prompt.label == "box" and prompt.box is not None)
        session.box(index, box, "box")
        session.wait_refined(index, "box", 120)
        reach = 4 * max(session.geometry.spacing_mm)
        for _ in session.propagate("box", max_mm=reach):
            pass
        ours = folder / "propagated.nii.gz"
        session.export("nifti", ours)
        named(ours, session)
        how = ("--propagate", "--max-mm", str(reach))
        theirs = segment(path, folder, session.axis, "theirs.nii.gz", session.prompts, *how)
        yield "propagated, nifti", compared(ours, theirs, scan), int((session.labels.array > 0).sum())


def named(path: Path, session: RemoteSession) -> None:
    """Give a label map the names beside it that `medsam segment` writes; a .dcm has its own."""
    if (beside := sidecar(path)) is not None:
        names = {str(number): name for number, name in session.labels.names.items()}
        beside.write_text(json.dumps({"labels": names}))


def zipped(folder: Path, target: Path) -> Path:
    import shutil

    return Path(shutil.make_archive(str(target / "series"), "zip", folder))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names of scans")
    parser.add_argument("--model", default="litemedsam")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows, result, wrong = [["scan", "compared", "voxels inside", "that differ"]], [], 0
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        server = Server(folder, [], arguments.model)
        with server.client() as client:
            for name, path in scans(arguments.data, folder):
                if arguments.only and not any(part in name for part in arguments.only):
                    continue
                for what, differ, inside in one_scan(client, name, path, folder):
                    total = sum(differ.values())
                    wrong += total
                    result.append({"scan": name, "compared": what, "inside": inside, "differ": differ})
                    rows.append([name, what, str(inside), str(total)])
                    print(f"{name}: {what}: {inside} voxels, differ {differ}", file=sys.stderr, flush=True)
        server.stop()
    about: dict[str, Any] = {"machine": about_machine(), "compared": result}
    report(about, rows, arguments.json)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
