"""Losses against hand-made answers, and the mistakes public training code makes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from medsam.training.losses import LossWeights, dice_loss, focal_loss, mask_loss, true_iou


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def batch(images: int = 2, prompts: int = 3, masks: int = 3, side: int = 8):
    """logits, quality, targets, valid."""
    return (
        4 * drawn(images, prompts, masks, side, side, seed=1),
        drawn(images, prompts, masks, seed=2),
        drawn(images, prompts, side, side, seed=3) > 0.5,
        torch.ones(images, prompts, dtype=torch.bool),
    )


def test_focal_loss_of_one_pixel_by_hand():
    # sigmoid(log 3) = 3/4
    logits = torch.full((1, 1), math.log(3))
    assert focal_loss(logits, torch.tensor([[True]])).item() == pytest.approx(0.25 * 0.25**2 * -math.log(0.75))
    assert focal_loss(logits, torch.tensor([[False]])).item() == pytest.approx(0.75 * 0.75**2 * -math.log(0.25))


def test_focal_loss_is_taken_pixel_by_pixel_and_not_of_the_mean_cross_entropy():
    logits, targets = 3 * drawn(6, 5), drawn(6, 5, seed=1) > 0
    total = 0.0
    for logit, target in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        chance = 1 / (1 + math.exp(-logit))
        truth, alpha = (chance, 0.25) if target else (1 - chance, 0.75)
        total += -alpha * (1 - truth) ** 2 * math.log(truth)
    assert focal_loss(logits, targets).item() == pytest.approx(total / 30, rel=1e-5)

    mean = F.binary_cross_entropy_with_logits(logits, targets.float())
    of_the_mean = 0.25 * (1 - torch.exp(-mean)) ** 2 * mean
    assert abs(of_the_mean.item() - total / 30) > 0.1 * total / 30


def test_focal_loss_without_focus_and_with_equal_sides_is_half_the_cross_entropy():
    logits, targets = drawn(2, 7, 7), drawn(2, 7, 7, seed=1) > 0
    expected = F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none").mean(dim=(-2, -1)) / 2
    torch.testing.assert_close(focal_loss(logits, targets, alpha=0.5, gamma=0.0), expected)


def test_dice_loss_by_hand():
    # probabilities 3/4, 1/2 / 1/2, 1/4 on the truth 1, 1 / 0, 0
    logits = torch.tensor([[math.log(3), 0.0], [0.0, -math.log(3)]])
    targets = torch.tensor([[True, True], [False, False]])
    assert dice_loss(logits, targets).item() == pytest.approx(1 - (2 * 1.25 + 1) / (2 + 2 + 1))
    assert dice_loss(logits, targets, smooth=0).item() == pytest.approx(1 - 2.5 / 4)


def test_a_sure_right_answer_costs_nothing_also_on_an_empty_target():
    targets = torch.stack([drawn(9, 9) > 0, torch.zeros(9, 9, dtype=torch.bool)])
    logits = torch.where(targets, 50.0, -50.0)
    torch.testing.assert_close(dice_loss(logits, targets), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(focal_loss(logits, targets), torch.zeros(2), atol=1e-6, rtol=0)


def test_true_iou_by_hand():
    targets = torch.zeros(3, 4, 4, dtype=torch.bool)
    targets[0, :2] = True
    targets[1, :2] = True
    logits = torch.full((3, 4, 4), -1.0)
    logits[0, 1:3] = 1.0
    assert true_iou(logits, targets).tolist() == pytest.approx([4 / 12, 0, 1])
    # zero is outside, as everywhere else
    assert true_iou(torch.zeros(4, 4), torch.zeros(4, 4, dtype=torch.bool)).item() == 1


def test_the_total_is_that_of_one_prompt_and_mask_at_a_time():
    logits, predicted_iou, targets, valid = batch()
    valid[1, 1:] = False
    totals = []
    for b in range(2):
        kept = []
        for p in valid[b].nonzero().flatten().tolist():
            each = [
                (20 * focal_loss(answer, targets[b, p]) + dice_loss(answer, targets[b, p])).item()
                for answer in logits[b, p]
            ]
            best = each.index(min(each))
            iou = true_iou(logits[b, p, best], targets[b, p]).item()
            kept.append(min(each) + (predicted_iou[b, p, best].item() - iou) ** 2)
        totals.append(sum(kept) / len(kept))
    found = mask_loss(logits, predicted_iou, targets, valid)
    assert found.total.item() == pytest.approx(sum(totals) / 2, rel=1e-5)
    assert (20 * found.focal + found.dice + found.iou).item() == pytest.approx(found.total.item(), rel=1e-6)


def test_weights_weigh():
    given = batch()
    found = mask_loss(*given, LossWeights(focal=1, dice=2, iou=3))
    assert found.total.item() == pytest.approx((found.focal + 2 * found.dice + 3 * found.iou).item())


def test_gradient_reaches_the_best_mask_only_and_its_quality():
    logits, predicted_iou, targets, valid = batch()
    # mask 1 of every prompt is the best by far
    logits[:, :, 1] = torch.where(targets, 1.0, -1.0)
    logits.requires_grad_()
    predicted_iou.requires_grad_()
    mask_loss(logits, predicted_iou, targets, valid).total.backward()
    reached = logits.grad.abs().amax(dim=(-2, -1)) > 0
    best = torch.tensor([False, True, False]).expand(2, 3, 3)
    assert torch.equal(reached, best)
    assert torch.equal(predicted_iou.grad != 0, best)


def test_true_iou_is_no_way_to_move_the_masks():
    logits, predicted_iou, targets, valid = batch()
    logits.requires_grad_()
    predicted_iou.requires_grad_()
    assert not true_iou(logits, targets[:, :, None]).requires_grad
    mask_loss(logits, predicted_iou, targets, valid, LossWeights(focal=0, dice=0, iou=1)).total.backward()
    assert not logits.grad.any()
    # one image's mean over 3 prompts, then over 2 images, of a square
    error = predicted_iou.detach()[:, :, 0] - true_iou(logits[:, :, 0], targets)
    torch.testing.assert_close(predicted_iou.grad[:, :, 0], 2 * error / 6)


def test_the_number_of_prompts_is_no_factor():
    logits, predicted_iou, targets, valid = batch(prompts=2)
    once = mask_loss(logits, predicted_iou, targets, valid)
    twice = mask_loss(*(torch.cat([tensor, tensor], dim=1) for tensor in (logits, predicted_iou, targets, valid)))
    for name in ("total", "focal", "dice", "iou"):
        torch.testing.assert_close(getattr(once, name), getattr(twice, name))


def test_an_image_counts_once_however_many_prompts_it_has():
    logits, predicted_iou, targets, valid = batch()
    valid[0] = torch.tensor([False, True, False])
    whole = mask_loss(logits, predicted_iou, targets, valid).total
    apart = [
        mask_loss(*(tensor[b : b + 1] for tensor in (logits, predicted_iou, targets, valid))).total for b in range(2)
    ]
    torch.testing.assert_close(whole, sum(apart) / 2)


def test_a_batch_split_over_processes_averages_to_the_same():
    logits, predicted_iou, targets, valid = batch(images=4)
    valid[0, 0] = valid[3, 1] = valid[3, 2] = False
    given = (logits, predicted_iou, targets, valid)
    whole = mask_loss(*given)
    first, second = (mask_loss(*(tensor[part] for tensor in given)) for part in (slice(0, 2), slice(2, 4)))
    for name in ("total", "focal", "dice", "iou"):
        torch.testing.assert_close(getattr(whole, name), (getattr(first, name) + getattr(second, name)) / 2)


def test_padding_contributes_nothing_not_even_when_it_is_not_a_number():
    logits, predicted_iou, targets, valid = batch()
    valid[0, 1] = valid[1, 0] = False
    expected = mask_loss(logits, predicted_iou, targets, valid).total
    logits[~valid] = torch.nan
    predicted_iou[~valid] = torch.inf
    logits.requires_grad_()
    predicted_iou.requires_grad_()
    found = mask_loss(logits, predicted_iou, targets, valid).total
    found.backward()
    torch.testing.assert_close(found, expected)
    assert not logits.grad[~valid].any()
    assert not predicted_iou.grad[~valid].any()
    assert logits.grad[valid].any(dim=-1).any(dim=-1).sum(dim=-1).tolist() == [1, 1, 1, 1]


def test_images_without_prompts_do_not_count():
    logits, predicted_iou, targets, valid = batch()
    valid[1] = False
    alone = mask_loss(logits[:1], predicted_iou[:1], targets[:1], valid[:1]).total
    torch.testing.assert_close(mask_loss(logits, predicted_iou, targets, valid).total, alone)


def test_no_prompt_at_all_is_zero_with_a_graph():
    logits, predicted_iou, targets, valid = batch()
    logits.requires_grad_()
    predicted_iou.requires_grad_()
    found = mask_loss(logits, predicted_iou, targets, torch.zeros_like(valid))
    assert [found.total.item(), found.focal.item(), found.dice.item(), found.iou.item()] == [0, 0, 0, 0]
    found.total.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))
    assert torch.equal(predicted_iou.grad, torch.zeros_like(predicted_iou))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e4, 1e-4, 0.0])
def test_any_logit_has_a_finite_loss_and_gradient(dtype, size):
    logits, predicted_iou, targets, valid = batch()
    logits = (logits.sign() * size).to(dtype).requires_grad_()
    found = mask_loss(logits, predicted_iou.to(dtype), targets, valid)
    found.total.backward()
    assert found.total.dtype == torch.float32
    assert found.total.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad.any()


def test_bfloat16_loses_no_more_than_the_rounding_of_the_logits():
    logits, predicted_iou, targets, valid = batch(side=64)
    rough = logits.bfloat16(), predicted_iou.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mask_loss(*rough, targets, valid).total
    torch.testing.assert_close(found, mask_loss(*(tensor.float() for tensor in rough), targets, valid).total)
    assert found.item() == pytest.approx(mask_loss(logits, predicted_iou, targets, valid).total.item(), rel=1e-2)


@pytest.mark.parametrize("wrong", ["predicted_iou", "targets", "valid", "logits"])
def test_shapes_that_do_not_fit_are_refused(wrong):
    logits, predicted_iou, targets, valid = batch()
    given = {"logits": logits, "predicted_iou": predicted_iou, "targets": targets, "valid": valid}
    given[wrong] = given[wrong][:, :1] if wrong != "logits" else logits[:, :, 0]
    with pytest.raises(ValueError, match="does not fit"):
        mask_loss(**given)
