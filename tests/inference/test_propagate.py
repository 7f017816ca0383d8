import itertools
import math
import pickle

import numpy as np
import pytest
from phantoms import ThresholdSam, random_affine

from medsam.errors import PromptError
from medsam.geometry import VolumeGeometry
from medsam.inference.image_predictor import ImagePredictor
from medsam.inference.propagate import PropagateSettings, propagate, propagate_all
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import tight_box
from medsam.volume import Volume


def encoder_for(truth, spacing_kji=(1, 1, 1), *, array=None, axis="k", affine=None, inside=200.0):
    """A scan of a drawn object, bright on dark, and a network that sees what is bright."""
    if array is None:
        # no two slices alike: equal ones share an embedding
        array = np.where(truth, inside, 20.0) + 0.01 * grid(truth.shape)[0]
    affine = np.diag([*spacing_kji[::-1], 1.0]) if affine is None else affine
    scan = Volume(array.astype(np.float32), VolumeGeometry(truth.shape, affine))
    # one window for all slices: the phantom model tells bright from dark by the middle of the slice's range
    return ImagePredictor(ThresholdSam(), device="cpu").encoder_for(scan, axis=axis, window="none")


def box_on(truth, index):
    return {index: SlicePrompt(1, tight_box(truth[index], 1))}


def volume(found, shape):
    whole = np.zeros(shape, bool)
    for index, mask in found.masks.items():
        whole[index] = mask
    return whole


def dice(truth, found):
    answer = volume(found, truth.shape)
    return 2 * (truth & answer).sum() / (truth.sum() + answer.sum())


def grid(shape):
    return np.mgrid[tuple(slice(n) for n in shape)].astype(float)


@pytest.fixture
def cylinder():
    """Slices 4 ... 15 of 20, radius 8."""
    k, j, i = grid((20, 40, 44))
    return (np.hypot(j - 20, i - 21) <= 8) & (k >= 4) & (k < 16)


def test_a_cylinder_comes_back_whole_from_one_box_and_stops_at_its_ends(cylinder):
    found = propagate(encoder_for(cylinder), box_on(cylinder, 9))
    np.testing.assert_array_equal(volume(found, cylinder.shape), cylinder)
    assert found.stop_reasons == {3: "vanished", 16: "vanished"}
    assert list(found.masks) == list(found.predicted_iou) == list(found.confidence) == list(range(4, 16))
    # the predicted IoU of the phantom, and from the next slice on how sure its pixels are; neighbours are equal
    assert found.confidence[9] == pytest.approx(0.9)
    walked = [confidence for index, confidence in found.confidence.items() if index != 9]
    assert walked == pytest.approx([walked[0]] * 11)
    assert 0.7 < walked[0] < 0.9


def test_an_object_cut_off_by_the_scan_ends_there(cylinder):
    truth = cylinder[4:16]
    found = propagate(encoder_for(truth), box_on(truth, 0))
    np.testing.assert_array_equal(volume(found, truth.shape), truth)
    assert found.stop_reasons == {-1: "end of scan", 12: "end of scan"}


def test_a_cone_is_followed_both_ways():
    k, j, i = grid((16, 48, 48))
    truth = np.hypot(j - 24, i - 24) <= 6 + 0.8 * k
    found = propagate(encoder_for(truth), box_on(truth, 8))
    assert dice(truth, found) > 0.99
    assert len(found.masks) == 16
    # the first step changes a slice as much as any, so confidence falls at once and never rises
    up = [found.confidence[n] for n in range(8, 16)]
    assert up == sorted(up, reverse=True)
    assert up[0] > up[-1] > 0.5
    assert found.look_first == min(found.confidence, key=found.confidence.get)
    assert found.look_first in (0, 15)


def test_a_sphere_lacks_at_most_its_polar_caps():
    k, j, i = grid((31, 48, 48))
    truth = np.sqrt((k - 15) ** 2 + (j - 24) ** 2 + (i - 24) ** 2) <= 12
    found = propagate(encoder_for(truth), box_on(truth, 15))
    assert dice(truth, found) > 0.98
    assert not (volume(found, truth.shape) & ~truth).any()
    assert len(found.masks) >= 25 - 4


def test_the_cap_of_an_object_is_kept_though_it_fades_and_the_walk_ends_there():
    k, j, i = grid((12, 48, 48))
    truth = (np.hypot(j - 24, i - 24) <= np.where(k == 9, 8, 11)) & (k <= 9)
    array = np.where(truth, 200.0, 20.0) + 0.01 * k
    # some of the object and some of its surroundings look like its cap, of which half a slice is something else
    array[np.random.default_rng(0).random(truth.shape) < 0.2] = 110.0
    array[9][truth[9]] = 110.0
    found = propagate(encoder_for(truth, (3, 1, 1), array=array), box_on(truth, 4))
    assert found.stop_reasons[10] == "vanished"
    assert max(found.masks) == 9
    assert dice(truth, found) > 0.9


