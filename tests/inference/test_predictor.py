import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from phantoms import ThresholdSam, block

from medsam.errors import CheckpointError, InputError, MedSAMError, PromptError
from medsam.geometry import VolumeGeometry
from medsam.inference.engines.choose import pick_device
from medsam.inference.image_predictor import box_prompts
from medsam.inference.predictor import Predictor
from medsam.inference.segmentation import Segmentation
from medsam.io.save import save_labels
from medsam.postprocess.clean import Cleanup
from medsam.prompts.prompt import Prompt, SlicePrompt
from medsam.volume import LabelVolume, Volume


@pytest.fixture
def predictor():
    return Predictor(ThresholdSam(), device="cpu")


def test_a_box_round_a_bright_block_gives_the_block(predictor):
    scan, mask = block((5, 20, 30), (4, 6, 1, 14, 12, 4))
    found = predictor.segment(scan, [Prompt("lesion", box3d=(4, 6, 1, 14, 12, 4))], zoom="off")
    np.testing.assert_array_equal(found.labels.array == 1, mask)
    assert found.labels.names == {1: "lesion"}
    assert [(a.slice, a.label, a.pixels) for a in found.results] == [(n, 1, 60) for n in (1, 2, 3)]


def test_each_slice_is_encoded_once_whatever_it_is_asked(predictor):
    scan, _ = block((5, 20, 30), (4, 6, 1, 14, 12, 4))
    scan.array[1, 0, 0] = 100  # equal slices would share an embedding
    prompts = [Prompt(f"part {n}", box=(n, n, n + 5, n + 5), slice=n % 2 + 1) for n in range(10)]
    predictor.segment(scan, prompts)
    assert predictor.sam.encoded == 2
    assert predictor.sam.decoded == 10


def test_slices_without_a_prompt_are_not_encoded_and_stay_empty(predictor):
    scan, _ = block((9, 20, 30), (4, 6, 0, 14, 12, 9))
    found = predictor.segment(scan, [Prompt(box=(4, 6, 14, 12), slice=7)])
    assert predictor.sam.encoded == 1
    assert np.unique(np.nonzero(found.labels.array)[0]).tolist() == [7]


def test_overlapping_labels_keep_the_better_mask_and_repeats_unite(predictor):
    scan, _ = block((1, 20, 30), (0, 0, 0, 20, 20, 1))
    prompts = [
        Prompt("first", box=(0, 0, 10, 20), slice=0),  # the phantom model trusts earlier prompts more
        Prompt("second", box=(5, 0, 15, 20), slice=0),
        Prompt("first", box=(16, 0, 20, 20), slice=0),
    ]
    row = predictor.segment(scan, prompts, zoom="off").labels.array[0, 10]
    assert (row[:10] == 1).all()
    assert (row[10:15] == 2).all()
    assert (row[16:20] == 1).all()


def test_many_prompts_are_answered_in_order_across_chunks(predictor):
    scan, _ = block((1, 50, 50), (0, 0, 0, 50, 50, 1), outside=200.0)
    array = np.tile(np.arange(50, dtype=np.float32), (1, 50, 1))
    scan = Volume(array, scan.geometry)
    boxes = np.array([[25 + n % 20, n % 40, 27 + n % 20, n % 40 + 3] for n in range(75)])
    found = predictor.predict(predictor.embed(scan, 0, window="none"), box_prompts(boxes))
    assert found.masks.shape == (75, 1, 50, 50)
    assert found.predicted_iou.shape == (75, 1)
    for n in (0, 31, 32, 74):
        x0, y0, x1, y1 = boxes[n]
        assert found.masks[n, 0, y0:y1, x0:x1].all()
        assert found.masks[n].sum() <= 4 * 5


def test_an_ambiguous_prompt_can_have_three_masks(predictor):
    scan, _ = block((1, 20, 20), (4, 4, 0, 12, 12, 1))
    found = predictor.predict(predictor.embed(scan), [SlicePrompt(1, (4, 4, 12, 12))], multimask=True)
    assert found.masks.shape == (1, 3, 20, 20)


