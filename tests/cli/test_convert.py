"""`medsam convert`: from every label format to every other, on the grid of the scan."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from drawn import PATIENT, grid, make_seg, make_series
from label_files import nifti, seg_nrrd
from PIL import Image
from scipy.spatial.transform import Rotation

from medsam.cli.main import main
from medsam.io.labels import load_labels
from medsam.io.load import load_volume
from medsam.io.save import save_labels
from medsam.masks import PackedMasks
from medsam.volume import LabelVolume

OBLIQUE = grid((5, 24, 20), direction=Rotation.from_rotvec([0.1, -0.2, 0.3]).as_matrix())


def structures() -> dict[str, np.ndarray]:
    """A ring with an island and a single voxel in its hole, apart from a bar; bool (K, J, I)."""
    ring, bar = np.zeros((2, *OBLIQUE.shape), bool)
    ring[1:4, 3:15, 2:12] = True
    ring[2:4, 6:12, 5:9] = False
    ring[2, 8, 6] = ring[3, 20, 3] = True
    bar[0, 17:20, 10:18] = True
    bar[2, 9, 6] = True
    return {"ring": ring, "Bar & more": bar}


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    make_series(folder / "ct", OBLIQUE)
    return load_volume(folder / "ct")


@pytest.fixture(scope="module")
def files(ct, tmp_path_factory):
    """The structures in every format that is written, by format."""
    folder, masks = tmp_path_factory.mktemp("labels"), structures()
    labels = LabelVolume(masks["ring"] * 3 + masks["Bar & more"] * 7, ct.geometry, {3: "ring", 7: "Bar & more"})
    made = {suffix: save_labels(labels, folder / f"a.{suffix}", ct) for suffix in ("nii.gz", "nrrd", "mha")}
    for kind in ("seg", "seg-labelmap", "rtstruct"):
        made[kind] = save_labels(labels, folder / f"{kind}.dcm", ct, format=kind)
    return made


def convert(capsys, *words) -> dict:
    assert main(["convert", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *words) -> str:
    assert main(["convert", *map(str, words)]) == 2
    said = capsys.readouterr().err
    assert not any(secret in said for secret in (PATIENT, "4711"))
    return said


@pytest.mark.parametrize("to", ["nii.gz", "nrrd", "mha", "seg", "seg-labelmap", "rtstruct"])
@pytest.mark.parametrize("kind", ["nii.gz", "nrrd", "mha", "seg", "seg-labelmap", "rtstruct"])
def test_every_format_becomes_every_other_and_stays_the_same(tmp_path, capsys, ct, files, kind, to):
    dicom = to in ("seg", "seg-labelmap", "rtstruct")
    out = tmp_path / ("b.dcm" if dicom else f"b.{to}")
    report = convert(capsys, files[kind], "--source", ct.source, "--out", out, *(["--format", to] if dicom else []))
    assert (report["format"], report["out"]) == (to, str(out))
    found = load_labels(out, ct.geometry)
    for name, mask in structures().items():
        np.testing.assert_array_equal(found[name], mask)
    assert [(one["name"], one["voxels"]) for one in report["labels"]] == [
        (name, np.count_nonzero(mask)) for name, mask in structures().items()
    ]
    if not dicom and kind in ("nii.gz", "nrrd", "mha"):
        # a label map's own numbers stay
        assert [one["id"] for one in report["labels"]] == [3, 7]


def test_a_label_map_converts_on_its_own_grid(tmp_path, capsys, files):
    source = nib.load(files["nii.gz"])
    convert(capsys, files["nii.gz"], "--out", tmp_path / "b.nii.gz")
    copied = nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(copied.affine, source.affine)
    np.testing.assert_array_equal(np.asarray(copied.dataobj), np.asarray(source.dataobj))
    convert(capsys, files["mha"], "--out", tmp_path / "c.nrrd")
    found = load_volume(tmp_path / "c.nrrd")
    assert found.geometry.same_grid(OBLIQUE)


def test_segments_of_slicer_and_arrays_are_read(tmp_path, capsys):
    masks = structures()
    layers = np.stack([masks["ring"], np.roll(masks["ring"], 3, axis=1)]).astype(np.uint8)
    segments = [{"Name": n, "LabelValue": 1, "Layer": layer} for layer, n in enumerate(("one", "two"))]
    file = seg_nrrd(tmp_path / "a.seg.nrrd", layers, segments)
    report = convert(capsys, file, "--out", tmp_path / "b.mha", "--structures", "Two")
    assert [(one["name"], one["voxels"]) for one in report["labels"]] == [("Two", layers[1].sum())]
    np.savez(tmp_path / "c.npz", gts=layers[0] * 2)
    report = convert(capsys, tmp_path / "c.npz", "--out", tmp_path / "c.nii.gz", "--labels", "ring=2")
    assert [(one["id"], one["name"]) for one in report["labels"]] == [(2, "ring")]


def test_a_file_for_each_organ_is_one_set_named_by_the_files(tmp_path, capsys, ct):
    masks = structures()
    for name, mask in masks.items():
        nifti(tmp_path / f"{name}.nii.gz", mask.astype(np.uint8), ct.geometry)
    parts = [tmp_path / f"{name}.nii.gz" for name in masks]
    convert(capsys, *parts, "--source", ct.source, "--out", tmp_path / "both.dcm")
    found = load_labels(tmp_path / "both.dcm", ct.geometry)
    assert list(found) == list(masks)
    report = convert(capsys, *parts, "--out", tmp_path / "both.nii")
    # both are 1 in their files
    assert [one["id"] for one in report["labels"]] == [1, 2]


@pytest.mark.parametrize("value", [1, 255, 700, 65535])
def test_a_mask_of_any_one_value_is_called_as_its_file(tmp_path, capsys, value):
    mask = structures()["ring"]
    path = nifti(tmp_path / "liver.nii.gz", mask.astype(np.int32) * value, OBLIQUE)
    report = convert(capsys, path, "--out", tmp_path / "b.nrrd")
    assert [(one["name"], one["id"], one["voxels"]) for one in report["labels"]] == [("liver", value, mask.sum())]


@pytest.fixture
def overlapping(tmp_path, ct):
    masks = structures()
    masks["Bar & more"] = masks["ring"] & (np.arange(OBLIQUE.shape[1])[None, :, None] > 12)
    path = make_seg(tmp_path / "over.dcm", np.stack([*masks.values()], -1).astype(np.uint8), ct.geometry, tuple(masks))
    return path, masks


def test_what_overlaps_stays_where_it_can(tmp_path, capsys, ct, overlapping):
    path, masks = overlapping
    for kind in ("seg", "rtstruct"):
        convert(capsys, path, "--source", ct.source, "--out", tmp_path / f"{kind}.dcm", "--format", kind)
        found = load_labels(tmp_path / f"{kind}.dcm", ct.geometry)
        for name, mask in masks.items():
            np.testing.assert_array_equal(found[name], mask)


@pytest.mark.parametrize("kept", ["first", "last"])
@pytest.mark.parametrize("out", ["m.nii.gz", "m.dcm"])
def test_a_label_map_keeps_the_first_or_the_last_and_says_so(tmp_path, capsys, ct, overlapping, kept, out):
    path, masks = overlapping
    options = [path, "--source", ct.source, "--out", tmp_path / out]
    options += ["--format", "seg-labelmap"] if out.endswith(".dcm") else []
    voxels = np.count_nonzero(masks["Bar & more"])
    said = refusal(capsys, *options)
    assert f"'ring' and 'Bar & more' overlap in {voxels} voxels" in said
    assert "--overlap" in said
    assert not (tmp_path / out).exists()
    report = convert(capsys, *options, "--overlap", kept)
    assert report["notes"] == [f"'ring' and 'Bar & more' overlap in {voxels} voxels, which the {kept} keeps."]
    found = load_labels(tmp_path / out, ct.geometry)
    np.testing.assert_array_equal(found["ring"], masks["ring"] & ~(masks["Bar & more"] & (kept == "last")))
    assert [one["voxels"] for one in report["labels"]] == [found["ring"].sum(), voxels if kept == "last" else 0]


def test_what_is_wrong_is_one_message_and_no_file(tmp_path, capsys, ct, files):
    out = tmp_path / "b.nii.gz"
    for words, message in [
        ((files["seg"], "--out", out), "is a DICOM SEG, and is placed in the patient: name the scan"),
        ((files["rtstruct"], "--out", out), "is a DICOM RTSTRUCT, and is placed"),
        ((files["nii.gz"], "--out", tmp_path / "b.dcm"), "name the DICOM scan with --source"),
        ((files["nii.gz"], "--out", tmp_path / "b.dcm", "--source", files["nii.gz"]), "is not DICOM"),
        ((files["nii.gz"], "--out", tmp_path / "b.txt"), "cannot be written as b.txt"),
        ((files["nii.gz"], "--out", out, "--structures", "liver"), "a.nii.gz holds no 'liver'"),
        ((files["nii.gz"], "--out", out, "--format", "seg"), "of a .dcm, not of a .nii.gz"),
        ((files["nii.gz"], "--out", out, "--tps"), "--tps"),
        ((files["nii.gz"], "--out", out, "--series", "1.2"), "--series is one of the --source"),
        ((files["nii.gz"], "--out", files["nii.gz"]), "is also an input"),
        ((files["nii.gz"], "--out", out, "--labels", "ring=9"), "unknown label values 3, 7"),
        ((files["seg"], "--source", ct.source, "--out", out, "--labels", "ring=3"), "bring names of their own"),
        ((tmp_path / "none.nii", "--out", out), "does not exist"),
        ((next(ct.source.iterdir()), "--out", out), "is a DICOM image"),
    ]:
        assert message in refusal(capsys, *words), words
        assert not any(tmp_path.iterdir())


def test_labels_of_another_grid_are_refused(tmp_path, capsys, ct):
    path = nifti(tmp_path / "a.nii.gz", np.ones((2, 3, 4), np.uint8))
    assert "the scan has 20 x 24 x 5 voxels" in refusal(
        capsys, path, "--source", ct.source, "--out", tmp_path / "b.nrrd"
    )


def test_the_table_of_a_picture_has_no_millilitres(tmp_path, capsys):
    drawn = np.zeros((9, 12), np.uint8)
    drawn[2:5, 3:7] = 1
    Image.fromarray(drawn).save(tmp_path / "plate.png")
    assert main(["convert", str(tmp_path / "plate.png"), "--out", str(tmp_path / "b.png")]) == 0
    out = capsys.readouterr().out
    assert "ml" not in out
    assert out.split()[3:6] == ["plate", "1", "12"]


def test_masks_of_many_files_are_kept_small(ct):
    from medsam.io.label_sets import LabelSet, as_label_map

    masks = PackedMasks(OBLIQUE.shape)
    for n in range(300):
        masks.add(f"s{n}", None)
    labels, notes = as_label_map(LabelSet(masks, {}, ()), ct.geometry)
    assert (labels.array.dtype, len(labels.names), notes) == (np.uint16, 300, [])
