"""Weights from files: every public layout in, one layout inside, strict.

Layouts: the original SAM, MedSAM and LiteMedSAM `.pth` (our own names), the Hugging Face `SamModel` (renamed both
ways), and training checkpoints, whose weights sit under `state_dict` or `model` with a prefix such as `model.`.
The architecture is worked out from names and shapes. Pickled code never runs: `.pth` files are read with
`weights_only=True`.

What names and shapes cannot say, and what is then assumed (and told in `ModelSpec.note`):
- SAM ViT-B and MedSAM are the same network: MedSAM when the file's name contains "medsam", otherwise SAM. A file
  called model.safetensors or pytorch_model.bin goes by its folder's name.
- TinyViT works at any size: 256 px and the published strides, as LiteMedSAM.
- The decoder's 8 attention heads.
A card written by `save_checkpoint` (or under `CARD_KEY` in a training checkpoint) says all of it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from medsam.errors import CheckpointError
from medsam.models.sam import Sam
from medsam.models.specs import SPECS, DecoderSizes, ModelSpec, TinyVitSizes, VitSizes
from medsam.models.weights_file import CARD_KEY, read_tensors

_GENERIC_NAMES = ("model.safetensors", "pytorch_model.bin")
_ROOT = re.compile(r"(?:^|\.)(image_encoder|vision_encoder|prompt_encoder|mask_decoder)\.")


@dataclass(frozen=True)
class Checkpoint:
    """A file's weights under the public SAM names.

    names: public name -> name in the file, where they differ. prefix, hugging_face: how the file would spell a
    name it does not have, so that messages can use the file's own. training: how the weights were made, where the file
    says: the "training" of its card, plain values.
    """

    path: Path
    state: dict[str, Tensor]
    card: ModelSpec | None = None
    names: dict[str, str] = field(default_factory=dict)
    prefix: str = ""
    hugging_face: bool = False
    training: dict[str, Any] = field(default_factory=dict)

    def name_in_file(self, name: str) -> str:
        """A public name as the file spells it."""
        if name in self.state:
            return self.names.get(name, name)
        return self.prefix + (_rename(name, _TO_HUGGING_FACE) if self.hugging_face else name)


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
    spec = spec or checkpoint.card or _infer_spec(checkpoint)
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
    """Write weights and card as safetensors; the file appears complete or not at all.

    training: how the weights were made, plain values; part of the card.
    Raises CheckpointError when `path` does not end in .safetensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"Checkpoints are written as .safetensors, not {path.suffix or 'without a suffix'}.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    card = model.spec.to_dict() | ({"training": dict(training)} if training else {})
    try:
        save_file(state, temporary, metadata={"format": "pt", CARD_KEY: json.dumps(card)})
        # safetensors keeps its files to their owner; others get what any new file gives them
        os.umask(mask := os.umask(0))
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file (or a Hugging Face folder) into public names, without deciding which model it is.

    Raises CheckpointError when it is damaged, needs code to be run, or holds no or several models.
    """
    path = _weights_file(Path(path))
    raw, card = read_tensors(path)
    raw = _merged(raw)
    names, prefix = _names_without_prefix(raw, path)
    hugging_face = any(name.startswith("vision_encoder.") for name in names)
    state = {name: raw[original] for name, original in names.items()}
    if hugging_face:
        state = from_hugging_face(state)
        names = {_rename(name, _FROM_HUGGING_FACE): original for name, original in names.items()}
    training = card.get("training") if card else None
    return Checkpoint(
        path,
        state,
        ModelSpec.from_dict(card) if card else None,
        names,
        prefix,
        hugging_face,
        dict(training) if isinstance(training, Mapping) else {},
    )


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


# -- Hugging Face names -----------------------------------------------------------------------------------------

_HF_POSITIONS = "shared_image_embedding.positional_embedding"
_HF_TIED_POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"

# (Hugging Face, public); # is a number; the first row that fits the beginning of a name decides.
_NAMES = (
    (_HF_POSITIONS, "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    ("vision_encoder.patch_embed.projection.", "image_encoder.patch_embed.proj."),
    ("vision_encoder.layers.#.layer_norm#.", "image_encoder.blocks.#.norm#."),
    ("vision_encoder.layers.#.", "image_encoder.blocks.#."),
    ("vision_encoder.neck.conv1.", "image_encoder.neck.0."),
    ("vision_encoder.neck.layer_norm1.", "image_encoder.neck.1."),
    ("vision_encoder.neck.conv2.", "image_encoder.neck.2."),
    ("vision_encoder.neck.layer_norm2.", "image_encoder.neck.3."),
    ("vision_encoder.", "image_encoder."),
    ("prompt_encoder.mask_embed.conv1.", "prompt_encoder.mask_downscaling.0."),
    ("prompt_encoder.mask_embed.layer_norm1.", "prompt_encoder.mask_downscaling.1."),
    ("prompt_encoder.mask_embed.conv2.", "prompt_encoder.mask_downscaling.3."),
    ("prompt_encoder.mask_embed.layer_norm2.", "prompt_encoder.mask_downscaling.4."),
    ("prompt_encoder.mask_embed.conv3.", "prompt_encoder.mask_downscaling.6."),
    ("prompt_encoder.point_embed.#.", "prompt_encoder.point_embeddings.#."),
    ("mask_decoder.transformer.layers.#.layer_norm#.", "mask_decoder.transformer.layers.#.norm#."),
    ("mask_decoder.transformer.layer_norm_final_attn.", "mask_decoder.transformer.norm_final_attn."),
    ("mask_decoder.upscale_conv1.", "mask_decoder.output_upscaling.0."),
    ("mask_decoder.upscale_layer_norm.", "mask_decoder.output_upscaling.1."),
    ("mask_decoder.upscale_conv2.", "mask_decoder.output_upscaling.3."),
    ("mask_decoder.output_hypernetworks_mlps.#.proj_in.", "mask_decoder.output_hypernetworks_mlps.#.layers.0."),
    ("mask_decoder.output_hypernetworks_mlps.#.layers.0.", "mask_decoder.output_hypernetworks_mlps.#.layers.1."),
    ("mask_decoder.output_hypernetworks_mlps.#.proj_out.", "mask_decoder.output_hypernetworks_mlps.#.layers.2."),
    ("mask_decoder.iou_prediction_head.proj_in.", "mask_decoder.iou_prediction_head.layers.0."),
    ("mask_decoder.iou_prediction_head.layers.0.", "mask_decoder.iou_prediction_head.layers.1."),
    ("mask_decoder.iou_prediction_head.proj_out.", "mask_decoder.iou_prediction_head.layers.2."),
)


def _rules(pairs: Iterable[tuple[str, str]]) -> list[tuple[re.Pattern[str], str]]:
    rules = []
    for source, target in pairs:
        numbers = iter(range(1, 10))
        rules.append(
            (
                re.compile(re.escape(source).replace(r"\#", r"(\d+)")),
                re.sub("#", lambda _, numbers=numbers: rf"\g<{next(numbers)}>", target),  # type: ignore[misc]
            )
        )
    return rules


_FROM_HUGGING_FACE = _rules(_NAMES)
_TO_HUGGING_FACE = _rules((public, theirs) for theirs, public in _NAMES)


def _rename(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, target in rules:
        if match := pattern.match(name):
            return match.expand(target) + name[match.end() :]
    return name


def from_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a Hugging Face `SamModel` under the public SAM names.

    Its two copies of the positional encoding are one weight here; CheckpointError when they differ.
    """
    state = dict(state)
    tied = state.pop(_HF_TIED_POSITIONS, None)
    other = tied if tied is None else state.setdefault(_HF_POSITIONS, tied)
    if tied is not None and (other is None or other.dtype != tied.dtype or not torch.equal(other, tied)):
        raise CheckpointError(
            f"{_HF_POSITIONS} and {_HF_TIED_POSITIONS} should be one weight but differ: the checkpoint is damaged."
        )
    return {_rename(name, _FROM_HUGGING_FACE): tensor for name, tensor in state.items()}


