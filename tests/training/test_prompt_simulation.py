"""Simulated prompts on drawn masks: where they fall, what each round is asked, what they depend on."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.models.sam import Sam
from medsam.models.specs import tiny_spec
from medsam.prompts.simulate import tight_box
from medsam.training.losses import mask_loss
from medsam.training.prompt_simulation import (
    PromptSimulation,
    Round,
    error_points,
    noisy_boxes,
    random_points,
    simulate,
    some_points,
)

SIDE, SIZE = 16, 64
PAPER = PromptSimulation()
# on small boxes in a small input the cap makes many shifts equal
UNCAPPED = PromptSimulation(box_noise_px=1000)


def even(count: int) -> torch.Tensor:
    """(1, count) numbers spread evenly over [0, 1)."""
    return ((torch.arange(count) + 0.5) / count)[None]


def pixels(xy: torch.Tensor, side: int = SIDE, size: int = SIZE) -> torch.Tensor:
    """Column and row of the logit pixel whose centre is met, once half a pixel is added."""
    cell = (xy + 0.5) * side / size
    torch.testing.assert_close(cell - cell.floor(), torch.full_like(cell, 0.5))
    return cell.floor().long()


def drawing() -> torch.Tensor:
    """Truth (2, 3, SIDE, SIDE): discs and bars; the last of image 1 is empty."""
    truth = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.bool)
    truth[0, 0, 2:7, 3:9] = truth[0, 1, 10, 1:15] = truth[0, 2, 5:12, 5:12] = True
    truth[1, 0, :4, :4] = truth[1, 1, 12:, 9:] = True
    return truth


def scene(**changes):
    """Arguments of `simulate` for the drawing, boxes in a slice that fills the input."""
    truth = drawing()
    boxes = torch.tensor(
        [[[12.0, 8, 36, 28], [4, 40, 60, 44], [20, 20, 48, 48]], [[0, 0, 16, 16], [36, 48, 64, 64], [0, 0, 0, 0]]]
    )
    pixel, bounds = torch.full((2, 2), 2.0), torch.full((2, 2), 64.0)
    seeds = torch.tensor([7, 1234567890123])
    return {
        "targets": truth,
        "boxes": boxes,
        "pixel": pixel,
        "bounds": bounds,
        "seeds": seeds,
        "size": SIZE,
    } | changes


class Recorder:
    """Answers with what a seeded generator says, and keeps what it was asked."""

    def __init__(self, answer: torch.Tensor | None = None) -> None:
        self.asked: list[dict] = []
        self.answered: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.generator = torch.Generator().manual_seed(0)
        self.answer = answer

    def __call__(self, *, multimask, **prompts):
        given = prompts.get("boxes", prompts.get("points"))
        masks = {None: 4, True: 3, False: 1}[multimask]
        shape = (*given.shape[:2], masks)
        logits = torch.randn(*shape, SIDE, SIDE, generator=self.generator)
        if self.answer is not None:
            logits = self.answer[:, :, None].expand_as(logits)
        predicted_iou = torch.randn(shape, generator=self.generator)
        self.asked.append({"multimask": multimask, **prompts})
        self.answered.append((logits.clone().requires_grad_(), predicted_iou.requires_grad_()))
        return self.answered[-1]


def run(chosen: PromptSimulation, answer: torch.Tensor | None = None, **changes) -> tuple[Recorder, list[Round]]:
    recorder = Recorder(answer)
    return recorder, list(simulate(recorder, settings=chosen, **scene(**changes)))


# points


def test_a_random_point_is_any_pixel_of_the_region_equally_often():
    region = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    region[2, 5] = region[2, 9] = region[15, 0] = region[15, 15] = region[0, 0] = True
    count = 500
    xy, found = random_points(region.expand(1, count, -1, -1), even(count), SIZE)
    assert found.all()
    column, row = pixels(xy[0]).T
    assert torch.bincount(row * SIDE + column, minlength=SIDE**2).reshape(SIDE, SIDE).tolist() == (
        (region * 100).tolist()
    )


def test_drawn_points_are_uniform_over_the_mask():
    truth = drawing()[:1, :1].expand(1, 6000, -1, -1)
    changes = {"targets": truth, "boxes": torch.zeros(1, 6000, 4), "seeds": torch.tensor([3])}
    changes |= {"pixel": torch.ones(1, 2), "bounds": torch.full((1, 2), 64.0)}
    recorder, _ = run(PromptSimulation(first="point"), **changes)
    column, row = pixels(recorder.asked[0]["points"][0, :, 0]).T
    hits = torch.bincount(row * SIDE + column, minlength=SIDE**2).reshape(SIDE, SIDE)
    inside = truth[0, 0]
    assert not hits[~inside].any()
    # 30 pixels, 200 expected in each; chi-square with 29 degrees of freedom is below 58 in 99.9 %
    assert ((hits[inside] - 200.0) ** 2 / 200).sum() < 58


def test_the_ends_of_the_draw_are_the_first_and_the_last_pixel():
    region = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    region[..., 1:3, 1:3] = True
    xy, _ = random_points(region, torch.tensor([[0.0, 1.0]]), 4)
    assert xy.tolist() == [[[1, 1], [2, 2]]]


def test_a_point_of_a_256_grid_meets_the_centre_of_its_cell_in_a_1024_input():
    region = torch.zeros(1, 1, 256, 256, dtype=torch.bool)
    region[0, 0, 10, 3] = True
    xy, _ = random_points(region, torch.tensor([[0.3]]), 1024)
    assert xy.tolist() == [[[13.5, 41.5]]]


def test_an_empty_region_has_no_point():
    xy, found = random_points(torch.zeros(1, 2, 4, 4, dtype=torch.bool), torch.tensor([[0.0, 0.9]]), 8)
    assert not found.any()
    assert ((xy >= 0) & (xy < 8)).all()


def test_error_points_are_on_missed_pixels_as_inside_and_on_false_ones_as_outside():
    truth, answer = torch.zeros(SIDE, SIDE, dtype=torch.bool), torch.full((SIDE, SIDE), -1.0)
    truth[4:8, 4:8] = True
    # one row missed, two rows too many
    answer[5:10, 4:8] = 1.0
    count = 120
    xy, labels = error_points(truth.expand(1, count, -1, -1), answer.expand(1, count, -1, -1), even(count), SIZE)
    row = pixels(xy[0])[:, 1]
    assert sorted(set(row.tolist())) == [4, 8, 9]
    assert labels[0].tolist() == [int(r == 4) for r in row.tolist()]
    assert labels.sum() == count / 3


def test_an_answer_without_error_gets_a_padding_point():
    truth = drawing()
    answer = torch.where(truth, 1.0, -1.0)
    _, labels = error_points(truth, answer, torch.full((2, 3), 0.5), SIZE)
    assert (labels == -1).all()


# boxes


def noisy(boxes, draws, chosen=PAPER, *, pixel=(1.0, 1.0), bounds=(1024.0, 1024.0), size=1024):
    """Of one image."""
    there = (torch.tensor([pixel]), torch.tensor([bounds]))
    return noisy_boxes(torch.as_tensor(boxes)[None], *there, torch.as_tensor(draws)[None], chosen, size)[0]


def random_draws(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 5, generator=torch.Generator().manual_seed(seed))


def test_edges_move_by_a_tenth_of_their_side():
    box = torch.tensor([400.0, 300, 500, 350])
    shift = noisy(box.expand(4000, 4), random_draws(4000)) - box
    assert shift.mean(dim=0).abs().max() < 0.5
    torch.testing.assert_close(shift.std(dim=0), torch.tensor([10.0, 5, 10, 5]), rtol=0.05, atol=0)
    assert shift.T.corrcoef().fill_diagonal_(0).abs().max() < 0.06


@pytest.mark.parametrize(("size", "cap"), [(1024, 20.0), (256, 5.0)])
def test_no_edge_moves_further_than_twenty_pixels_of_a_1024_input(size, cap):
    box = torch.tensor([0.1, 0.1, 0.9, 0.9]) * size
    moved = noisy(box.expand(1000, 4), random_draws(1000), bounds=(float(size),) * 2, size=size)
    assert (moved - box).abs().max().item() == pytest.approx(cap, rel=1e-4)


def test_without_noise_the_box_is_shown_as_it_is():
    box = [[3.25, 4, 17, 9]]
    assert noisy(box, random_draws(1), PromptSimulation(box_noise=0)).tolist() == box


@settings(deadline=None, max_examples=200)
@given(
    corners=st.tuples(*[st.floats(0, 64, width=32)] * 4),
    noise=st.floats(0, 5),
    outward=st.integers(0, 50),
    pixel=st.tuples(*[st.floats(0.125, 8, width=32)] * 2),
    bounds=st.tuples(*[st.floats(16, 64, width=32)] * 2),
    draws=st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=5, max_size=5),
)
def test_boxes_are_never_empty_never_inverted_and_inside(corners, noise, outward, pixel, bounds, draws):
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(corners[2:])
    chosen = PromptSimulation(box_noise=noise, box_noise_px=1000, outward_px=outward)
    ((left, top, right, bottom),) = noisy(
        [[x0, y0, x1, y1]], [draws], chosen, pixel=pixel, bounds=bounds, size=64
    ).tolist()
    assert 0 <= left < right <= bounds[0]
    assert 0 <= top < bottom <= bounds[1]
    assert right - left >= 0.499 * pixel[0]
    assert bottom - top >= 0.499 * pixel[1]


def test_outward_boxes_grow_by_whole_stored_pixels():
    box = torch.tensor([200.0, 300, 400, 500])
    moved = noisy(box.expand(5000, 4), random_draws(5000), PromptSimulation(outward_px=4), pixel=(2.0, 3.0))
    grown = (moved - box) * torch.tensor([-1.0, -1, 1, 1]) / torch.tensor([2.0, 3, 2, 3])
    assert torch.equal(grown, grown.round())
    # most n of 0 ... 4, then 0 ... n: P(0) = (1 + 1/2 + 1/3 + 1/4 + 1/5) / 5, P(4) = 1/25
    share = torch.bincount(grown.flatten().long(), minlength=5) / grown.numel()
    expected = torch.tensor([sum(1 / (n + 1) for n in range(k, 5)) / 5 for k in range(5)])
    torch.testing.assert_close(share, expected, atol=0.015, rtol=0)
    # one n a box: a fifth and a little more is tight on all sides
    assert (grown == 0).all(dim=1).float().mean().item() == pytest.approx(
        sum((1 / (n + 1)) ** 4 for n in range(5)) / 5, abs=0.02
    )


def test_outward_boxes_stop_at_the_edge_of_the_slice():
    moved = noisy(
        [[1.0, 1, 62, 40]] * 50, random_draws(50), PromptSimulation(outward_px=30), bounds=(64.0, 48.0), size=64
    )
    assert moved.amin(dim=0)[:2].tolist() == [0, 0]
    assert moved.amax(dim=0)[2:].tolist() == [64, 48]


# rounds


def test_a_box_alone_is_answered_by_all_tokens_in_two_groups():
    recorder, rounds = run(PromptSimulation())
    (asked,), (round_,) = recorder.asked, rounds
    assert asked.keys() == {"boxes", "multimask"}
    assert asked["multimask"] is None
    (one, one_quality), (three, three_quality) = round_.mask_groups()
    logits, predicted_iou = recorder.answered[0]
    assert torch.equal(one, logits[:, :, :1])
    assert torch.equal(three, logits[:, :, 1:])
    assert torch.equal(one_quality, predicted_iou[:, :, :1])
    assert torch.equal(three_quality, predicted_iou[:, :, 1:])


def test_a_point_alone_is_ambiguous_and_answered_by_three():
    recorder, rounds = run(PromptSimulation(first="point"))
    (asked,), (round_,) = recorder.asked, rounds
    assert asked.keys() == {"points", "point_labels", "multimask"}
    assert asked["multimask"] is True
    # the truth of image 1's last prompt is empty
    assert asked["point_labels"].tolist() == [[[1], [1], [1]], [[1], [1], [-1]]]
    column, row = pixels(asked["points"][:, :, 0]).unbind(dim=-1)
    hit = scene()["targets"].flatten(2).gather(2, (row * SIDE + column)[..., None])[..., 0]
    assert hit.tolist() == [[True, True, True], [True, True, False]]
    assert [logits.shape[2] for logits, _ in round_.mask_groups()] == [3]


@pytest.mark.parametrize("first", ["box", "point"])
def test_eleven_rounds_as_in_the_paper(first):
    places = set()
    for choose in range(60):
        recorder, rounds = run(PromptSimulation(rounds=11, first=first), choose=choose)
        assert len(rounds) == 11
        counts = [asked["points"].shape[2] if "points" in asked else 0 for asked in recorder.asked]
        without = [n for n in range(1, 11) if counts[n] == counts[n - 1]]
        assert counts[-1] - counts[0] == 8
        assert without[1:] == [10]
        places.add(without[0])
        assert [asked["multimask"] for asked in recorder.asked[1:]] == [False] * 10
        assert all(("boxes" in asked) == (first == "box") for asked in recorder.asked)
        assert ["masks" in asked for asked in recorder.asked] == [False] + [True] * 10
    assert places == set(range(1, 9))


@pytest.mark.parametrize(
    ("rounds", "counts"),
    [(1, [[1]]), (2, [[1, 2]]), (3, [[1, 2, 3]]), (4, [[1, 1, 2, 2]]), (5, [[1, 1, 2, 3, 3], [1, 2, 2, 3, 3]])],
)
def test_points_of_fewer_rounds(rounds, counts):
    seen = set()
    for choose in range(20):
        recorder, _ = run(PromptSimulation(rounds=rounds, first="point"), choose=choose)
        seen.add(tuple(asked["points"].shape[2] for asked in recorder.asked))
    assert seen == {tuple(count) for count in counts}


@pytest.mark.parametrize("first", ["box", "point"])
def test_each_round_gets_the_last_answer_without_its_graph_and_a_point_on_its_errors(first):
    truth = scene()["targets"]
    recorder, rounds = run(PromptSimulation(rounds=6, first=first))
    for before, asked, (logits, predicted_iou) in zip(
        recorder.asked, recorder.asked[1:], recorder.answered, strict=False
    ):
        # a box is answered by the single mask; of the three of a point the best by predicted IoU
        best = torch.zeros(2, 3).long() if before["multimask"] is not True else predicted_iou.argmax(dim=2)
        expected = torch.stack([torch.stack([logits[b, p, best[b, p]] for p in range(3)]) for b in range(2)])
        assert torch.equal(asked["masks"], expected)
        assert not asked["masks"].requires_grad
        if "points" not in asked:
            continue
        old = before["points"].shape[2] if "points" in before else 0
        if old:
            assert torch.equal(asked["points"][:, :, :old], before["points"])
            assert torch.equal(asked["point_labels"][:, :, :old], before["point_labels"])
        for new in range(old, asked["points"].shape[2]):
            column, row = pixels(asked["points"][:, :, new]).unbind(dim=-1)
            index = (row * SIDE + column)[..., None]
            said, wanted = ((m.flatten(2).gather(2, index)[..., 0]) for m in (expected > 0, truth))
            assert (said != wanted).all()
            assert torch.equal(asked["point_labels"][:, :, new] == 1, wanted)
        if first == "box":
            assert torch.equal(asked["boxes"], before["boxes"])
    assert rounds[-1].chosen().shape == (2, 3, SIDE, SIDE)


def test_a_perfect_answer_is_asked_about_with_padding_points():
    recorder, _ = run(PromptSimulation(rounds=3), answer=torch.where(drawing(), 1.0, -1.0))
    assert (recorder.asked[-1]["point_labels"] == -1).all()
    assert recorder.asked[-1]["point_labels"].shape == (2, 3, 2)


def test_either_is_one_choice_a_step_with_even_odds():
    boxes = ["boxes" in run(PromptSimulation(first="either"), choose=step)[0].asked[0] for step in range(400)]
    assert 160 < sum(boxes) < 240
    # no pattern from step to step
    assert 160 < sum(a != b for a, b in itertools.pairwise(boxes)) < 240
    other = {"seeds": torch.tensor([99, 98])}
    assert boxes[:20] == [
        "boxes" in run(PromptSimulation(first="either"), choose=s, **other)[0].asked[0] for s in range(20)
    ]


def test_turns_are_decoded_when_asked_for():
    recorder = Recorder()
    rounds = simulate(recorder, settings=PromptSimulation(rounds=5), **scene())
    next(rounds)
    next(rounds)
    assert len(recorder.asked) == 2


# mixed prompts


def mixed(kind: str, **more) -> PromptSimulation:
    """Always begins with `kind`."""
    return PromptSimulation(first="mixed", shares={kind: 1.0}, **more)


@pytest.mark.parametrize(
    ("kind", "asked", "multimask", "points"),
    [
        ("box", {"boxes"}, None, 0),
        ("point", {"points", "point_labels"}, True, 1),
        ("points", {"points", "point_labels"}, None, 7),
        ("scribble", {"points", "point_labels"}, None, 12),
        ("mask", {"boxes", "masks"}, False, 0),
    ],
)
def test_each_kind_comes_first_and_points_follow(kind, asked, multimask, points):
    recorder, rounds = run(mixed(kind, rounds=3))
    assert len(rounds) == 3
    assert recorder.asked[0].keys() == asked | {"multimask"}
    assert recorder.asked[0]["multimask"] is multimask
    assert [one["points"].shape[2] for one in recorder.asked[1:]] == [points + 1, points + 2]
    assert all("masks" in one and one["multimask"] is False for one in recorder.asked[1:])
    assert all(("boxes" in one) == ("boxes" in asked) for one in recorder.asked)


def test_the_first_of_several_points_is_inside_and_the_others_say_what_is_true():
    truth = drawing()[:1, :1].repeat_interleave(8, 2).repeat_interleave(8, 3).expand(1, 200, -1, -1)
    xy, labels = some_points(truth, torch.rand(1, 200, 9, generator=torch.Generator().manual_seed(0)), 128)
    column, row = pixels(xy, 128, 128).unbind(dim=-1)
    there = truth.flatten(2).gather(2, row * 128 + column)
    assert (labels[..., 0] == 1).all()
    assert there[labels == 1].all()
    assert not there[labels == 0].any()
    assert set((labels == 1).sum(-1)[0].tolist()) == {1, 2, 3, 4}
    assert set((labels == 0).sum(-1)[0].tolist()) == {0, 1, 2, 3}


def test_a_rough_mask_comes_with_its_own_box():
    recorder, _ = run(mixed("mask"))
    rough = recorder.asked[0]["masks"] > 0
    for mask, box in zip(rough.flatten(0, 1), recorder.asked[0]["boxes"].flatten(0, 1), strict=True):
        expected = tight_box(mask.numpy(), 1)
        assert (box * SIDE / SIZE).tolist() == list(expected or (0, 0, 0, 0))


def test_kinds_come_as_often_as_their_shares():
    chosen = PromptSimulation(first="mixed", shares={"box": 3, "scribble": 1, "mask": 0})
    assert chosen.kinds == {"box": 0.75, "scribble": 0.25}
    boxes = ["boxes" in run(chosen, choose=step)[0].asked[0] for step in range(400)]
    assert 270 < sum(boxes) < 330


def test_batches_end_after_any_number_of_rounds():
    chosen = PromptSimulation(rounds=3, vary_rounds=True)
    counts = [len(run(chosen, choose=step)[1]) for step in range(300)]
    assert all(70 < counts.count(number) < 130 for number in (1, 2, 3))
    assert counts == [chosen.rounds_of(step) for step in range(300)]


def test_clicks_in_the_middle_lie_deeper():
    truth = torch.zeros(1, 400, 64, 64, dtype=torch.bool)
    truth[:, :, 8:56, 8:56] = True
    changes = {"targets": truth, "boxes": torch.zeros(1, 400, 4), "seeds": torch.tensor([3])}
    changes |= {"pixel": torch.ones(1, 2), "bounds": torch.full((1, 2), 64.0)}

    def from_middle(share: float) -> float:
        recorder, _ = run(PromptSimulation(first="point", middle=share), **changes)
        return float((recorder.asked[0]["points"] - 31.5).abs().mean())

    assert from_middle(1.0) < 0.75 * from_middle(0.0)


# draws


@pytest.mark.parametrize("first", ["box", "point", "points", "scribble", "mask"])
def test_a_sample_is_shown_the_same_prompts_whatever_its_neighbours_and_padding(first):
    chosen = mixed(first, rounds=4, middle=0.5)
    answer = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    together = run(chosen, answer=answer)[0].asked

    def padded(tensor):
        return torch.cat([tensor[1:], tensor.new_zeros(1, 40, *tensor.shape[2:])], dim=1)

    whole = scene()
    alone = {name: padded(whole[name]) for name in ("targets", "boxes")}
    alone |= {name: whole[name][1:] for name in ("pixel", "bounds", "seeds")}
    apart = run(chosen, answer=padded(answer), **alone)[0].asked
    for here, there in zip(together, apart, strict=True):
        for name in here.keys() - {"multimask"}:
            assert torch.equal(here[name][1:], there[name][:, :3]), name


@pytest.mark.parametrize("other", [8, 7 + (1 << 32), 7 - (1 << 63)])
def test_another_seed_is_another_prompt(other):
    here, there = (run(UNCAPPED, seeds=torch.tensor([seed, 1]))[0].asked[0]["boxes"] for seed in (7, other))
    assert (here[0] != there[0]).any(dim=-1).all()
    assert torch.equal(here[1], there[1])


def test_prompts_of_an_image_and_rounds_of_a_prompt_draw_apart():
    same = {"targets": drawing()[:, :1].expand(-1, 3, -1, -1), "boxes": scene()["boxes"][:, :1].expand(-1, 3, -1)}
    answer = torch.full((2, 3, SIDE, SIDE), -1.0)
    box = run(UNCAPPED, **same)[0].asked[0]["boxes"]
    assert len(set(box[0, :, 0].tolist())) == 3
    points = run(PromptSimulation(rounds=7, first="point"), answer=answer, **same)[0].asked[-1]["points"]
    assert len({tuple(xy) for xy in points[0].flatten(0, 1).tolist()}) > 9


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    run(PromptSimulation(rounds=5, first="either"))
    assert torch.equal(torch.get_rng_state(), before)


# the real model


@pytest.mark.parametrize("family", ["vit", "tiny_vit"])
def test_two_interactions_train_every_weight(family):
    torch.manual_seed(0)
    sam = Sam.from_spec(tiny_spec(family)).train()
    with torch.no_grad():
        for weight in sam.parameters():
            # a new TinyViT switches branches off with norms of zero
            if not weight.any():
                weight.normal_(std=0.1)
    embedding = sam.encode_image(torch.randn(2, 3, 64, 64))
    side = 4 * sam.spec.embed_side
    given = scene(targets=drawing().repeat_interleave(side // SIDE, 2).repeat_interleave(side // SIDE, 3))
    valid = torch.tensor([[True, True, True], [True, True, False]])
    losses = [
        mask_loss(*answer, given["targets"], valid).total
        for first in ("point", "box")
        for round_ in simulate(
            partial(sam.decode, embedding), settings=PromptSimulation(rounds=4, first=first), choose=1, **given
        )
        for answer in round_.mask_groups()
    ]
    assert len(losses) == 4 + 5
    torch.stack(losses).sum().backward()
    idle = set()
    for name, weight in sam.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        # softmax does not see the keys' bias: its gradient is rounding
        if not weight.grad.any() and not name.endswith("k_proj.bias"):
            idle.add(name)
    # only the best of the three masks learns, and in so few answers that can always be the same one
    several = [f"mask_decoder.output_hypernetworks_mlps.{head}." for head in (1, 2, 3)]
    assert not {name for name in idle if not name.startswith(tuple(several))}
    assert any(not any(name.startswith(head) for name in idle) for head in several)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rounds": 0},
        {"rounds": 2.0},
        {"rounds": True},
        {"first": "click"},
        {"shares": {"lasso": 1.0}},
        {"shares": {"box": -1.0}},
        {"shares": {"box": 0.0}},
        {"middle": 1.5},
        {"box_noise": -0.1},
        {"box_noise": float("nan")},
        {"box_noise_px": float("inf")},
        {"outward_px": -1},
        {"outward_px": 1.5},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PromptSimulation(**wrong)
