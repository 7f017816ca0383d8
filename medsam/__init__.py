"""medsam: promptable segmentation of medical images with the Segment Anything Model.

    import medsam
    scan = medsam.load_volume("ct.nii.gz")
    found = medsam.Predictor("litemedsam").segment(scan, medsam.Prompt("liver", box=(60, 40, 210, 180), slice=41))
    medsam.save_labels(found.labels, "liver.nii.gz", source=scan.source)

Names are imported when first used, so `import medsam` loads neither torch nor MONAI.
"""

from __future__ import annotations

import importlib
from typing import Any

from medsam._version import __version__ as __version__

# every public name -> the module it is in
_HOMES = {
    "Algorithm": "medsam.io.algorithm",
    "AssetError": "medsam.errors",
    "CheckpointError": "medsam.errors",
    "Client": "medsam.client.client",
    "DicomOptions": "medsam.io.algorithm",
    "EmbeddingCache": "medsam.inference.embeddings",
    "InconsistentSeries": "medsam.errors",
    "InputError": "medsam.errors",
    "IntensityWindow": "medsam.transforms.intensity",
    "LabelVolume": "medsam.volume",
    "Limits": "medsam.prompts.limits",
    "MedSAMError": "medsam.errors",
    "Predictor": "medsam.inference.predictor",
    "Prompt": "medsam.prompts.prompt",
    "PromptError": "medsam.errors",
    "RemoteSession": "medsam.client.session",
    "Scribble": "medsam.prompts.strokes",
    "Segmentation": "medsam.inference.segmentation",
    "Session": "medsam.inference.session",
    "SessionState": "medsam.inference.session_state",
    "SeveralSeries": "medsam.errors",
    "Volume": "medsam.volume",
    "VolumeGeometry": "medsam.geometry",
    "encode_labels": "medsam.io.save",
    "load_labels": "medsam.io.labels",
    "load_model": "medsam.models.build",
    "load_prompts": "medsam.prompts.files",
    "load_volume": "medsam.io.load",
    "read_dicom": "medsam.io.dicom.series",
    "read_prompts": "medsam.prompts.parse",
    "save_labels": "medsam.io.save",
    "write_prompts": "medsam.prompts.parse",
}

__all__ = sorted(_HOMES)


def __dir__() -> list[str]:
    # what is not imported yet is there all the same, for tab completion and `help(medsam)`
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'medsam' has no attribute {name!r}")
