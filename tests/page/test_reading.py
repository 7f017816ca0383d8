"""A scan is opened, drawn on, corrected and taken home, as a reader does it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from medsam.cli.main import main
from medsam.io.labels import load_labels
from medsam.io.load import load_volume

# the slice in the middle of the lung CT, which opens first, and a box round the right lung there
MIDDLE, LUNG = 12, (130, 170, 271, 369)


def segmented(scan: Path, prompts: dict, out: Path) -> np.ndarray:
    """What `medsam segment` makes of a prompts file: all that is in a structure."""
    file = out.with_name("prompts.json")
    file.write_text(json.dumps(prompts))
    assert main(["segment", str(scan), "--prompts", str(file), "--out", str(out), "--json"]) == 0
    masks = load_labels(out, load_volume(scan).geometry)
    return np.any([np.asarray(mask) for mask in masks.values()], axis=0)


def entry(room, index: int = 0) -> dict:
    """What the server was asked on a slice."""
    return next(one for one in room.json(f"/sessions/{room.session}/prompts")["prompts"] if one["slice"] == index)


@pytest.fixture(scope="module")
def lungs(data) -> dict[str, np.ndarray]:
    """Contours of clinicians, as masks."""
    folder = data / "lung_ct_dicom_rtstruct"
    scan = load_volume(folder / "ct_series")
    return {
        name: np.asarray(mask)
        for name, mask in load_labels(folder / "rtstruct" / "rtstruct.dcm", scan.geometry).items()
    }


def test_a_box_on_an_ultrasound_is_what_medsam_segment_makes_of_it(room, house, tmp_path, capsys):
    from page_room import dice

    reference = load_volume(house.masks / "benign_0847-s.png").array[0].max(-1) > 0
    down, across = np.nonzero(reference)
    room.open(house.case("benign_0847"))
    room.box(across.min() - 3, down.min() - 3, across.max() + 4, down.max() + 4)
    mask = room.agree(1, 0)
    prompts = room.json(f"/sessions/{room.session}/prompts")
    theirs = segmented(house.scans / "ultrasound" / "benign_0847-s.png", prompts, tmp_path / "mask.png")
    assert dice(mask, reference) == dice(theirs[0], reference) > 0.85
    assert np.array_equal(mask, theirs[0])


def test_from_the_list_to_a_seg(room, house, lungs, tmp_path, capsys):
    """A box is drawn, its edge moved; a click, one outside and a stroke correct it; undone, reloaded, taken home."""
    from page_room import dice, slice_shown
    from playwright.sync_api import expect

    page, case = room.page, house.case("CT")
    room.open(case)
    page.get_by_role("link", name="Scans").first.click()
    page.get_by_role("link", name="CT series").click()
    room.ready()
    assert slice_shown(page) == MIDDLE
    assert f"200 270 {MIDDLE}" in room.hover(200, 270)
    assert not room.painted().any()

    room.box(*LUNG)
    mask = room.agree(1, MIDDLE)
    assert entry(room, MIDDLE)["box"] == pytest.approx(LUNG, abs=1.5)
    assert dice(mask, lungs["Lung-Right"][MIDDLE]) > 0.85
    assert room.steps() == 1

    # its left edge goes in: asked anew, on the same slice
    box = entry(room, MIDDLE)["box"]
    room.drag((box[0] - 0.5, (box[1] + box[3]) / 2), (box[0] + 39.5, (box[1] + box[3]) / 2))
    room.until(lambda: room.steps() == 2, "the step is there")
    moved = entry(room, MIDDLE)["box"]
    assert moved == pytest.approx((box[0] + 40, *box[1:]), abs=1.5)
    cut = room.agree(1, MIDDLE)
    assert not cut[:, : int(moved[0]) - 2].any()
    room.undo()
    room.until(lambda: room.steps() == 1, "it was taken back")
    assert np.array_equal(room.agree(1, MIDDLE), mask)

    # the tumour in the other lung does not belong to it; what was missing does
    room.click(215, 300)
    room.until(lambda: room.steps() == 2, "the click is there")
    room.click(262, 250, outside=True)
    room.until(lambda: room.steps() == 3, "the click outside is there")
    room.press("s")
    room.drag((160, 250), (165, 280), (170, 300))
    room.until(lambda: room.steps() == 4, "the stroke is there")
    asked = entry(room, MIDDLE)
    assert [point[2] for point in asked["points"]] == [1, 0]
    assert asked["points"][0][:2] == pytest.approx((215, 300), abs=1)
    assert len(asked["scribbles"]) == 1
    corrected = room.agree(1, MIDDLE)
    assert corrected[300, 215]
    assert not corrected[250, 262]

    for _ in range(2):
        room.undo()
    room.until(lambda: room.steps() == 2, "two were taken back")
    room.press("Control+y")
    room.until(lambda: room.steps() == 3, "one came again")
    final = room.agree(1, MIDDLE)
    prompts, session = room.json(f"/sessions/{room.session}/prompts"), room.session
    assert np.array_equal(
        final, segmented(house.scans / "lung" / "ct_series", prompts, tmp_path / "mask.nii.gz")[MIDDLE]
    )

    page.reload()
    room.ready()
    assert room.session == session
    assert slice_shown(page) == MIDDLE
    assert np.array_equal(room.agree(1, MIDDLE), final)
    assert room.steps() == 3

    room.unfold("Take home")
    with page.expect_download() as download:
        page.get_by_role("button", name="DICOM SEG").click()
    download.value.save_as(tmp_path / "lung.dcm")
    assert np.array_equal(_read_seg(tmp_path / "lung.dcm", house.scans / "lung" / "ct_series"), room.labels() == 1)
    expect(page.get_by_text("Saved as")).to_be_visible()


def _read_seg(path: Path, series: Path) -> np.ndarray:
    """The first segment by highdicom, on the planes of its series from foot to head."""
    import highdicom
    import pydicom

    seg = highdicom.seg.segread(path)
    images = sorted((pydicom.dcmread(one) for one in series.iterdir()), key=lambda one: one.ImagePositionPatient[2])
    uids = [image.SOPInstanceUID for image in images]
    found = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True, segment_numbers=[1])
    return np.asarray(found)[..., 0] > 0


def test_through_the_volume_stopped_mended_and_on(room, house):
    from page_room import slice_shown
    from playwright.sync_api import expect

    page = room.page
    room.open(house.case("CT"))
    room.box(*LUNG)
    room.agree(1, MIDDLE)
    room.press("g")
    stop = page.get_by_role("button", name="Stop the propagation")
    expect(stop).to_be_visible()
    progress = page.locator(".panels-job")
    room.until(lambda: int(re.search(r": (\d+)|$", progress.inner_text())[1] or 0) >= 3, "some slices are there", 60)
    stop.click()
    ended = page.locator(".panels-ended")
    expect(ended).to_contain_text("Stopped")
    first = _slices(room)
    assert MIDDLE in first
    assert 3 <= len(first) < 24

    # to the least sure one: mended there by a box of its own
    room.press("x")
    room.until(lambda: slice_shown(page) != MIDDLE, "another slice is shown")
    weakest = slice_shown(page)
    assert weakest in first
    room.box(*LUNG)
    room.until(lambda: any(one["slice"] == weakest for one in _asked(room)), "it was asked there")
    mended = room.agree(1, weakest)

    room.unfold("Through the volume")
    page.get_by_label("At most").check()
    page.get_by_label("Millimetres from").fill("9")
    page.get_by_role("button", name="Propagate again").click()
    expect(progress).to_have_count(1)
    expect(progress).to_have_count(0, timeout=60_000)
    expect(ended).not_to_contain_text("Stopped")
    labels = room.labels()
    assert np.array_equal(labels[weakest] == 1, mended)
    assert {MIDDLE - 1, MIDDLE, MIDDLE + 1} <= set(_slices(room))
    # one step, and taken back as one
    steps = room.steps()
    room.undo()
    room.until(lambda: room.steps() == steps - 1, "it was taken back")
    assert np.array_equal(room.labels()[weakest] == 1, mended)


def _asked(room) -> list[dict]:
    return room.json(f"/sessions/{room.session}/prompts")["prompts"]


def _slices(room) -> list[int]:
    """That have a mask."""
    return np.flatnonzero((room.labels() == 1).any(axis=(1, 2))).tolist()


def test_organs_are_found_without_a_prompt(room, house, data, tmp_path, capsys):
    from in_browser import axe
    from playwright.sync_api import expect

    page, scan = room.page, data / "msd_hippocampus_mr" / "imagesTr" / "hippocampus_001.nii.gz"
    with house.server.client() as client:
        room.open(client.upload(scan).id)
    page.get_by_role("button", name="Find organs").press("Enter")
    dialog = page.get_by_role("dialog", name="Find organs")
    expect(dialog).to_contain_text("The scan is taken for MR: guessed")
    expect(dialog.get_by_role("row", name="anterior hippocampus")).to_contain_text("21 patients")
    assert axe(page) == []
    dialog.get_by_role("button", name="Look for 2").press("Enter")
    expect(dialog).to_contain_text("2 of 2 found.")
    assert axe(page) == []
    with page.expect_download() as download:
        dialog.get_by_role("button", name="Save as a table").press("Enter")
    download.value.save_as(tmp_path / "page.csv")
    room.press("Escape")
    expect(dialog).to_have_count(0)
    out = ["--out", str(tmp_path / "organs.nii.gz"), "--statistics", str(tmp_path / "program.csv")]
    assert main(["organs", str(scan), *out]) == 0
    theirs, here = load_labels(tmp_path / "organs.nii.gz", load_volume(scan).geometry), room.labels()
    for number, mask in enumerate(theirs.values(), start=1):
        assert np.array_equal(here == number, np.asarray(mask))
    tables = [list(csv.DictReader((tmp_path / f"{name}.csv").open())) for name in ("page", "program")]
    assert [{**row, "label": ""} for row in tables[0]] == [{**row, "label": ""} for row in tables[1]]
    steps = room.steps()
    room.undo()
    room.until(lambda: room.steps() == steps - 1, "the second was taken back")
    assert not (room.labels() == 2).any()
