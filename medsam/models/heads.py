"""Heads: small networks beside an image encoder, in files of their own.

A head reads the embedding that an encoder makes of a slice, and so belongs to that encoder alone: its card keeps the
encoder's digest, and a head is refused beside another. A file is safetensors, half precision, with its card (JSON) in
the metadata under `CARD_KEY`, as a model's is; "head" in it is the number of this format. Tensors are named

    head.NAME                      the head's own weights
    decoder.NAME                   a prompt encoder and mask decoder that learnt beside it, as changes of those that the
    decoder.NAME.up, .down         encoder's model came with: added whole, or as the product of two thin matrices

A decoder's changes have little rank: thin matrices make a file of a fifth of the size (`low_rank`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from medsam.errors import CheckpointError, listed
from medsam.files import write_whole
from medsam.models.sam import Sam
from medsam.models.specs import ModelSpec
from medsam.models.weights_file import CARD_KEY, HEAD_KEY, read_tensors, weights_digest

FORMAT = 1
# of one that reads names by another text encoder than the bank's, which earlier versions would take for it
_FORMAT_BY_TEXT = 2
Kind = Literal["detector", "names"]
TEXT_ENCODERS = ("clip",)
_DECODER_PARTS = ("prompt_encoder.", "mask_decoder.")
# more of either is no head, but a file that wants memory
_MOST_CLASSES, _MOST_SIZE = 2000, 1 << 14


@dataclass(frozen=True)
class HeadCard:
    """What a head is, where it comes from, and what was shown of it: plain values.

    name: of the head. classes: names of the structures, in the order of its outputs. model, encoder: whose image
    encoder it reads, by name and by `encoder_digest`. sizes: of its network, by the network's own names. licence: of
    the weights. data: {"name", "licence", "cases", "patients", "slices"} of each set it learnt from. recipe: how.
    measured: structure -> what was found on patients it never saw, {"set", "patients", "dice", ...}; structures that
    are not in it are untested. modalities: DICOM's words, () where not stated. thresholds: structure -> the score from
    which an answer counts, chosen on validation patients. decoder: of one that lies beside it, {"of": digest of the
    decoder it changes, "spec": its card}, or None. text_encoder: who embeds the names that it takes, {"kind": "clip",
    "digest": of its weights}; None: MiniLM, whose embeddings are in the bank.
    Raises CheckpointError for what is no card.
    """

    kind: Kind
    name: str
    classes: tuple[str, ...]
    model: str
    encoder: str
    sizes: Mapping[str, int]
    licence: str = ""
    data: tuple[Mapping[str, Any], ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    decoder: Mapping[str, Any] | None = None
    text_encoder: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise CheckpointError(f"There is no head of the kind {str(self.kind)[:40]!r}.")
        if not 0 < len(self.classes) <= _MOST_CLASSES or len(set(self.classes)) < len(self.classes):
            raise CheckpointError(f"A head has from 1 to {_MOST_CLASSES} different classes, not {len(self.classes)}.")
        if any(not isinstance(size, int) or not 0 < size <= _MOST_SIZE for size in self.sizes.values()):
            raise CheckpointError(f"A head's sizes are whole numbers from 1 to {_MOST_SIZE}, not {dict(self.sizes)}.")
        if not all(math.isfinite(number) for number in self.thresholds.values()):
            raise CheckpointError("A head's thresholds are finite numbers.")
        about = self.text_encoder
        if about is not None and (about.get("kind") not in TEXT_ENCODERS or not isinstance(about.get("digest"), str)):
            raise CheckpointError(
                f"The head reads names by a text encoder of the kind {str(about.get('kind'))[:40]!r}, and this medsam "
                f"knows {listed(TEXT_ENCODERS)}: install another version of medsam."
            )

    @property
    def untested(self) -> tuple[str, ...]:
        """The structures of which nothing was measured on patients it never saw."""
        return tuple(name for name in self.classes if name not in self.measured)

    def drawn_anyway(self, found: Sequence[str]) -> str:
        """What to say of structures that were found, and measured on no scan without them; "" where there are none."""
        never = [name for name in found if name in self.measured and not self.measured[name].get("scans_without")]
        if not never:
            return ""
        return (
            f"{listed(name.replace('_', ' ') for name in never)}: {self.name} was never measured on scans without it. "
            "On another part of the body it may be drawn where it is not: look at it."
        )

    def is_for(self, modality: str | None) -> bool:
        """Whether the head learnt from scans of a modality, as far as both are known."""
        return modality is None or not self.modalities or modality in self.modalities

    def foreign(self, modality: str | None) -> str:
        """What to say of an answer on a scan of another modality than the head learnt from; "" where none is known."""
        if self.is_for(modality):
            return ""
        return f"UNTESTED: {self.name} learnt from {listed(self.modalities)}, and this scan is {modality}."

    def to_dict(self) -> dict[str, Any]:
        """As the file has it."""
        return {
            HEAD_KEY: FORMAT if self.text_encoder is None else _FORMAT_BY_TEXT,
            "kind": self.kind,
            "name": self.name,
            "classes": list(self.classes),
            "model": self.model,
            "encoder": self.encoder,
            "sizes": dict(self.sizes),
            "licence": self.licence,
            "data": [dict(one) for one in self.data],
            "recipe": dict(self.recipe),
            "measured": {name: dict(found) for name, found in self.measured.items()},
            "modalities": list(self.modalities),
            "thresholds": dict(self.thresholds),
            "decoder": None if self.decoder is None else dict(self.decoder),
            **({} if self.text_encoder is None else {"text_encoder": dict(self.text_encoder)}),
        }

    @classmethod
    def from_dict(cls, card: Mapping[str, Any]) -> HeadCard:
        """Inverse of `to_dict`. Raises CheckpointError."""
        if card.get(HEAD_KEY) not in (FORMAT, _FORMAT_BY_TEXT):
            raise CheckpointError(
                f"The head is of format {str(card.get(HEAD_KEY))[:20]!r}, and this medsam reads {FORMAT} and "
                f"{_FORMAT_BY_TEXT}: install another version of medsam, or train the head again."
            )
        try:
            return cls(
                kind=card["kind"],
                name=str(card["name"]),
                classes=tuple(str(name) for name in card["classes"]),
                model=str(card["model"]),
                encoder=str(card["encoder"]),
                sizes=dict(card["sizes"]),
                licence=str(card.get("licence", "")),
                data=tuple(dict(one) for one in card.get("data", ())),
                recipe=dict(card.get("recipe", {})),
                measured={str(name): dict(found) for name, found in card.get("measured", {}).items()},
                modalities=tuple(str(name) for name in card.get("modalities", ())),
                thresholds={str(name): float(number) for name, number in card.get("thresholds", {}).items()},
                decoder=None if card.get("decoder") is None else dict(card["decoder"]),
                text_encoder=None if card.get("text_encoder") is None else dict(card["text_encoder"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CheckpointError(
                f"The head's card cannot be read ({type(error).__name__}: {str(error)[:100]})."
            ) from error


@dataclass(frozen=True, eq=False)
class Head:
    """A head that was read, or is to be written. state: its weights, float32 on the CPU. path: where it lies.

    decoder: the changes of a decoder beside it, as the file names them; {} where there is none.
    """

    card: HeadCard
    state: Mapping[str, Tensor]
    decoder: Mapping[str, Tensor] = field(default_factory=dict)
    path: Path | None = None

    def check(self, sam: Sam) -> None:
        """Raise CheckpointError unless `sam` has the image encoder that this head learnt beside."""
        if encoder_digest(sam) != self.card.encoder:
            raise CheckpointError(
                f"The head {self.card.name!r} reads the embeddings of {self.card.model}, and {sam.spec.name} has "
                f"another image encoder (digest {encoder_digest(sam)[:12]}, not {self.card.encoder[:12]}). Take "
                f"--model {self.card.model} or a decoder trained beside its encoder, or train a head for this model."
            )

    def load_into(self, network: nn.Module) -> None:
        """Give a network of the card's sizes these weights. Raises CheckpointError listing those that do not fit."""
        expected = network.state_dict()
        wrong = sorted(
            name
            for name in expected.keys() | self.state.keys()
            if name not in expected or name not in self.state or expected[name].shape != self.state[name].shape
        )
        if wrong:
            raise CheckpointError(
                f"{self._called} is damaged: {len(wrong)} of its weights are missing, unexpected or of another shape "
                f"({listed(wrong, 5)}). Fetch or train it again."
            )
        network.load_state_dict(dict(self.state), assign=True)

    def with_decoder(self, sam: Sam) -> Sam:
        """`sam` with the decoder that lies beside this head; `sam` itself where there is none, or where its decoder is
        not the one that was changed: then it has learnt something of its own.

        Raises CheckpointError for a decoder that does not fit.
        """
        if self.card.decoder is None or self.card.decoder.get("of") != decoder_digest(sam):
            return sam
        about = self.card.decoder.get("spec")
        if not isinstance(about, Mapping):
            raise CheckpointError(f"{self._called} does not say what decoder it holds. Fetch or train it again.")
        spec = ModelSpec.from_dict(dict(about))
        if (spec.encoder, spec.decoder) != (sam.spec.encoder, sam.spec.decoder):
            raise CheckpointError(f"{self._called} holds a decoder for {spec.name}, not for {sam.spec.name}.")
        changed = Sam.from_spec(spec)
        before = {name: tensor for name, tensor in sam.state_dict().items() if name.startswith(_DECODER_PARTS)}
        state = {name: tensor + self._change(name, tensor) for name, tensor in before.items()}
        encoder = {f"image_encoder.{name}": tensor for name, tensor in sam.image_encoder.state_dict().items()}
        changed.load_state_dict(encoder | state)
        made = Sam(spec, sam.image_encoder, changed.prompt_encoder, changed.mask_decoder).eval().to(sam.device)
        if sam.proposer is not None:
            made.propose_by(sam.proposer)
        return made

    @property
    def _called(self) -> str:
        return str(self.path or self.card.name)

    def _change(self, name: str, tensor: Tensor) -> Tensor:
        whole, up, down = (self.decoder.get(f"{name}{part}") for part in ("", ".up", ".down"))
        if whole is None and up is None and down is None:
            return torch.zeros_like(tensor)
        if whole is None and (up is None or down is None or up.ndim != 2 or down.ndim != 2 or up.shape[1] != len(down)):
            raise CheckpointError(f"{self._called}: the change of {name} is not whole. Fetch or train it again.")
        # before it is made: thin matrices may stand for one that fills the memory
        if (len(up) * down.shape[1] if whole is None else whole.numel()) != tensor.numel():  # type: ignore[arg-type, union-attr]
            raise CheckpointError(f"{self._called}: the change of {name} has another shape. Fetch or train it again.")
        change = whole if whole is not None else up @ down  # type: ignore[operator]
        return change.reshape(tensor.shape).to(tensor.device)