def test_boxes_grow_in_millimetres_on_anisotropic_pixels(cylinder):
    k, j, i = grid((8, 20, 60))
    truth = np.hypot(3 * (j - 10), i - 30) <= 12 + k  # pixels of 3 x 1 mm, slices 5 mm apart
    found = propagate(encoder_for(truth, (5, 3, 1)), box_on(truth, 3))
    assert dice(truth, found) > 0.97
    assert len(found.masks) == 8


@pytest.mark.parametrize("axis", ["i", "j", "k"])
def test_every_axis_gives_the_same(cylinder, axis):
    back = {"k": (0, 1, 2), "j": (1, 0, 2), "i": (1, 2, 0)}[axis]
    turned = cylinder.transpose(back)
    found = propagate(encoder_for(turned, axis=axis), box_on(cylinder, 9))
    np.testing.assert_array_equal(volume(found, cylinder.shape), cylinder)


def test_how_the_scan_is_stored_makes_no_difference(cylinder):
    rng = np.random.default_rng(3)
    for _ in range(4):
        affine = random_affine(rng, (1, 1, 2), oblique=True)
        found = propagate(encoder_for(cylinder, affine=affine), box_on(cylinder, 9))
        np.testing.assert_array_equal(volume(found, cylinder.shape), cylinder)


def test_two_prompted_slices_meet(cylinder):
    k, j, i = grid((20, 40, 44))
    leaning = np.hypot(j - 20, i - 12 - k) <= 8
    found = propagate(encoder_for(leaning), {**box_on(leaning, 3), **box_on(leaning, 15)})
    assert dice(leaning, found) > 0.99
    assert found.stop_reasons == {-1: "end of scan", 3: "met", 15: "met", 20: "end of scan"}


def test_where_one_way_ends_the_other_way_goes_on_and_where_both_have_the_prompted_slices_tell(cylinder):
    broken = cylinder.copy()
    broken[8] = False
    found = propagate(encoder_for(broken), {**box_on(broken, 5), **box_on(broken, 13)})
    np.testing.assert_array_equal(volume(found, broken.shape), cylinder)
    assert found.stop_reasons[8] == "vanished"
    # nothing is known of what lies beyond a slice without the object, nor farther than asked
    assert 8 not in propagate(encoder_for(broken), box_on(broken, 5)).masks
    near = PropagateSettings(max_mm=2)
    assert 8 not in propagate(encoder_for(broken), {**box_on(broken, 5), **box_on(broken, 13)}, settings=near).masks


def test_between_two_answers_the_outline_moves_from_one_to_the_other():
    # everything between is bright, so each way only repeats its own, slowly growing box
    truth = np.ones((7, 60, 60), bool)
    truth[0], truth[6] = False, False
    seeds = {}
    for index, half in ((0, 6), (6, 14)):
        mask = np.zeros((60, 60), bool)
        mask[30 - half : 30 + half, 30 - half : 30 + half] = True
        seeds[index] = SlicePrompt(1, mask=mask)
    still = PropagateSettings(grow=0, grow_px=0, min_likeness=-math.inf, max_growth=100, min_overlap=0)
    # a dark corner, since the phantom model compares
    array = np.where(truth, 200.0, 20.0)
    array[:, 0, 0] = 20.0
    found = propagate(encoder_for(truth, array=array), seeds, settings=still)
    areas = [int(found.masks[n].sum()) for n in range(7)]
    assert areas == sorted(areas)
    assert areas[0] == 12**2
    assert areas[6] == 28**2
    assert 16**2 < areas[3] < 26**2
    # both ways answered, and differ: less sure than either drawing
    assert found.confidence[3] < 0.9 < found.confidence[0] == 1.0


def test_a_slice_that_is_fixed_parts_what_lies_before_it_from_what_lies_behind():
    k, j, i = grid((24, 48, 60))
    truth = np.hypot(j - 24, i - 18 - k) <= 8 + 0.2 * k
    scan_encoder = encoder_for(truth)
    before = propagate(scan_encoder, {**box_on(truth, 4), **box_on(truth, 12), **box_on(truth, 20)})
    corrected = truth[4].copy()
    corrected[24:] = False
    after = propagate(scan_encoder, {4: SlicePrompt(1, mask=corrected), **box_on(truth, 12), **box_on(truth, 20)})
    np.testing.assert_array_equal(after.masks[4], corrected)
    assert any(not np.array_equal(after.masks[n], before.masks[n]) for n in range(5, 12))
    for index in range(12, 24):
        np.testing.assert_array_equal(after.masks[index], before.masks[index])
        assert after.confidence[index] == before.confidence[index]


