"""A head goes into its file and comes out; it is refused beside an encoder that is not its own."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from medsam.errors import CheckpointError
from medsam.models.build import build_model, load_model
from medsam.models.checkpoint import save_checkpoint
from medsam.models.heads import (
    Head,
    HeadCard,
    changes_of,
    decoder_digest,
    encoder_digest,
    find_head,
    low_rank,
    read_head,
    save_head,
)
from medsam.models.sam import Sam
from medsam.models.specs import tiny_spec
from medsam.models.weights_file import CARD_KEY


def head_for(sam: Sam, **changes) -> Head:
    torch.manual_seed(1)
    card = HeadCard("detector", "shapes", ("disc", "bar"), sam.spec.name, encoder_digest(sam), {"width": 32})
    return Head(replace(card, **changes), nn.Linear(3, 2).state_dict())


@pytest.fixture
def decoder_of_its_own(vit) -> Sam:
    """The same encoder, and a decoder that has learnt something."""
    torch.manual_seed(2)
    other = build_model(vit.spec)
    other.load_state_dict(vit.state_dict())
    with torch.no_grad():
        for weight in (*other.prompt_encoder.parameters(), *other.mask_decoder.parameters()):
            weight += 0.01 * torch.randn_like(weight)
    return other.eval()


def test_a_head_comes_back_in_half_precision_with_its_card(vit, tmp_path):
    head = head_for(
        vit,
        licence="CC BY-SA 4.0",
        data=({"name": "shapes", "patients": 3},),
        recipe={"steps": 10},
        measured={"disc": {"patients": 2, "dice": 0.9}},
        modalities=("MR",),
        thresholds={"disc": 0.25},
    )
    save_head(head, tmp_path / "head.safetensors")
    found = read_head(tmp_path / "head.safetensors")
    assert found.card == head.card
    assert found.card.untested == ("bar",)
    for name, tensor in head.state.items():
        assert torch.equal(found.state[name], tensor.half().float())
    linear = nn.Linear(3, 2)
    found.load_into(linear)
    assert torch.equal(linear.weight, found.state["weight"])


def test_a_head_says_whose_names_it_reads(vit, tmp_path):
    text_encoder = {"kind": "clip", "digest": "0" * 64}
    save_head(head_for(vit, text_encoder=text_encoder), tmp_path / "head.safetensors")
    card = read_head(tmp_path / "head.safetensors").card
    assert card.text_encoder == text_encoder
    # earlier versions would ask it with MiniLM's embeddings, and refuse this number; all other heads keep theirs
    assert card.to_dict()["head"] == 2
    plain = head_for(vit).card.to_dict()
    assert plain["head"] == 1
    assert "text_encoder" not in plain
    for wrong in ({"kind": "siglip", "digest": ""}, {"kind": "clip"}):
        with pytest.raises(CheckpointError, match="text encoder of the kind"):
            HeadCard.from_dict({**plain, "text_encoder": wrong})


def test_a_head_is_refused_beside_another_encoder(vit, tmp_path):
    save_head(head_for(vit), tmp_path / "head.safetensors")
    assert find_head(tmp_path / "head.safetensors", vit, "detector").card.name == "shapes"
    torch.manual_seed(3)
    other = build_model(tiny_spec())
    with pytest.raises(CheckpointError, match=r"another image encoder .* train a head for this model"):
        find_head(tmp_path / "head.safetensors", other)
    with pytest.raises(CheckpointError, match="kind 'detector'; here one of the kind 'names' is needed"):
        find_head(tmp_path / "head.safetensors", vit, "names")


def test_a_decoder_that_was_trained_on_keeps_the_head(vit, decoder_of_its_own, tmp_path):
    save_head(head_for(vit), tmp_path / "head.safetensors")
    assert find_head(str(tmp_path / "head.safetensors"), decoder_of_its_own).card.model == "tiny-vit"


def test_a_decoder_beside_the_head_answers_in_place_of_the_one_it_changed(vit, decoder_of_its_own, tmp_path):
    # rank 32 is all there is in matrices of 32 columns: nothing is lost but half a precision
    changes, about = changes_of(vit, decoder_of_its_own)
    save_head(replace(head_for(vit, decoder=about), decoder=changes), tmp_path / "head.safetensors")
    made = read_head(tmp_path / "head.safetensors").with_decoder(vit)
    assert made is not vit
    assert encoder_digest(made) == encoder_digest(vit)
    for name, tensor in decoder_of_its_own.state_dict().items():
        torch.testing.assert_close(made.state_dict()[name], tensor, rtol=0, atol=1e-4)
    # one that has learnt something of its own is left alone
    assert read_head(tmp_path / "head.safetensors").with_decoder(decoder_of_its_own) is decoder_of_its_own
    assert head_for(vit).with_decoder(vit) is vit


def test_changes_that_would_fill_the_memory_and_a_decoder_without_a_card_are_refused(vit, decoder_of_its_own):
    _, about = changes_of(vit, decoder_of_its_own)
    name = "mask_decoder.iou_token.weight"
    vast = {f"{name}.up": torch.zeros(1 << 20, 1), f"{name}.down": torch.zeros(1, 1 << 20)}
    with pytest.raises(CheckpointError, match="another shape"):
        replace(head_for(vit, decoder=about), decoder=vast).with_decoder(vit)
    for spec in ({}, {"spec": 7}):
        with pytest.raises(CheckpointError, match="does not say what decoder it holds"):
            head_for(vit, decoder={"of": decoder_digest(vit), **spec}).with_decoder(vit)


def test_a_scan_of_another_modality_than_was_learnt_is_untested(vit):
    card = head_for(vit, modalities=("MR",)).card
    assert card.foreign("CT") == "UNTESTED: shapes learnt from MR, and this scan is CT."
    assert card.foreign("MR") == card.foreign(None) == head_for(vit).card.foreign("CT") == ""


def test_what_was_measured_on_no_scan_without_it_may_be_drawn_anyway(vit):
    card = head_for(vit, measured={"disc": {"dice": 0.9, "scans_without": 4}, "bar": {"dice": 0.9}}).card
    assert card.drawn_anyway(["disc", "bar"]).startswith("bar: shapes was never measured on scans without it.")
    assert card.drawn_anyway(["disc"]) == card.drawn_anyway([]) == ""


def test_low_rank_holds_a_change_of_that_rank_and_shrinks_it():
    torch.manual_seed(0)
    change = torch.randn(64, 4) @ torch.randn(4, 96)
    thin = low_rank("w", change, 4)
    assert sum(part.numel() for part in thin.values()) == 4 * (64 + 96)
    torch.testing.assert_close(thin["w.up"] @ thin["w.down"], change, rtol=0, atol=1e-4)
    # a kernel is a matrix, too; a bias, and what would not shrink, stays whole
    kernel = torch.randn(16, 1, 1, 1) @ torch.ones(1, 1, 1, 1) * torch.randn(1, 32, 3, 3)
    assert low_rank("k", kernel, 1)["k.up"].shape == (16, 1)
    assert low_rank("b", torch.randn(7), 4).keys() == {"b"}


def test_a_decoder_beside_another_encoder_is_not_kept(vit):
    torch.manual_seed(4)
    with pytest.raises(CheckpointError, match="encoder was trained, too"):
        changes_of(vit, build_model(vit.spec))
    assert decoder_digest(vit) != encoder_digest(vit)


def test_a_model_is_no_head_and_a_head_is_no_model(vit, tmp_path):
    save_checkpoint(vit, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="is no head"):
        read_head(tmp_path / "model.safetensors")
    save_head(head_for(vit), tmp_path / "head.safetensors")
    with pytest.raises(CheckpointError, match=r"is a head \(detector\), not a model: .* --head"):
        load_model(tmp_path / "head.safetensors")
    with pytest.raises(CheckpointError, match="No head at nowhere, and it is not the name of one"):
        find_head("nowhere", vit)


def broken(change):
    def make(path, card, tensors):
        change(card, tensors)
        save_file(tensors, path, metadata={CARD_KEY: json.dumps(card)})

    return make


BROKEN = {
    "of the future": (lambda card, tensors: card.update(head=99), "of format '99', and this medsam reads 1"),
    "without classes": (lambda card, tensors: card.update(classes=[]), "from 1 to 2000 different classes"),
    "a class twice": (lambda card, tensors: card.update(classes=["a", "a"]), "different classes"),
    "of another kind": (lambda card, tensors: card.update(kind="surprise"), "no head of the kind 'surprise'"),
    "a size that is none": (lambda card, tensors: card.update(sizes={"width": 1e9}), "sizes are whole numbers"),
    "a huge size": (lambda card, tensors: card.update(sizes={"width": 10**9}), "sizes are whole numbers"),
    "a list for a name": (lambda card, tensors: card.update(sizes=7), "cannot be read"),
    "a threshold no float holds": (
        lambda card, tensors: card.update(thresholds={"disc": 10**400}),
        "cannot be read|JSON",
    ),
    "nan": (lambda card, tensors: tensors["head.bias"].fill_(torch.nan), r"not finite numbers \(head.bias\)"),
    "of no part": (lambda card, tensors: tensors.update(tail=torch.zeros(1)), "'tail' belongs to no part"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_head_says_what_is_wrong(vit, tmp_path, what):
    change, said = BROKEN[what]
    head = head_for(vit)
    tensors = {f"head.{name}": tensor.clone() for name, tensor in head.state.items()}
    broken(change)(tmp_path / "head.safetensors", head.card.to_dict(), tensors)
    with pytest.raises(CheckpointError, match=said):
        read_head(tmp_path / "head.safetensors")


def test_weights_of_another_network_are_named(vit):
    with pytest.raises(CheckpointError, match=r"2 of its weights .* \(bias, weight\)"):
        head_for(vit).load_into(nn.Linear(3, 4))


def test_only_safetensors_are_written(vit, tmp_path):
    with pytest.raises(CheckpointError, match=r"as \.safetensors, not \.pth"):
        save_head(head_for(vit), tmp_path / "head.pth")
