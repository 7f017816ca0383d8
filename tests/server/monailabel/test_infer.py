"""Masks that MONAI Label's own client gets are those of `Predictor.segment`, on the client's grid, to the voxel."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from named_heads import learnt, name_network, named_head
from phantoms import random_affine

from medsam.errors import PromptError
from medsam.geometry import VolumeGeometry
from medsam.inference.predictor import Predictor
from medsam.io.load import load_volume
from medsam.io.save import save_labels
from medsam.prompts.prompt import Prompt
from medsam.prompts.strokes import Scribble
from medsam.prompts.traced import traced
from medsam.server.monailabel import asked, infer
from medsam.server.monailabel.infer import read_drawn
from medsam.server.monailabel.models import info
from medsam.server.settings import MonaiLabel
from medsam.volume import LabelVolume

SHAPE = (5, 36, 40)
# as a scanner, another orientation, or 3D Slicer would store it
GRIDS = {
    "axial, thick slices": ((0.7, 0.7, 5.0), None, False),
    "sagittal, the slices first": ((4.0, 0.8, 0.9), 1, False),
    "flipped and swapped": ((0.9, 1.4, 3.0), 4, False),
    "oblique": ((0.8, 1.1, 2.5), 7, True),
}


def scan(path: Path, grid: str) -> Path:
    """A bright ball on noise, on one of `GRIDS`."""
    spacing, seed, oblique = GRIDS[grid]
    affine = np.diag([*spacing, 1.0])
    if seed is not None:
        affine = random_affine(np.random.default_rng(seed), spacing, oblique)
    shape = SHAPE[::-1] if grid.startswith("sagittal") else SHAPE
    k, j, i = np.indices(shape)
    middle = [size / 2 for size in shape]
    near = sum(((at - centre) / size) ** 2 for at, centre, size in zip((k, j, i), middle, shape, strict=True))
    array = np.where(near < 0.08, 300, 0) + np.random.default_rng(0).normal(0, 20, shape)
    labels = VolumeGeometry(shape, affine)
    # ITK and nibabel write what is no label, too
    image = sitk.GetImageFromArray(array.astype(np.int16))
    pitch = np.linalg.norm(labels.affine[:3, :3], axis=0)
    image.SetSpacing(pitch.tolist())
    image.SetDirection((labels.affine[:3, :3] / pitch).ravel().tolist())
    image.SetOrigin(labels.affine[:3, 3].tolist())
    sitk.WriteImage(image, str(path))
    return path


def same(got: str, source: Path, expected: np.ndarray) -> None:
    """A file of the client holds this mask, on the grid of its image as ITK reads both."""
    mask, image = sitk.ReadImage(got), sitk.ReadImage(str(source))
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert mask.GetSize() == image.GetSize()
    for field in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(mask, field)(), getattr(image, field)(), atol=1e-5)
    found = sitk.GetArrayFromImage(mask)
    assert set(np.unique(found)) <= {0, 1}
    np.testing.assert_array_equal(found != 0, expected)
    assert expected.any()


@pytest.fixture(params=GRIDS)
def image(request, tmp_path) -> Path:
    suffix = ".nrrd" if "flipped" in request.param else ".nii.gz"
    return scan(tmp_path / f"a scan (1){suffix}", request.param)


def test_clicks_and_boxes_of_a_session_are_answered_as_by_segment(client, image, tiny_predictor):
    session = client.create_session(str(image))["session_id"]
    volume = load_volume(image)
    k, j, i = (size // 2 for size in volume.array.shape)
    click = {"label": "node", "foreground": [[i, j, k]], "background": [[1, 1, k]]}
    points = ((i, j, 1), (1, 1, 0))
    cases = [
        # 3D Slicer sends every choice of a drop-down, and asks for NRRD
        (
            "medsam_slice",
            click | {"result_extension": ".nrrd"},
            [Prompt("node", slice=k, points=points)],
            {"axis": "k"},
        ),
        (
            "medsam_slice",
            {"roi": [i + 7, i - 8, j - 9, j + 9, k, k], "slice": 93},
            [Prompt(box=_inside(volume, (i - 8, j - 9, i + 8, j + 10)), slice=k)],
            {"axis": "k"},
        ),
        (
            "medsam_volume",
            {"foreground": [[i, j, k]], "axis": ["auto", "k"], "max_mm": "0"},
            [_along(volume, (i, j, k))],
            {"propagate": True},
        ),
        (
            "medsam_volume",
            {"roi": [i - 6, i + 6, j + 6, j - 6, k + 1, k]},
            [Prompt(box3d=_inside(volume, (i - 6, j - 6, k, i + 7, j + 7, k + 2)))],
            {},
        ),
    ]
    for model, params, prompts, options in cases:
        got, told = client.infer(model, "a scan (1)", params, session_id=session)
        expected = tiny_predictor.segment(volume, prompts, **options).labels.array != 0
        assert got.endswith(params.get("result_extension") or "".join(image.suffixes[-2:]).replace("(1)", ""))
        same(got, image, expected)
        assert told["label_names"] == {params.get("label", "object"): 1}
        assert told["latencies"]["total"] > 0


def _inside(volume, box):
    """A half-open box, cut off at the ends of the image: 3D Slicer's may reach out of it."""
    sizes, half = volume.array.shape[::-1], len(box) // 2
    return (*(max(low, 0) for low in box[:half]), *map(min, box[half:], sizes))


