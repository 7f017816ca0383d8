"""Sound files of every kind that is read, and how each is read; see `fuzz`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch
from fuzz_dicom import (
    GRID,
    SEGMENT_KINDS,
    VOXELS,
    codestreams,
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
from fuzz_grids import Referee, frames_grid, meta_grid, nifti_grid, npz_grid, nrrd_grid, series_grid
from fuzz_server import bodies, sent
from PIL import Image

from medsam.errors import MedSAMError
from medsam.volume import Volume

# -- sound files ----------------------------------------------------------------------------------------------


def image(directory: Path, name: str, compressed: bool = False) -> Path:
    picture = sitk.GetImageFromArray(VOXELS)
    picture.SetSpacing((0.8, 0.9, 2.5))
    sitk.WriteImage(picture, str(directory / name), useCompression=compressed)
    return directory / name


def nifti(directory: Path, name: str) -> Path:
    made = nib.Nifti1Image(VOXELS.T, np.diag([0.8, 0.9, 2.5, 1]))
    made.set_qform(made.affine, code="scanner")
    nib.save(made, directory / name)
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


def layers(directory: Path) -> Path:
    """A segmentation of 3D Slicer."""
    import nrrd

    names = {
        f"Segment{n}_{key}": value
        for n, name in enumerate(("liver", "spleen"))
        for key, value in (
            ("ID", f"Segment_{n}"),
            ("Name", name),
            ("LabelValue", str(n + 1)),
            ("Layer", "0"),
            ("Color", "1 0 0"),
        )
    }
    head = {
        "space": "left-posterior-superior",
        "space directions": np.diag([0.8, 0.9, 2.5]),
        "space origin": [-10.0, 20.0, 30.0],
        "kinds": ["domain"] * 3,
        "encoding": "gzip",
        **names,
    }
    nrrd.write(str(directory / "a.seg.nrrd"), (VOXELS // 301).astype(np.uint8).T, head)
    return directory / "a.seg.nrrd"


def named(directory: Path) -> Path:
    """A label map, and the names of its numbers beside it."""
    from medsam.io.save import save_labels

    save_labels({"liver": VOXELS > 500, "spleen": VOXELS < 200}, directory / "a.nii.gz", None, geometry=GRID)
    return directory / "a.nii.gz"


def foreign(directory: Path) -> Path:
    """A list of the Medical Segmentation Decathlon."""
    manifest(directory)
    listed = [{"image": "./scan.nii.gz", "label": "./mask.nii.gz"}]
    document = {"name": "x", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "numTraining": 1}
    return text(directory, "dataset.json", document | {"numTest": 1, "training": listed, "test": ["./scan.nii.gz"]})


def _predictor() -> Any:
    from medsam.inference.predictor import Predictor
    from medsam.models.build import build_model
    from medsam.models.specs import tiny_spec

    torch.manual_seed(0)
    return Predictor(build_model(tiny_spec("vit")), "cpu", engine="torch")


def session(directory: Path) -> Path:
    """What a session keeps of itself."""
    from medsam.prompts.prompt import Prompt

    one = _predictor().session(Volume(VOXELS, GRID, "CT"), axis="k")
    one.box(2, (2, 2, 8, 9), label="liver")
    one.click(2, 4, 4, label="liver")
    one.prompt(Prompt(box=(1, 1, 5, 5), slice=1, label="spleen"))
    return text(directory, "session.json", one.state.to_dict())


def trust(directory: Path) -> Path:
    from medsam.inference.trust import shipped

    return text(directory, "trust.json", next(iter(shipped().values())).to_dict())


SETTINGS = """[servers.archive]
dicomweb = "https://pacs.example/dicom-web"
user = "reader"
timeout_s = 20

[servers.old]
host = "10.0.0.7"
port = 11112
called_aet = "ARCHIVE"

[listen]
folder = "spool"
calling_aets = ["CT1", "ORTHANC"]
quota_gib = 20
keep_days = 3.5

