"""Score the masks an evaluation wrote once more, with other people's code, and compare every number.

    .venv/bin/python scripts/parity/verify_evaluation.py DIR MANIFEST [MANIFEST ...]

DIR must come from `medsam evaluate --save-masks`. Dice is computed by MONAI (to 1e-6), NSD, HD95 and ASSD by
DeepMind's surface-distance (to 1e-3), both on the NIfTI files in DIR/masks and on references read by nibabel where the
label is NIfTI, by medsam otherwise. Exit status 1 when a number differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import surface_distance
import torch
from monai.metrics import compute_dice

from medsam.cli.evaluate import named_cases
from medsam.data.manifest import Case
from medsam.data.manifest_json import read_manifest
from medsam.evaluation.tables import BASELINES, file_name, read_table
from medsam.volume import Volume

DICE, SURFACE = 1e-6, 1e-3


def reference_masks(case: Case, scan: Volume) -> dict[str, np.ndarray]:
    """Structure -> bool (I, J, K)."""
    label = case.label
    if isinstance(label, Path) and label.name.endswith((".nii", ".nii.gz")) and case.labels and case.threshold is None:
        image = nib.load(label)
        data = np.asarray(image.dataobj)
        # a label stored along other axes than its scan is turned by medsam
        if data.shape == scan.geometry.shape[::-1] and np.allclose(image.affine, scan.geometry.ras_affine, atol=1e-3):
            return {name: data == number for name, number in case.labels.items()}
    found = case.load_references(scan)
    return {name: mask.transpose(2, 1, 0) for name, mask in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("manifest", type=Path, nargs="+")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of the referees

    cases = dict(named_cases([read_manifest(path) for path in arguments.manifest], None, None))
    protocol = json.loads((arguments.folder / "summary.json").read_text())["protocol"]
    metrics, slices = read_table(arguments.folder, "metrics"), read_table(arguments.folder, "slices")
    primary = metrics["prompt"].iloc[0]
    worst = dict.fromkeys(("dice", "nsd", "hd95_mm", "assd_mm"), 0.0)
    rows = metrics[~metrics["model"].isin(BASELINES) & (metrics["prompt"] == primary)]
    for (name, model), group in rows.groupby(["case", "model"], sort=False):
        scan = cases[name].load_image()
        references = reference_masks(cases[name], scan)
        stem = arguments.folder / "masks" / f"{file_name(name)}.{file_name(model)}"
        labels = np.asarray(nib.load(f"{stem}.nii.gz").dataobj)
        plane = scan.geometry.plane(protocol["axis"])
        axis = "ijk".index(plane.axis)
        for row in group.itertuples():
            alone = Path(f"{stem}.{file_name(row.structure)}.nii.gz")
            answer = np.asarray(nib.load(alone).dataobj) == 1 if alone.exists() else labels == int(row.label)
            mine = slices[(slices["case"] == name) & (slices["model"] == model) & (slices["prompt"] == primary)]
            asked = mine[mine["structure"] == row.structure]["slice"].astype(int).to_numpy()
            truth = np.zeros(answer.shape, bool)
            here = tuple(asked if n == axis else slice(None) for n in range(3))
            truth[here] = references[row.structure][here]
            tensors = [torch.from_numpy(np.ascontiguousarray(mask))[None, None].float() for mask in (answer, truth)]
            found = {"dice": float(compute_dice(*tensors))}
            spacing = list(scan.geometry.spacing_mm[::-1])
            tolerance = protocol["nsd_tolerance_mm"][row.structure] if scan.geometry.calibrated else 2.0
            if plane.count == 1:
                answer, truth = (np.take(mask, 0, axis=axis) for mask in (answer, truth))
                spacing.pop(axis)
            if answer.any():
                distances = surface_distance.compute_surface_distances(truth, answer, spacing)
                # a distance that equals the tolerance but for the rounding of the header's spacing counts as within it,
                # as our definition says: slices 2.0000000x mm apart are common
                limit = tolerance * (1 + 1e-6)
                found["nsd"] = surface_distance.compute_surface_dice_at_tolerance(distances, limit)
                if scan.geometry.calibrated:
                    found["hd95_mm"] = surface_distance.compute_robust_hausdorff(distances, 95)
                    there, back = surface_distance.compute_average_surface_distance(distances)
                    areas = [distances[f"surfel_areas_{which}"].sum() for which in ("gt", "pred")]
                    found["assd_mm"] = (there * areas[0] + back * areas[1]) / sum(areas)
            for metric, value in found.items():
                difference = abs(value - getattr(row, metric))
                if difference > (DICE if metric == "dice" else SURFACE):
                    print(f"{name} {model} {row.structure} {metric}: {getattr(row, metric)} here, {value} there")
                worst[metric] = max(worst[metric], difference)
    print(f"{len(rows)} rows verified; largest differences: " + ", ".join(f"{k} {v:.1e}" for k, v in worst.items()))
    return int(worst["dice"] > DICE or max(v for k, v in worst.items() if k != "dice") > SURFACE)


if __name__ == "__main__":
    sys.exit(main())
