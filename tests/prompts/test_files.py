"""Prompts from any file: prompts files with masks of many structures, label files, and measurements of a DICOM scan."""

from __future__ import annotations

import json

import numpy as np
import pytest
from drawn import grid, loop, make_rs, make_seg, make_series, rectangle
from label_files import GRID, MAP, itk, nifti
from measured import bidirectional, graphic, gsps, planar, region, report

from medsam import load_prompts as load_prompts_and_axis
from medsam import load_volume
from medsam.errors import InputError, PromptError
from medsam.prompts.files import read_prompt_file
from medsam.prompts.plan import plan
from medsam.prompts.prompt import Prompt
from medsam.volume import LabelVolume, Volume

SCAN = Volume(np.zeros(GRID.shape, np.int16), GRID)
NAMES = {1: "liver", 2: "spleen"}


def load_prompts(*arguments, **options):
    return load_prompts_and_axis(*arguments, **options)[0]


def named_map(path):
    nifti(path)
    path.with_name("a.json").write_text(json.dumps({"labels": {"1": "liver", "2": "spleen"}}))
    return path


@pytest.mark.parametrize("make", [nifti, itk])
def test_every_structure_of_a_label_map_is_a_rough_mask(tmp_path, make):
    path = make(tmp_path / ("a.nii.gz" if make is nifti else "a.nrrd"))
    assert load_prompts(path, SCAN) == [Prompt(str(value), mask=value == MAP) for value in (1, 2)]


