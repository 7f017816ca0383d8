"""What the public `SamAutomaticMaskGenerator` makes of fixed logits: the yardstick for `medsam everything`.

    scripts/reference-env
    .venv-reference/bin/python scripts/parity/reference_everything.py CASES.npz ANSWERS.npz

Imports nothing of medsam. The generator, its predictor, its rescaling and its clean-up are those of the package
segment-anything; only the networks are replaced, by ones that answer the next of the logits they were given.

CASES.npz, for every case NAME
  NAME/logits    float32 (N, 3, s, s), NAME/quality float32 (N, 3): the answers, in the order of the clicks
  NAME/shape     (H, W) of the image; NAME/size: the model's side
  NAME/settings  JSON, arguments of SamAutomaticMaskGenerator
ANSWERS.npz
  NAME/masks bool (M, H, W), NAME/numbers float64 (M, 12): bbox, predicted IoU, stability, crop_box, point
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam


class Prompts:
    """Hands the clicks through."""

    def __call__(self, points: tuple[torch.Tensor, torch.Tensor], **_: object) -> tuple[torch.Tensor, None]:
        return points[0], None

    def get_dense_pe(self) -> None:
        return None


class Fixed(torch.nn.Module):
    """As much of `Sam` as the generator's predictor touches."""

    mask_threshold = 0.0
    image_format = "RGB"
    device = torch.device("cpu")
    postprocess_masks = Sam.postprocess_masks

    def __init__(self, logits: np.ndarray, quality: np.ndarray, size: int) -> None:
        super().__init__()
        self.logits, self.quality, self.asked = torch.from_numpy(logits), torch.from_numpy(quality), 0
        encoder: Any = torch.nn.Identity()
        encoder.img_size = size
        self.image_encoder = encoder
        self.prompt_encoder = Prompts()

    def preprocess(self, image: torch.Tensor) -> torch.Tensor:
        return image

    def mask_decoder(self, *, sparse_prompt_embeddings: torch.Tensor, **_: object) -> tuple[torch.Tensor, torch.Tensor]:
        part = slice(self.asked, self.asked + len(sparse_prompt_embeddings))
        self.asked = part.stop
        return self.logits[part], self.quality[part]


def answer(logits: np.ndarray, quality: np.ndarray, shape: np.ndarray, size: int, settings: dict) -> dict:
    """Run the generator on one case."""
    generator = SamAutomaticMaskGenerator(Fixed(logits, quality, size), output_mode="binary_mask", **settings)
    found = generator.generate(np.zeros((*shape, 3), np.uint8))
    numbers = [
        [*one["bbox"], one["predicted_iou"], one["stability_score"], *one["crop_box"], *one["point_coords"][0]]
        for one in found
    ]
    masks = [one["segmentation"] for one in found]
    return {
        "masks": np.array(masks, dtype=bool).reshape(-1, *shape),
        "numbers": np.array(numbers, dtype=np.float64).reshape(-1, 12),
    }


def main() -> None:
    cases, target = Path(sys.argv[1]), Path(sys.argv[2])
    answers: dict[str, Any] = {}
    with np.load(cases) as given:
        for name in sorted({key.split("/")[0] for key in given.files}):
            found = answer(
                given[f"{name}/logits"],
                given[f"{name}/quality"],
                given[f"{name}/shape"],
                int(given[f"{name}/size"]),
                json.loads(str(given[f"{name}/settings"])),
            )
            answers |= {f"{name}/{key}": value for key, value in found.items()}
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        temporary = Path(folder) / "answers.npz"
        np.savez_compressed(temporary, **answers)
        os.replace(temporary, target)


if __name__ == "__main__":
    main()