def test_a_drawn_mask_is_taken_as_it_is(cylinder):
    drawn = cylinder[9].copy()
    drawn[12:14] = False
    found = propagate(encoder_for(cylinder), {9: SlicePrompt(1, mask=drawn)})
    np.testing.assert_array_equal(found.masks[9], drawn)
    assert math.isnan(found.predicted_iou[9])
    assert found.confidence[9] == 1.0
    assert list(found.masks) == list(range(4, 16))


def test_another_object_behind_it_is_noticed_by_its_grey_levels(cylinder):
    array = np.where(cylinder, 160.0, 20.0)
    array[:, 0, 0] = 250.0
    array[16:][:, 14:27, 15:28] = 250.0  # touches the end face; as bright as nothing in the prompted slice
    array[4:16, 4:36, 4:12] = 250.0  # a neighbour in the prompted slice looks like that
    scan_encoder = encoder_for(cylinder, array=array)
    found = propagate(scan_encoder, box_on(cylinder, 9))
    assert max(found.masks) == 15
    assert found.stop_reasons[16] == "vanished"


def test_another_object_beside_it_is_noticed_by_its_outline(cylinder):
    scan = cylinder.copy()
    scan[16:, 23:34, 23:34] = True  # overlaps the cylinder by a corner
    found = propagate(encoder_for(scan), box_on(cylinder, 9))
    np.testing.assert_array_equal(volume(found, cylinder.shape), cylinder)
    assert found.stop_reasons[16] == "stopped agreeing"


def test_a_neighbour_within_the_grown_box_does_not_leak_in():
    _, j, i = grid((12, 40, 60))
    truth = np.hypot(j - 20, i - 20) <= 8
    scan = truth | (np.hypot(j - 20, i - 38) <= 8)  # a pixel of background between them
    found = propagate(encoder_for(scan), box_on(truth, 6))
    np.testing.assert_array_equal(volume(found, truth.shape), truth)


def test_growth_is_bounded_by_the_prompted_slice():
    k, j, i = grid((16, 64, 64))
    truth = np.hypot(j - 32, i - 32) <= 6 + k
    found = propagate(encoder_for(truth), box_on(truth, 2), settings=PropagateSettings(max_growth=2))
    largest = max(int(mask.sum()) for mask in found.masks.values())
    assert 1.5 * found.masks[2].sum() < largest <= 2 * found.masks[2].sum()
    assert "stopped agreeing" in found.stop_reasons.values()


def test_what_looks_like_its_surroundings_keeps_its_outline():
    truth = np.ones((60, 64, 64), bool)
    truth[:, 0, 0] = False
    found = propagate(encoder_for(truth), {30: SlicePrompt(1, (28, 28, 36, 36))})
    areas = [int(mask.sum()) for mask in found.masks.values()]
    assert len(areas) == 60
    assert max(areas) <= 1.5 * min(areas)


def test_a_reach_in_millimetres(cylinder):
    found = propagate(encoder_for(cylinder, (2.5, 1, 1)), box_on(cylinder, 9), settings=PropagateSettings(max_mm=7.5))
    assert list(found.masks) == list(range(6, 13))
    assert found.stop_reasons == {}


def test_pieces_that_do_not_meet_the_last_mask_are_left_out(cylinder):
    scan = cylinder.copy()
    scan[4:16, 13, 30] = True  # inside the grown box, apart from the disc
    scan[4:16, 20, 30:32] = False
    found = propagate(encoder_for(scan), {9: SlicePrompt(1, mask=cylinder[9])})
    assert not any(mask[13, 30] for mask in found.masks.values())


def test_many_objects_of_a_scan_cost_one_look_a_slice(cylinder):
    k, j, i = grid((20, 40, 88))
    left, right = np.hypot(j - 20, i - 21) <= 8, np.hypot(j - 20, i - 64) <= 6 + 0.2 * k
    scan_encoder = encoder_for(left | right)
    objects = {"left": box_on(left, 5), "right": box_on(right, 14)}
    found = propagate_all(scan_encoder, objects)
    assert scan_encoder.image_predictor.sam.encoded == 20
    # each on its twenty slices, and once more where it was prompted
    assert scan_encoder.image_predictor.sam.decoded == 2 * (20 + 1)
    assert list(found) == ["left", "right"]
    for name, seeds in objects.items():
        alone = propagate(scan_encoder, seeds)
        np.testing.assert_array_equal(volume(alone, left.shape), volume(found[name], left.shape))
    assert scan_encoder.image_predictor.sam.encoded == 20