def test_progress_ends_at_the_number_of_slices(predictor):
    scan, _ = block((5, 20, 30), (4, 6, 1, 14, 12, 4))
    seen = []
    predictor.segment(scan, [Prompt(box3d=(4, 6, 1, 14, 12, 4))], progress=lambda *step: seen.append(step))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_strange_voxels_are_no_obstacle(predictor):
    scan, mask = block((2, 20, 30), (4, 6, 0, 14, 12, 2))
    array = scan.array.copy()
    array[0, 0, 0], array[0, 0, 1], array[1, 1, 1] = np.nan, np.inf, -np.inf
    found = predictor.segment(Volume(array, scan.geometry), [Prompt(box3d=(4, 6, 0, 14, 12, 2))], zoom="off")
    np.testing.assert_array_equal(found.labels.array == 1, mask)
    constant = Volume(np.full((1, 20, 30), 5, np.int16), VolumeGeometry((1, 20, 30), np.eye(4)))
    assert predictor.segment(constant, [Prompt(box=(4, 6, 14, 12))]).labels.array.max() == 0


def test_wrong_boxes_and_slices_are_prompt_errors(predictor):
    scan, _ = block((2, 20, 30), (4, 6, 0, 14, 12, 2))
    with pytest.raises(PromptError, match="no slice 2"):
        predictor.embed(scan, 2)
    with pytest.raises(PromptError, match=r"shape \(4,\)"):
        box_prompts([1, 2, 3, 4])
    for nothing in ([], [SlicePrompt(1)]):
        with pytest.raises(PromptError, match="No prompt"):
            predictor.predict(predictor.embed(scan, 0), nothing)


def test_a_path_an_array_and_a_single_prompt_are_taken(predictor, tmp_path):
    scan, mask = block((3, 20, 30), (4, 6, 1, 14, 12, 3))
    save_labels(LabelVolume(scan.array.astype(np.uint8), scan.geometry, {}), tmp_path / "scan.nii.gz")
    prompt = Prompt("lesion", box=(4, 6, 14, 12), slice=1)
    for given in (scan, tmp_path / "scan.nii.gz", str(tmp_path / "scan.nii.gz"), scan.array, scan.array.tolist()):
        found = predictor.segment(given, prompt, zoom="off").labels.array
        np.testing.assert_array_equal(found[1] == 1, mask[1])
    np.testing.assert_array_equal(predictor.session(scan.array, zoom="off").box(1, (4, 6, 14, 12)).mask, mask[1])
    alone = predictor.segment(scan.array[1], Prompt(box=(4, 6, 14, 12)), zoom="off")
    np.testing.assert_array_equal(alone.labels.array == 1, mask[1:2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, Prompt(box=(1, 1, 5, 5))), "real numbers, not NoneType"),
        (("none.nii.gz", Prompt(box=(1, 1, 5, 5))), "does not exist"),
        ((np.zeros((1, 9, 9), complex), Prompt(box=(1, 1, 5, 5))), "complex"),
        ((np.zeros((1, 9, 9)), "1,1,5,5"), "a medsam.Prompt, such as .* not str"),
        ((np.zeros((1, 9, 9)), [(1, 1, 5, 5)]), "a medsam.Prompt, such as .* not tuple"),
        ((np.zeros((1, 9, 9)), 5), "a medsam.Prompt, such as .* not int"),
        ((np.zeros((1, 9, 9)), []), "nothing to segment"),
        ((np.zeros((1, 9, 9)), None), "nothing to segment"),
    ],
)
def test_what_is_no_scan_or_no_prompt_is_one_error_of_ours(predictor, given, message):
    with pytest.raises(MedSAMError, match=message):
        predictor.segment(*given)


def test_prompts_may_come_one_after_the_other(predictor):
    scan, mask = block((3, 20, 30), (4, 6, 0, 14, 12, 3))
    prompts = (Prompt(box3d=(4, 6, first, 14, 12, first + 1)) for first in (1,))
    found = predictor.segment(scan, prompts, propagate=True, zoom="off").labels.array  # a box3d has its ends
    np.testing.assert_array_equal(found[1] == 1, mask[1])
    assert not found[[0, 2]].any()