def test_names_beside_a_label_map_are_its_labels(tmp_path):
    assert load_prompts(named_map(tmp_path / "a.nii.gz"), SCAN) == [
        Prompt(name, mask=value == MAP) for value, name in NAMES.items()
    ]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A CT on disk, its images, and two structures on it."""
    folder = tmp_path_factory.mktemp("dicom")
    images = make_series(folder / "ct", grid())
    scan = load_volume(folder / "ct")
    masks = np.zeros((*scan.shape, 2), np.uint8)
    masks[1:3, 1:4, 1:3, 0] = masks[2, 4, 2:5, 1] = 1
    return scan, images, masks


def test_seg_and_rtstruct_are_masks_by_name_on_the_planes_of_the_scan(tmp_path, series):
    scan, images, masks = series
    seg = make_seg(tmp_path / "seg.dcm", masks, scan.geometry, ("Liver", "lesion"), images=images)
    found = load_prompts(seg, scan)
    assert [one.label for one in found] == ["Liver", "lesion"]
    np.testing.assert_array_equal(np.stack([one.mask for one in found], -1), masks.astype(bool))
    contours = [loop(scan.geometry, rectangle(0.5, 0.5, 2.5, 3.5), k) for k in (1, 2)]
    rs = make_rs(tmp_path / "rs.dcm", {"Liver": contours, "nothing": []})
    file = read_prompt_file(rs, scan)
    (liver,), notes = file.as_prompts()
    np.testing.assert_array_equal(liver.mask, masks[..., 0].astype(bool))
    assert notes == ["rs.dcm: nothing of nothing lies on the scan."]


def test_structures_of_a_file_in_a_prompts_file(tmp_path, series):
    scan, images, masks = series
    make_seg(tmp_path / "seg.dcm", masks, scan.geometry, ("Liver", "lesion"), images=images)
    path = tmp_path / "p.json"

    def read(*entries):
        path.write_text(json.dumps({"prompts": entries}))
        return load_prompts(path, scan)

    liver, lesion = (Prompt(name, mask=masks[..., n]) for n, name in enumerate(("Liver", "lesion")))
    assert read({"mask": "seg.dcm", "structures": "all"}) == [liver, lesion]
    assert read({"mask": "seg.dcm", "structures": ["lesion"]}) == [lesion]
    # as it is asked for, and by any label
    assert read({"mask": "seg.dcm", "structure": "LIVER"}) == [Prompt("LIVER", mask=masks[..., 0])]
    assert read({"mask": "seg.dcm", "structure": "lesion", "label": "b", "slice": 2}) == [
        Prompt("b", mask=masks[..., 1], slice=2)
    ]
    with pytest.raises(PromptError, match="Prompt 0 of p.json: seg.dcm holds no 'spleen'; it holds Liver, lesion"):
        read({"mask": "seg.dcm", "structure": "spleen"})
    # without saying which, it is still not known
    with pytest.raises(InputError, match="holds 2 structures"):
        read({"mask": "seg.dcm"})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"structure": "a"}, 'say which ones of the file in "mask" are meant'),
        ({"mask": "a.nii", "structure": 3}, '"structure" is 3, not a name'),
        ({"mask": "a.nii", "structures": []}, 'not "all" or a list of names'),
        ({"mask": "a.nii", "structures": "liver"}, 'not "all" or a list of names'),
        ({"mask": "a.nii", "structures": "all", "label": "b"}, "labelled by their names"),
        ({"mask": "a.nii", "structures": "all", "structure": "b"}, 'both "structure"'),
        ({"mask": {"size": [1, 1], "counts": [1]}, "structure": "b"}, "say which ones of the file"),
    ],
)
def test_a_structure_that_means_nothing_is_refused(tmp_path, entry, message):
    (tmp_path / "p.json").write_text(json.dumps({"prompts": [entry]}))
    with pytest.raises(PromptError, match=message):
        load_prompts(tmp_path / "p.json", SCAN)


def test_an_empty_label_map_is_no_prompt(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", MAP * 0)
    with pytest.raises(PromptError, match=r"a.nii.gz marks nothing on the scan"):
        load_prompts(path, SCAN)


def test_more_masks_than_memory_holds_are_refused_before_they_are_made(monkeypatch, tmp_path):
    monkeypatch.setattr("medsam.prompts.masks._MOST_VOXELS", MAP.size)
    with pytest.raises(PromptError, match="holds 2 structures, whose rough masks would take 0 GiB. Say which"):
        load_prompts(nifti(tmp_path / "a.nii.gz"), SCAN)


def test_an_inline_mask_that_cannot_fit_is_refused_before_it_is_made(tmp_path):
    # 2 bytes of run lengths for a gigabyte
    huge = {"size": [32768, 32768], "counts": [2**30]}
    (tmp_path / "p.json").write_text(json.dumps({"prompts": [{"mask": huge, "slice": 0}]}))
    with pytest.raises(PromptError, match=r"Prompt 0 of p.json: \"mask\" has the size \[32768, 32768\]"):
        load_prompts(tmp_path / "p.json", SCAN)
    for shape in ((3, 4), (2, 4), (2, 3)):
        fits = Prompt("a", mask=np.ones(shape, bool), slice=0)
        (tmp_path / "p.json").write_text(json.dumps({"prompts": [fits.to_dict()]}))
        assert load_prompts(tmp_path / "p.json", SCAN) == [fits]


def test_measurements_of_a_series_lie_on_its_slices(tmp_path, series):
    scan, images, _ = series
    order = {image.SOPInstanceUID: k for k, image in enumerate(images)}
    lines = [graphic("POLYLINE", [(1, 2), (4, 2)]), graphic("POLYLINE", [(2.5, 1), (2.5, 3)])]
    (found,) = load_prompts(gsps(tmp_path / "gsps.dcm", [(images[3], lines)]), scan)
    assert (found.slice, found.label) == (order[images[3].SOPInstanceUID], "measurement")
    assert plan(found, scan.geometry, "k").slices[found.slice][0].box == pytest.approx((1, 1, 4, 3))
    groups = [
        planar(region(images[1], "POLYLINE", [(0, 0), (3, 0), (3, 2), (0, 0)]), "Lesion 1"),
        bidirectional(images[2], [(1, 2), (4, 2)], [(2.5, 1), (2.5, 3)], "Lesion 2"),
    ]
    prompts = load_prompts(report(tmp_path / "sr.dcm", images, groups), scan)
    assert [(one.label, one.slice) for one in prompts] == [("Lesion 1", 1), ("Lesion 2", 2)]
    assert plan(prompts, scan.geometry, "k").slices.keys() == {1, 2}


def test_measurements_on_images_lie_across_their_stack_however_thin_its_slices_are(tmp_path):
    thin = grid(spacing_ijk=(0.8, 0.9, 0.5))
    images = make_series(tmp_path / "thin", thin)
    scan = load_volume(tmp_path / "thin")
    assert scan.geometry.acquired_axis == "j"
    path = gsps(tmp_path / "m.dcm", [(images[3], [graphic("ELLIPSE", [(1, 2), (4, 2), (2.5, 1), (2.5, 3)])])])
    (found,), axis = load_prompts_and_axis(path, scan)
    assert (axis, found.slice, found.box) == ("k", 3, pytest.approx((1, 1, 4, 3)))
    with pytest.raises(PromptError, match="1 shape lies across another axis"):
        load_prompts_and_axis(path, scan, axis="j")


def test_measurements_without_a_name_in_two_files_are_not_one(tmp_path, series):
    scan, images, _ = series
    one, other = (gsps(tmp_path / f"{k}.dcm", [(images[k], [graphic("POLYLINE", [(1, 2), (4, 2)])])]) for k in (1, 2))
    first = read_prompt_file(one, scan)
    assert [prompt.label for prompt in first.prompts] == ["measurement"]
    second = read_prompt_file(other, scan, before=first.prompts)
    assert [prompt.label for prompt in second.prompts] == ["measurement 2"]


def test_measurements_of_another_series_are_refused(tmp_path, series):
    scan, _, _ = series
    others = make_series(tmp_path / "other", grid())
    path = gsps(tmp_path / "m.dcm", [(others[0], [graphic("POLYLINE", [(1, 2), (4, 2)])])])
    with pytest.raises(PromptError, match=r"1 of the 1 image that it names by \(0008,1155\)"):
        load_prompts(path, scan)
    with pytest.raises(PromptError, match="this scan is no DICOM series"):
        load_prompts(path, Volume(scan.array, scan.geometry))


def test_an_image_and_a_folder_are_no_prompts(tmp_path, series):
    scan, _, _ = series
    with pytest.raises(InputError, match="is a DICOM image"):
        load_prompts(next(scan.source.iterdir()), scan)
    with pytest.raises(PromptError, match="is a folder"):
        load_prompts(tmp_path, scan)


def test_an_axis_that_the_file_contradicts(tmp_path):
    (tmp_path / "p.json").write_text('{"axis": "j", "prompts": [{"box": [0, 0, 1, 1], "slice": 0}]}')
    with pytest.raises(PromptError, match="lie across axis j, not k"):
        load_prompts(tmp_path / "p.json", SCAN, axis="k")


def test_a_saved_map_gives_its_names_back(tmp_path):
    from medsam import load_labels, save_labels

    save_labels(LabelVolume(MAP, GRID, NAMES), tmp_path / "a.mha")
    assert list(load_labels(tmp_path / "a.mha", GRID)) == ["liver", "spleen"]
