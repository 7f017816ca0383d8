"""Names as tokens of a decoder, and whether they are there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medsam.errors import CheckpointError, PromptError
from medsam.geometry import VolumeGeometry
from medsam.models.build import build_model
from medsam.models.heads import Head, HeadCard, changes_of, encoder_digest, read_head, save_head
from medsam.models.name_head import NameHead, NameSizes, slice_places
from medsam.models.sam import Sam


def head_for(sam: Sam, stride: int = 1) -> NameHead:
    torch.manual_seed(5)
    return NameHead(NameSizes(embedding=6, width=sam.spec.decoder.width, tokens=3, stride=stride)).eval()


def question(sam: Sam, images: int = 2, names: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(6)
    side, width = sam.spec.embed_side, sam.spec.decoder.width
    places = torch.tensor([0.25, 0.0, 0.0, 1.0]).expand(images, names, 4)
    return torch.randn(images, width, side, side), torch.randn(images, names, 6), places


def test_a_name_becomes_tokens_and_its_place_one_more(tiny):
    head, (embedding, names, places) = head_for(tiny), question(tiny)
    tokens = head(names, places)
    assert tokens.shape == (2, 3, 4, tiny.spec.decoder.width)
    moved = head(names, places + torch.tensor([0.5, 0, 0, 0]))
    assert torch.equal(moved[:, :, :3], tokens[:, :, :3])
    assert not torch.allclose(moved[:, :, 3], tokens[:, :, 3])
    logits, presence, predicted_iou = head.answer(tiny, embedding, names, places)
    side = 4 * tiny.spec.embed_side
    assert logits.shape == (2, 3, side, side)
    assert presence.shape == predicted_iou.shape == (2, 3)
    # every name is answered for itself
    alone = head.answer(tiny, embedding[1:], names[1:, 2:], places[1:, 2:])
    torch.testing.assert_close(alone[0][0, 0], logits[1, 2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alone[1][0, 0], presence[1, 2], atol=1e-4, rtol=1e-4)


def test_text_is_a_prompt_like_others(tiny):
    """Alone it gives what `decode_text` gives, and beside a box its tokens follow the corners."""
    head, (embedding, names, places) = head_for(tiny), question(tiny)
    tokens = head(names, places)
    with torch.no_grad():
        logits, predicted_iou, _ = tiny.decode_text(embedding, tokens)
        alone = tiny.decode(embedding, text=tokens)
        torch.testing.assert_close(alone[0], logits)
        torch.testing.assert_close(alone[1], predicted_iou)
        boxes = torch.tensor([4.0, 5, 30, 40]).expand(2, 3, 4)
        both = tiny.decode(embedding, boxes=boxes, text=tokens)[0]
        corners = tiny.prompt_encoder.embed_tokens(boxes, None, None)
        torch.testing.assert_close(both, tiny.decode(embedding, text=torch.cat([corners, tokens], dim=2))[0])
        assert not torch.allclose(both, tiny.decode(embedding, boxes=boxes)[0])


def test_a_stride_makes_the_answer_smaller(tiny):
    head, (embedding, names, places) = head_for(tiny, 2), question(tiny)
    logits, presence, _ = head.answer(tiny, embedding, names, places)
    side = 4 * tiny.spec.embed_side // 2
    assert logits.shape == (2, 3, side, side)
    assert presence.shape == (2, 3)


def test_wrong_shapes_are_refused(tiny):
    embedding, _, _ = question(tiny)
    side, width = tiny.spec.embed_side, tiny.spec.decoder.width
    with pytest.raises(PromptError, match=r"text: expected \(B, P, T, 32\)"):
        tiny.decode(embedding, text=torch.zeros(2, 3, 4, width + 1))
    with pytest.raises(PromptError, match="decodes embeddings"):
        tiny.decode_text(torch.zeros(2, width + 1, side, side), torch.zeros(2, 3, 4, width))


def test_a_head_of_names_comes_back_with_its_decoder(tmp_path, vit):
    torch.manual_seed(7)
    trained = build_model(vit.spec)
    trained.load_state_dict(vit.state_dict())
    with torch.no_grad():
        trained.mask_decoder.iou_token.weight += 0.1
    changes, about = changes_of(vit, trained)
    network = head_for(vit)
    card = HeadCard(
        "names", "n", ("spleen",), vit.spec.name, encoder_digest(vit), network.sizes.to_dict(), decoder=about
    )
    save_head(Head(card, network.state_dict(), changes), tmp_path / "head.safetensors")
    head = read_head(tmp_path / "head.safetensors")
    found = NameHead.of(head)
    assert found.sizes == network.sizes
    embedding, names, places = question(vit)
    with torch.no_grad():
        wanted = network.answer(trained, embedding, names, places)
        for one, other in zip(found.answer(head.with_decoder(vit), embedding, names, places), wanted, strict=True):
            torch.testing.assert_close(one, other, atol=2e-2, rtol=2e-2)
    with pytest.raises(CheckpointError, match="weights are missing"):
        NameHead.of(Head(card, {}, {}))
    # sizes that want terabytes are looked at without making them
    for wrong, said in (({"tokens": 1 << 14, "width": 1 << 14}, "is damaged"), ({"surprise": 3}, "of another network")):
        with pytest.raises(CheckpointError, match=said):
            NameHead.of(replace(head, card=replace(card, sizes={**network.sizes.to_dict(), **wrong})))


@pytest.mark.parametrize("flip", [1, -1])
def test_places_run_from_feet_to_head_however_the_file_lies(flip):
    affine = np.diag([1.0, 1.0, 2.0 * flip, 1.0])
    places = slice_places(VolumeGeometry((4, 5, 6), affine), "k")
    wanted = [0.125, 0.375, 0.625, 0.875]
    assert places[:, 0].tolist() == wanted[::flip]
    assert places[:, 1:].tolist() == [[0, 0, 1]] * 4


def test_places_name_the_plane():
    geometry = VolumeGeometry((4, 5, 6), np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert geometry.across("i") == 0
    assert slice_places(geometry, "i")[0].tolist() == pytest.approx([11 / 12, 1, 0, 0])
    assert slice_places(geometry, "j")[0].tolist() == pytest.approx([0.1, 0, 1, 0])