def encoder_digest(sam: Sam) -> str:
    """What a head belongs to: a digest of the image encoder's weights, the same whatever decoder stands beside it."""
    return weights_digest(sam.image_encoder)


def decoder_digest(sam: Sam) -> str:
    """Of prompt encoder and mask decoder."""
    return weights_digest(nn.ModuleList([sam.prompt_encoder, sam.mask_decoder]))


def changes_of(sam: Sam, trained: Sam, rank: int = 32) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What a decoder learnt since `sam`'s, as `Head.decoder` keeps it, and "decoder" of its card.

    rank: of the thin matrices; larger changes of a matrix than they can hold are rounded to the nearest of that rank.
    Raises CheckpointError for a `trained` with another image encoder or of another architecture.
    """
    if encoder_digest(sam) != encoder_digest(trained) or sam.spec.decoder != trained.spec.decoder:
        raise CheckpointError(
            f"A head keeps a decoder trained beside the image encoder of {sam.spec.name}; this one's encoder was "
            "trained, too, or is another's."
        )
    before, after = sam.state_dict(), trained.state_dict()
    changes: dict[str, Tensor] = {}
    for name, tensor in after.items():
        if name.startswith(_DECODER_PARTS) and not torch.equal(tensor, before[name]):
            changes |= low_rank(name, (tensor - before[name]).detach().cpu().float(), rank)
    return changes, {"of": decoder_digest(sam), "rank": rank, "spec": trained.spec.to_dict()}


def low_rank(name: str, change: Tensor, rank: int) -> dict[str, Tensor]:
    """The change of a weight as two thin matrices where these are smaller, else whole."""
    flat = change.reshape(len(change), -1) if change.ndim > 1 else change[None]
    if rank * sum(flat.shape) >= flat.numel():
        return {name: change}
    u, s, v = torch.linalg.svd(flat, full_matrices=False)
    root = s[:rank].sqrt()
    return {f"{name}.up": u[:, :rank] * root, f"{name}.down": root[:, None] * v[:rank]}


def save_head(head: Head, path: Path) -> None:
    """Write a head in half precision; the file appears complete or not at all.

    Raises CheckpointError when `path` does not end in .safetensors, or a weight is not finite in half precision.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"Heads are written as .safetensors, not {path.suffix or 'without a suffix'}.")
    named = {f"head.{name}": tensor for name, tensor in head.state.items()}
    named |= {f"decoder.{name}": tensor for name, tensor in head.decoder.items()}
    tensors = {name: tensor.detach().cpu().half().contiguous() for name, tensor in named.items()}
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"The head's weights are not finite numbers ({listed(broken, 5)}): its training diverged."
        )
    with write_whole(path) as part:
        save_file(tensors, part, metadata={"format": "pt", CARD_KEY: json.dumps(head.card.to_dict())})


