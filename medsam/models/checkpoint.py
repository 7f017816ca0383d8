"""Weights from files: every public layout in, one layout inside, strict.

Layouts: the original SAM, MedSAM and LiteMedSAM `.pth` (our own names), the Hugging Face `SamModel` (renamed both
ways), and training checkpoints, whose weights sit under `state_dict` or `model` with a prefix such as `model.`.
The architecture is worked out from names and shapes. Pickled code never runs: `.pth` files are read with
`weights_only=True`.

What names and shapes cannot say, and what is then assumed (and stated in `ModelSpec.note`):
- SAM ViT-B and MedSAM are the same network: MedSAM when the file's name contains "medsam", otherwise SAM. A file
  called model.safetensors or pytorch_model.bin goes by its folder's name.
- TinyViT works at any size: 256 px and the published strides, as LiteMedSAM.
- The decoder's 8 attention heads.
A card written by `save_checkpoint` (or under `CARD_KEY` in a training checkpoint) says all of it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from medsam.errors import CheckpointError
from medsam.files import write_whole
from medsam.models.hugging_face import from_hugging_face, hugging_face_name, public_name
from medsam.models.infer_spec import (
    infer_spec,
    lacks_relative_positions,
    nearest_spec,
    part_count,
    zero_relative_positions,
)
from medsam.models.sam import Sam
from medsam.models.specs import SPECS, ModelSpec, VitSizes
from medsam.models.weights_file import CARD_KEY, HEAD_KEY, read_tensors

_GENERIC_NAMES = ("model.safetensors", "pytorch_model.bin")
_ROOT = re.compile(r"(?:^|\.)(image_encoder|vision_encoder|prompt_encoder|mask_decoder)\.")


@dataclass(frozen=True)
class Checkpoint:
    """A file's weights under the public SAM names.

    names: public name -> name in the file, where they differ. prefix, hugging_face: how the file would spell a
    name it does not have, so that messages can use the file's own. training: how the weights were made, where the file
    says: the "training" of its card, plain values. proposer: the decoder that the file holds beside them, if any.
    """

    path: Path
    state: dict[str, Tensor]
    card: ModelSpec | None = None
    names: dict[str, str] = field(default_factory=dict)
    prefix: str = ""
    hugging_face: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    proposer: Checkpoint | None = None

    @property
    def label(self) -> str:
        """The file's name; of its folder, where every file of that kind is called the same."""
        return self.path.parent.name if self.path.name in _GENERIC_NAMES else self.path.name

    def name_in_file(self, name: str) -> str:
        """A public name as the file spells it."""
        if name in self.state:
            return self.names.get(name, name)
        return self.prefix + (hugging_face_name(name) if self.hugging_face else name)


def load_checkpoint(path: Path, spec: ModelSpec | None = None) -> Sam:
    """The model a checkpoint holds, fp32 on the CPU, in training mode.

    spec: overrides the card and what the shapes say. Raises CheckpointError when the file cannot be read, or lists
    every missing, unexpected and wrongly shaped weight.
    """
    return model_of(read_checkpoint(path), spec)


