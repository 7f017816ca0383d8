"""NRRD and MetaImage (MHA, MHD) through ITK, both ways."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.native import native_stderr
from medsam.io.nifti import check_same_grid, pick_frame
from medsam.volume import LabelVolume, Volume

NRRD_SUFFIXES = (".nrrd", ".nhdr")
META_SUFFIXES = (".mha", ".mhd")


def read_itk(path: Path, frame: int | None = None) -> Volume:
    """Read a 2D or 3D image, or `frame` (0-based) of a 4D one or of one with several components.

    Three unsigned 8-bit components are colour. Raises InputError when ITK cannot read the file.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK prints to stderr, past Python's warnings
    try:
        with native_stderr():
            image = sitk.ReadImage(str(path))
            data = sitk.GetArrayFromImage(image)
    except Exception as error:  # SimpleITK raises RuntimeError, its binding TypeError and OverflowError
        # the first lines of an ITK message are a C++ file and an address; "No such file" is what it says when a
        # read of an existing file comes up short
        reason = re.sub(r"\s+", " ", str(error).strip().splitlines()[-1].split("): ")[-1])
        told = "" if "No such file" in reason else f" ({reason})"
        raise InputError(
            f"{path.name} cannot be read{told}. The file may be truncated or damaged: copy or export it again."
        ) from error

    if np.iscomplexobj(data):
        raise InputError(f"{path.name} holds complex numbers. Save its magnitude and use that.")
    components = image.GetNumberOfComponentsPerPixel()
    colour = components in (3, 4) and data.dtype == np.uint8
    if components > 1 and not colour:
        data = data[..., pick_frame(path, components, frame)]
    elif colour:
        data = data[..., :3]
    dimension = image.GetDimension()
    if dimension == 4:
        data = data[pick_frame(path, data.shape[0], frame)]
    elif frame not in (None, 0) and (colour or components == 1):
        raise InputError(f"{path.name} holds one volume, so there is no frame {frame}. Leave --frame out.")

    if data.dtype.kind == "f" or data.dtype.itemsize == 8:
        data = data.astype(np.float32)
    if dimension == 2:
        data = data[None]
        direction = np.eye(3)
        direction[:2, :2] = np.reshape(image.GetDirection(), (2, 2))
        origin, spacing = (*image.GetOrigin(), 0.0), (*image.GetSpacing(), 1.0)
    else:
        direction = np.reshape(image.GetDirection(), (dimension, dimension))[:3, :3]
        origin, spacing = image.GetOrigin()[:3], image.GetSpacing()[:3]
    geometry = VolumeGeometry.from_itk(data.shape[:3], origin, spacing, tuple(direction.ravel()))
    return Volume(data, geometry, source=path)


def write_nrrd(labels: LabelVolume, path: Path, source: Path | None) -> None:
    """Write a compressed NRRD label map; an NRRD `source` lends its directions and origin as they are.

    ITK splits directions into unit vectors and lengths and loses the last bit when it joins them again, so
    the header is written by pynrrd.
    """
    import nrrd

    header: dict[str, object] = {
        "space": "left-posterior-superior",
        "space directions": labels.geometry.affine[:3, :3].T,
        "space origin": labels.geometry.affine[:3, 3],
    }
    if source is not None and source.name.lower().endswith(NRRD_SUFFIXES):
        original = nrrd.read_header(str(source))
        if original.get("space directions") is not None and "space" in original:
            rows = np.array([row for row in original["space directions"] if row is not None], dtype=float)
            rows = rows[np.isfinite(rows).all(axis=1)]
            if rows.shape == (3, 3):
                check_same_grid(labels, read_itk(source).geometry, source)
                header["space"], header["space directions"] = original["space"], rows
                header["space origin"] = original.get("space origin", np.zeros(3))
    header["kinds"] = ["domain"] * 3
    header["encoding"] = "gzip"
    nrrd.write(str(path), labels.array.transpose(2, 1, 0), header, index_order="F")


def write_meta(labels: LabelVolume, path: Path, source: Path | None) -> None:
    """Write a compressed MHA label map; a MetaImage `source` lends its grid as it is."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(labels.array)
    original = None
    if source is not None and source.name.lower().endswith(META_SUFFIXES + NRRD_SUFFIXES):
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(source))
        reader.ReadImageInformation()
        original = reader if reader.GetDimension() == 3 else None
    if original is not None and source is not None:
        check_same_grid(labels, read_itk(source).geometry, source)
        image.SetOrigin(original.GetOrigin())
        image.SetSpacing(original.GetSpacing())
        image.SetDirection(original.GetDirection())
    else:
        spacing = np.array(labels.geometry.spacing_mm[::-1])
        image.SetOrigin(labels.geometry.affine[:3, 3].tolist())
        image.SetSpacing(spacing.tolist())
        image.SetDirection((labels.geometry.affine[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(path), useCompression=True)
