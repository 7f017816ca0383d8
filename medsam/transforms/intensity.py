"""From scanner units to 0..255: CT windows by name or level/width, percentiles for everything else.

Window presets are (level, width) in HU. Source: the values radiology references agree on (Radiopaedia,
"Windowing (CT)"); "soft-tissue" is also what MedSAM was trained with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medsam.errors import PromptError
from medsam.volume import Volume

CT_WINDOWS: dict[str, tuple[float, float]] = {
    "soft-tissue": (40, 400),
    "abdomen": (40, 400),
    "mediastinum": (50, 350),
    "liver": (30, 150),
    "lung": (-600, 1500),
    "bone": (400, 1800),
    "spine": (50, 250),
    "brain": (40, 80),
    "stroke": (40, 40),
    "subdural": (75, 215),
    "temporal-bone": (600, 2800),
    "angio": (300, 600),
    "wide": (0, 2000),
}

# DICOM PS3.3 C.7.3.1.1.1, those of images
MODALITIES = frozenset(
    (
        "CT",
        "MR",
        "PT",
        "NM",
        "US",
        "CR",
        "DX",
        "RG",
        "MG",
        "XA",
        "RF",
        "OT",
        "SC",
        "ES",
        "XC",
        "OP",
        "OPT",
        "GM",
        "SM",
        "PX",
    )
)

# Outside 0.5 .. 99.5 % lie bright vessels, burned-in text and coil hot spots. Source: MedSAM's preprocessing.
PERCENTILES = (0.5, 99.5)
# Percentiles of this many evenly strided voxels are within a grey level of the exact ones, in a fraction of the time.
_SAMPLE = 4_000_000


@dataclass(frozen=True)
class IntensityWindow:
    """A linear map of [low, high] to [0, 255], clipped; non-finite values count as `low`.

    name: what it is called in reports, e.g. "soft-tissue" or "percentiles 0.5-99.5".
    """

    low: float
    high: float
    name: str

    def apply(self, pixels: torch.Tensor) -> torch.Tensor:
        """Any real dtype and shape -> float32 in [0, 255]."""
        pixels = torch.nan_to_num(pixels.float(), nan=self.low, posinf=self.high, neginf=self.low)
        span = self.high - self.low
        if span > 1e30:  # beyond what single precision can subtract
            pixels = pixels.double()
        # a constant image has no contrast to stretch: it becomes 0, not a division by zero
        return ((pixels.clamp(self.low, self.high) - self.low) * (255.0 / max(span, 1e-8))).float()

    def picture(self, pixels: np.ndarray) -> np.ndarray:
        """The same for the eye: an array of any real dtype and byte order -> uint8."""
        return np.rint(self.apply(torch.from_numpy(pixels.astype(np.float32))).numpy()).astype(np.uint8)

    def to_dict(self) -> dict[str, Any]:
        """{"name", "low", "high"}, ready for JSON; exact."""
        return {"name": self.name, "low": self.low, "high": self.high}

    @classmethod
    def from_dict(cls, document: Any) -> IntensityWindow:
        """The other way. Raises PromptError when it is no window."""
        try:
            return cls(float(document["low"]), float(document["high"]), str(document["name"]))
        except (KeyError, TypeError, ValueError) as error:
            raise PromptError('A window is an object with "name", "low" and "high".') from error


def resolve_window(volume: Volume, choice: str = "auto", modality: str | None = None) -> IntensityWindow:
    """The window for a whole scan, so that every slice is seen alike.

    choice: "auto", "percentiles", "none", a preset of `CT_WINDOWS`, or "L,W" (level, width in the scan's units).
    modality: a code of `MODALITIES`; overrides the scan's own, and what its format suggests. "auto" takes soft tissue
    for CT in Hounsfield units (see `is_hounsfield`), the full range for colour and for `.npz` (documented as already
    windowed), and percentiles 0.5 to 99.5 of the scan for all others. A file that states no modality is taken for CT
    when its values look like Hounsfield units (see `looks_like_ct`). Voxels without signal shape no window.
    Raises PromptError for an unknown preset or modality, or a width that is not positive.
    """
    if modality is not None:
        modality = modality.strip().upper()
        if modality not in MODALITIES:
            raise PromptError(f"There is no modality {modality!r}. Use a DICOM code: {', '.join(sorted(MODALITIES))}.")
    fixed = fixed_window(choice)
    if fixed is not None:
        return fixed
    key = choice.strip().lower()
    windowed = modality is None and volume.source is not None and volume.source.suffix.lower() == ".npz"
    if key == "none" or (key == "auto" and (volume.is_colour or windowed)):
        return _full_range(volume)
    if key == "auto" and is_hounsfield(volume, modality):
        return _from_level(*CT_WINDOWS["soft-tissue"], name="soft-tissue")
    return _percentiles(volume)


def _full_range(volume: Volume) -> IntensityWindow:
    """All that the type of the voxels holds, or all that is there; 0 is part of it."""
    if volume.array.dtype in (np.uint8, np.uint16):
        return IntensityWindow(0.0, float(np.iinfo(volume.array.dtype).max), "full range")
    low, high = _extremes(volume)
    return IntensityWindow(min(low, 0.0), max(high, 0.0), "full range")


def _percentiles(volume: Volume) -> IntensityWindow:
    values = _signal(volume)
    # the black surround of MR, ultrasound and X-ray carries no signal; counting it would brighten small objects
    signal = values[values > 0] if values.size and values.min() >= 0 else values
    values = signal if signal.size >= 16 else values
    if not values.size:
        return IntensityWindow(0.0, 1.0, "no finite voxel")
    low, high = np.percentile(values, PERCENTILES)
    if low == high:
        # of few grey levels, such as a mask: percentiles would leave no contrast
        return IntensityWindow(*_extremes(volume), "full range")
    return IntensityWindow(float(low), float(high), f"percentiles {PERCENTILES[0]:g}-{PERCENTILES[1]:g}")


def is_hounsfield(volume: Volume, modality: str | None = None) -> bool:
    """Whether the values are Hounsfield units, so that the windows of CT apply.

    A CT is, unless its file says that its values are something else, or does not say how they become HU (DICOM without
    rescale); of a scan of unstated modality the values decide (see `looks_like_ct`). modality: as for `resolve_window`;
    a user who says CT is believed whatever the file says.
    """
    if modality is not None:
        return modality.strip().upper() == "CT"
    if volume.modality:
        return volume.modality == "CT" and volume.units in (None, "HU")
    return looks_like_ct(volume)


def window_notes(
    volume: Volume, window: IntensityWindow, choice: str | IntensityWindow = "auto", modality: str | None = None
) -> tuple[str, ...]:
    """What a reader should know about a scan and the window that `resolve_window` gave it for this choice."""
    notes = list(volume.notes)
    asked = choice.strip().lower() if isinstance(choice, str) else ""
    if asked == "auto" and not (modality or volume.modality) and window.name == "soft-tissue":
        notes.append(f"The scan does not say its modality; its values look like CT, so the window is {window.name}.")
    # one that was resolved before, as a session that goes on has it, was nobody's choice
    named = isinstance(choice, str) and asked != "auto"
    if modality is not None and (named or volume.is_colour):
        why = "the window was given" if named else "the scan is in colour"
        notes.append(f"A modality helps to choose a window, and {why}: {modality} changes nothing.")
    if volume.modality == "CT" and not is_hounsfield(volume):
        unit = (
            "does not say what its values are" if volume.units == "US" else f"says that its values are {volume.units}"
        )
        if window.name in CT_WINDOWS:
            notes.append(
                f"This CT {unit}, not that they are HU; the window {window.name} is one of HU and may not fit them."
            )
        elif asked == "auto":
            notes.append(
                f"This CT {unit}, not that they are HU: the window is {window.name} of its own values. "
                "If they are HU all the same, say `modality` CT or name a window."
            )
    return tuple(notes)


def fixed_window(choice: str) -> IntensityWindow | None:
    """The window that `choice` names whatever the scan; None for "auto", "percentiles" and "none".

    Raises PromptError for an unknown preset or a width that is not positive.
    """
    key = choice.strip().lower().replace("_", "-").replace(" ", "-")
    if key in CT_WINDOWS:
        return _from_level(*CT_WINDOWS[key], name=key)
    if "," in key:
        return _parse(choice)
    if key not in ("auto", "percentiles", "none"):
        raise PromptError(
            f"There is no window {choice!r}. Use auto, percentiles, none, LEVEL,WIDTH such as 40,400, "
            f"or one of {', '.join(CT_WINDOWS)}."
        )
    return None


def looks_like_ct(volume: Volume) -> bool:
    """Whether a scan of unstated modality holds Hounsfield units.

    True for a signed, calibrated volume with fat or air well below zero and nothing beyond what CT can store. MR,
    ultrasound and PET are not negative; resampling and bias correction may dip a little, hence the 1 %.
    """
    if volume.is_colour or not volume.geometry.calibrated or volume.array.dtype.kind == "u":
        return False
    values = _signal(volume)
    if values.size == 0 or values.min() < -32768:
        return False
    return float(np.mean(values < -20)) > 0.01 and float(np.median(values)) < 3000


def _signal(volume: Volume) -> np.ndarray:
    """A flat, evenly strided sample of the finite voxels; those without signal only where there are no others."""
    array = volume.array
    step = max(1, array.size // _SAMPLE)
    if volume.no_signal is not None:
        voxels = np.arange(0, math.prod(array.shape[:3]), step)
        kept = array.reshape(-1, *array.shape[3:])[voxels[~volume.lack_signal(voxels)]].ravel()
        if kept.size:
            return _finite(kept)
    return _finite(array.reshape(-1)[::step])


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values


def _extremes(volume: Volume) -> tuple[float, float]:
    """Lowest and highest finite voxel with signal, exactly; 0 and 0 when there is none."""
    plane, ends = volume.geometry.plane("k"), []
    for index in range(plane.count):
        values = plane.take(volume.array, index)
        hidden = volume.without_signal(plane, index)
        values = _finite(values if hidden is None else values[~hidden])
        if values.size:
            ends += [float(values.min()), float(values.max())]
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


def _from_level(level: float, width: float, name: str) -> IntensityWindow:
    return IntensityWindow(level - width / 2, level + width / 2, name)


def _parse(choice: str) -> IntensityWindow:
    try:
        level, width = (float(number) for number in choice.split(","))
    except ValueError:
        raise PromptError(f"The window {choice!r} is not LEVEL,WIDTH such as 40,400.") from None
    if not (np.isfinite([level, width]).all() and width > 0):
        raise PromptError(f"The window {choice!r} needs a width above 0.")
    return _from_level(level, width, name=f"{level:g},{width:g}")
