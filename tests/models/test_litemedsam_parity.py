"""The real LiteMedSAM weights give the published code's answers on three real slices.

Difference: largest absolute difference over the largest absolute value of the reference, at most 1e-4.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def reference(data):
    with np.load(data / "parity" / "litemedsam.npz") as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def embedding(litemedsam, reference):
    with torch.inference_mode():
        return litemedsam.encode_image(reference["image"][:, None].expand(-1, 3, -1, -1))


def same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item() < 1e-4


def decode(model, embedding, **prompts):
    with torch.inference_mode():
        return model.decode(embedding, **prompts)


def test_embedding(embedding, reference):
    assert embedding.shape == (3, 256, 64, 64)
    assert same(embedding[:, ::8, ::4, ::4], reference["embedding_sub"])


def test_boxes(litemedsam, embedding, reference):
    logits, predicted_iou = decode(litemedsam, embedding, boxes=reference["boxes"])
    assert same(logits[:, :, 0], reference["box_logits"])
    assert same(predicted_iou[:, :, 0], reference["box_iou"])


def test_points(litemedsam, embedding, reference):
    logits, predicted_iou = decode(
        litemedsam, embedding, points=reference["points"][:, None], point_labels=reference["point_labels"][:, None]
    )
    assert same(logits[:, 0, 0], reference["points_logits"])
    assert same(predicted_iou[:, 0, 0], reference["points_iou"])


def test_three_masks_for_one_point(litemedsam, embedding, reference):
    logits, predicted_iou = decode(
        litemedsam,
        embedding,
        points=reference["points"][:, None, :1],
        point_labels=reference["point_labels"][:, None, :1],
        multimask=True,
    )
    assert same(logits[:, 0], reference["first_point_multimask_logits"])
    assert same(predicted_iou[:, 0], reference["first_point_multimask_iou"])


def test_box_with_its_own_answer_as_mask(litemedsam, embedding, reference):
    logits, predicted_iou = decode(
        litemedsam, embedding, boxes=reference["boxes"][:, :1], masks=reference["box_logits"][:, :1]
    )
    assert same(logits[:, 0, 0], reference["box0_mask_logits"])
    assert same(predicted_iou[:, 0, 0], reference["box0_mask_iou"])
