"""Labels of a DICOM scan as .dcm, and what is refused before any work is done."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from dicom_files import SERIES, series, slices, write
from pydicom import dcmread

from medsam.errors import InputError, SeveralSeries
from medsam.io.algorithm import Algorithm, DicomOptions
from medsam.io.labels import load_labels
from medsam.io.load import load_volume
from medsam.io.save import check_derivable, check_writable, encode_labels, save_labels, sidecar
from medsam.masks import PackedMasks
from medsam.volume import LabelVolume, Volume

SEG, LABELMAP, RTSTRUCT = (
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.66.7",
    "1.2.840.10008.5.1.4.1.1.481.3",
)


@pytest.fixture
def scan(tmp_path) -> Volume:
    return load_volume(series(tmp_path / "ct", slices(4, 12, 10)))


def drawn(scan: Volume) -> LabelVolume:
    array = np.zeros(scan.shape, dtype=np.uint8)
    array[1:3, 2:8, 3:7] = 1
    array[0, 0, 0] = 3
    return LabelVolume(array, scan.geometry, {1: "liver", 2: "spleen", 3: "cyst"})


@pytest.mark.parametrize(
    ("chosen", "kind"), [(None, SEG), ("seg", SEG), ("seg-labelmap", LABELMAP), ("rtstruct", RTSTRUCT)]
)
def test_a_label_map_is_written_as_what_is_asked_for_and_comes_back(tmp_path, scan, chosen, kind):
    labels = drawn(scan)
    path = save_labels(labels, tmp_path / "out.dcm", scan, format=chosen)
    assert dcmread(path).SOPClassUID == kind
    # names are in the file: nothing lies beside it
    assert sidecar(path) is None
    assert sorted(one.name for one in tmp_path.iterdir()) == ["ct", "out.dcm"]
    found = load_labels(path, scan.geometry)
    assert list(found) == ["liver", "spleen", "cyst"]
    for number, name in labels.names.items():
        np.testing.assert_array_equal(found[name], labels.array == number)


@pytest.mark.parametrize("packed", [False, True])
def test_masks_by_name_may_overlap_in_a_dcm_and_not_in_a_label_map(tmp_path, scan, packed):
    liver = drawn(scan).array == 1
    masks = {"liver": liver, "body": np.ones(scan.shape, dtype=bool)}
    if packed:
        several = PackedMasks(scan.shape)
        for name, mask in masks.items():
            several.add(name, mask)
    labels = several if packed else masks
    for chosen in ("seg", "rtstruct"):
        found = load_labels(save_labels(labels, tmp_path / f"{chosen}.dcm", scan, format=chosen), scan.geometry)
        assert {name: int(found[name].sum()) for name in found} == {"liver": 48, "body": 480}
    with pytest.raises(InputError, match="'liver' and 'body' overlap, and a label map has one number a voxel"):
        save_labels(labels, tmp_path / "map.nii.gz", scan)
    masks["body"] = ~liver
    mapped = save_labels(masks, tmp_path / "map.nii.gz", scan.source, geometry=scan.geometry)
    assert {name: int(mask.sum()) for name, mask in load_labels(mapped, scan.geometry).items()} == {
        "liver": 48,
        "body": 432,
    }


def test_voxels_without_a_name_are_kept_and_numbers_of_one_name_are_one_structure(scan, tmp_path):
    array = drawn(scan).array
    array[3] = 7
    labels = LabelVolume(array, scan.geometry, {1: "lesion", 3: "lesion"})
    found = load_labels(save_labels(labels, tmp_path / "x.dcm", scan), scan.geometry)
    assert {name: int(found[name].sum()) for name in found} == {"lesion": 49, "label 7": 120}


def test_the_source_may_be_a_path_a_zip_or_files_in_memory(tmp_path, scan):
    labels = drawn(scan)
    packed = Path(shutil.make_archive(str(tmp_path / "ct"), "zip", tmp_path / "ct"))
    files = [path.read_bytes() for path in (tmp_path / "ct").iterdir()]
    for source in (tmp_path / "ct", str(tmp_path / "ct"), packed, load_volume(packed), files):
        content = encode_labels(labels, ".dcm", source)
        (tmp_path / "x.dcm").write_bytes(content)
        assert len(dcmread(tmp_path / "x.dcm").SourceImageSequence) == 4


def test_of_several_series_the_scan_knows_its_own_and_a_path_needs_to_be_told(tmp_path, scan):
    series(tmp_path / "ct" / "other", slices(4, 12, 10), SeriesInstanceUID="1.2.3.99")
    labels = drawn(scan)
    with pytest.raises(SeveralSeries):
        encode_labels(labels, ".dcm", tmp_path / "ct")
    for source, options in ((scan, None), (tmp_path / "ct", DicomOptions(series=SERIES))):
        path = save_labels(labels, tmp_path / "x.dcm", source, options=options)
        assert dcmread(path).ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES


def test_options_reach_the_file(tmp_path, scan):
    by = Algorithm("sam", "9", "cd" * 32, "MIT", "AUTOMATIC")
    seg = dcmread(save_labels(drawn(scan), tmp_path / "x.dcm", scan, options=DicomOptions(by)))
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert seg.ContentDescription == "sam, weights cdcdcdcdcdcd, MIT"
    named = LabelVolume(drawn(scan).array, scan.geometry, {1: "a name of more than sixteen", 3: "b"})
    options = DicomOptions(by, tps=True)
    contours = dcmread(save_labels(named, tmp_path / "x.dcm", scan, format="rtstruct", options=options))
    assert len(contours.StructureSetROISequence[0].ROIName) <= 16
    assert check_derivable(scan, scan.geometry, named.names.values(), format="rtstruct", options=options)
    assert check_derivable(scan, scan.geometry, named.names.values()) == ()


def test_what_a_source_lacks_is_said_before_the_work(tmp_path):
    scan = load_volume(series(tmp_path / "ct", slices(4, 12, 10), FrameOfReferenceUID=None))
    (note,) = check_derivable(scan, scan.geometry, ["liver"])
    assert "(0020,0052) Frame of Reference UID" in note


def test_names_that_readers_take_for_one_are_said(scan):
    (note,) = check_derivable(scan, scan.geometry, ["Left-Lung", "heart", "left lung", "heart"])
    assert note.startswith("'left lung' and 'Left-Lung' are one name")


def test_what_cannot_be_derived_is_one_error(tmp_path, scan):
    labels = drawn(scan)
    radiograph = load_volume(
        write(tmp_path / "dx.dcm", slices(1)[0], ImagePositionPatient=None, ImageOrientationPatient=None, Modality="DX")
    )
    nifti = save_labels(labels, tmp_path / "scan.nii.gz")
    for source, geometry, options, chosen, message in (
        (None, scan.geometry, None, None, "give `save_labels` the DICOM scan as `source`"),
        (nifti, scan.geometry, None, None, "is not DICOM"),
        (Volume.from_array(np.zeros((2, 3, 4)), (1, 1, 1)), None, None, None, "not read from a DICOM file on disk"),
        (radiograph, radiograph.geometry, None, None, "as radiographs and ultrasound clips do not"),
        (scan, scan.geometry, None, "nifti", "seg, seg-labelmap, rtstruct, not as 'nifti'"),
        (scan, scan.geometry, DicomOptions(keyhole=True), None, "`keyhole` is about the contours of an RTSTRUCT"),
        (scan, scan.geometry, DicomOptions(tps=True), "seg-labelmap", "`tps` is about"),
        (scan, radiograph.geometry, None, None, "another grid"),
    ):
        with pytest.raises(InputError, match=message.replace("(", r"\(")) as error:
            check_derivable(source, geometry or source.geometry, format=chosen, options=options)
        assert not any(secret in str(error.value) for secret in ("DOE", "JANE", "4711"))
    with pytest.raises(InputError, match="`format` seg is of a .dcm, not of a .nii.gz"):
        check_writable(tmp_path / "x.nii.gz", 4, format="seg")
    with pytest.raises(InputError, match="need the grid they lie on: `geometry`"):
        save_labels({"a": labels.array > 0}, tmp_path / "x.dcm", tmp_path / "ct")
    with pytest.raises(InputError, match=r"The mask of 'a' has the shape \(2, 2, 2\)"):
        save_labels({"a": np.ones((2, 2, 2), bool)}, tmp_path / "x.dcm", scan)
    with pytest.raises(InputError, match="The mask of 'a' is uint8, not bool"):
        save_labels({"a": labels.array}, tmp_path / "x.dcm", scan)
    with pytest.raises(InputError, match="Masks are named by text, such as .* not by int"):
        save_labels({1: labels.array > 0}, tmp_path / "x.dcm", scan)
    with pytest.raises(InputError, match="whole numbers, not float64"):
        save_labels(LabelVolume(labels.array * 1.0, scan.geometry, {}), tmp_path / "x.dcm", scan)
    assert not (tmp_path / "x.dcm").exists()


def test_no_file_of_the_source_is_written_over(tmp_path, scan):
    image = next((tmp_path / "ct").iterdir())
    image.rename(image.with_suffix(".dcm"))
    with pytest.raises(InputError, match="also an input"):
        save_labels(drawn(scan), image.with_suffix(".dcm"), scan)
    # a SEG beside the images is none of them
    for name in ("a.dcm", "b.dcm"):
        save_labels(drawn(scan), tmp_path / "ct" / name, scan)
    with pytest.raises(InputError, match="also an input"):
        save_labels(drawn(scan), tmp_path / "ct" / "a.dcm", scan)
