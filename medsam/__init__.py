"""medsam: promptable segmentation of medical images with the Segment Anything Model.

    import medsam
    scan = medsam.load_volume("ct.nii.gz")
    found = medsam.Predictor("litemedsam").segment(scan, medsam.Prompt("liver", box=(60, 40, 210, 180), slice=41))
    medsam.save_labels(found.labels, "liver.nii.gz", source=scan.source)

Names are imported when first used, so `import medsam` loads neither torch nor MONAI.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "AssetError": "medsam.errors",
    "CheckpointError": "medsam.errors",
    "InconsistentSeries": "medsam.errors",
    "InputError": "medsam.errors",
    "LabelVolume": "medsam.volume",
    "MedSAMError": "medsam.errors",
    "Predictor": "medsam.inference.predictor",
    "Prompt": "medsam.prompts.prompt",
    "PromptError": "medsam.errors",
    "SeveralSeries": "medsam.errors",
    "Volume": "medsam.volume",
    "VolumeGeometry": "medsam.geometry",
    "load_model": "medsam.models.build",
    "load_volume": "medsam.io.load",
    "read_dicom": "medsam.io.dicom.series",
    "save_labels": "medsam.io.save",
}

__all__ = [
    "AssetError",
    "CheckpointError",
    "InconsistentSeries",
    "InputError",
    "LabelVolume",
    "MedSAMError",
    "Predictor",
    "Prompt",
    "PromptError",
    "SeveralSeries",
    "Volume",
    "VolumeGeometry",
    "load_model",
    "load_volume",
    "read_dicom",
    "save_labels",
]

if TYPE_CHECKING:
    from medsam.errors import (
        AssetError,
        CheckpointError,
        InconsistentSeries,
        InputError,
        MedSAMError,
        PromptError,
        SeveralSeries,
    )
    from medsam.geometry import VolumeGeometry
    from medsam.inference.predictor import Predictor
    from medsam.io.dicom.series import read_dicom
    from medsam.io.load import load_volume
    from medsam.io.save import save_labels
    from medsam.models.build import load_model
    from medsam.prompts.prompt import Prompt
    from medsam.volume import LabelVolume, Volume


def __dir__() -> list[str]:
    # what is not imported yet is there all the same, for tab completion and `help(medsam)`
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'medsam' has no attribute {name!r}")
