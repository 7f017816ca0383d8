"""Our metrics against the surface-distance package: a 512 x 512 x 300 scan with 30 structures.

    pip install surface-distance
    python scripts/speed/metrics.py [--structures N] [--theirs N] [--seed N]

Draws ellipsoids from the size of an adrenal gland to that of a liver (voxels of 1.5 x 0.8 x 0.8 mm) with wavy
surfaces, and predictions that are shifted and swollen a little. Every structure goes through `measure` (all nine
metrics); the first `--theirs` of them, largest first, also through surface-distance, in the same run. Prints seconds
for each, the total, and the largest difference of NSD, HD95 and Dice. Exits with 1 when Dice differs by more than
1e-6 or a surface metric by more than 1e-3. Without the package only ours is timed.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import warnings
from typing import Any

import numpy as np

from medsam.metrics.measure import measure

SHAPE = (300, 512, 512)
SPACING_MM = (1.5, 0.8, 0.8)
TOLERANCE_MM = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--structures", type=int, default=30)
    parser.add_argument("--theirs", type=int, default=30, help="how many also go through surface-distance")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    try:
        from surface_distance import metrics as theirs
    except ImportError:
        theirs = None
        print("surface-distance is not installed: only ours is timed")

    # semi-axes in mm, from a liver (about 1.6 l) to an adrenal gland (about 4 ml)
    radii_mm = np.geomspace(73, 10, arguments.structures)
    ours_seconds, their_seconds, worst = [], [], np.zeros(3)
    print(f"{'structure':>9} {'ml':>7} {'dice':>6} {'nsd':>6} {'hd95':>6} {'ours s':>8} {'theirs s':>9}")
    for number, radius_mm in enumerate(radii_mm):
        reference, prediction = structure(rng, radius_mm)
        start = time.perf_counter()
        found = measure(reference, prediction, SPACING_MM, TOLERANCE_MM)
        ours_seconds.append(time.perf_counter() - start)
        took = ""
        if theirs and number < arguments.theirs:
            start = time.perf_counter()
            expected = public(theirs, reference, prediction)
            their_seconds.append(time.perf_counter() - start)
            worst = np.maximum(worst, np.abs(np.subtract([found["dice"], found["nsd"], found["hd95_mm"]], expected)))
            took = f"{their_seconds[-1]:9.2f}"
        print(
            f"{number + 1:9d} {found['volume_ref_ml']:7.0f} {found['dice']:6.3f} {found['nsd']:6.3f} "
            f"{found['hd95_mm']:6.2f} {ours_seconds[-1]:8.3f} {took}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"ours: {sum(ours_seconds):.2f} s in all, at most {max(ours_seconds):.2f} s for one structure")
    if not their_seconds:
        return 0
    same = sum(ours_seconds[: len(their_seconds)])
    print(f"surface-distance: {sum(their_seconds):.2f} s where ours took {same:.2f} s; peak of both {peak:.1f} GiB")
    print(f"largest difference: Dice {worst[0]:.1e}, NSD {worst[1]:.1e}, HD95 {worst[2]:.1e} mm")
    # not (a > b): a NaN must fail
    return 0 if worst[0] <= 1e-6 and (worst[1:] <= 1e-3).all() else 1


def structure(rng: np.random.Generator, radius_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """A wavy ellipsoid somewhere in the scan and a prediction of it: bool, SHAPE."""
    radii = radius_mm * rng.uniform(0.8, 1.25, 3) / SPACING_MM
    low, high = radii + 12, np.array(SHAPE) - radii - 12
    centre = rng.uniform(np.minimum(low, high), np.maximum(low, high))
    phase = rng.uniform(0, 2 * np.pi, 3)
    shift = rng.uniform(-1.5, 1.5, 3) / SPACING_MM
    masks = []
    for middle, swollen in ((centre, 0.0), (centre + shift, 1.0)):
        mask = np.zeros(SHAPE, bool)
        box = tuple(
            slice(max(int(c - 1.2 * r - 4), 0), min(int(c + 1.2 * r + 5), n))
            for c, r, n in zip(middle, radii, SHAPE, strict=True)
        )
        grid = np.ogrid[box]
        distance = sum(((x - c) / (r + swollen)) ** 2 for x, c, r in zip(grid, middle, radii, strict=True))
        waves = sum(np.sin(x / 9 + p) for x, p in zip(grid, phase, strict=True))
        mask[box] = distance + 0.05 * waves <= 1
        masks.append(mask)
    return masks[0], masks[1]


def public(theirs: Any, reference: np.ndarray, prediction: np.ndarray) -> list[float]:
    """Dice, NSD and HD95 by the surface-distance package."""
    with warnings.catch_warnings():
        # it calls scipy by names that scipy has moved
        warnings.simplefilter("ignore", DeprecationWarning)
        distances = theirs.compute_surface_distances(reference, prediction, SPACING_MM)
    return [
        theirs.compute_dice_coefficient(reference, prediction),
        theirs.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM),
        theirs.compute_robust_hausdorff(distances, 95),
    ]


if __name__ == "__main__":
    sys.exit(main())