def _along(volume, voxel) -> Prompt:
    """A click on the slices that the scan was acquired in."""
    axis = volume.geometry.acquired_axis
    number = "ijk".index(axis)
    x, y = (voxel[n] for n in range(3) if n != number)
    return Prompt(slice=voxel[number], points=((x, y, 1),))


def test_scribbles_become_strokes_through_their_middle(client, tiny_predictor, tmp_path):
    image = scan(tmp_path / "scan.nii.gz", "oblique")
    volume = load_volume(image)
    k, j, i = (size // 2 for size in volume.array.shape)
    drawn = np.zeros(volume.array.shape, np.uint8)
    drawn[k, j - 1 : j + 2, i - 3 : i + 4] = 4
    drawn[k, 1:3, 1:20] = 2
    path = save_labels(LabelVolume(drawn, volume.geometry, {}), tmp_path / "strokes.nrrd", image)
    told = [{"name": "background_scribbles", "id": 2}, {"name": "foreground_scribbles", "id": 4}]
    got, params = client.infer(
        "medsam_scribbles",
        "",
        {"label_info": told, "selected_label_name": "node", "axis": "k"},
        label_in=str(path),
        file=str(image),
    )
    strokes = tuple(
        Scribble(line, inside) for inside, number in ((True, 4), (False, 2)) for line in traced(drawn[k] == number)
    )
    assert len(strokes) == 2
    expected = tiny_predictor.segment(volume, [Prompt("node", slice=k, scribbles=strokes)], axis="k")
    assert params["label_names"] == {"node": 1}
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(got)) != 0, expected.labels.array != 0)


def test_a_label_map_of_another_shape_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "strokes.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 8, 7), np.uint8), np.eye(4)), path)
    assert read_drawn(path, (7, 8, 9)).shape == (7, 8, 9)
    monkeypatch.setattr(infer, "load_volume", lambda path: pytest.fail("memory was taken for it"))
    with pytest.raises(PromptError, match=r"has \(7, 8, 9\) voxels"):
        read_drawn(path, (7, 8, 8))