def test_a_window_that_is_none_and_a_model_that_is_none(predictor):
    with pytest.raises(PromptError, match="A window is auto"):
        predictor.segment(np.zeros((1, 9, 9)), Prompt(box=(1, 1, 5, 5)), window=(40, 400))
    with pytest.raises(CheckpointError, match="not NoneType"):
        Predictor(None)


def test_a_segmentation_and_its_predictor_are_one_line_and_go_through_pickle(predictor):
    scan, _ = block((1, 20, 30), (4, 6, 0, 14, 12, 1))
    found = predictor.segment(scan, Prompt("lesion", box=(4, 6, 14, 12)))
    assert repr(found).startswith("Segmentation(LabelVolume(")
    assert repr(found).endswith("names={1: 'lesion'}), 1 result, 0 notes)")
    assert repr(predictor) == "Predictor('threshold', device='cpu')"
    again = pickle.loads(pickle.dumps(predictor)).segment(scan, Prompt("lesion", box=(4, 6, 14, 12)))
    assert again.labels == pickle.loads(pickle.dumps(found)).labels == found.labels


def test_devices():
    assert pick_device("cpu") == pick_device("cpu:0") == torch.device("cpu")
    with pytest.raises(InputError, match="no device 'gpu'"):
        pick_device("gpu")


@pytest.mark.weights
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_the_real_model_finds_a_bright_block(litemedsam, dtype):
    scan, mask = block((2, 60, 80), (20, 15, 0, 50, 45, 2))
    scan = Volume(scan.array.astype(dtype), scan.geometry)
    found = Predictor(litemedsam, "cpu").segment(scan, [Prompt("lesion", box=(19, 14, 51, 46), slice=1)])
    answer = found.labels.array[1] == 1
    dice = 2 * (answer & mask[1]).sum() / (answer.sum() + mask[1].sum())
    assert dice > 0.85  # the model rounds the corners
    assert found.labels.array[0].max() == 0
    assert 0.5 < found.results[0].predicted_iou < 1.1


@pytest.mark.weights
def test_colour_reaches_the_real_model_as_colour(litemedsam):
    array = np.zeros((1, 60, 80, 3), np.uint8)
    array[..., 1] = 90
    array[0, 15:45, 20:50] = (220, 60, 60)
    scan = Volume(array, VolumeGeometry.uncalibrated((1, 60, 80)))
    answer = Predictor(litemedsam, "cpu").segment(scan, [Prompt(box=(19, 14, 51, 46))]).labels.array[0] == 1
    truth = array[0, ..., 0] == 220
    assert 2 * (answer & truth).sum() / (answer.sum() + truth.sum()) > 0.9


# -- volumes, alternatives, cleaning ----------------------------------------------------------------------------


def test_one_box_is_followed_through_the_block_and_stops_at_its_ends(predictor):
    scan, mask = block((9, 20, 30), (4, 6, 2, 14, 12, 7))
    found = predictor.segment(scan, [Prompt("lesion", box=(4, 6, 14, 12), slice=4)], propagate=True)
    np.testing.assert_array_equal(found.labels.array == 1, mask)
    assert found.stop_reasons == {1: {1: "vanished", 7: "vanished"}}
    assert any("lesion: 5 slices; vanished at slice 1, vanished at slice 7" in note for note in found.notes)
    assert all(0 < answer.confidence <= 1 for answer in found.results)


def test_a_label_with_a_box3d_stays_between_its_ends_and_max_mm_bounds_the_others(predictor):
    scan, _ = block((9, 20, 30), (4, 6, 2, 14, 12, 7))
    prompts = [Prompt("part", box3d=(4, 6, 3, 14, 12, 5))]
    found = predictor.segment(scan, prompts, propagate=True, zoom="off")
    assert np.unique(np.nonzero(found.labels.array)[0]).tolist() == [3, 4]
    near = predictor.segment(scan, [Prompt(box=(4, 6, 14, 12), slice=4)], propagate=True, max_mm=1)
    assert np.unique(np.nonzero(near.labels.array)[0]).tolist() == [3, 4, 5]


