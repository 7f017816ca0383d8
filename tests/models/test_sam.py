"""Batching, gradients, precision, export and refusals of `Sam`, on tiny untrained models of both families."""

from __future__ import annotations

import copy

import pytest
import torch

from medsam.errors import PromptError
from medsam.models.build import build_model
from medsam.models.mask_decoder import MaskDecoder
from medsam.models.specs import DecoderSizes, tiny_spec

GENERATOR = torch.Generator().manual_seed(11)
IMAGES = torch.randn(2, 3, 64, 64, generator=GENERATOR)
BOXES = torch.tensor(
    [[[4.0, 8, 30, 50], [0, 0, 63, 63], [20, 20, 24, 60]], [[1, 2, 60, 9], [9, 9, 40, 40], [3, 30, 50, 62]]]
)
POINTS = torch.rand(2, 3, 2, 2, generator=GENERATOR) * 64
LABELS = torch.tensor([[[1, 0], [1, -1], [0, 0]], [[1, 1], [0, -1], [1, 0]]])


def prompts(model, kinds: str) -> dict[str, torch.Tensor]:
    side = 4 * model.spec.embed_side
    masks = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(5)) * 4
    every = {"boxes": BOXES, "points": POINTS, "point_labels": LABELS, "masks": masks}
    return {name: tensor for name, tensor in every.items() if name[:5] in kinds}


KINDS = ["boxes", "point", "boxes point", "masks", "boxes masks", "boxes point masks"]


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("kinds", KINDS)
@torch.no_grad()
def test_a_batch_answers_like_one_prompt_on_one_image_at_a_time(tiny, kinds, multimask):
    embedding = tiny.encode_image(IMAGES)
    given = prompts(tiny, kinds)
    logits, predicted_iou = tiny.decode(embedding, **given, multimask=multimask)
    masks = 3 if multimask else 1
    side = 4 * tiny.spec.embed_side
    assert logits.shape == (2, 3, masks, side, side)
    assert predicted_iou.shape == (2, 3, masks)
    for b in range(2):
        alone = tiny.encode_image(IMAGES[b : b + 1])
        for p in range(3):
            one = {name: tensor[b : b + 1, p : p + 1] for name, tensor in given.items()}
            expected, expected_quality = tiny.decode(alone, **one, multimask=multimask)
            torch.testing.assert_close(logits[b, p], expected[0, 0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(predicted_iou[b, p], expected_quality[0, 0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_one_image_and_two_images_with_the_same_number_of_prompts_are_not_confused(tiny):
    embedding = tiny.encode_image(IMAGES)
    two_on_one, _ = tiny.decode(embedding[:1], boxes=BOXES[:1, :2])
    one_on_two, _ = tiny.decode(embedding, boxes=BOXES[0, :2, None])
    assert two_on_one.shape[:2] == (1, 2)
    assert one_on_two.shape[:2] == (2, 1)
    assert not torch.allclose(two_on_one[0, 1], one_on_two[1, 0], atol=1e-3)


@torch.no_grad()
def test_padding_points_do_not_depend_on_their_place(tiny):
    embedding = tiny.encode_image(IMAGES)
    moved = torch.where(LABELS[..., None] == -1, POINTS + 17, POINTS)
    here, _ = tiny.decode(embedding, points=POINTS, point_labels=LABELS)
    there, _ = tiny.decode(embedding, points=moved, point_labels=LABELS)
    torch.testing.assert_close(here, there, rtol=0, atol=0)


@torch.no_grad()
def test_inputs_are_left_as_they_were(tiny):
    images = IMAGES.clone()
    embedding = tiny.encode_image(images)
    given = {"embedding": embedding, **prompts(tiny, "boxes point masks")}
    before = {name: tensor.clone() for name, tensor in given.items()}
    tiny.decode(**given, multimask=True)
    assert torch.equal(images, IMAGES)
    assert all(torch.equal(tensor, before[name]) for name, tensor in given.items())


def gradients(model) -> dict[str, torch.Tensor]:
    """Of a loss that uses every kind of prompt and both kinds of answer."""
    model.zero_grad()
    embedding = model.encode_image(IMAGES)
    loss = embedding.new_zeros(())
    for kinds, multimask in (("boxes", False), ("point", True), ("boxes masks", False)):
        logits, predicted_iou = model.decode(embedding, **prompts(model, kinds), multimask=multimask)
        loss = loss + logits.square().mean() + predicted_iou.square().mean()
    loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters()}


def test_every_weight_gets_a_gradient_and_checkpointing_gives_the_same(tiny):
    tiny.train()
    again = copy.deepcopy(tiny)
    again.set_gradient_checkpointing(True)
    plain, recomputed = gradients(tiny), gradients(again)
    for name, gradient in plain.items():
        assert gradient is not None, name
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-3, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    # batch norms have counted each batch once
    for (name, buffer), other in zip(tiny.named_buffers(), again.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, msg=lambda m, n=name: f"{n}: {m}")


def test_training_changes_what_evaluation_answers(tiny):
    # LiteMedSAM's published code keeps a copy of its attention biases
    with torch.no_grad():
        before = tiny.encode_image(IMAGES)
        for name, weight in tiny.named_parameters():
            if "attention_biases" in name or "rel_pos" in name:
                weight.normal_(std=3.0)
        after = tiny.encode_image(IMAGES)
    assert (before - after).abs().max() > 1e-3


@pytest.mark.parametrize("how", ["autocast", "weights"])
@torch.no_grad()
def test_bfloat16_stays_close_to_float32(tiny, how):
    given = prompts(tiny, "boxes masks")
    exact, exact_quality = tiny.decode(tiny.encode_image(IMAGES), **given)
    frequencies = tiny.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.clone()
    half = copy.deepcopy(tiny)
    if how == "weights":
        half.to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
        logits, predicted_iou = half.decode(half.encode_image(IMAGES), **given)
    assert logits.dtype == torch.bfloat16
    assert torch.equal(half.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix, frequencies)
    assert (logits - exact).abs().max() < 0.1 * exact.abs().max()
    assert (predicted_iou - exact_quality).abs().max() < 0.1 * exact_quality.abs().max()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "No prompt"),
        ({"boxes": BOXES[0]}, r"boxes: expected \(B, P, 4\) = \(2, P, 4\) for 2 image\(s\), got \(3, 4\)"),
        ({"boxes": BOXES[:1]}, r"boxes: expected \(B, P, 4\) = \(2, P, 4\) for 2 image\(s\), got \(1, 3, 4\)"),
        ({"boxes": BOXES[:, :0]}, "boxes hold no prompt"),
        ({"boxes": BOXES * torch.inf}, "boxes: not all coordinates are finite"),
        ({"points": POINTS}, "Points need labels"),
        ({"point_labels": LABELS}, "labels need points"),
        ({"points": POINTS, "point_labels": LABELS[..., :1]}, r"point_labels: .* = \(2, 3, 2\) .*got \(2, 3, 1\)"),
        ({"points": POINTS, "point_labels": LABELS + 1}, "1 is inside, 0 outside, -1 padding; got 2"),
        (
            {"boxes": BOXES, "points": POINTS[:, :2], "point_labels": LABELS[:, :2]},
            r"points: .* = \(2, 3, N, 2\) .* got \(2, 2, 2, 2\)",
        ),
        ({"masks": torch.zeros(2, 3, 64, 64)}, r"masks: .* = \(2, P, 32, 32\) .* got \(2, 3, 64, 64\)"),
    ],
)
def test_refuses_prompts_it_cannot_answer(given, message):
    model = build_model(tiny_spec())
    with pytest.raises(PromptError, match=message):
        model.decode(torch.zeros(2, 32, 8, 8), **given)


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 1, 64, 64), (2, 3, 128, 128)])
def test_refuses_images_of_another_shape(shape):
    with pytest.raises(PromptError, match=r"takes images \(B, 3, 64, 64\), got"):
        build_model(tiny_spec()).encode_image(torch.zeros(shape))


