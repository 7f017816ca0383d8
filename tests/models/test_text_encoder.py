"""Word pieces and MiniLM, against transformers' BERT with the same random weights and vocabulary."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from medsam.assets import cache
from medsam.errors import CheckpointError
from medsam.models import text_encoder
from medsam.models.name_bank import name_bank
from medsam.models.text_encoder import PhraseEncoder, TextEncoder
from medsam.models.word_pieces import WordPieces

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "left", "kidney", "hip", "##po", "##campus", "oso", "##phagus"]
PIECES += ["(", ")", "-", "中", "a", "##b", "##c", "l", "##1", "!"]
TEXTS = ["left kidney", "Hippocampus!", "Ösophagus (left-kidney)", "a中b", "kidneys", "abc\tl1\u200b", "", "\x00a  b"]


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return path


def test_texts_are_cut_as_bert_cuts_them(vocabulary):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertTokenizer(str(vocabulary), do_lower_case=True)
    ours = WordPieces(vocabulary)
    for text in TEXTS:
        assert ours.encode(text) == theirs(text)["input_ids"], text
    assert ours.encode("left kidney") == [2, 5, 6, 3]
    assert ours.encode("a " * 50, longest=6) == [2, 16, 16, 16, 16, 3]
    assert ours.encode("a" * 101) == [2, 1, 3]


def test_a_file_that_is_no_vocabulary_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("left\nkidney\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"lacks \[UNK\]"):
        WordPieces(tmp_path / "vocab.txt")


def test_the_encoder_is_bert_with_its_outputs_averaged(tmp_path, vocabulary, monkeypatch):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    theirs = transformers.BertModel(transformers.BertConfig(vocab_size=len(PIECES), **sizes)).eval()
    weights = tmp_path / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}, weights)
    monkeypatch.setattr(
        text_encoder, "TextEncoder", lambda: TextEncoder(width=24, layers=2, heads=3, hidden=40, words=len(PIECES))
    )
    ours = PhraseEncoder(weights, vocabulary)
    for text in TEXTS:
        pieces = torch.tensor([WordPieces(vocabulary).encode(text)])
        with torch.no_grad():
            wanted = theirs(pieces).last_hidden_state.mean(dim=1)
        torch.testing.assert_close(ours.encode([text]), wanted / wanted.norm(), atol=1e-5, rtol=1e-4)


def test_other_weights_are_refused(tmp_path, vocabulary):
    save_file({"embeddings.word_embeddings.weight": torch.zeros(3, 384)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="all-MiniLM-L6-v2"):
        PhraseEncoder(tmp_path / "model.safetensors", vocabulary)


def test_the_bank_has_every_name_and_is_small():
    from medsam.labels import english_phrases, nameable
    from medsam.models.name_bank import BANK

    bank = name_bank()
    assert BANK.stat().st_size < 1_000_000
    assert list(zip(bank.phrases, bank.names, strict=True)) == [
        (phrase, name) for name in nameable() for phrase in english_phrases(name)
    ], "run scripts/name_bank.py"
    assert bank.embeddings.shape == (len(bank.names), 384)
    torch.testing.assert_close(bank.embeddings.norm(dim=-1), torch.ones(len(bank.names)))
    assert bank.nearest(bank.of("kidney_left")[0], 1) == [("kidney_left", pytest.approx(1.0))]


def test_the_bank_is_what_minilm_says():
    """Where its weights are: the bank needs nothing else."""
    if cache.cached_paths("minilm") is None:
        pytest.skip("no MiniLM here: medsam models fetch minilm")
    bank = name_bank()
    encoder = text_encoder.phrase_encoder()
    rows = range(0, len(bank.phrases), 97)
    found = encoder.encode([bank.phrases[row] for row in rows])
    torch.testing.assert_close(found, bank.embeddings[list(rows)], atol=2e-4, rtol=0)
    # transformers 5.23 on the same weights, 30 November 2026
    first = [-0.019331229, 0.015768805, 0.041902404]
    torch.testing.assert_close(encoder.encode(["left kidney"])[0, :3], torch.tensor(first), atol=1e-5, rtol=0)
