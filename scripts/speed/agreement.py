"""Whether both sides of a stage answered alike: measures of difference, and whether they are within what is allowed."""

from __future__ import annotations

import numpy as np
from turns import Arrays

DICE = 0.99
# as medsam.inference.engines has it
OUTSIDE_ROI = -32.0


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Of two bool arrays of one shape; nan when both are empty."""
    if one.shape != other.shape:
        raise SystemExit(f"Answers have shapes {one.shape} and {other.shape}.")
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else float("nan")


def compare_features(ours: Arrays, theirs: Arrays, exact: bool) -> tuple[dict[str, float], bool]:
    """Embeddings, and where real weights made them the masks that one decoder finds in them.

    exact: ours was computed in float32.
    """
    a, b = ours["features"].astype(np.float64), theirs["features"].astype(np.float64)
    largest = float(np.abs(a - b).max() / np.abs(b).max())
    rms = float(np.sqrt(((a - b) ** 2).mean() / (b**2).mean()))
    # a map that hardly varies proves nothing
    varies = float(b.std(axis=(-2, -1)).mean() / np.abs(b).max())
    found = {"largest": largest, "rms": rms}
    good = (largest <= 1e-3 if exact else rms <= 0.1) and varies > 1e-2
    if "masks" in theirs:
        masks, same = compare_masks(ours, theirs, exact)
        return found | masks, good and same
    return found, good


def compare_logits(ours: Arrays, theirs: Arrays, exact: bool, whole: bool = False) -> tuple[dict[str, float], bool]:
    """Logits (P, s, s); where ours was not asked it says OUTSIDE_ROI or -inf. whole: masks are compared there, too."""
    a, b = ours["logits"], theirs["logits"]
    # not a number is no answer, and has to be seen
    known = ~np.isneginf(a) & (a != OUTSIDE_ROI)
    largest = float(np.abs(a[known] - b[known]).max())
    found, good = compare_masks({"masks": a > 0}, {"masks": (b > 0) & (known | whole)}, exact)
    return {"largest": largest, **found}, good and largest <= (1e-2 if exact else np.inf)


def compare_masks(ours: Arrays, theirs: Arrays, exact: bool) -> tuple[dict[str, float], bool]:
    """Masks (P, h, w): Dice of all together, and the lowest of one."""
    a, b = ours["masks"], theirs["masks"]
    together = dice(a, b)
    each = [value for one, other in zip(a, b, strict=True) if not np.isnan(value := dice(one, other))]
    return {"dice": together, "dice_lowest": min(each, default=float("nan"))}, together > (0.999 if exact else DICE)


def compare_pixels(ours: Arrays, theirs: Arrays, exact: bool) -> tuple[dict[str, float], bool]:
    """Model inputs in [0, 1]; the reference rounds to 256 grey levels before it resizes."""
    gap = np.abs(ours["pixels"] - theirs["pixels"])
    found = {"largest": float(gap.max()), "mean": float(gap.mean())}
    return found, found["largest"] <= 2 / 255


def compare_other_pixels(ours: Arrays, theirs: Arrays, exact: bool) -> tuple[dict[str, float], bool]:
    """The same for another resampling: near, but not equal."""
    found, _ = compare_pixels(ours, theirs, exact)
    return found, found["mean"] <= 0.01


def compare_numbers(ours: Arrays, theirs: Arrays, exact: bool) -> tuple[dict[str, float], bool]:
    """Rows of Dice, NSD and HD95 (mm)."""
    gap = np.abs(ours["numbers"] - theirs["numbers"]).max(axis=0)
    found = dict(zip(("dice", "nsd", "hd95_mm"), gap.tolist(), strict=True))
    return found, bool(gap[0] <= 1e-6 and (gap[1:] <= 1e-3).all())


def compare_labels(ours: Arrays, theirs: Arrays, exact: bool) -> tuple[dict[str, float], bool]:
    """Label maps: Dice of all voxels and by structure."""
    a, b = ours["labels"], theirs["labels"]
    if a.shape != b.shape:
        raise SystemExit(f"Label maps have shapes {a.shape} and {b.shape}.")
    each = [dice(a == label, b == label) for label in np.union1d(a, b) if label]
    total = np.count_nonzero(a) + np.count_nonzero(b)
    same = 2 * np.count_nonzero((a == b) & (a > 0)) / total if total else float("nan")
    mean = float(np.mean(each)) if each else float("nan")
    found = {"dice": same, "dice_mean": mean, "dice_lowest": min(each, default=float("nan")), "structures": len(each)}
    return found, same > DICE and mean > DICE
