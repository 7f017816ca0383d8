"""`Sam`: embed an image once, then answer any number of prompts on it.

Source: Kirillov et al. 2023, Segment Anything (arXiv 2304.02643). Gradients are the caller's choice: nothing here
switches them off.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsam.errors import PromptError
from medsam.models.mask_decoder import ImageTokens, MaskDecoder
from medsam.models.prompt_encoder import PromptEncoder
from medsam.models.specs import ModelSpec, VitSizes
from medsam.models.tiny_vit import TinyVitEncoder
from medsam.models.vit import VitEncoder


class Sam(nn.Module):
    """Image encoder, prompt encoder and mask decoder, handed in, or made to fit each other by `from_spec`.

    All positions are (x, y) in pixels of the model input, `spec.image_size` a side.
    proposer: a second decoder on the same embedding, as a model that shares the image encoder, or None. It knows clicks
        where this one knows boxes alone: its answers to clicks and strokes propose boxes (`inference.clicks`). It is no
        part of these weights: neither moved nor counted with them.
    """

    def __init__(
        self,
        spec: ModelSpec,
        image_encoder: VitEncoder | TinyVitEncoder,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self._beside: dict[str, Sam] = {}  # in a dictionary, which torch does not look into

    @property
    def proposer(self) -> Sam | None:
        return self._beside.get("proposer")

    def propose_by(self, other: Sam) -> None:
        """Have another decoder, on this one's embeddings, as `proposer`."""
        self._beside["proposer"] = other

    @classmethod
    def from_spec(cls, spec: ModelSpec) -> Sam:
        """Random weights, drawn from torch's global generator."""
        channels = spec.decoder.width
        encoder = (
            VitEncoder(spec.encoder, channels)
            if isinstance(spec.encoder, VitSizes)
            else TinyVitEncoder(spec.encoder, channels)
        )
        return cls(spec, encoder, PromptEncoder(spec.decoder, spec.image_size), MaskDecoder(spec.decoder))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mask_decoder.iou_token.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.mask_decoder.iou_token.weight.dtype

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Trade time for memory in training: blocks are computed again in the backward pass, not kept."""
        self.image_encoder.gradient_checkpointing = enabled
        self.mask_decoder.gradient_checkpointing = enabled

    def encode_image(self, images: Tensor) -> Tensor:
        """Preprocessed images (B, 3, S, S) -> embedding (B, C, h, w); 256 x 64 x 64 for the public models.

        Raises PromptError when the images are not S = `spec.image_size` a side with three channels.
        """
        self.check_images(images)
        return self.image_encoder(images.to(self.dtype))

    def check_images(self, images: Tensor) -> None:
        """Raises PromptError when the images are not what `encode_image` takes."""
        size = self.spec.image_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise PromptError(
                f"{self.spec.name} takes images (B, 3, {size}, {size}), got {_shape(images)}. "
                "Run them through the model's preprocessing first."
            )

    def decode(
        self,
        embedding: Tensor,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        point_labels: Tensor | None = None,
        masks: Tensor | None = None,
        text: Tensor | None = None,
        multimask: bool | None = False,
    ) -> tuple[Tensor, Tensor]:
        """P prompts on each of B images, in one pass.

        embedding: (B, C, h, w) from `encode_image`.
        boxes: (B, P, 4) as x0, y0, x1, y1; the encoder adds half a pixel to every coordinate, as published.
        points: (B, P, N, 2) with point_labels (B, P, N): 1 inside, 0 outside, -1 padding where prompts have
            fewer than N points. Points without a box get one more padding point, as published.
        masks: (B, P, 4h, 4w) logits, e.g. of an earlier answer.
        text: (B, P, T, C) tokens of names, of a `NameHead`; they stand behind those of points and boxes.
        multimask: one mask a prompt (the first token), or three for an ambiguous prompt (the others). None: all
            four, the single mask first, for training.

        Returns logits (B, P, M, 4h, 4w), inside where > 0, and the predicted IoU (B, P, M), M = 1, 3 or
        4. The predicted IoU is not clamped to [0, 1].
        Raises PromptError for missing prompts, wrong shapes, labels other than 1, 0, -1, or infinite positions.
        """
        prompts = self.count_prompts(embedding, boxes, points, point_labels, masks, text)
        image = self.precompute(embedding, masks)
        tokens = self.prompt_encoder.embed_tokens(boxes, points, point_labels)
        if text is not None:
            tokens = text.to(self.dtype) if tokens is None else torch.cat([tokens, text.to(tokens.dtype)], dim=2)
        return self.mask_decoder(image, self._positions(), tokens, prompts, multimask)

    def decode_text(self, embedding: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """P names on each of B images, of which any may be absent.

        embedding: (B, C, h, w), or one that was made smaller: nothing here depends on its sides. text: (B, P, T, C),
        see `decode`, which gives the same logits for an embedding of the usual size.
        Returns logits (B, P, 1, 4h, 4w), the predicted IoU (B, P, 1), and what is known of the prompt, (B, P, C), from
        which `NameHead.presence` tells whether it is there. Raises PromptError for shapes that do not fit.
        """
        width = self.spec.decoder.width
        if embedding.ndim != 4 or text.ndim != 4 or not embedding.shape[1] == text.shape[3] == width:
            raise PromptError(
                f"{self.spec.name} decodes embeddings (B, {width}, h, w) with text (B, P, T, {width}), got "
                f"{_shape(embedding)} and {_shape(text)}."
            )
        positions = self.prompt_encoder.image_positions(embedding.shape[2], embedding.shape[3])
        image = (embedding.to(self.dtype) + self.prompt_encoder.embed_no_mask())[:, None]
        tokens = self.mask_decoder.precompute(image, positions)
        return self.mask_decoder.summarised(tokens, positions, text.to(self.dtype), text.shape[1], False)

    def precompute(self, embedding: Tensor, masks: Tensor | None = None) -> ImageTokens:
        """What of a decode does not depend on boxes and points: once an embedding, for prompts without masks."""
        embedding = embedding.to(self.dtype)
        if masks is None:
            image = (embedding + self.prompt_encoder.embed_no_mask())[:, None]
        else:
            image = embedding[:, None] + self.prompt_encoder.embed_masks(masks)
        return self.mask_decoder.precompute(image, self._positions())

    def decode_tokens(
        self, image: ImageTokens, coordinates: Tensor, token_types: Tensor, cells: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """P prompts, as `prompt_encoder.as_tokens` lays them out, on an image part; all four masks.

        coordinates: (B, P, T, 2). token_types: (B, P, T). cells: (B, P, n), which cells of the grid to answer for.
        Returns logits (B, P, 4, 4h, 4w), with `cells` (B, P, 4, n, 4, 4), and predicted IoU (B, P, 4).
        """
        tokens = self.prompt_encoder.embed_coordinates(coordinates, token_types)
        return self.mask_decoder(image, self._positions(), tokens, coordinates.shape[1], None, cells)

    def _positions(self) -> Tensor:
        return self.prompt_encoder.image_positions(self.spec.embed_side, self.spec.embed_side)

    def count_prompts(
        self,
        embedding: Tensor,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        point_labels: Tensor | None = None,
        masks: Tensor | None = None,
        text: Tensor | None = None,
    ) -> int:
        """The number of prompts an image, P, once everything agrees about it; PromptError as `decode` says."""
        side, width = self.spec.embed_side, self.spec.decoder.width
        if embedding.ndim != 4 or embedding.shape[1:] != (width, side, side):
            raise PromptError(
                f"{self.spec.name} decodes embeddings (B, {width}, {side}, {side}), got {_shape(embedding)}."
            )
        if (points is None) != (point_labels is None):
            raise PromptError("Points need labels and labels need points: (B, P, N, 2) and (B, P, N).")
        given = {
            name: (tensor, shape)
            for name, tensor, shape in (
                ("boxes", boxes, ("B", "P", 4)),
                ("points", points, ("B", "P", "N", 2)),
                ("point_labels", point_labels, ("B", "P", "N")),
                ("masks", masks, ("B", "P", 4 * side, 4 * side)),
                ("text", text, ("B", "P", "T", width)),
            )
            if tensor is not None
        }
        if not given:
            raise PromptError("No prompt: give boxes, points with labels, masks, or tokens of a text.")

        sizes: dict[str, int] = {"B": embedding.shape[0]}
        for name, (tensor, shape) in given.items():
            known = [sizes.get(str(letter), letter) for letter in shape]
            fits = tensor.ndim == len(shape) and all(
                length == sizes.setdefault(letter, length) if isinstance(letter, str) else length == letter
                for length, letter in zip(tensor.shape, shape, strict=True)
            )
            if not fits:
                raise PromptError(
                    f"{name}: expected ({', '.join(map(str, shape))}) = ({', '.join(map(str, known))}) "
                    f"for {embedding.shape[0]} image(s), got {_shape(tensor)}."
                )
        if sizes["P"] == 0:
            raise PromptError(f"No prompt: {' and '.join(given)} hold no prompt for any image.")
        # values are checked only where there are any: a traced graph has none
        if not torch.compiler.is_compiling():
            _check_values(boxes, points, point_labels)
        return sizes["P"]


def _check_values(boxes: Tensor | None, points: Tensor | None, point_labels: Tensor | None) -> None:
    for name, tensor in (("boxes", boxes), ("points", points)):
        if tensor is not None and not tensor.isfinite().all():
            raise PromptError(f"{name}: not all coordinates are finite numbers.")
    if point_labels is not None:
        wrong = point_labels[(point_labels != 1) & (point_labels != 0) & (point_labels != -1)]
        if len(wrong):
            raise PromptError(
                f"point_labels: 1 is inside, 0 outside, -1 padding; got {wrong[0].item():g} "
                f"({len(wrong)} of {point_labels.numel()} labels are none of these)."
            )


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(str(length) for length in tensor.shape)})"