def model_of(checkpoint: Checkpoint, spec: ModelSpec | None = None) -> Sam:
    """`load_checkpoint` for a file that is read already."""
    checkpoint, filled = _with_relative_positions(checkpoint)
    if spec is None and checkpoint.card is not None:
        _check_card(checkpoint, checkpoint.card)
    spec = spec or checkpoint.card or _inferred(checkpoint)
    if filled:
        spec = replace(spec, note=f"{spec.note}; {filled}".removeprefix("; "))
    try:
        # no memory and no time for random weights that are replaced at once
        with torch.device("meta"), _NothingDrawn():
            model = Sam.from_spec(spec)
    except Exception as error:  # sizes from a file, which need not be sizes
        raise CheckpointError(
            f"{checkpoint.path}: no model can be built by its card or its weights ({type(error).__name__}: "
            f"{str(error)[:200]}). Name the model it was made for, or fix the file."
        ) from error
    expected = model.state_dict()
    _compare(checkpoint, spec, expected)
    _check_kinds(checkpoint, expected)
    state = {
        name: (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in checkpoint.state.items()
    }
    # by NumPy: hundreds of small tensors, whose threads torch would start and wait for one by one
    broken = [name for name, tensor in state.items() if not np.isfinite(tensor.numpy()).all()]
    if broken:
        raise CheckpointError(
            f"{checkpoint.path} holds weights that are not finite numbers; its training diverged or the file is "
            "damaged:\n" + _grouped(checkpoint.name_in_file(name) for name in broken)
        )
    model.load_state_dict(state, strict=True, assign=True)
    if checkpoint.proposer is not None:
        model.propose_by(_decoder_of(checkpoint.proposer, model))
    return model


class _NothingDrawn(TorchFunctionMode):
    """Random weights stay undrawn.

    On the meta device they cost no memory, but to draw them there from a normal torch first imports its compiler and
    SymPy: a second of every start.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **kwargs)
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def save_checkpoint(model: Sam, path: Path, training: Mapping[str, Any] | None = None) -> None:
    """Write weights and card as safetensors, with those of `model.proposer`; complete or not at all.

    training: how the weights were made, plain values; part of the card.
    Raises CheckpointError when `path` does not end in .safetensors.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"Checkpoints are written as .safetensors, not {path.suffix or 'without a suffix'}.")
    state = model.state_dict()
    card = model.spec.to_dict() | ({"training": dict(training)} if training else {})
    if model.proposer is not None:
        weights = model.proposer.state_dict().items()
        state |= {f"{_PROPOSER}.{name}": tensor for name, tensor in weights if name.startswith(_DECODER)}
        card[_PROPOSER] = model.proposer.spec.to_dict()
    state = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    with write_whole(path) as part:
        save_file(state, part, metadata={"format": "pt", CARD_KEY: json.dumps(card)})


# what a second decoder in a file is called, in front of its weights and in the card
_PROPOSER = "proposer"
# the parts that a small file of weights holds, beside another model's image encoder
_DECODER = ("prompt_encoder.", "mask_decoder.")


def save_decoder(model: Sam, path: Path, training: Mapping[str, Any]) -> None:
    """Write prompt encoder and mask decoder in half precision, 8 MB of a LiteMedSAM; otherwise as `save_checkpoint`.

    The frequencies of positions stay as they are: half precision would move prompts by pixels.
    """
    from safetensors.torch import save_file

    state = {
        name: (tensor if name.endswith("gaussian_matrix") else tensor.half()).detach().contiguous()
        for name, tensor in model.state_dict().items()
        if name.startswith(_DECODER)
    }
    card = model.spec.to_dict() | {"training": dict(training)}
    with write_whole(path) as part:
        save_file(state, part, metadata={"format": "pt", CARD_KEY: json.dumps(card)})


def load_decoder(path: Path, beside: Sam) -> Sam:
    """What `save_decoder` wrote, as a model ready to answer, which shares the image encoder of another.

    Raises CheckpointError when the file cannot be read, or was trained beside an encoder of another architecture.
    """
    return _decoder_of(read_checkpoint(path), beside)