def to_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a `Sam` with a ViT under the names of a Hugging Face `SamModel`; inverse of `from_hugging_face`.

    Raises CheckpointError for TinyViT weights, which `SamModel` has no place for.
    """
    if any(name.startswith("image_encoder.layers.") for name in state):
        raise CheckpointError(
            "Hugging Face's SamModel has a ViT image encoder only, and these weights are a TinyViT's."
        )
    renamed = {_rename(name, _TO_HUGGING_FACE): tensor for name, tensor in state.items()}
    if _HF_POSITIONS in renamed:
        renamed[_HF_TIED_POSITIONS] = renamed[_HF_POSITIONS]
    return renamed


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
    """A ViT saved without relative positions, with tables of zeros, which add nothing; and a word on it.

    Heads and windows are not in the weights then, so the rest has to have the sizes of a published model.
    """
    state = checkpoint.state
    depth = _count(state, "image_encoder.blocks")
    if not depth or any(name.endswith((".rel_pos_h", ".rel_pos_w")) for name in state):
        return checkpoint, ""
    position, mlp = state.get("image_encoder.pos_embed"), state.get("image_encoder.blocks.0.mlp.lin1.weight")
    for spec in SPECS.values():
        sizes = spec.encoder
        if (
            isinstance(sizes, VitSizes)
            and position is not None
            and mlp is not None
            and (sizes.depth, sizes.width, sizes.mlp_width)
            == (depth, position.shape[-1], mlp.shape[0] if mlp.ndim else 0)
        ):
            tables = {
                f"image_encoder.blocks.{index}.attn.rel_pos_{way}": torch.zeros(
                    2 * (position.shape[1] if index in sizes.global_blocks else sizes.window) - 1,
                    sizes.width // sizes.heads,
                )
                for index in range(depth)
                for way in "hw"
            }
            note = f"no relative positions in the weights; heads, windows and global blocks of {spec.name} assumed"
            return replace(checkpoint, state=state | tables), note
    raise CheckpointError(
        f"{checkpoint.path} is a ViT without relative positions (image_encoder.blocks.*.attn.rel_pos_h) and of sizes "
        f"that no published model has ({depth} blocks). Its heads and windows cannot be worked out: it is not loaded."
    )


# -- which model ------------------------------------------------------------------------------------------------


def _infer_spec(checkpoint: Checkpoint) -> ModelSpec:
    state, path = checkpoint.state, checkpoint.path
    try:
        decoder = _decoder_sizes(state)
        encoder = _tiny_vit_sizes(state) if _count(state, "image_encoder.layers") else _vit_sizes(state)
    # a weight that tells a size is missing or has another rank
    except (KeyError, IndexError, ValueError, ZeroDivisionError, StopIteration, TypeError):
        return _nearest_spec(checkpoint)

    label = path.parent.name if path.name in _GENERIC_NAMES else path.name
    medsam = "medsam" in label.lower()
    matches = {spec.name: spec for spec in SPECS.values() if (spec.encoder, spec.decoder) == (encoder, decoder)}
    if len(matches) > 1:
        spec = matches["medsam-vit-b" if medsam else "sam-vit-b"]
        note = (
            f"{spec.name} assumed because the name {label!r} {'contains' if medsam else 'does not contain'} 'medsam'; "
            f"{' and '.join(matches)} differ only in preprocessing, which weights cannot tell"
        )
        return replace(spec, note=note)
    if matches:
        (spec,) = matches.values()
        if isinstance(encoder, TinyVitSizes):
            spec = replace(spec, note=f"{encoder.image_size} px assumed; TinyViT weights do not tell their input size")
        return spec

    if isinstance(encoder, VitSizes):
        like = SPECS["medsam-vit-b" if medsam else "sam-vit-b"]
        name = f"vit-{encoder.width}x{encoder.depth}"
    else:
        like = SPECS["litemedsam"]
        name = f"tinyvit-{encoder.widths[-1]}x{sum(encoder.depths)}"
    return ModelSpec(
        name=name,
        encoder=encoder,
        preprocess=replace(like.preprocess, size=encoder.image_size),
        decoder=decoder,
        note=f"sizes read from the weights; preprocessing of {like.name} at {encoder.image_size} px assumed",
    )


def _vit_sizes(state: Mapping[str, Tensor]) -> VitSizes:
    _, side, columns, width = state["image_encoder.pos_embed"].shape
    patch = state["image_encoder.patch_embed.proj.weight"].shape[-1]
    depth = _count(state, "image_encoder.blocks")
    tables = {
        index: state[name]
        for index in range(depth)
        if (name := f"image_encoder.blocks.{index}.attn.rel_pos_h") in state
    }
    reach = {index: (len(table) + 1) // 2 for index, table in tables.items()}
    windows = Counter(value for value in reach.values() if value != side)
    if side != columns:
        raise ValueError("the grid is not square")
    mlp = next(t for name, t in state.items() if re.match(r"image_encoder\.blocks\.\d+\.mlp\.lin1\.weight", name))
    return VitSizes(
        image_size=side * patch,
        width=width,
        depth=depth,
        heads=width // next(iter(tables.values())).shape[1],
        global_blocks=tuple(index for index, value in reach.items() if value == side),
        mlp_width=mlp.shape[0],
        patch=patch,
        window=windows.most_common(1)[0][0] if windows else VitSizes.window,
    )


def _tiny_vit_sizes(state: Mapping[str, Tensor]) -> TinyVitSizes:
    root = "image_encoder.layers"
    published = TinyVitSizes()
    stages = range(_count(state, root))
    biases = [state[f"{root}.{stage}.blocks.0.attn.attention_biases"].shape for stage in stages[1:]]
    first = state[f"{root}.0.blocks.0.conv1.c.weight"].shape
    norms = [state[f"{root}.{stage}.blocks.0.attn.norm.weight"].shape[0] for stage in stages[1:]]
    mlp = state[f"{root}.1.blocks.0.mlp.fc1.weight"].shape
    if len(stages) != len(published.widths):
        raise ValueError("the strides of this many stages are not known")
    return TinyVitSizes(
        widths=(first[1], *norms),
        depths=tuple(_count(state, f"{root}.{stage}.blocks") for stage in stages),
        heads=(published.heads[0], *(shape[0] for shape in biases)),
        windows=(published.windows[0], *(math.isqrt(shape[1]) for shape in biases)),
        expand_ratio=first[0] / first[1],
        mlp_ratio=mlp[0] / mlp[1],
    )


def _decoder_sizes(state: Mapping[str, Tensor]) -> DecoderSizes:
    """Published sizes stand in for weights that are missing; the comparison that follows names them."""
    published = DecoderSizes()

    def length(name: str, default: int, axis: int = 0) -> int:
        return state[name].shape[axis] if name in state else default

    return DecoderSizes(
        width=length("mask_decoder.iou_token.weight", published.width, axis=1),
        layers=_count(state, "mask_decoder.transformer.layers") or published.layers,
        mlp_width=length("mask_decoder.transformer.layers.0.mlp.lin1.weight", published.mlp_width),
        quality_width=length("mask_decoder.iou_prediction_head.layers.0.weight", published.quality_width),
        mask_width=length("prompt_encoder.mask_downscaling.3.weight", published.mask_width),
        mask_tokens=length("mask_decoder.mask_tokens.weight", published.mask_tokens),
    )


def _count(state: Mapping[str, Tensor], root: str) -> int:
    """One more than the largest number that follows `root`."""
    pattern = re.compile(re.escape(root) + r"\.(\d+)\.")
    return max((int(match[1]) + 1 for name in state if (match := pattern.match(name))), default=0)


def _nearest_spec(checkpoint: Checkpoint) -> ModelSpec:
    """The known model whose weights a checkpoint mostly has; what is wrong with it is then told against that."""
    best, share = None, 0.0
    for spec in SPECS.values():
        with torch.device("meta"):
            expected = Sam.from_spec(spec).state_dict()
        fitting = sum(
            name in checkpoint.state and checkpoint.state[name].shape == tensor.shape
            for name, tensor in expected.items()
        )
        if fitting / len(expected) > share:
            best, share = spec, fitting / len(expected)
    # the decoder alone, which other models share, is less than half of any of ours
    if best is not None and share > 0.5:
        return best
    names = [checkpoint.name_in_file(name) for name in checkpoint.state]
    raise CheckpointError(
        f"{checkpoint.path} is not a SAM this package knows ({', '.join(SPECS)}, or the same networks in other sizes): "
        "its image encoder is missing or of another architecture. "
        f"Its {len(names)} weights, none of which could be placed:\n{_grouped(names)}"
    )


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