def test_what_somebody_drew_is_kept_and_wins(predictor):
    scan, mask = block((5, 20, 30), (4, 6, 0, 14, 12, 5))
    drawn = np.zeros_like(mask)
    drawn[2, 7:11, 5:9] = True
    prompts = [Prompt("box", box=(4, 6, 14, 12), slice=2), Prompt("drawn", mask=drawn)]
    found = predictor.segment(scan, prompts, propagate=True)
    np.testing.assert_array_equal(found.labels.array[2] == 2, drawn[2])
    assert [answer.pixels for answer in found.results if answer.slice == 2 and answer.label == 2] == [16]


def test_an_object_that_is_not_there_is_reported(predictor):
    scan, _ = block((3, 20, 30), (4, 6, 0, 14, 12, 3))
    for propagate in (False, True):
        found = predictor.segment(scan, [Prompt("gone", box=(20, 2, 28, 9), slice=1)], propagate=propagate, zoom="off")
        assert found.labels.array.max() == 0
        assert [(answer.slice, answer.pixels) for answer in found.results] == [(1, 0)]
        assert any("Nothing was found for 'gone' on slice 1" in note for note in found.notes)


def test_two_objects_of_one_label_on_a_slice_are_not_followed(predictor):
    scan, _ = block((3, 20, 30), (4, 6, 0, 14, 12, 3))
    prompts = [Prompt("node", box=(4, 6, 8, 12), slice=1), Prompt("node", box=(9, 6, 14, 12), slice=1)]
    with pytest.raises(PromptError, match="labels of their own"):
        predictor.segment(scan, prompts, propagate=True)
    with pytest.raises(PromptError, match="leave `propagate` out"):
        predictor.segment(scan, prompts[:1], propagate=True, all_masks=True)


def test_lung_is_followed_through_the_window_it_was_found_in(predictor):
    array = np.full((9, 20, 30), -900.0, np.float32)
    array[2:7, 6:12, 4:14] = -200
    scan = Volume(array, VolumeGeometry(array.shape, np.eye(4)), modality="CT")
    found = predictor.segment(scan, [Prompt(box=(4, 6, 14, 12), slice=4)], propagate=True)
    assert np.unique(np.nonzero(found.labels.array)[0]).tolist() == [2, 3, 4, 5, 6]


def test_all_masks_are_three_label_maps_best_first():
    class Ambiguous(ThresholdSam):
        def decode(self, *arguments, multimask=False, **options):
            logits, _ = super().decode(*arguments, multimask=multimask, **options)
            if multimask:
                logits = torch.stack([logits[:, :, 0] - 9, logits[:, :, 0], logits[:, :, 0] + 9], dim=2)
                predicted_iou = torch.tensor([0.2, 0.9, 0.5]).expand(*logits.shape[:3])
            else:
                predicted_iou = torch.full(logits.shape[:3], 0.7)
            return logits, predicted_iou

    scan, mask = block((1, 20, 30), (4, 6, 0, 14, 12, 1))
    found = Predictor(Ambiguous(64), "cpu").segment(scan, [Prompt(box=(4, 6, 14, 12))], all_masks=True, zoom="off")
    best, second, third = (labels.array for labels in found.alternatives)
    np.testing.assert_array_equal(best == 1, mask)
    assert second.all()
    assert not third.any()
    assert found.results[0].candidates == pytest.approx((0.9, 0.5, 0.2))


def test_small_islands_and_holes_go_unless_they_are_kept_or_clicked(predictor):
    scan, _ = block((1, 30, 30), (4, 6, 0, 24, 26, 1))
    scan.array[0, 15, 10] = 20  # a hole of one mm
    scan.array[0, 2, 2] = 200  # and an island
    asked = [Prompt("a", box=(0, 0, 30, 30))]
    cleaned = predictor.segment(scan, asked, zoom="off").labels.array[0]
    assert cleaned[15, 10] == 1
    assert cleaned[2, 2] == 0
    kept = predictor.segment(scan, asked, zoom="off", tidy=Cleanup(keep_islands=True)).labels.array[0]
    assert (kept[15, 10], kept[2, 2]) == (0, 1)
    clicked = [Prompt("a", box=(0, 0, 30, 30), points=((2, 2, 1), (12, 12, 1)))]
    assert predictor.segment(scan, clicked, zoom="off").labels.array[0, 2, 2] == 1


