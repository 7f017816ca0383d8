import gzip
import json
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.formats import ENCODERS
from medsam.io.load import load_volume
from medsam.io.save import check_target, check_writable, encode_labels, save_labels
from medsam.volume import LabelVolume


def labels(top=1):
    return LabelVolume(np.full((2, 3, 4), top), VolumeGeometry((2, 3, 4), np.eye(4)), {top: "spleen"})


def test_names_travel_in_a_sidecar(tmp_path):
    save_labels(labels(), tmp_path / "mask.nii.gz")
    assert json.loads((tmp_path / "mask.json").read_text()) == {"labels": {"1": "spleen"}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.json", "mask.nii.gz"]


@pytest.mark.parametrize(("top", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_labels_are_stored_as_small_as_they_fit(tmp_path, top, dtype, suffix):
    mask = load_volume(save_labels(labels(top), tmp_path / f"m{suffix}"))
    assert mask.array.dtype == dtype
    assert mask.array.max() == top


@pytest.mark.parametrize("name", ["mask.hdr", "mask", "mask.jpg", ".nii.gz"])
def test_an_unknown_suffix_lists_the_known_ones(tmp_path, name):
    with pytest.raises(InputError, match=r"cannot be written as .*\*.nii.gz"):
        save_labels(labels(), tmp_path / name)


def test_a_volume_does_not_fit_into_a_picture(tmp_path):
    with pytest.raises(InputError, match=r"can hold one slice, the scan has 2"):
        save_labels(labels(), tmp_path / "mask.png")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"does not exist. Make it first"):
        save_labels(labels(), tmp_path / "none" / "mask.nii.gz")


def test_a_prompts_file_of_the_same_name_is_not_overwritten(tmp_path):
    prompts = tmp_path / "liver.json"
    prompts.write_text('{"prompts": []}')
    with pytest.raises(InputError, match=r"liver.json, and a file of that name is there"):
        check_writable(tmp_path / "liver.nii.gz", 2)
    assert prompts.read_text() == '{"prompts": []}'
    save_labels(labels(), tmp_path / "spleen.nii.gz")
    save_labels(labels(), tmp_path / "spleen.nii.gz")  # a second run may replace its own files


def test_a_write_that_fails_leaves_nothing_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = save_labels(labels(), tmp_path / "mask.nii.gz")
    before = path.read_bytes()

    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space"):
        save_labels(labels(2), path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mask.json", "mask.nii.gz"]


@pytest.mark.parametrize("suffix", ENCODERS)
def test_what_is_encoded_is_what_is_saved(tmp_path, suffix):
    flat = LabelVolume(np.ones((1, 3, 4), int), VolumeGeometry.uncalibrated((1, 3, 4)), {})
    drawn = flat if suffix == ".png" else labels()
    content, path = encode_labels(drawn, suffix), save_labels(drawn, tmp_path / f"mask{suffix}")
    saved = path.read_bytes()
    if suffix == ".nrrd":  # pynrrd writes the time into a comment above the fields
        content, saved = (one[one.index(b"type:") :] for one in (content, saved))
    assert content == saved
    np.testing.assert_array_equal(load_volume(path).array, drawn.array)


def test_nifti_has_the_bytes_that_nibabel_writes(tmp_path):
    path = save_labels(labels(300), tmp_path / "mask.nii.gz")
    nib.save(nib.load(path), tmp_path / "again.nii.gz")
    assert path.read_bytes() == (tmp_path / "again.nii.gz").read_bytes()
    assert encode_labels(labels(300), ".nii") == gzip.decompress(path.read_bytes())
    assert nib.Nifti1Image.from_stream(BytesIO(encode_labels(labels(300), ".nii"))).shape == (4, 3, 2)


def test_what_cannot_be_encoded_is_said(tmp_path):
    with pytest.raises(
        InputError, match=r"cannot be written as '\.jpg'; they can be as: \.nii\.gz, \.nii, \.nrrd, \.mha, \.png, \.dcm"
    ):
        encode_labels(labels(), ".jpg")
    with pytest.raises(InputError, match=r"A \.png can hold one slice, the scan has 2"):
        encode_labels(labels(), ".png")


def test_more_labels_than_sixteen_bits_are_refused(tmp_path):
    with pytest.raises(InputError, match="up to 65535"):
        save_labels(labels(65536), tmp_path / "mask.nii.gz")


def test_the_scan_itself_is_never_written_over(tmp_path):
    scan = save_labels(labels(), tmp_path / "scan.nii.gz")
    before = scan.read_bytes()
    (tmp_path / "link.nii.gz").symlink_to(scan)
    for name in ("scan.nii.gz", "link.nii.gz", "../" + tmp_path.name + "/scan.nii.gz"):
        with pytest.raises(InputError, match="also an input"):
            save_labels(labels(2), tmp_path / name, scan)
    assert scan.read_bytes() == before


def test_a_link_a_detour_or_a_slice_of_a_series_is_an_input_too(tmp_path):
    scan = tmp_path / "a.nii.gz"
    scan.write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "hard.nii.gz").hardlink_to(scan)
    (tmp_path / "soft.nii.gz").symlink_to(scan)
    for name in ("a.nii.gz", "link/a.nii.gz", "hard.nii.gz", "soft.nii.gz", "link/link/soft.nii.gz"):
        with pytest.raises(InputError, match="also an input"):
            check_target(tmp_path / name, [scan])
    check_target(tmp_path / "b.nii.gz", [scan])
    with pytest.raises(InputError, match="another output"):  # neither is there yet, and both would be one file
        check_target(tmp_path / "link/new.png", [tmp_path / "new.png"])
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.png").write_bytes(bytes(128) + b"DICM")
    (series / "notes.png").write_bytes(b"x")
    with pytest.raises(InputError, match="also an input"):
        check_target(series / "1.png", [series])
    check_target(series / "notes.png", [series])
    with pytest.raises(InputError, match="too long"):
        check_target(tmp_path / ("x" * 300 + ".png"))


@pytest.mark.parametrize(
    ("mask", "names"),
    [("a.nii.gz", "a.json"), ("a.nii", "a.json"), ("a.nrrd", "a.nrrd.json"), ("a.mha", "a.mha.json")],
)
def test_only_nifti_shares_the_bare_name_of_its_sidecar(tmp_path, mask, names):
    (tmp_path / "a.json").write_text('{"labels": {"1": "spleen"}}' if names == "a.json" else '{"Modality": "MR"}')
    save_labels(labels(), tmp_path / mask)
    assert json.loads((tmp_path / names).read_text()) == {"labels": {"1": "spleen"}}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({mask, names, "a.json"})


@pytest.mark.parametrize(
    "text", ['{"labels": {"1": "a"}, "cases": []}', '{"labels": {"a": 1}}', '{"labels": 3}', "[1]", "x"]
)
def test_another_programs_json_is_not_taken_for_label_names(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match="holds something else"):
        save_labels(labels(), tmp_path / "dataset.nii.gz")
    assert (tmp_path / "dataset.json").read_text() == text


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "mask.nii.gz").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_writable(tmp_path / "mask.nii.gz", 2)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_source_of_another_grid_lends_no_header(tmp_path, suffix):
    source = save_labels(labels(), tmp_path / f"scan{suffix}")
    moved = LabelVolume(labels().array, VolumeGeometry((2, 3, 4), np.diag([2.0, 1, 1, 1])), {1: "a"})
    with pytest.raises(InputError, match="does not lie on the grid of scan"):
        save_labels(moved, tmp_path / f"mask{suffix}", str(source))


@pytest.mark.parametrize("array", [np.full((2, 3, 4), 1.7), np.full((2, 3, 4), -1)])
def test_labels_that_are_no_ids_are_refused(tmp_path, array):
    with pytest.raises(InputError, match="A label map holds"):
        save_labels(LabelVolume(array, VolumeGeometry((2, 3, 4), np.eye(4)), {1: "a"}), tmp_path / "m.nii.gz")
