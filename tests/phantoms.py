"""Small scans with known answers, and a model whose answer can be worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from scipy import ndimage

from medsam.geometry import VolumeGeometry
from medsam.transforms.preprocess import Preprocess
from medsam.volume import Volume


def random_affine(rng: np.random.Generator, spacing_ijk, oblique: bool) -> np.ndarray:
    """LPS affine: a random permutation and flips of the axes, optionally tilted by up to 20 degrees."""
    from scipy.spatial.transform import Rotation

    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    if oblique:
        axes = Rotation.from_rotvec(rng.uniform(-0.2, 0.2, 3)).as_matrix() @ axes
    affine = np.eye(4)
    affine[:3, :3] = axes * np.asarray(spacing_ijk)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


def block(shape_kji, box_ijk, affine=None, *, inside=200.0, outside=20.0) -> tuple[Volume, np.ndarray]:
    """A bright block in a dark scan; `box_ijk` is half-open (i0, j0, k0, i1, j1, k1). Returns the scan and its mask."""
    i0, j0, k0, i1, j1, k1 = box_ijk
    mask = np.zeros(shape_kji, bool)
    mask[k0:k1, j0:j1, i0:i1] = True
    array = np.where(mask, inside, outside).astype(np.float32)
    return Volume(array, VolumeGeometry(shape_kji, np.eye(4) if affine is None else affine)), mask


def disc(shape, centre_xy, radius) -> np.ndarray:
    """A disc on a slice, bool (h, w)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (x - centre_xy[0]) ** 2 + (y - centre_xy[1]) ** 2 <= radius**2


class ThresholdSam(torch.nn.Module):
    """Answers with what is brighter than half: no opinions, so geometry is all that counts.

    A box asks for what is bright inside it, a mask for what is bright inside that, clicks for the bright pieces that
    hold a foreground click and no background click.
    Same interface as `Sam`; embedding and logits have the resolution of the input.
    """

    def __init__(self, size: int = 256) -> None:
        super().__init__()
        self.proposer = None
        self.spec = SimpleNamespace(
            name="threshold",
            preprocess=Preprocess(size, "pad", "minmax", "bilinear"),
            embed_side=size // 4,
            prompts=("box", "points", "mask"),
            use_priors=True,
            mask_threshold=0.0,
        )
        self.encoded = 0
        self.decoded = 0

    def propose_by(self, other: torch.nn.Module) -> None:
        self.__dict__["proposer"] = other

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        self.encoded += len(images)
        return images[:, :1]

    def decode(self, embedding, *, boxes=None, points=None, point_labels=None, masks=None, multimask=False):
        count = next(given.shape[1] for given in (boxes, points, masks) if given is not None)
        self.decoded += count
        size = embedding.shape[-1]
        rows, columns = torch.arange(size)[:, None], torch.arange(size)[None, :]
        inside = torch.ones(len(embedding), count, size, size, dtype=torch.bool)
        if boxes is not None:
            x0, y0, x1, y1 = boxes[..., None, None].unbind(2)
            # corners are edges; half a pixel of slack, since bilinear restoring looks at the neighbours
            inside &= (columns >= x0 - 1) & (columns < x1 + 1) & (rows >= y0 - 1) & (rows < y1 + 1)
        if masks is not None:
            inside &= masks > 0
        if points is not None:
            for image in range(len(embedding)):
                pieces = torch.from_numpy(ndimage.label((embedding[image, 0] > 0.5).numpy())[0])
                for prompt in range(count):
                    x, y = points[image, prompt].round().long().clamp(0, size - 1).unbind(-1)
                    hit, label = pieces[y, x], point_labels[image, prompt]
                    wanted = torch.isin(pieces, hit[label == 1]) if (label == 1).any() else pieces >= 0
                    inside[image, prompt] &= wanted & ~(torch.isin(pieces, hit[label == 0]) & (pieces > 0))
        logits = torch.where(inside, embedding - 0.5, -1.0)
        quality = torch.linspace(0.9, 0.5, count).expand(len(embedding), -1)
        return logits[:, :, None].expand(-1, -1, 3 if multimask else 1, -1, -1), quality[..., None].expand(
            -1, -1, 3 if multimask else 1
        )


def drawn(*pixels, shape=(20, 30)):
    """A bool mask with the pixels (..., row, column)."""
    mask = np.zeros(shape, bool)
    for pixel in pixels:
        mask[pixel] = True
    return mask