def read_head(path: Path) -> Head:
    """Read a head's file. Raises CheckpointError when it is damaged, no head, or of a format of the future."""
    path = Path(path)
    tensors, card = read_tensors(path)
    if card is None or HEAD_KEY not in card:
        raise CheckpointError(f"{path} is no head (a detector, or names): it holds the weights of something else.")
    try:
        known = HeadCard.from_dict(card)
    except CheckpointError as error:
        raise error.within(str(path)) from error
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(f"{path} holds weights that are not finite numbers ({listed(broken, 5)}).")
    parts: dict[str, dict[str, Tensor]] = {"head": {}, "decoder": {}}
    for name, tensor in tensors.items():
        part, _, inner = name.partition(".")
        if part not in parts or not inner:
            raise CheckpointError(f"{path}: the weight {name[:80]!r} belongs to no part of a head.")
        parts[part][inner] = tensor.float()
    return Head(known, parts["head"], parts["decoder"], path)


def bundled_heads(kind: Kind, sam: Sam) -> list[Head]:
    """Every head of a kind that medsam ships for this model's image encoder."""
    from medsam.assets.cache import fetch
    from medsam.assets.catalogue import ASSETS

    read = [read_head(fetch(name)["head"]) for name, asset in ASSETS.items() if asset.kind == "head"]
    here = encoder_digest(sam)
    return [head for head in read if head.card.kind == kind and head.card.encoder == here]


