"""Slices of a manifest's cases, ready to be trained and validated on.

A slice comes in two steps, and the tensor at the end is bit for bit the one that `medsam segment` and `medsam evaluate`
give the network. `StoredSliced` reads the case, takes the slice in its stored pixels and scales it to 0..255: always
the same, and worth keeping. `ModelSlice.of` makes of it what the model sees; between the two training changes it at
random.
Letters: h, w of the stored slice; C its channels; P structures; S side of the model input, s of its logits.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from torch import Tensor

from medsam.data.manifest import Case
from medsam.errors import InputError, PromptError, counted
from medsam.files import write_text
from medsam.geometry import Axis, SlicePlane, View
from medsam.masks import pack_bits, unpack_bits
from medsam.progress import ProgressCallback
from medsam.prompts.simulate import MIN_PIXELS, tight_box
from medsam.transforms.frame import Frame
from medsam.transforms.intensity import fixed_window, is_hounsfield, resolve_window
from medsam.transforms.preprocess import Preprocess
from medsam.transforms.reading import to_metatensor
from medsam.transforms.slicing import ToModelInputd, stored_slice
from medsam.volume import Volume

# part of every key: raise it when what is kept of a slice changes
_FORMAT = 3


@dataclass(frozen=True)
class SliceItem:
    """One slice of a case. structures: those with enough pixels on it. key: digest of all it is made from."""

    case: Case
    index: int
    structures: tuple[str, ...]
    axis: Axis | None
    window: str
    key: str


@dataclass(frozen=True)
class SliceIndex:
    """What `index_slices` found. items: by case, then slice. empty: ids of cases without any pixel to learn from.
    not_hu: ids of CTs whose files do not say that their values are HU, in the window that is chosen for them.

    digest: of the content that was looked at: grids, and pixels of every structure on every slice. It does not depend
    on where files lie.
    """

    items: tuple[SliceItem, ...]
    empty: tuple[str, ...]
    digest: str
    not_hu: tuple[str, ...] = ()


def index_slices(
    cases: Sequence[Case],
    *,
    structures: Sequence[str] | None = None,
    axis: Axis | None = None,
    window: str = "auto",
    min_pixels: int = MIN_PIXELS,
    bare: bool = False,
    step: int = 1,
    folder: Path | None = None,
    progress: ProgressCallback | None = None,
) -> SliceIndex:
    """The slices of cases on which a structure has at least `min_pixels` pixels; every slice of a case without a label.

    structures: only these; default all. bare: slices without a structure, too. step: of neighbours only every so many.
    folder: where counts are kept, so that labels are read once in their life.
    progress: called with (cases done, cases).
    Raises InputError naming the cases that cannot be read, and for a structure that no label names.
    """
    items: list[SliceItem] = []
    empty: list[str] = []
    broken: list[str] = []
    not_hu: list[str] = []
    digest = hashlib.sha256()
    known: set[str] = set()
    for number, case in enumerate(cases):
        if progress is not None:
            progress(number, len(cases))
        fingerprint, chosen = case.fingerprint(), case.window or window
        try:
            fixed_window(chosen)
            about = _counts(case, fingerprint, axis, folder)
        except (InputError, PromptError) as error:
            broken.append(f"  {error}" if case.id in str(error) else f"  {case.id}: {error}")
            continue
        if about.pop("not_hu") and chosen == "auto":
            not_hu.append(case.id)
        known |= about["counts"].keys()
        digest.update(json.dumps([case.id, about], sort_keys=True).encode())
        of_case = []
        wanted = _structures_on_slices(about["counts"], structures, min_pixels)
        wanted = dict.fromkeys(range(about["slices"] if bare or case.label is None else 0), ()) | wanted
        for index, names in [one for one in wanted.items() if one[0] % step == 0]:
            key = hashlib.sha256(repr((_FORMAT, fingerprint, index, names, axis, window)).encode()).hexdigest()
            of_case.append(SliceItem(case, index, names, axis, window, key))
        items += of_case
        if not of_case:
            empty.append(case.id)
    if progress is not None:
        progress(len(cases), len(cases))
    _refuse(broken, len(cases), structures or (), known)
    return SliceIndex(tuple(items), tuple(empty), digest.hexdigest(), tuple(not_hu))


def _structures_on_slices(
    counts: Mapping[str, Mapping[int, int]], structures: Sequence[str] | None, min_pixels: int
) -> dict[int, tuple[str, ...]]:
    """Slice -> the structures (of those that are wanted) with enough pixels on it; slices ascending."""
    wanted = [name for name in counts if structures is None or name in structures]
    slices = sorted({index for name in wanted for index, pixels in counts[name].items() if pixels >= min_pixels})
    return {index: tuple(name for name in wanted if counts[name].get(index, 0) >= min_pixels) for index in slices}


def _refuse(broken: Sequence[str], cases: int, structures: Sequence[str], known: Collection[str]) -> None:
    """Raise InputError for cases that cannot be read, and for structures that no label names."""
    unknown = [name for name in structures if name not in known]
    if broken:
        raise InputError(
            f"{len(broken)} of {counted(cases, 'case')} cannot be read:\n" + "\n".join(broken[:20]) + "\n"
            "  Fix them or take them out of the manifest; medsam data check tells more."
        )
    if unknown:
        raise InputError(
            f"No label names {', '.join(map(repr, unknown))}. The manifest's structures are: "
            f"{', '.join(sorted(known)) or 'none'}."
        )


def _counts(case: Case, fingerprint: str, axis: Axis | None, folder: Path | None) -> dict[str, Any]:
    """{"shape", "affine", "not_hu", "counts": {structure: {slice: pixels}}} of a case; kept in `folder`."""
    path = None
    if folder is not None:
        path = folder / f"{hashlib.sha256(repr((_FORMAT, fingerprint, axis)).encode()).hexdigest()}.json"
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            about["counts"] = {
                name: {int(index): pixels for index, pixels in found.items()} for name, found in about["counts"].items()
            }
            return about
        except (OSError, ValueError, KeyError):
            pass
    scan = case.load_image()
    about = {
        "shape": list(scan.geometry.shape),
        "slices": scan.geometry.plane(axis).count,
        "affine": np.round(scan.geometry.affine, 4).tolist(),
        "not_hu": scan.modality == "CT" and not is_hounsfield(scan),
        "counts": {
            name: {int(index): int(pixels[index]) for index in np.flatnonzero(pixels)}
            for name, pixels in ({} if case.label is None else slice_pixels(case, scan, axis)).items()
        },
    }
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(about))
    return about


def slice_pixels(case: Case, scan: Volume, axis: Axis | None = None) -> dict[str, np.ndarray]:
    """How many pixels each structure of a case has on each slice of its scan: structure -> integers (slices,).

    Raises InputError for a reference that is not on the scan's grid.
    """
    plane = scan.geometry.plane(axis)
    within = tuple(number for number in range(3) if number != plane.array_axis)
    counts = {}
    for name, mask in case.load_references(scan).items():
        if mask.shape != scan.geometry.shape:
            raise InputError(
                f"The reference of {name!r} has shape {mask.shape}, its scan {scan.geometry.shape} (K, J, I)."
            )
        counts[name] = np.count_nonzero(mask, axis=within)
    return counts


class StoredSliced(Transform):
    """SliceItem -> {"image": float32 (C, h, w) in 0..255, "masks": uint8 (bits of P x h x w), "plane": plain values}.

    Plain tensors and numbers, so that MONAI's caches may keep it and read it back without running code.
    The last scans read stay open: items in order cost one reading a case.
    """

    def __init__(self, open_cases: int = 1) -> None:
        self.open_cases = open_cases
        self._open: OrderedDict[Hashable, tuple[MetaTensor, Mapping[str, np.ndarray], SlicePlane, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"open_cases": self.open_cases}  # a copy, and a worker process, opens its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __call__(self, item: SliceItem) -> dict[str, Any]:
        with self._lock:
            image, references, plane, pipeline = self._case(item)
        pixels: MetaTensor = pipeline({"image": image, "slice": item.index})["image"]
        masks = np.zeros((len(item.structures), *plane.shape), dtype=bool)
        for number, name in enumerate(item.structures):
            masks[number] = plane.take(references[name], item.index)
        return {
            "image": pixels.as_tensor(),
            "masks": torch.from_numpy(pack_bits(masks)),
            "count": len(masks),
            "plane": asdict(plane),
        }

    def _case(self, item: SliceItem) -> tuple[MetaTensor, Mapping[str, np.ndarray], SlicePlane, Any]:
        key = (item.case.id, item.case.dataset, item.axis, item.window)
        if key not in self._open:
            scan = item.case.load_image()
            plane = scan.geometry.plane(item.axis)
            window = resolve_window(scan, item.case.window or item.window)
            pipeline = stored_slice(window, plane.axis)
            references = {} if item.case.label is None else item.case.load_references(scan)
            self._open[key] = to_metatensor(scan), references, plane, pipeline
            while len(self._open) > max(1, self.open_cases):
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return self._open[key]


def unpack(kept: Mapping[str, Any]) -> tuple[MetaTensor, Tensor]:
    """What `StoredSliced` made: the image (C, h, w) with its plane in the meta, and masks (P, h, w) bool."""
    about = kept["plane"]
    shape, spacing_mm = tuple(about["shape"]), tuple(about["spacing_mm"])  # caches give lists
    plane = SlicePlane(about["axis"], shape, spacing_mm, about["count"], View(**about["view"]))
    stack = int(kept["count"]), *plane.shape
    masks = torch.from_numpy(unpack_bits(kept["masks"].numpy(), stack))
    return MetaTensor(kept["image"], meta={"plane": plane}), masks


@dataclass(frozen=True, eq=False)
class ModelSlice:
    """A slice as the model sees it.

    image: (3, S, S). masks: bool (P, h, w), stored pixels. frame: the way between the two.
    """

    image: Tensor
    masks: Tensor
    frame: Frame

    @classmethod
    def of(cls, image: MetaTensor, masks: Tensor, preprocess: Preprocess) -> ModelSlice:
        """image: (C, h, w) with its plane in the meta, masks: bool (P, h, w), as `unpack` gives them."""
        prepared: MetaTensor = ToModelInputd("image", preprocess)({"image": image})["image"]
        return cls(prepared.as_tensor(), masks, prepared.meta["frame"])

    def targets(self, side: int) -> Tensor:
        """The masks at the resolution of the logits, bool (P, s, s): inside where at least half of a pixel is."""
        if not len(self.masks):
            return torch.zeros(0, side, side, dtype=torch.bool)
        return self.frame.mask_prompt(self.masks.numpy(), side) >= 0

    def tight_boxes(self) -> np.ndarray:
        """Half-open boxes (P, 4) in stored pixels; a mask without pixels has a box of nan."""
        boxes = [tight_box(mask, 1) for mask in self.masks.numpy()]
        return np.array([(np.nan,) * 4 if box is None else box for box in boxes], dtype=np.float64).reshape(-1, 4)
