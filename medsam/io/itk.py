"""NRRD and MetaImage (MHA, MHD), both ways."""

from __future__ import annotations

import re
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.detached import Layout, read_array, read_layout
from medsam.io.formats import META, NRRD
from medsam.io.nifti import check_same_grid, pick_frame
from medsam.volume import LabelVolume, Volume


def read_itk(path: Path, frame: int | None = None, *, exact: bool = False) -> Volume:
    """Read a 2D or 3D image, or `frame` (0-based) of a 4D one or of one with several components.

    Three unsigned 8-bit components are colour. exact: 64-bit numbers stay as they are. Raises InputError for whatever
    is wrong with the file.
    """
    layout = read_layout(path)
    layers = layout.components is not None and layout.sizes[layout.components] > 1 and bool(layout.segments)
    if layers and frame is None:
        raise InputError(
            f"{path.name} is a segmentation in layers (3D Slicer), and no scan. Name the scan it was drawn on; as the "
            "label of a case it is read by the names of its segments."
        )
    data = read_array(path, layout)
    data, is_one_component = _without_components(path, layout, data, frame, is_picture=not layers)
    if layout.dimension == 4:
        data = data[pick_frame(path, data.shape[0], frame)]
    elif is_one_component and frame not in (None, 0):
        raise InputError(
            f"{path.name} holds one volume, so there is no frame {frame}. Leave `frame` out.", parameter="frame"
        )

    if not exact and (data.dtype.kind == "f" or data.dtype.itemsize == 8):
        data = data.astype(np.float32)
    if layout.dimension == 2:
        data = data[None]
    return Volume(data, _geometry(layout, data.shape[:3]), source=path, notes=_unsaid(path, layout))


def _unsaid(path: Path, layout: Layout) -> tuple[str, ...]:
    """What the header leaves to be guessed; nothing of a picture, which lies nowhere."""
    if not layout.unsaid or layout.dimension == 2:
        return ()
    return (
        f"The header of {path.name} has no {', no '.join(layout.unsaid)}: where it says nothing, voxels are 1 mm "
        "apart, begin at 0 and follow the patient's axes.",
    )


def _without_components(
    path: Path, layout: Layout, data: np.ndarray, frame: int | None, *, is_picture: bool
) -> tuple[np.ndarray, bool]:
    """The voxels of one component or the colours of `data`, and whether no other component is left out.

    is_picture: three or four bytes are a colour.
    """
    if layout.components is None:
        return data, True
    components = data.shape[-1]
    if components == 1:
        return data[..., 0], True
    if is_picture and components in (3, 4) and data.dtype == np.uint8:
        return data[..., :3], True
    return data[..., pick_frame(path, components, frame)], False


def read_layers(path: Path, layout: Layout) -> tuple[np.ndarray, VolumeGeometry]:
    """All layers of a segmentation, (L, K, J, I), and the grid of each. Raises InputError as `read_itk` does."""
    if layout.dimension > 3:
        raise InputError(
            f"{path.name} has {layout.dimension} dimensions, none of which its header calls a list of layers. Save it "
            "again in 3D Slicer."
        )
    data = read_array(path, layout)
    data = data[..., None] if layout.components is None else data
    data = data[None] if layout.dimension == 2 else data
    array = np.moveaxis(data, -1, 0)
    return array, _geometry(layout, (array.shape[1], array.shape[2], array.shape[3]))


def _geometry(layout: Layout, shape: tuple[int, int, int]) -> VolumeGeometry:
    return VolumeGeometry.from_itk(shape, layout.origin, layout.spacing, tuple(layout.direction.ravel()))


def encode_nrrd(labels: LabelVolume, source: Path | None, *, packed: bool = True) -> bytes:
    """A label map as the content of a NRRD; an NRRD `source` lends its directions and origin as they are.

    packed: compressed. ITK splits directions into unit vectors and lengths and loses the last bit when it joins them
    again, so the header is written by pynrrd.
    """
    import nrrd

    header: dict[str, object] = {
        "space": "left-posterior-superior",
        "space directions": labels.geometry.affine[:3, :3].T,
        "space origin": labels.geometry.affine[:3, 3],
    }
    if source is not None and NRRD.names(source):
        fields = read_layout(source).fields
        rows = _vectors_of(fields.get("space directions", ""))
        if "space" in fields and rows.shape == (3, 3):
            check_same_grid(labels, read_itk(source).geometry, source)
            header["space"], header["space directions"] = fields["space"], rows
            header["space origin"] = _vectors_of(fields.get("space origin", "(0,0,0)"))[0]
    header["kinds"] = ["domain"] * 3
    header["encoding"] = "gzip" if packed else "raw"
    buffer = BytesIO()
    nrrd.write(buffer, labels.array.transpose(2, 1, 0), header, index_order="F", compression_level=1)
    return buffer.getvalue()


def encode_meta(labels: LabelVolume, source: Path | None) -> bytes:
    """A label map as the content of a compressed MHA; a MetaImage `source` lends its grid as it is."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(labels.array)
    layout = None
    if source is not None and (META.names(source) or NRRD.names(source)):
        layout = read_layout(source)
    if layout is not None and source is not None and layout.dimension == 3:
        check_same_grid(labels, read_itk(source).geometry, source)
        image.SetOrigin(layout.origin)
        image.SetSpacing(layout.spacing)
        image.SetDirection(layout.direction.ravel().tolist())
    else:
        spacing = np.array(labels.geometry.spacing_mm[::-1])
        image.SetOrigin(labels.geometry.affine[:3, 3].tolist())
        image.SetSpacing(spacing.tolist())
        image.SetDirection((labels.geometry.affine[:3, :3] / spacing).ravel().tolist())
    # ITK writes to files alone
    with tempfile.TemporaryDirectory(prefix="medsam-") as folder:
        written = Path(folder) / "mask.mha"
        sitk.WriteImage(image, str(written), useCompression=True)
        return written.read_bytes()


def _vectors_of(text: str) -> np.ndarray:
    """The vectors of a NRRD header that are there and finite, one a row; the header has been read once and is sound."""
    rows = [[float(word) for word in part.split(",")] for part in re.findall(r"\(([^()]*)\)", text)]
    return np.array([row for row in rows if np.isfinite(row).all()], dtype=float)
