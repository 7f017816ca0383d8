"""What files other than DICOM state about themselves, for a list of cases: a glance, unchecked; reading them checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medsam.io.detached import read_layout
from medsam.io.npz import npz_names
from medsam.silence import Rule, silence

_QUIET = tuple(Rule(module=rf"{name}(\.|$)") for name in ("PIL", "nibabel"))


@dataclass(frozen=True)
class Stated:
    """shape: (K, J, I), None where the file does not say. frames: volumes it holds. is_label: it holds no scan."""

    shape: tuple[int, int, int] | None = None
    frames: int = 1
    is_label: bool = False


def stated_in(path: Path) -> Stated:
    """Of a file whose suffix says what it is. Never raises for a damaged one."""
    name = path.name.lower()
    try:
        with silence(*_QUIET):
            if name.endswith((".nii", ".nii.gz")):
                return _nifti(path)
            if name.endswith((".nrrd", ".nhdr", ".mha", ".mhd")):
                return _itk(path)
            if name.endswith(".npz"):
                return Stated(is_label="imgs" not in npz_names(path))
            return _picture(path)
    except Exception:  # each library raises what it likes; whoever opens the case is told
        return Stated()


def _nifti(path: Path) -> Stated:
    import nibabel as nib

    sizes = [int(size) for size in nib.load(path).shape]
    i, j, k = (*sizes, 1, 1, 1)[:3]
    return Stated((k, j, i), max(1, sizes[3]) if len(sizes) == 4 else 1)


def _itk(path: Path) -> Stated:
    layout = read_layout(path)
    sizes = [size for axis, size in enumerate(layout.sizes) if axis != layout.components]
    layers = layout.components is not None and layout.sizes[layout.components] > 1 and bool(layout.segments)
    i, j, k = (*sizes, 1, 1, 1)[:3]
    return Stated((k, j, i), sizes[3] if len(sizes) == 4 else 1, is_label=layers)


def _picture(path: Path) -> Stated:
    from PIL import Image

    from medsam.io.picture import FORMATS

    with Image.open(path, formats=FORMATS) as picture:
        columns, rows = picture.size
        # a TIFF may have pages, which are counted one after another
        return Stated(None if picture.format == "TIFF" else (1, rows, columns))
