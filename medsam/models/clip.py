"""CLIP's two towers, run by transformers: pictures of masks and phrases -> embeddings in one space.

A local folder in Hugging Face's format is read, nothing is fetched: `config.json`, `model.safetensors`, and its
tokenizer (`tokenizer.json`, or `vocab.json` and `merges.txt`).

Letters: N pictures or phrases, S side of CLIP's pictures, E length of an embedding, L patches of a picture and one
output token.
Source: Radford et al. 2021 (arXiv 2103.00020); what the output token of a mask may see: Kirillov et al. 2023
(2304.02643), appendix D.5.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from medsam.errors import CheckpointError, InputError, listed
from medsam.io.files import check_regular, parse_json
from medsam.models.weights_file import read_tensors, weights_digest

# names the folder where no option does
VARIABLE = "MEDSAM_CLIP"
# of values in 0..1 (R, G, B), as published with the weights
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
_AT_ONCE = 32
# eos_token_id of files of before 2023, which is wrong: transformers then takes the highest number of a phrase
_OLD_END = 2


class Clip:
    """A CLIP as it was trained. model: transformers' `CLIPModel`. tokenizer: its `CLIPTokenizer`.

    Raises CheckpointError for pictures that are not square or not of whole patches, and for a tokenizer that belongs
    to other weights.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self.digest = weights_digest(model)
        text, vision = model.config.text_config, model.config.vision_config
        self._longest = int(text.max_position_embeddings)
        side, patch = vision.image_size, vision.patch_size
        if not isinstance(side, int) or not isinstance(patch, int) or side % patch:
            raise CheckpointError(f"This CLIP takes pictures of {side} in patches of {patch}: only squares are read.")
        self.side, self.patch = side, patch
        end = text.eos_token_id
        if len(tokenizer) > text.vocab_size or (end != _OLD_END and end != tokenizer.eos_token_id):
            raise CheckpointError(
                f"The tokenizer belongs to another CLIP: it has {len(tokenizer)} pieces and ends a phrase with number "
                f"{tokenizer.eos_token_id}, and the weights know {text.vocab_size} and {end}."
            )

    @property
    def width(self) -> int:
        """E."""
        return int(self._model.config.projection_dim)

    def to(self, device: torch.device | str) -> Clip:
        """Itself, on another device."""
        self._model.to(device)
        return self

    @torch.no_grad()
    def texts(self, phrases: Sequence[str]) -> Tensor:
        """Phrases -> float32 (N, E) of length 1, on the CPU. Longer ones than CLIP reads are cut."""
        found = [torch.zeros(0, self.width)]
        for begin in range(0, len(phrases), _AT_ONCE):
            pieces = self._tokenizer(
                list(phrases[begin : begin + _AT_ONCE]),
                padding=True,
                truncation=True,
                max_length=self._longest,
                return_tensors="pt",
            ).to(self._model.device)
            seen = self._model.text_model(input_ids=pieces["input_ids"], attention_mask=pieces["attention_mask"])
            found.append(F.normalize(self._model.text_projection(seen.pooler_output), dim=-1).cpu())
        return torch.cat(found)

    @torch.no_grad()
    def images(self, pictures: Tensor, masks: Tensor | None = None) -> Tensor:
        """Pictures (N, 3, S, S) in 0..1 -> float32 (N, E) of length 1, on the CPU.

        masks: bool (N, S, S); in the last layer the output token then looks at the patches that hold a pixel of the
        mask, and at nothing else. A mask without a pixel hides nothing.
        """
        found = [torch.zeros(0, self.width)]
        for begin in range(0, len(pictures), _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            found.append(self._seen(pictures[part], None if masks is None else masks[part]).cpu())
        return torch.cat(found)

    def _seen(self, pictures: Tensor, masks: Tensor | None) -> Tensor:
        device, vision = self._model.device, self._model.vision_model
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))
        hidden = vision.pre_layrnorm(vision.embeddings((pictures.to(device) - mean) / std))
        *layers, last = vision.encoder.layers
        for layer in layers:
            hidden = layer(hidden, None)
        hidden = last(hidden, None if masks is None else self._hidden(masks.to(device), hidden))
        return F.normalize(self._model.visual_projection(vision.post_layernorm(hidden[:, 0])), dim=-1)

    def _hidden(self, masks: Tensor, hidden: Tensor) -> Tensor:
        """What attention adds, (N, 1, L, L): of the output token, the first, to all but the patches inside."""
        inside = F.max_pool2d(masks[:, None].float(), self.patch).flatten(1) > 0
        # the output token does not see itself either; patches see everything, as ever
        closed = F.pad(~inside, (1, 0), value=True) & inside.any(1, keepdim=True)
        added = hidden.new_zeros(len(masks), 1, hidden.shape[1], hidden.shape[1])
        added[:, 0, 0].masked_fill_(closed, torch.finfo(hidden.dtype).min)
        return added


def clip_folder(given: str | Path | None) -> Path | None:
    """Where CLIP lies: what is `given`, else `$MEDSAM_CLIP`; None where nothing says."""
    chosen = given or os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else None


def load_clip(folder: str | Path) -> Clip:
    """Read a CLIP.

    Raises CheckpointError for a folder that holds none, or a damaged one, and ModuleNotFoundError without transformers.
    """
    folder = Path(folder)
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "CLIP is run by transformers, which is not installed: pip install 'medsam-framework[clip]'",
            name="transformers",
        ) from error
    missing = list(_missing(folder))
    if missing:
        raise CheckpointError(
            f"{folder} is no CLIP in Hugging Face's format: it lacks {listed(missing)}. Weights of torch.save are not "
            "read: write them with save_pretrained.",
            parameter="clip",
        )
    tensors, _ = read_tensors(folder / "model.safetensors")
    # of files of before 2023: no weights
    tensors = {name: each.float() for name, each in tensors.items() if not name.endswith("position_ids")}
    try:
        config = transformers.CLIPConfig.from_dict(_described(folder / "config.json"))
        with torch.device("meta"):
            model = transformers.CLIPModel(config)
        model.load_state_dict(tensors, assign=True)
        for part in (model.text_model.embeddings, model.vision_model.embeddings):
            # in no file, and still without values
            part.position_ids = torch.arange(part.position_embedding.num_embeddings)[None]
        tokenizer = transformers.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
        return Clip(model, tokenizer)
    except CheckpointError as error:
        raise error.within(str(folder)) from error
    # transformers and tokenizers raise nearly anything for a file that is not theirs
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{folder} cannot be read as a CLIP ({type(error).__name__}: {reason}). Fetch or copy it again.",
            parameter="clip",
        ) from error


def _missing(folder: Path) -> Iterator[str]:
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            yield name
    if not any(all((folder / name).is_file() for name in files) for files in _TOKENIZERS):
        yield "tokenizer.json (or vocab.json and merges.txt)"


def _described(path: Path) -> dict[str, Any]:
    try:
        check_regular(path)
        content = parse_json(path.read_text(encoding="utf-8"))
    except (InputError, OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("model_type") != "clip":
        raise CheckpointError(f"{path.name} does not describe a CLIP (its model_type is not 'clip').")
    return content
