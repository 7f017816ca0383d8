"""Files by name, opened: what `data index` saw is what is read, and one bad file does not stop the rest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tiny_sets as scans
from PIL import Image

from medsam.data.check import check_manifest
from medsam.data.index import IndexResult, index_folder
from medsam.data.manifest_json import read_manifest, write_manifest

INSIDE = np.zeros((24, 32), bool)
INSIDE[6:18, 8:24] = True
OTHER = np.zeros((24, 32), bool)
OTHER[2:5, 2:30] = True


def picture(path: Path, array: np.ndarray | None = None) -> Path:
    """A mask, or without one a scan."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, INSIDE.shape)
    Image.fromarray((noise if array is None else array).astype(np.uint8)).save(path)
    return path


def voxels(found: IndexResult, folder: Path) -> dict[str, dict[str, int]]:
    """Case -> structure -> voxels, as read through the manifest that is written."""
    write_manifest(found.manifest, folder / "m.json", force=True)
    read = {}
    for case in read_manifest(folder / "m.json").cases:
        masks = case.load_references(case.load_image()) if case.label is not None else {}
        read[case.id] = {name: int(mask.sum()) for name, mask in masks.items()}
    return read


def palette(path: Path, indices: np.ndarray, colours: list[int]) -> None:
    image = Image.fromarray(indices.astype(np.uint8), "L").convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette(colours)
    image.save(path)


def test_masks_of_every_dress_in_one_folder_are_one_structure(tmp_path):
    n = int(INSIDE.sum())
    for case in "abcdef":
        picture(tmp_path / f"images/{case}.png")
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(INSIDE).save(masks / "a.png")
    palette(masks / "b.png", ~INSIDE, [255, 255, 255, 0, 0, 0])
    palette(masks / "c.png", INSIDE, [0, 0, 0, 255, 0, 0])
    Image.fromarray(INSIDE * np.uint16(65535)).save(masks / "d.png")
    Image.fromarray(INSIDE[..., None] * np.uint8([255, 255, 255]), "RGB").save(masks / "e.jpg", quality=90)
    Image.fromarray(np.dstack([np.full(INSIDE.shape, 255)] * 3 + [INSIDE * 255]).astype(np.uint8)).save(masks / "f.png")
    found = index_folder(tmp_path)
    assert found.manifest.labels == {"mask": 1}
    read = voxels(found, tmp_path)
    assert read.pop("e")["mask"] == pytest.approx(n, rel=0.05)
    assert read == {case: {"mask": n} for case in "abcdf"}
    assert check_manifest(tmp_path / "m.json").errors == 0
    named = index_folder(tmp_path, labels={"polyp": 7})
    assert voxels(named, tmp_path)["b"] == {"polyp": n}


def test_a_map_with_one_of_its_numbers_is_no_mask(tmp_path):
    """REFUGE: 0, 128 and 255; one of the pictures lacks the 128."""
    for case, array in (("a", INSIDE * 128 + OTHER * 255), ("b", INSIDE * 255), ("c", INSIDE * 0)):
        picture(tmp_path / f"images/{case}.png")
        picture(tmp_path / f"masks/{case}.png", array)
    found = index_folder(tmp_path)
    n, m = int(INSIDE.sum()), int(OTHER.sum())
    assert voxels(found, tmp_path) == {
        "a": {"label_128": n, "label_255": m},
        "b": {"label_128": 0, "label_255": n},
        "c": {"label_128": 0, "label_255": 0},
    }
    assert "named label_N, for N = 128, 255" in " ".join(found.remarks)


def test_palettes_in_which_each_file_holds_another_index_are_maps(tmp_path):
    for case, index in (("a", 1), ("b", 2)):
        picture(tmp_path / f"images/{case}.png")
        (tmp_path / "masks").mkdir(exist_ok=True)
        palette(tmp_path / f"masks/{case}.png", INSIDE * index, [0, 0, 0, 128, 0, 0, 0, 128, 0])
    n = int(INSIDE.sum())
    assert voxels(index_folder(tmp_path), tmp_path) == {
        "a": {"label_1": n, "label_2": 0},
        "b": {"label_1": 0, "label_2": n},
    }


def test_several_masks_of_an_image_are_one_structure(tmp_path):
    picture(tmp_path / "benign (1).png")
    picture(tmp_path / "benign (1)_mask.png", INSIDE * 255)
    picture(tmp_path / "benign (1)_mask_1.png", OTHER * 255)
    found = index_folder(tmp_path)
    assert voxels(found, tmp_path) == {"benign_(1)": {"mask": int(INSIDE.sum() + OTHER.sum())}}


@pytest.mark.parametrize(
    "names",
    [
        ("masks/liver/x.png", "masks/spleen/x.png"),
        ("liver/x.png", "spleen/x.png"),
        ("liver masks/x.png", "spleen masks/x.png"),
        ("masks/x_liver.png", "masks/x_spleen_mask.png"),
        ("images/x_liver_mask.png", "images/x_spleen_mask.png"),
        ("masks/liver_x1.png", "masks/spleen_x1.png"),
        ("x/masks/liver.png", "x/masks/spleen.png"),
    ],
)
def test_a_mask_a_structure_however_it_is_filed(tmp_path, names):
    image = "x/x.png" if names[0].startswith("x/") else "images/x1.png" if "x1" in names[0] else "images/x.png"
    picture(tmp_path / image)
    for name, array in zip(names, (INSIDE, OTHER), strict=True):
        picture(tmp_path / name, array * 255)
    found = index_folder(tmp_path)
    assert found.manifest.labels == {"liver": 1, "spleen": 2}
    assert list(voxels(found, tmp_path).values()) == [{"liver": INSIDE.sum(), "spleen": OTHER.sum()}]