def find_head(source: str | Path, sam: Sam, kind: Kind | None = None) -> Head:
    """A head by its name in `medsam models list`, or by its file, once it fits `sam`.

    kind: the one that is needed. Raises CheckpointError, and AssetError for a name that cannot be fetched.
    """
    head = read_head(_file_of(source))
    if kind is not None and head.card.kind != kind:
        raise CheckpointError(
            f"{source} is a head of the kind {head.card.kind!r}; here one of the kind {kind!r} is needed."
        )
    head.check(sam)
    return head


def _file_of(source: str | Path) -> Path:
    from medsam.assets.cache import fetch
    from medsam.assets.catalogue import ASSETS

    heads = [name for name, asset in ASSETS.items() if asset.kind == "head"]
    if isinstance(source, str) and source in heads:
        return fetch(source)["head"]
    if Path(source).is_file():
        return Path(source)
    raise CheckpointError(
        f"No head at {source}, and it is not the name of one. Known heads: {listed(heads) or 'none'}."
    )


def head_digest(source: str | Path) -> str:
    """sha256 over names and values of a head's weights: what its card says of them may change."""
    head, digest = read_head(_file_of(source)), hashlib.sha256()
    for part in (head.state, head.decoder):
        for name, tensor in sorted(part.items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def renamed(head: Head, **changes: Any) -> Head:
    """The head with another card: what was measured of it is known after it was written."""
    return replace(head, card=replace(head.card, **changes))