[[listen.rules]]
name = "lung"
modality = "CT"
description = ["*thorax*", "*chest*"]
at_least = 20
command = ["/opt/lung/run", "--in", "{folder}", "--out", "{out}"]
timeout_s = 1800
send_to = "archive"
"""


def settings(directory: Path) -> Path:
    (directory / "settings.toml").write_text(SETTINGS)
    return directory / "settings.toml"


def tree(directory: Path) -> Path:
    series(directory)
    for name in ("one", "two"):
        nifti(directory, f"{name}.nii.gz")
        nib.save(nib.Nifti1Image((VOXELS.T > 500).astype(np.uint8), np.eye(4)), directory / f"{name}_mask.nii.gz")
    picture(directory, "pic.png")
    return directory


# -- readers --------------------------------------------------------------------------------------------------


def scan(path: Path) -> Volume:
    from medsam.io.load import load_volume

    return load_volume(path)


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


def resumed(path: Path) -> np.ndarray:
    from medsam.inference.session_state import SessionState
    from medsam.io.files import read_json

    state = SessionState.from_dict(read_json(path))
    return np.concatenate([one.mask.to_array().ravel() for one in state.results])


def trusted(path: Path) -> np.ndarray:
    from medsam.inference.trust import read_trust, shipped

    found = read_trust(path, next(iter(shipped())))
    return np.concatenate([found.centre, found.scale, found.below, found.above, [found.bias]])


def settled(path: Path) -> np.ndarray:
    from medsam.pacs.listen.config import read_listen
    from medsam.pacs.settings import read_settings

    said = read_settings(path)
    listen = read_listen(said)
    return np.array([len(said.servers), len(listen.rules), listen.port, listen.quota])


@dataclass(frozen=True)
class Kind:
    """make: a sound file or folder. read: what is compared. covered: from which byte on a checksum covers a change;
    None where none does. share: how often, beside the others. grid: what another reader says of where voxels lie.
    placed: whether a label that was moved by more than a voxel has to come back moved."""

    make: Callable[[Path], Path]
    read: Callable[[Path], np.ndarray | Volume]
    covered: Callable[[bytes], int] | None = None
    share: float = 1.0
    grid: Referee | None = None
    placed: bool = False


def behind(mark: bytes) -> Callable[[bytes], int]:
    return lambda content: content.index(mark) + len(mark)


def whole(content: bytes) -> int:
    return 0


KINDS: dict[str, Kind] = {
    "nifti": Kind(lambda d: nifti(d, "a.nii"), scan, grid=nifti_grid),
    "nifti.gz": Kind(lambda d: nifti(d, "a.nii.gz"), scan, whole, grid=nifti_grid),
    "nifti.pair": Kind(lambda d: nifti(d, "a.img"), scan, share=0.5),
    "nrrd": Kind(lambda d: image(d, "a.nrrd"), scan, grid=nrrd_grid),
    "nrrd.gz": Kind(lambda d: image(d, "a.nrrd", True), scan, behind(b"\n\n"), grid=nrrd_grid),
    "nhdr": Kind(lambda d: image(d, "a.nhdr"), scan, share=0.5),
    "mha": Kind(lambda d: image(d, "a.mha"), scan, grid=meta_grid),
    "mha.z": Kind(lambda d: image(d, "a.mha", True), scan, behind(b"LOCAL\n"), grid=meta_grid),
    "mhd": Kind(lambda d: image(d, "a.mhd"), scan, share=0.5),
    "png": Kind(lambda d: picture(d, "a.png"), scan, whole),
    "jpeg": Kind(lambda d: picture(d, "a.jpg"), scan),
    "tiff": Kind(lambda d: picture(d, "a.tif", 3), scan),
    "tiff.z": Kind(lambda d: picture(d, "a.tif", compression="tiff_adobe_deflate"), scan),
    "npz": Kind(npz, scan, whole, grid=npz_grid),
    "zip": Kind(zipped, scan, whole),
    "dicom": Kind(lambda d: saved(slice_of(0), d / "a.dcm"), scan),
    "dicom.series": Kind(series, scan, grid=series_grid),
    "dicom.frames": Kind(enhanced, scan, grid=frames_grid),
    "dicom.rle": Kind(run_lengths, scan),
    "dicom.jls": Kind(partial(codestreams, syntax="jpeg-ls"), scan),
    "dicom.j2k": Kind(partial(codestreams, syntax="jpeg2000"), scan),
    **{f"seg.{kind.lower()}": Kind(partial(segmentation, kind=kind), labels, placed=True) for kind in SEGMENT_KINDS},
    "rtstruct": Kind(regions, labels, placed=True),
    "seg.nrrd": Kind(layers, labels, share=0.5),
    "label map": Kind(named, labels, share=0.5),
    "gsps": Kind(graphics, measured),
    "sr": Kind(report, measured),
    "written": Kind(series, written),
    "hospital": Kind(hospital, found, None, 0.5),
    "manifest": Kind(manifest, checked),
    "foreign": Kind(foreign, checked, share=0.5),
    "prompts": Kind(prompts, planned),
    "session": Kind(session, resumed),
    "trust": Kind(trust, trusted, share=0.5),
    "settings": Kind(settings, settled),
    "sa1b": Kind(masks, masks_of),
    "pth": Kind(lambda d: weights(d, "w.pth"), model, whole, 0.5),
    "safetensors": Kind(lambda d: weights(d, "w.safetensors"), model, None, 0.5),
    "embedding": Kind(embedding, kept, whole, 0.5),
    "folder": Kind(tree, indexed, None, 0.5),
    "http": Kind(bodies, sent),
}