def test_strokes_are_looked_for_off_the_event_loop(client, tmp_path, monkeypatch):
    image = scan(tmp_path / "scan.nii.gz", next(iter(GRIDS)))
    volume = load_volume(image)
    drawn = np.zeros(volume.array.shape, np.uint8)
    drawn[tuple(size // 2 for size in drawn.shape)] = 3
    path = save_labels(LabelVolume(drawn, volume.geometry, {}), tmp_path / "strokes.nrrd", image)
    loops = []

    def looked(pixels: np.ndarray) -> object:
        try:
            loops.append(asyncio.get_running_loop())
        except RuntimeError:
            loops.append(None)
        return traced(pixels)

    monkeypatch.setattr(asked, "traced", looked)
    client.infer("medsam_scribbles", "", {}, label_in=str(path), file=str(image))
    assert loops == [None, None]


def test_structures_come_without_a_prompt(monai, start, tiny_predictor, tmp_path):
    sam = tiny_predictor.sam
    head = named_head(tmp_path / "head.safetensors", sam, learnt(sam), name_network(sam))
    predictor = Predictor(sam, "cpu", engine="torch", worker=tiny_predictor.worker, heads=[head])
    address = start(predictor=predictor)
    client = monai.MONAILabelClient(address, tmpdir=str(tmp_path), client_id="tests")
    # what was not measured is not offered
    assert client.info()["models"]["medsam_structures"]["labels"] == ["spleen"]
    # OHIF would make an empty segment of it
    pages = tmp_path / "ohif"
    pages.mkdir()
    with_ohif = info(predictor, MonaiLabel(ohif=pages), 0, 0)
    assert "medsam_structures" not in with_ohif["models"]
    image = scan(tmp_path / "scan.nii.gz", "flipped and swapped")
    got, told = client.infer("medsam_structures", "", {}, file=str(image))
    assert told["label_names"] == {"spleen": 1}
    expected = predictor.segment(load_volume(image), [Prompt("spleen", text="spleen")])
    same(got, image, expected.labels.array != 0)


def test_an_answer_is_what_was_asked_for(client, url, tmp_path):
    image = scan(tmp_path / "scan.nii.gz", "axial, thick slices")
    session = client.create_session(str(image))["session_id"]
    params = {"foreground": [[20, 18, 2]], "result_extension": ".nrrd", "result_compress": False}

    def ask(output: str, model: str = "medsam_slice", **changed) -> httpx.Response:
        query = {"image": "x", "session_id": session, "output": output}
        form = {"params": (None, json.dumps(params | changed))}
        return httpx.post(f"{url}/infer/{model}", params=query, files=form, timeout=60)

    # OHIF takes the bytes after the header for voxels
    raw = ask("image")
    header, _, voxels = raw.content.partition(b"\n\n")
    assert b"encoding: raw" in header
    assert b"type: uint8" in header or b"type: unsigned char" in header
    assert len(voxels) == np.prod(SHAPE)
    assert ask("json").json()["label_names"] == {"object": 1}
    whole = ask("all")
    boundary = whole.headers["content-type"].partition("boundary=")[2]
    parts = whole.content.split(f"--{boundary}".encode())
    # MITK: the parameters first, and Content-Type as the last header of each part
    assert [b'name="params"' in parts[1], b'name="image"' in parts[2], parts[3]] == [True, True, b"--\r\n"]
    assert all(part.partition(b"\r\n\r\n")[0].splitlines()[-1].startswith(b"Content-Type:") for part in parts[1:3])
    refused = {
        404: [ask("all", model="nnunet")],
        422: [
            ask("picture"),
            ask("all", foreground=[[99, 0, 0]]),
            ask("all", foreground=[]),
            ask("all", foreground=[["a", 1, 2]]),
            ask("all", background=[[1, 2, 3]], foreground=[]),
            ask("all", roi=[1, 2, 3]),
            ask("all", window="pink"),
            ask("all", result_extension=".exe"),
            # no DICOM
            ask("dicom_seg"),
        ],
    }
    for status, answers in refused.items():
        for answer in answers:
            assert answer.status_code == status, answer.text
            assert len(answer.json()["detail"]) > 20