def _decoder_of(other: Checkpoint, beside: Sam) -> Sam:
    spec = other.card
    if spec is None or (spec.encoder, spec.decoder) != (beside.spec.encoder, beside.spec.decoder):
        raise CheckpointError(
            f"{other.path} holds no decoder for {beside.spec.name}. Fetch it again, or install medsam again."
        )
    shared = {f"image_encoder.{name}": tensor for name, tensor in beside.image_encoder.state_dict().items()}
    made = model_of(replace(other, state=shared | other.state), spec)
    return Sam(spec, beside.image_encoder, made.prompt_encoder, made.mask_decoder).eval().to(beside.device)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file (or a Hugging Face folder) into public names, without deciding which model it is.

    Raises CheckpointError when it is damaged, needs code to be run, or holds no or several models.
    """
    path = _weights_file(Path(path))
    raw, card = read_tensors(path)
    if card is not None and HEAD_KEY in card:
        raise CheckpointError(
            f"{path} is a head ({str(card.get('kind'))[:20]}), not a model: name the model it stands beside, and give "
            "this file as --head."
        )
    raw, proposer = _without_proposer(path, raw, card or {})
    raw = _merged(raw)
    names, prefix = _names_without_prefix(raw, path)
    hugging_face = any(name.startswith("vision_encoder.") for name in names)
    state = {name: raw[original] for name, original in names.items()}
    if hugging_face:
        state = from_hugging_face(state)
        names = {public_name(name): original for name, original in names.items()}
    training = card.get("training") if card else None
    return Checkpoint(
        path,
        state,
        ModelSpec.from_dict(card) if card else None,
        names,
        prefix,
        hugging_face,
        dict(training) if isinstance(training, Mapping) else {},
        proposer,
    )


def _without_proposer(
    path: Path, raw: dict[str, Tensor], card: Mapping[str, Any]
) -> tuple[dict[str, Tensor], Checkpoint | None]:
    """The weights of the model itself, and the decoder that lies beside it in the file."""
    spec = card.get(_PROPOSER)
    if not isinstance(spec, Mapping):
        return raw, None
    front = f"{_PROPOSER}."
    weights = {name.removeprefix(front): tensor for name, tensor in raw.items() if name.startswith(front)}
    own = {name: tensor for name, tensor in raw.items() if not name.startswith(front)}
    return own, Checkpoint(path, weights, ModelSpec.from_dict(dict(spec)), prefix=front)


# -- files ------------------------------------------------------------------------------------------------------


def _weights_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in _GENERIC_NAMES:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"The folder {path} holds neither {' nor '.join(_GENERIC_NAMES)}; name the file itself.")


_LOW_RANK = ".parametrizations.weight."


def _merged(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights trained with LoRA (see `medsam.training.lora`) as plain ones: original + scale * up @ down."""
    plain = {name: tensor for name, tensor in raw.items() if _LOW_RANK not in name}
    for name, tensor in raw.items():
        module, _, part = name.partition(_LOW_RANK)
        if part == "original":
            up, down, scale = (raw.get(f"{module}{_LOW_RANK}0.{each}") for each in ("up", "down", "scale"))
            if up is None or down is None or scale is None:
                raise CheckpointError(f"{module}.weight was trained with LoRA, but parts of it are missing.")
            if (
                up.ndim != 2
                or down.ndim != 2
                or up.shape[1:] != down.shape[:1]
                or (*up.shape[:1], *down.shape[1:]) != tensor.shape
            ):
                raise CheckpointError(
                    f"{module}.weight was trained with LoRA, but its parts do not fit: {tuple(up.shape)} times "
                    f"{tuple(down.shape)} is not {tuple(tensor.shape)}."
                )
            plain[f"{module}.weight"] = tensor + scale * (up @ down)
    return plain


def _names_without_prefix(raw: Iterable[str], path: Path) -> tuple[dict[str, str], str]:
    """Plain name -> name in the file, and the prefix: what training wraps around a model, such as `model.`.

    torch.compile's `_orig_mod.` goes too, wherever it stands.
    """
    plain = {re.sub(r"(^|\.)_orig_mod\.", r"\1", name): name for name in raw}
    prefixes = sorted({name[: match.start(1)] for name in plain if (match := _ROOT.search(name))})
    if len(prefixes) > 1:
        named = ", ".join(repr(prefix) for prefix in prefixes)
        raise CheckpointError(
            f"{path} holds several models, under the prefixes {named}. Save the one you mean into a file of its own."
        )
    prefix = prefixes[0] if prefixes else ""
    return {name.removeprefix(prefix): original for name, original in plain.items()}, prefix


# -- before a model is built ------------------------------------------------------------------------------------