def test_a_mask_that_no_word_tells_is_found_by_what_it_holds(tmp_path):
    """t2_cord beside t2_image is a label; t2_map, which holds no mask, is a scan."""
    scans.scan(tmp_path / "t2_image.nii.gz")
    scans.scan(tmp_path / "t2_map.nii.gz")
    scans.label(tmp_path / "t2_cord.nii.gz", (1,))
    found = index_folder(tmp_path)
    assert voxels(found, tmp_path) == {"t2": {"cord": 1}, "t2_map": {}}


def test_two_label_maps_of_one_scan_are_two_cases(tmp_path):
    scans.scan(tmp_path / "sub-1_ct.nii.gz")
    scans.label(tmp_path / "sub-1_seg-vert_msk.nii.gz", (21, 22))
    scans.label(tmp_path / "sub-1_seg-part_msk.nii.gz", (41, 42))
    found = index_folder(tmp_path)
    assert [case.label.name for case in found.manifest.cases] == [
        "sub-1_seg-part_msk.nii.gz",
        "sub-1_seg-vert_msk.nii.gz",
    ]
    assert len({case.patient for case in found.manifest.cases}) == 1
    assert "sub-1_ct.nii.gz has several label maps" in " ".join(found.remarks)


def test_scans_that_share_a_label_have_its_shape(tmp_path):
    for name in ("CT", "PET"):
        scans.scan(tmp_path / f"p1/{name}.nii.gz", shape=(3, 4, 5) if name == "PET" else (6, 7, 8))
    scans.label(tmp_path / "p1/SEG.nii.gz", (1,))
    found = index_folder(tmp_path)
    assert [(c.image.name, c.label is not None) for c in found.manifest.cases] == [
        ("CT.nii.gz", False),
        ("PET.nii.gz", True),
    ]
    assert "their sizes differ: p1/SEG.nii.gz and p1/CT.nii.gz" in " ".join(found.remarks)


def test_one_bad_file_is_named_and_does_not_stop_the_rest(tmp_path):
    for case in "abcdef":
        picture(tmp_path / f"images/{case}.png")
        picture(tmp_path / f"masks/{case}.png", INSIDE * 255)
    (tmp_path / "masks/a.png").write_bytes(b"")
    (tmp_path / "masks/b.png").write_bytes((tmp_path / "masks/b.png").read_bytes()[:60])
    picture(tmp_path / "masks/c.png")  # a photograph
    (tmp_path / "masks/d.png").unlink()
    (tmp_path / "masks/d.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "masks/e.png").unlink()
    os.mkfifo(tmp_path / "masks/e.png")
    found = index_folder(tmp_path)
    assert {case.id: case.label is not None for case in found.manifest.cases} == dict.fromkeys("abcde", False) | {
        "f": True
    }
    said = " | ".join(found.remarks)
    for sentence in (
        "masks/a.png is empty (0 bytes); left out",
        "masks/b.png: b.png cannot be read as a picture",
        "masks/c.png: it holds",
        "masks/d.png leads nowhere",
        "masks/e.png is no file (a folder, a pipe or a device)",
        "for pictures that are masks of one structure pass `threshold`",
    ):
        assert sentence in said
    write_manifest(found.manifest, tmp_path / "m.json")
    assert check_manifest(tmp_path / "m.json").errors == 0


def test_a_threshold_makes_masks_of_soft_pictures(tmp_path):
    y, x = np.mgrid[:24, :32]
    soft = 255 * np.exp(-((x - 16) ** 2 + (y - 12) ** 2) / 60)
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "masks/a.png", soft)
    assert index_folder(tmp_path).manifest.cases[0].label is None
    assert voxels(index_folder(tmp_path, threshold=200), tmp_path) == {
        "a": {"mask": int((soft.astype(int) > 200).sum())}
    }


def test_masks_under_the_names_of_several_structures_are_told(tmp_path):
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "masks/a.png", INSIDE * 255)
    found = index_folder(tmp_path, labels={"liver": 1, "spleen": 2})
    assert "1 labels are masks of one structure, not maps of liver, spleen" in " ".join(found.remarks)


def test_a_damaged_label_alone_is_not_the_end(tmp_path):
    picture(tmp_path / "images/a.png")
    np.savez(tmp_path / "b.npz", imgs=np.zeros((2, 3, 4)), gts=np.full((2, 3, 4), 0.5))
    found = index_folder(tmp_path)
    assert [case.label for case in found.manifest.cases] == [None, None]
    assert "b.npz: b.npz holds values that are no whole numbers" in " ".join(found.remarks)


def test_names_in_latin_1_are_names(tmp_path):
    """As an old archive unpacks them: a byte that is no UTF-8."""
    name = os.fsdecode(b"caf\xe9.png")
    picture(tmp_path / "images" / name)
    picture(tmp_path / "masks" / name, INSIDE * 255)
    found = index_folder(tmp_path)
    assert voxels(found, tmp_path) == {"caf": {"mask": int(INSIDE.sum())}}
    assert read_manifest(tmp_path / "m.json").cases[0].image.name == name
    assert b"caf\\udce9.png" in (tmp_path / "m.json").read_bytes()
