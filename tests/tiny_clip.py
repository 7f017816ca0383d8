"""A CLIP of random weights in a folder as Hugging Face keeps it, with a tokenizer of single bytes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

SIDE, PATCH, WIDTH = 32, 8, 24


def tiny_clip(folder: Path, *, seed: int = 0, layers: int = 2) -> Path:
    """Pictures of 32 x 32 in patches of 8, embeddings of 24 numbers; the same weights for the same seed."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    signs = sorted(ByteLevel.alphabet())
    # a piece at the end of a word is another one; a phrase's end has the highest number, as in the public one
    pieces = [*signs, *(f"{sign}</w>" for sign in signs), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    end = len(pieces) - 1
    both = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": layers, "num_attention_heads": 2}
    text = {"vocab_size": len(pieces), "bos_token_id": end - 1, "eos_token_id": end, "max_position_embeddings": 48}
    vision = {"image_size": SIDE, "patch_size": PATCH}
    config = CLIPConfig(text_config={**both, **text}, vision_config={**both, **vision}, projection_dim=WIDTH)
    (folder / "config.json").write_text(json.dumps(config.to_dict(), default=str))
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = CLIPModel(config)
        with torch.no_grad():
            for weight in model.parameters():
                # the usual beginning is so small that all phrases are alike
                weight += 0.2 * torch.randn_like(weight)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder
