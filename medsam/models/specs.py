"""`ModelSpec`: everything that distinguishes one model from another, in one frozen value.

Sizes of SAM's encoders: Kirillov et al. 2023 (arXiv 2304.02643) and the public checkpoints. MedSAM: Ma et al.
2024. LiteMedSAM: the TinyViT variant published with the CVPR 2024 laptop challenge (full-resolution stem).
Preprocessing belongs to the weights, so it lives here and nowhere else.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from medsam.errors import CheckpointError
from medsam.transforms.preprocess import Preprocess


@dataclass(frozen=True)
class VitSizes:
    """SAM's ViT image encoder. Lengths in model pixels (`image_size`, `patch`) or tokens (`window`).

    global_blocks: indices of the blocks that attend over the whole grid; the others see windows.
    """

    image_size: int
    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    mlp_width: int
    patch: int = 16
    window: int = 14

    @property
    def embed_side(self) -> int:
        """Rows (and columns) of the image embedding."""
        return self.image_size // self.patch


@dataclass(frozen=True)
class TinyVitSizes:
    """LiteMedSAM's TinyViT: a stem at full resolution, one stage of MBConv, then stages of window attention.

    widths, depths, heads, windows: one number a stage; the first stage is convolutional, so its head count and
    window are unused. strides: of the patch merging after each stage but the last.
    """

    image_size: int = 256
    widths: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (2, 4, 5, 10)
    windows: tuple[int, ...] = (7, 7, 14, 7)
    strides: tuple[int, ...] = (2, 2, 1)
    expand_ratio: float = 4.0
    mlp_ratio: float = 4.0

    @property
    def embed_side(self) -> int:
        """Rows (and columns) of the image embedding."""
        return self.image_size // math.prod(self.strides)


@dataclass(frozen=True)
class DecoderSizes:
    """Prompt encoder and mask decoder; the same for every published model.

    width: channels of the image embedding and of all tokens. mask_width: channels inside the mask prompt's
    convolutions. A mask decoder has `mask_tokens` mask tokens: token 0 for one mask, the rest for several.
    """

    width: int = 256
    layers: int = 2
    heads: int = 8
    mlp_width: int = 2048
    quality_width: int = 256
    mask_width: int = 16
    mask_tokens: int = 4


@dataclass(frozen=True)
class ModelSpec:
    """One model: its sizes, what it expects of its input, and where its weights come from.

    prompts: the kinds it was trained to answer alone; a network shown boxes only makes nothing of clicks and masks.
    use_priors: whether a box's shape and the pixels in it count beside the network (`inference.priors`). They help
    published weights; weights that were fine-tuned with loose boxes know better, and lose by it with such boxes.
    Called "evidence" in cards.
    mask_threshold: a pixel is the mask's where the network's logit is above it, as in SAM, whose weights have 0. `fit`
    chooses it on validation patients: on few examples a network learns to be sure of too little on those it never saw.
    licence: of the public weights, empty when unknown. asset: name for `medsam.assets.cache.fetch`, None when the
    weights cannot be fetched. note: how a loader arrived at this spec when it had to assume something; it does
    not take part in comparisons.
    Raises ValueError when the encoder and the preprocessing disagree about the input size.
    """

    name: str
    encoder: VitSizes | TinyVitSizes
    preprocess: Preprocess
    decoder: DecoderSizes = DecoderSizes()
    licence: str = ""
    asset: str | None = None
    clicks: str | None = None
    note: str = field(default="", compare=False)
    prompts: tuple[str, ...] = ("box", "points", "mask")
    use_priors: bool = True
    mask_threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.encoder.image_size != self.preprocess.size:
            raise ValueError(
                f"{self.name}: the encoder takes {self.encoder.image_size} px, "
                f"the preprocessing makes {self.preprocess.size} px."
            )

    @property
    def image_size(self) -> int:
        """Side of the square model input in pixels."""
        return self.encoder.image_size

    @property
    def embed_side(self) -> int:
        """Rows (and columns) of the image embedding; mask logits have four times as many."""
        return self.encoder.embed_side

    @property
    def family(self) -> Literal["vit", "tiny_vit"]:
        """Which image encoder."""
        return "vit" if isinstance(self.encoder, VitSizes) else "tiny_vit"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists: what a checkpoint carries as its card, safe without pickled code."""
        card = {"family": self.family, **_plain(asdict(self))}
        # its name in every card that was written so far
        card["evidence"] = card.pop("use_priors")
        return card

    @classmethod
    def from_dict(cls, card: dict[str, Any]) -> ModelSpec:
        """Inverse of `to_dict`. Raises CheckpointError when the card is not one of ours."""
        try:
            sizes = {"vit": VitSizes, "tiny_vit": TinyVitSizes}[card["family"]]
            return cls(
                name=str(card["name"]),
                encoder=sizes(**_frozen(card["encoder"])),
                preprocess=Preprocess(**_frozen(card["preprocess"])),
                decoder=DecoderSizes(**card["decoder"]),
                licence=str(card["licence"]),
                asset=card["asset"],
                clicks=card.get("clicks"),
                note=str(card.get("note", "")),
                prompts=tuple(str(kind) for kind in card.get("prompts", ("box", "points", "mask"))),
                use_priors=bool(card.get("evidence", True)),
                mask_threshold=float(card.get("mask_threshold", 0.0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"The checkpoint's model card cannot be read ({type(error).__name__}: {error}). "
                "Name the model explicitly to load the weights without the card."
            ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _frozen(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(item) if isinstance(item, list) else item for key, item in values.items()}


def sam_preprocess(size: int = 1024) -> Preprocess:
    """SAM: long side to `size`, ImageNet statistics on 0..255, padded with zeros."""
    return Preprocess(
        size,
        fit="pad",
        scale="standardise",
        interpolation="bilinear",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    )


def litemedsam_preprocess(size: int = 256) -> Preprocess:
    """LiteMedSAM: long side to `size`, each slice to [0, 1], padded with zeros."""
    return Preprocess(size, fit="pad", scale="minmax", interpolation="bilinear")


VIT_B = VitSizes(1024, width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11), mlp_width=3072)
VIT_L = VitSizes(1024, width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23), mlp_width=4096)
VIT_H = VitSizes(1024, width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31), mlp_width=5120)

SPECS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            "litemedsam",
            TinyVitSizes(),
            litemedsam_preprocess(),
            licence="Apache-2.0",
            asset="litemedsam",
            prompts=("box",),
        ),
        # the same weights, and beside them a decoder of ours that turns clicks and strokes into boxes
        ModelSpec(
            "litemedsam-plus",
            TinyVitSizes(),
            litemedsam_preprocess(),
            licence="Apache-2.0",
            asset="litemedsam",
            clicks="litemedsam-plus",
            prompts=("box",),
        ),
        # before MedSAM, whose keys and shapes are the same: the first match is the default
        ModelSpec("sam-vit-b", VIT_B, sam_preprocess(), licence="Apache-2.0", asset="sam-vit-b"),
        ModelSpec("sam-vit-l", VIT_L, sam_preprocess(), licence="Apache-2.0", asset="sam-vit-l"),
        ModelSpec("sam-vit-h", VIT_H, sam_preprocess(), licence="Apache-2.0", asset="sam-vit-h"),
        ModelSpec(
            "medsam-vit-b",
            VIT_B,
            Preprocess(1024, fit="stretch", scale="minmax", interpolation="bicubic"),
            licence="Apache-2.0",
            asset="medsam-vit-b",
            prompts=("box",),
        ),
    )
}


def takes_clicks(spec: ModelSpec) -> bool:
    """Whether a model was trained with clicks, and is given its own masks back; or with boxes alone."""
    return "points" in spec.prompts


def tiny_spec(family: Literal["vit", "tiny_vit"] = "vit", image_size: int = 64) -> ModelSpec:
    """A whole model of a few ten thousand weights, untrained: for tests and dry runs of a configuration.

    The ViT's windows do not divide its grid, so padding inside windows takes place as in the real model.
    """
    decoder = DecoderSizes(width=32, mlp_width=64, quality_width=32)
    if family == "vit":
        sizes = VitSizes(image_size, width=32, depth=2, heads=2, global_blocks=(1,), mlp_width=64, patch=8, window=3)
        return ModelSpec("tiny-vit", sizes, sam_preprocess(image_size), decoder)
    tiny = TinyVitSizes(
        image_size,
        widths=(8, 16, 16, 32),
        depths=(1, 1, 1, 1),
        heads=(1, 2, 2, 4),
        windows=(3, 3, 5, 3),
    )
    return ModelSpec("tiny-tinyvit", tiny, litemedsam_preprocess(image_size), decoder)
