"""Our SAM and `transformers.SamModel` answer alike when given the same random weights."""

from __future__ import annotations

import pytest
import torch

from medsam.models.hugging_face import to_hugging_face

BOXES = torch.tensor(
    [[[10.0, 20, 60, 90], [5, 5, 120, 33], [70, 64, 71, 66]], [[0, 0, 128, 128], [1, 2, 3, 4], [9, 9, 99, 99]]]
)
POINTS = torch.tensor([[[[10.0, 20], [60, 90]]] * 3, [[[0.0, 0], [127, 127]]] * 3]) + torch.arange(3.0)[:, None, None]
LABELS = torch.tensor([[[1, 0], [1, 1], [0, -1]], [[1, -1], [0, 0], [1, 0]]])


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest absolute difference over the largest absolute value."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def embedding(peer, images) -> torch.Tensor:
    with torch.no_grad():
        return peer.theirs.get_image_embeddings(images)


def test_image_embedding(peer, images, embedding):
    with torch.no_grad():
        assert difference(peer.ours.encode_image(images), embedding) < 1e-4
    # it depends on the image: biases alone would agree too
    assert embedding.std(dim=(2, 3)).mean() > 0.1


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("prompt", ["boxes", "points", "boxes and points"])
def test_prompts(peer, embedding, prompt, multimask):
    ours, theirs = {}, {}
    if "boxes" in prompt:
        ours["boxes"] = theirs["input_boxes"] = BOXES
    if "points" in prompt:
        ours["points"] = theirs["input_points"] = POINTS
        ours["point_labels"] = theirs["input_labels"] = LABELS
    with torch.no_grad():
        logits, predicted_iou = peer.ours.decode(embedding, **ours, multimask=multimask)
        expected = peer.theirs(image_embeddings=embedding, **theirs, multimask_output=multimask)
    assert logits.shape == (2, 3, 3 if multimask else 1, 32, 32)
    assert difference(logits, expected.pred_masks) < 1e-4
    assert difference(predicted_iou, expected.iou_scores) < 1e-4
    # the answers differ from prompt to prompt: a prompt that is ignored would not
    assert (logits[:, 0] - logits[:, 1]).abs().max() > 1e-2 * logits.abs().max()


@pytest.mark.parametrize("multimask", [False, True])
def test_mask_prompt(peer, embedding, multimask):
    # transformers takes one mask an image, so one prompt
    masks = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(2)) * 5
    with torch.no_grad():
        logits, predicted_iou = peer.ours.decode(embedding, boxes=BOXES[:, :1], masks=masks, multimask=multimask)
        expected = peer.theirs(
            image_embeddings=embedding, input_boxes=BOXES[:, :1], input_masks=masks, multimask_output=multimask
        )
        without, _ = peer.ours.decode(embedding, boxes=BOXES[:, :1], multimask=multimask)
    assert difference(logits, expected.pred_masks) < 1e-4
    assert difference(predicted_iou, expected.iou_scores) < 1e-4
    assert (logits - without).abs().max() > 1e-2 * logits.abs().max()


def test_names_survive_the_round_trip(peer):
    back = to_hugging_face(peer.ours.state_dict())
    assert back.keys() == peer.theirs_state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in peer.theirs_state.items())


def test_relative_positions_are_interpolated_as_published(peer):
    from medsam.models.vit import relative_table

    attention = peer.theirs.vision_encoder.layers[1].attn
    for side in (5, 8, 11):
        expected = attention.get_rel_pos(side, side, attention.rel_pos_h)
        torch.testing.assert_close(relative_table(attention.rel_pos_h, side), expected)