def test_only_visited_slices_are_encoded_and_once_each(cylinder):
    array = np.where(cylinder, 200.0, 20.0)
    array[range(20), 0, range(20)] = 200.0  # blank slices would share an embedding
    scan_encoder = encoder_for(cylinder, array=array)
    seen = []
    propagate(scan_encoder, box_on(cylinder, 9), progress=lambda *step: seen.append(step))
    # twelve of the object, and one behind each end
    assert scan_encoder.image_predictor.sam.encoded == 12 + 2
    assert seen[0] == (0, 20)
    assert seen[-1] == (20, 20)
    assert seen == sorted(seen)


def test_masks_are_kept_small_and_come_whole(cylinder):
    found = propagate(encoder_for(cylinder), box_on(cylinder, 9))
    np.testing.assert_array_equal(found.masks[9], cylinder[9])
    found.masks[9][:] = False
    np.testing.assert_array_equal(found.masks[9], cylinder[9])
    assert len(pickle.dumps(found.masks)) < cylinder[4:16].size / 3
    assert dict(found.masks).keys() == set(range(4, 16))
    with pytest.raises(KeyError):
        found.masks[3]


def test_many_prompted_slices_can_be_cancelled_between_any_two(cylinder):
    scan_encoder, encoded = encoder_for(cylinder), []
    drawn = {index: SlicePrompt(1, None, (), cylinder[index]) for index in (4, 7, 10, 13)}
    sam = scan_encoder.image_predictor.sam
    propagate(scan_encoder, drawn, progress=lambda done, total: encoded.append(sam.encoded))
    assert max(after - before for before, after in itertools.pairwise(encoded)) == 1


def test_the_same_question_has_the_same_answer(cylinder):
    first, second = (propagate(encoder_for(cylinder), box_on(cylinder, 9)) for _ in range(2))
    np.testing.assert_array_equal(volume(first, cylinder.shape), volume(second, cylinder.shape))
    assert (first.predicted_iou, first.confidence, first.stop_reasons) == (
        second.predicted_iou,
        second.confidence,
        second.stop_reasons,
    )


def test_an_empty_first_answer_goes_nowhere(cylinder):
    scan_encoder = encoder_for(cylinder)
    found = propagate(scan_encoder, {9: SlicePrompt(1, (1, 1, 5, 5))})
    assert (found.masks, found.stop_reasons, found.look_first) == ({}, {9: "vanished"}, None)
    assert scan_encoder.image_predictor.sam.encoded == 1


def test_one_slice_is_a_volume_too(cylinder):
    found = propagate(encoder_for(cylinder[9:10]), box_on(cylinder[9:10], 0))
    np.testing.assert_array_equal(found.masks[0], cylinder[9])
    assert found.stop_reasons == {-1: "end of scan", 1: "end of scan"}


def test_clicks_and_boxes_may_start_it(cylinder):
    found = propagate(encoder_for(cylinder), {9: SlicePrompt(1, points=((21.0, 20.0, 1),))})
    np.testing.assert_array_equal(volume(found, cylinder.shape), cylinder)


def test_wrong_questions(cylinder):
    scan_encoder = encoder_for(cylinder)
    with pytest.raises(PromptError, match="at least one object"):
        propagate_all(scan_encoder, {})
    with pytest.raises(PromptError, match="no prompt to propagate for 'liver'"):
        propagate_all(scan_encoder, {"liver": {}})
    with pytest.raises(PromptError, match=r"'liver' needs slice 20, but axis k has the slices 0 ... 19"):
        propagate_all(scan_encoder, {"liver": {20: SlicePrompt(1, (1, 1, 5, 5))}})
    for wrong in ({"grow": -0.1}, {"min_overlap": 1.5}, {"max_growth": math.nan}, {"max_mm": -1}):
        with pytest.raises(PromptError, match=next(iter(wrong))):
            PropagateSettings(**wrong)


@pytest.mark.weights
def test_the_real_model_follows_an_ellipsoid(litemedsam):
    k, j, i = grid((5, 96, 96))
    truth = ((k - 2) / 2.8) ** 2 + ((j - 48) / 20) ** 2 + ((i - 44) / 26) ** 2 <= 1
    rng = np.random.default_rng(0)
    array = np.where(truth, 150.0, 60.0) + rng.normal(0, 8, truth.shape)
    scan = Volume(array.astype(np.float32), VolumeGeometry(truth.shape, np.diag([1, 1, 3, 1.0])))
    found = propagate(ImagePredictor(litemedsam, "cpu").encoder_for(scan, axis="k"), box_on(truth, 2))
    assert dice(truth, found) > 0.9
    assert all(0 <= value <= 1 for value in found.confidence.values())