def test_a_click_outside_the_box_is_honoured_by_every_zoom(predictor):
    scan, _ = block((1, 40, 60), (10, 10, 0, 40, 30, 1))
    prompts = [Prompt("a", box=(10, 10, 30, 30), points=((36, 20, 1),))]
    for zoom in ("on", "auto"):
        assert predictor.segment(scan, prompts, zoom=zoom).labels.array[0, 20, 36] == 1


def test_a_start_stays_where_nothing_is_asked(predictor):
    scan, mask = block((5, 20, 30), (4, 6, 1, 14, 12, 4))
    array = mask * np.uint8(4)
    array[2, 15:18, 4:14] = 4  # too much
    array[:, 0:3, 25:29] = 9
    start = LabelVolume(array, scan.geometry, {4: "lesion", 9: "other"})
    click = Prompt("Lesion", slice=2, points=((8, 16, 0),))
    found = predictor.segment(scan, click, zoom="off", start=start)
    expected = array.copy()
    expected[2, 15:18, 4:14] = 0
    np.testing.assert_array_equal(found.labels.array, expected)
    assert found.labels.names == {4: "lesion", 9: "other"}
    assert found.kept == {4: (1, 3), 9: (0, 1, 2, 3, 4)}
    lesion, other = found.to_dict(masks=False)["labels"]
    assert (lesion["kept"], lesion["slices"], other["slices"]) == ([1, 3], [1, 2, 3], [0, 1, 2, 3, 4])
    again = Segmentation.from_dict(found.to_dict())
    assert found.structures is None
    assert (again.kept, again.labels.names) == (found.kept, found.labels.names)
    # masks by name, which overlap: the first keeps its voxels
    masks = {"a": array > 0, "b": array == 9}
    found = predictor.segment(scan, Prompt("a", slice=2, points=((8, 16, 0),)), zoom="off", start=masks)
    np.testing.assert_array_equal(found.labels.array, (expected > 0).astype(np.uint16))
    np.testing.assert_array_equal(found.structures["a"], expected > 0)
    np.testing.assert_array_equal(found.structures["b"], masks["b"])
    assert found.written_as(Path("m.dcm")) is found.structures
    assert found.written_as(Path("m.dcm"), "seg-labelmap") is found.written_as(Path("m.mha")) is found.labels


def test_what_is_odd_about_a_file_to_start_from_is_said(predictor, tmp_path):
    scan, mask = block((5, 20, 30), (4, 6, 1, 14, 12, 4))
    array = mask.astype(np.uint8)
    array[0, 0, 0] = 2
    path = save_labels(LabelVolume(array, scan.geometry, {1: "lesion", 2: "Lesion"}), tmp_path / "a.nii.gz")
    found = predictor.segment(scan, Prompt("lesion", slice=2, points=((22, 10, 1),)), zoom="off", start=path)
    assert found.notes[0] == "2 labels named 'lesion' are read as one structure."
    assert found.labels.array[0, 0, 0] == 1


def test_what_a_correction_cannot_do_is_said(predictor):
    scan, mask = block((5, 20, 30), (4, 6, 1, 14, 12, 4))
    start = {"lesion": mask, "rim": ~mask & (np.arange(30) > 20)}
    found = predictor.segment(scan, Prompt("lesion", slice=2, points=((22, 10, 1),)), zoom="off", start=start)
    assert "The point 22,10 for 'lesion' on slice 2 lies in 'rim', which stays as it was" in found.notes[-1]
    found = predictor.segment(scan, Prompt("lesion", slice=2, points=((6, 8, 1),)), zoom="off", start=start)
    assert "The points for 'lesion' on slice 2 changed nothing" in found.notes[-1]
    found = predictor.segment(scan, Prompt("new", box=(4, 6, 14, 12), slice=0), zoom="off", start=start)
    assert "'new' was not there before (there were 'lesion', 'rim'), and is new." in found.notes
    for option in ("propagate", "all_masks"):
        with pytest.raises(PromptError, match=f"leave `{option}` out"):
            predictor.segment(scan, Prompt("lesion", slice=2, points=((5, 7, 1),)), start=start, **{option: True})