def _check_card(checkpoint: Checkpoint, card: ModelSpec) -> None:
    """Raise CheckpointError when a card counts more parts than the file has weights: to build them takes the time."""
    encoder = card.encoder
    counts = {
        "depth": encoder.depth if isinstance(encoder, VitSizes) else encoder.depths,
        "layers": card.decoder.layers,
        "mask_tokens": card.decoder.mask_tokens,
    }
    for name, stated in counts.items():
        numbers = stated if isinstance(stated, tuple) else (stated,)
        if not all(isinstance(number, int) and 0 < number <= len(checkpoint.state) for number in numbers):
            raise CheckpointError(
                f"{checkpoint.path}: its card states {name} {str(stated)[:60]}, but the file holds "
                f"{len(checkpoint.state)} weights. Name the model it was made for, or fix the file."
            )


def _check_kinds(checkpoint: Checkpoint, expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for integers where fractions belong: quantised weights, whose scale is elsewhere."""
    wrong = [
        f"  {checkpoint.name_in_file(name)}: {checkpoint.state[name].dtype}".replace("torch.", "")
        for name, tensor in expected.items()
        if tensor.is_floating_point() != checkpoint.state[name].is_floating_point()
    ]
    if wrong:
        raise CheckpointError(
            f"{checkpoint.path} holds weights of a type that is not the network's. Save them as float32:\n"
            + "\n".join(wrong)
        )


def _with_relative_positions(checkpoint: Checkpoint) -> tuple[Checkpoint, str]:
    """A ViT saved without relative positions, with tables of zeros; and a word on it."""
    state = checkpoint.state
    if not lacks_relative_positions(state):
        return checkpoint, ""
    found = zero_relative_positions(state)
    if found is None:
        depth = part_count(state, "image_encoder.blocks")
        raise CheckpointError(
            f"{checkpoint.path} is a ViT without relative positions (image_encoder.blocks.*.attn.rel_pos_h) and of "
            f"sizes that no published model has ({depth} blocks). Its heads and windows cannot be worked out: "
            "it is not loaded."
        )
    tables, spec = found
    note = f"no relative positions in the weights; heads, windows and global blocks of {spec.name} assumed"
    return replace(checkpoint, state=state | tables), note


def _inferred(checkpoint: Checkpoint) -> ModelSpec:
    """The model by names and shapes; else the nearest one, which what is wrong is then named against."""
    spec = infer_spec(checkpoint.state, checkpoint.label) or nearest_spec(checkpoint.state)
    if spec is not None:
        return spec
    names = [checkpoint.name_in_file(name) for name in checkpoint.state]
    raise CheckpointError(
        f"{checkpoint.path} is not a SAM this package knows ({', '.join(SPECS)}, or the same networks in other sizes): "
        "its image encoder is missing or of another architecture. "
        f"Its {len(names)} weights, none of which could be placed:\n{_grouped(names)}"
    )


# -- against the model ------------------------------------------------------------------------------------------


def _compare(checkpoint: Checkpoint, spec: ModelSpec, expected: Mapping[str, Tensor]) -> None:
    state = checkpoint.state
    missing = [checkpoint.name_in_file(name) for name in expected if name not in state]
    unexpected = [checkpoint.name_in_file(name) for name in state if name not in expected]
    misshapen = [
        f"  {checkpoint.name_in_file(name)}: {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    report = [
        f"{len(names)} {kind}:\n{text}"
        for names, kind, text in (
            (missing, "missing", _grouped(missing)),
            (unexpected, "unexpected", _grouped(unexpected)),
            (misshapen, "of another shape", "\n".join(misshapen)),
        )
        if names
    ]
    if report:
        raise CheckpointError(
            f"{checkpoint.path} does not fit {spec.name} ({len(state)} weights, {len(expected)} expected). "
            "Choose the model it was made for, or fix the file.\n" + "\n".join(report)
        )


def _grouped(names: Iterable[str]) -> str:
    """Every name, those of one block on one line: `  image_encoder.blocks.0.attn: qkv.bias, qkv.weight`."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        path, _, weight = name.rpartition(".")
        block, _, layer = path.rpartition(".")
        groups[block].append(f"{layer}.{weight}" if layer else weight)
    return "\n".join(
        f"  {block}: {', '.join(rest)}" if block else f"  {', '.join(rest)}" for block, rest in groups.items()
    )