def test_refuses_an_embedding_of_another_model():
    with pytest.raises(PromptError, match=r"decodes embeddings \(B, 32, 8, 8\), got \(1, 256, 64, 64\)"):
        build_model(tiny_spec()).decode(torch.zeros(1, 256, 64, 64), boxes=BOXES[:1])


@pytest.mark.parametrize("kinds", ["boxes", "boxes point masks"])
@torch.no_grad()
def test_all_masks_are_the_single_one_and_then_the_several(tiny, kinds):
    embedding, given = tiny.encode_image(IMAGES), prompts(tiny, kinds)
    every = tiny.decode(embedding, **given, multimask=None)
    one, several = (tiny.decode(embedding, **given, multimask=multimask) for multimask in (False, True))
    for all_masks, single, rest in zip(every, one, several, strict=True):
        assert all_masks.shape[2] == 4
        torch.testing.assert_close(all_masks, torch.cat([single, rest], dim=2))


def test_every_weight_of_the_decoder_learns_from_a_box():
    """At the public models' width, where few tokens could do without some weights: DDP waits for each gradient."""
    sizes = DecoderSizes()
    decoder = MaskDecoder(sizes)
    image = torch.randn(1, 1, sizes.width, 4, 4)
    positions = torch.randn(4, 4, sizes.width)
    logits, predicted_iou = decoder(
        decoder.precompute(image, positions), positions, torch.randn(1, 2, 2, sizes.width), 2, None
    )
    (logits.mean() + predicted_iou.mean()).backward()
    assert [name for name, weight in decoder.named_parameters() if weight.grad is None] == []


def test_few_tokens_are_answered_alike_in_training_and_at_rest():
    sizes = DecoderSizes()
    torch.manual_seed(0)
    decoder = MaskDecoder(sizes)
    image, positions = torch.randn(2, 1, sizes.width, 4, 4), torch.randn(4, 4, sizes.width)
    tokens = torch.randn(2, 3, 2, sizes.width)
    asked = (decoder.precompute(image, positions), positions, tokens, 3, None)
    learning = decoder(*asked)
    with torch.no_grad():
        resting = decoder(*asked)
    for one, other in zip(learning, resting, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
