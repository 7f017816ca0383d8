"""The scans and prompts that `record_answers.py` asks a checkout about.

Prompts are drawn from the reference masks of the development data with numpy and scipy alone, so that two checkouts
are asked the same even where their own simulated prompts differ. Everything is deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

import medsam

AXES = "kji"


@dataclass(frozen=True)
class Source:
    """A scan with a reference. label: a label map, a mask picture or an .npz. values: structure -> value in it."""

    image: str
    label: str
    values: dict[str, int]
    axes: str = "k"


# One scan a line: modality, size and file type differ on purpose.
SOURCES = {
    "ct": Source(
        "totalseg_abdomen_ct/images/ct_full.nii.gz",
        "totalseg_abdomen_ct/labels/ct_full.nii.gz",
        {"liver": 5, "kidney": 2, "bowel": 18, "vertebra": 29},
        AXES,
    ),
    "mr": Source(
        "totalseg_abdomen_mr/images/mr.nii.gz", "totalseg_abdomen_mr/labels/mr.nii.gz", {"liver": 5, "spleen": 1}, AXES
    ),
    "vertebra": Source(
        "vertebra_ct/sub-ct_label-22_ct.nii.gz", "vertebra_ct/sub-ct_seg-vert_label-22_msk.nii.gz", {"L3": 22}, AXES
    ),
    "hippocampus": Source(
        "msd_hippocampus_mr/imagesTr/hippocampus_190.nii.gz",
        "msd_hippocampus_mr/labelsTr/hippocampus_190.nii.gz",
        {"anterior": 1, "posterior": 2},
        AXES,
    ),
    "brain": Source("brain_tumour_mr/brain1_image.nrrd", "brain_tumour_mr/brain1_label.nrrd", {"tumour": 1}, AXES),
    "cord": Source("spinal_cord_mr/t2_image.nii.gz", "spinal_cord_mr/t2_cord.nii.gz", {"cord": 1}, AXES),
    "sarcoma-ct": Source(
        "sts_sarcoma_mr_pet_ct/STS_025/CT_image.nii.gz", "sts_sarcoma_mr_pet_ct/STS_025/CT_mask.nii.gz", {"tumour": 1}
    ),
    "sarcoma-pet": Source(
        "sts_sarcoma_mr_pet_ct/STS_025/PET_image.nii.gz", "sts_sarcoma_mr_pet_ct/STS_025/PET_mask.nii.gz", {"tumour": 1}
    ),
    "liver-dicom": Source(
        "liver_ct_dicom_seg/ct_series", "liver_ct_dicom_seg/labels_nrrd/liver_seg.nrrd", {"liver": 1}
    ),
    "lesion-npz": Source(
        "ct_lesion_npz/CT_Lesion_000001_02_01_008-023.npz",
        "ct_lesion_npz/CT_Lesion_000001_02_01_008-023.npz",
        {"lesion": 1},
    ),
    "ultrasound": Source(
        "breast_ultrasound_busbra/images/malignant_0364-r.png",
        "breast_ultrasound_busbra/masks/malignant_0364-r.png",
        {"lesion": 1},
    ),
    "xray": Source("chest_xray_lungs/images/1.jpg", "chest_xray_lungs/masks/1.png", {"lungs": 1}),
    "polyp": Source("polyp_endoscopy/images/1008.jpg", "polyp_endoscopy/masks/1008.jpg", {"polyp": 1}),
    "acdc": Source(
        "medscribble_2d/ACDC/images/patient017_axis2_maxslice.png",
        "medscribble_2d/ACDC/masks/patient017_axis2_maxslice.png",
        {"heart": 1},
    ),
    "aorta-png": Source(
        "ct_slices_sammed2d/images/s0114_111.png", "ct_slices_sammed2d/masks/s0114_111_aorta_000.png", {"aorta": 1}
    ),
}


@dataclass(frozen=True)
class Case:
    """One call of `Predictor.segment`. prompts: keyword arguments of `Prompt`. options: those of `segment`."""

    name: str
    scan: str
    prompts: list[dict[str, Any]]
    options: dict[str, Any]


class Data:
    """The development data at `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scan = cache(self._scan)
        self.labels = cache(self._labels)

    def _scan(self, name: str) -> Any:
        return medsam.load_volume(self.root / SOURCES[name].image)

    def _labels(self, name: str) -> np.ndarray:
        """(K, J, I), the values of the source."""
        path = self.root / SOURCES[name].label
        if path.suffix == ".npz":
            with np.load(path) as file:
                return np.asarray(file["gts"])
        if path.suffix in {".png", ".jpg"}:
            with Image.open(path) as picture:
                return (np.asarray(picture.convert("L")) > 127).astype(np.uint8)[None]
        return np.asarray(medsam.load_volume(path).array)

    def plane(self, name: str, axis: str, index: int, value: int) -> np.ndarray:
        """One structure on one slice, bool (rows, columns)."""
        return np.asarray(np.take(self.labels(name), index, axis=AXES.index(axis)) == value)

    def best_slice(self, name: str, axis: str, value: int) -> int:
        """The slice that holds most of a structure."""
        others = tuple(number for number in range(3) if number != AXES.index(axis))
        return int((self.labels(name) == value).sum(axis=others).argmax())


def tight(mask: np.ndarray, margin: float = 0.0) -> tuple[float, float, float, float]:
    """The box (x0, y0, x1, y1) of a mask, `margin` pixels wider on each side where the picture allows."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    height, width = mask.shape
    return (
        max(float(columns[0]) - margin, 0.0),
        max(float(rows[0]) - margin, 0.0),
        min(float(columns[-1]) + 1 + margin, float(width)),
        min(float(rows[-1]) + 1 + margin, float(height)),
    )


def inner_point(mask: np.ndarray) -> tuple[float, float, int]:
    """The pixel deepest inside."""
    row, column = np.unravel_index(int(ndimage.distance_transform_edt(np.pad(mask, 1)).argmax()), np.add(mask.shape, 2))
    return float(column - 1), float(row - 1), 1


def outer_point(mask: np.ndarray) -> tuple[float, float, int]:
    """The pixel furthest from the mask in its box and four pixels around."""
    x0, y0, x1, y1 = (int(edge) for edge in tight(mask, 4))
    distance = ndimage.distance_transform_edt(~mask)[y0:y1, x0:x1]
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(x0 + column), float(y0 + row), 0


def rough(mask: np.ndarray) -> np.ndarray:
    """A mask as drawn in haste: three pixels right and down, and one wider."""
    moved = np.zeros_like(mask)
    moved[3:, 3:] = mask[:-3, :-3]
    return np.asarray(ndimage.binary_dilation(moved | (mask & ~moved.any())))


def _near(point: tuple[float, float, int], mask: np.ndarray, shift: float) -> tuple[float, float, int]:
    """A second click inside, between pixels."""
    height, width = mask.shape
    return min(point[0] + shift, width - 1.0), min(point[1] + shift / 2, height - 1.0), 1


def prompt_kinds(mask: np.ndarray) -> dict[str, tuple[dict[str, Any], str]]:
    """Name -> (what is said, zoom)."""
    box, click, outside = tight(mask), inner_point(mask), outer_point(mask)
    margin = 0.1 * max(box[2] - box[0], box[3] - box[1])
    return {
        "box": ({"box": box}, "auto"),
        "box-off": ({"box": box}, "off"),
        "box-on": ({"box": box}, "on"),
        "loose": ({"box": tight(mask, margin)}, "auto"),
        "loose-off": ({"box": tight(mask, margin)}, "off"),
        "point": ({"points": (click,)}, "auto"),
        "points-off": ({"points": (click, outside)}, "off"),
        "points-on": ({"points": (click, _near(click, mask, 1.5), outside)}, "on"),
        "box-points": ({"box": box, "points": (click, outside)}, "auto"),
        "box-points-on": ({"box": box, "points": (click,)}, "on"),
        "mask": ({"mask": rough(mask)}, "auto"),
        "mask-off": ({"mask": rough(mask)}, "off"),
        "mask-box-points": ({"mask": rough(mask), "box": tight(mask, margin), "points": (click,)}, "auto"),
    }


def single_prompts(data: Data) -> Iterator[Case]:
    """Each structure on each axis with every kind of prompt, or with every second where there are many structures."""
    turn = 0
    for name, source in SOURCES.items():
        for axis in source.axes:
            for structure, value in source.values.items():
                index = data.best_slice(name, axis, value)
                mask = data.plane(name, axis, index, value)
                if np.count_nonzero(mask) < 12:
                    continue
                # of two structures one gets the even kinds and the other the odd ones
                step = 2 if len(source.values) * len(source.axes) > 1 else 1
                for kind, (said, zoom) in list(prompt_kinds(mask).items())[turn % step :: step]:
                    yield Case(
                        f"single/{name}/{axis}/{structure}/{kind}",
                        name,
                        [{"label": structure, "slice": index, **said}],
                        {"axis": axis, "zoom": zoom},
                    )
                turn += 1


def several_prompts(data: Data) -> Iterator[Case]:
    """All structures of a slice at once, kinds mixed; all three masks; a box through a volume; other windows."""
    for name, axis, index in (("ct", "k", 60), ("ct", "j", 50), ("mr", "k", 10), ("hippocampus", "j", 25)):
        said: list[dict[str, Any]] = []
        for turn, value in enumerate(np.unique(np.take(data.labels(name), index, axis=AXES.index(axis)))):
            mask = data.plane(name, axis, index, int(value))
            if value == 0 or np.count_nonzero(mask) < 12:
                continue
            kinds: list[dict[str, Any]] = [
                {"box": tight(mask)},
                {"points": (inner_point(mask),)},
                {"box": tight(mask, 2.5)},
            ]
            if turn % 5 == 4:
                kinds = [{"mask": rough(mask)}]
            said.append({"label": f"structure {int(value)}", "slice": index, **kinds[turn % len(kinds)]})
        for zoom in ("auto", "off"):
            yield Case(f"several/{name}/{axis}/{zoom}", name, said, {"axis": axis, "zoom": zoom})
        yield Case(f"several/{name}/{axis}/all-masks", name, said, {"axis": axis, "all_masks": True})
    for name, structure in (("ct", "liver"), ("mr", "spleen"), ("vertebra", "L3"), ("hippocampus", "anterior")):
        whole = data.labels(name) == SOURCES[name].values[structure]
        low, high = (found(np.argwhere(whole), axis=0)[::-1] for found in (np.min, np.max))
        corners = (*(float(n) for n in low), *(float(n) + 1 for n in high))
        for axis in "ki" if name == "mr" else "j":
            yield Case(
                f"box3d/{name}/{axis}", name, [{"label": structure, "box3d": corners}], {"axis": axis, "zoom": "auto"}
            )
        yield Case(f"box3d/{name}/off", name, [{"label": structure, "box3d": corners}], {"zoom": "off"})
    index = data.best_slice("ct", "k", 10)
    lung = data.plane("ct", "k", index, 10)
    for window in ("auto", "lung", "bone", "soft-tissue", "wide", "40,400", "-600,1500"):
        yield Case(
            f"window/{window}", "ct", [{"label": "lung", "slice": index, "box": tight(lung)}], {"window": window}
        )
    yield Case(
        "window/modality", "lesion-npz", [{"slice": 7, "box": (100, 100, 200, 180)}], {"modality": "CT", "zoom": "on"}
    )


def propagations(data: Data) -> Iterator[Case]:
    """Objects followed through volumes from a box, clicks, a drawn mask, several of them, and a box3d."""
    followed: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
        ("hippocampus", "anterior", "k", "box", {}),
        ("hippocampus", "posterior", "i", "mask", {"zoom": "off"}),
        ("vertebra", "L3", "i", "box", {"max_mm": 9.0}),
        ("cord", "cord", "j", "point", {"zoom": "on", "max_mm": 12.0}),
        ("brain", "tumour", "k", "box-points", {}),
        ("ct", "kidney", "k", "loose", {"max_mm": 15.0}),
        ("sarcoma-pet", "tumour", "k", "box", {}),
    )
    for name, structure, axis, kind, options in followed:
        value = SOURCES[name].values[structure]
        index = data.best_slice(name, axis, value)
        said = prompt_kinds(data.plane(name, axis, index, value))[kind][0]
        yield Case(
            f"propagate/{name}/{axis}/{kind}",
            name,
            [{"label": structure, "slice": index, **said}],
            {"axis": axis, "propagate": True, **options},
        )
    both = []
    for structure, value in SOURCES["hippocampus"].values.items():
        for step in (0, 4):
            index = data.best_slice("hippocampus", "j", value) + step
            mask = data.plane("hippocampus", "j", index, value)
            if np.count_nonzero(mask) >= 6:
                both.append({"label": structure, "slice": index, "box": tight(mask)})
    yield Case("propagate/hippocampus/two-labels", "hippocampus", both, {"axis": "j", "propagate": True})
    whole = data.labels("mr") == SOURCES["mr"].values["liver"]
    low, high = (found(np.argwhere(whole), axis=0)[::-1] for found in (np.min, np.max))
    corners = (*(float(n) for n in low), *(float(n) + 1 for n in high))
    yield Case("propagate/mr/box3d", "mr", [{"label": "liver", "box3d": corners}], {"axis": "k", "propagate": True})


def click_prompts(data: Data) -> Iterator[Case]:
    """For a network that answers clicks and masks itself."""
    for name, structure in (("ct", "liver"), ("mr", "spleen"), ("brain", "tumour"), ("polyp", "polyp")):
        value = SOURCES[name].values[structure]
        index = data.best_slice(name, "k", value)
        mask = data.plane(name, "k", index, value)
        for kind, (said, zoom) in prompt_kinds(mask).items():
            if kind in {"box", "box-off", "loose-off"}:
                continue
            yield Case(f"clicks/{name}/{kind}", name, [{"label": structure, "slice": index, **said}], {"zoom": zoom})
        clicked = [{"label": structure, "slice": index, "points": (inner_point(mask),)}]
        yield Case(f"clicks/{name}/all-masks", name, clicked, {"all_masks": True})
        if name == "mr":
            yield Case(f"clicks/{name}/propagate", name, clicked, {"propagate": True, "max_mm": 6.0})


def refused(data: Data) -> Iterator[Case]:
    """What raises PromptError, for the texts."""
    box = {"box": (20, 20, 60, 60), "slice": 60}
    wrong: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
        "outside": ([{"box": (20, 20, 600, 60), "slice": 60}], {}),
        "no-slice": ([{"box": (20, 20, 60, 60)}], {}),
        "far-slice": ([{"box": (20, 20, 60, 60), "slice": 4000}], {}),
        "point-outside": ([{"points": ((500, 3, 1),), "slice": 60}], {}),
        "only-negative": ([{"points": ((50, 30, 0),), "slice": 60}], {}),
        "contradiction": ([{"points": ((50, 30, 0), (50, 30, 1)), "slice": 60}], {}),
        "empty-box": ([{"box": (60, 20, 60, 60), "slice": 60}], {}),
        "nothing": ([], {}),
        "says-nothing": ([{"label": "liver"}], {}),
        "mask-shape": ([{"mask": np.ones((4, 4), bool), "slice": 60}], {}),
        "mask-empty": ([{"mask": np.zeros((101, 122), bool), "slice": 60}], {}),
        "box-and-box3d": ([{**box, "box3d": (1, 1, 1, 5, 5, 5)}], {}),
        "max-mm": ([box], {"max_mm": 5.0}),
        "all-masks": ([box], {"all_masks": True, "propagate": True}),
        "zoom": ([box], {"zoom": "near"}),
        "axis": ([box], {"axis": "z"}),
        "window": ([box], {"window": "kidneys"}),
        "two-objects": ([box, {"box": (70, 20, 90, 60), "slice": 60}], {"propagate": True}),
        "control-characters": ([{**box, "label": "a\nb"}], {}),
    }
    for name, (prompts, options) in wrong.items():
        yield Case(f"refused/{name}", "ct", prompts, options)
