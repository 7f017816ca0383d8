"""Label files that bring their own names (DICOM SEG, RTSTRUCT, 3D Slicer's .seg.nrrd), and names that ask for them.

Names match when they are equal but for case, spaces, "-" and "_" (see `structure_names`), or by an alias.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from medsam.errors import InputError, listed
from medsam.geometry import VolumeGeometry
from medsam.io import seg_nrrd
from medsam.io.label_grid import LabelGridMismatch, on_grid
from medsam.io.label_map import Ignore, UnknownLabel
from medsam.io.structure_names import plain_name
from medsam.masks import PackedMasks


def read_named(
    path: Path,
    kind: str,
    geometry: VolumeGeometry,
    frame_of_reference: str | None,
    images: Sequence[tuple[str, int | None]] = (),
) -> PackedMasks:
    """Every structure of a DICOM SEG or RTSTRUCT; `kind` is which. Raises LabelGridMismatch for a scan without mm."""
    if not geometry.calibrated:
        raise LabelGridMismatch(
            f"{path.name} is placed in millimetres, but the scan has none (or `spacing_mm` overrides them), so it "
            "cannot be put on the scan. Convert it to a label map of the scan's rows, columns and slices."
        )
    from medsam.io.dicom.rtstruct import read_rtstruct
    from medsam.io.dicom.seg import read_seg

    if kind == "seg":
        return read_seg(path, geometry, frame_of_reference=frame_of_reference)
    return read_rtstruct(path, geometry, frame_of_reference=frame_of_reference, images=images)


def segment_masks(
    path: Path,
    segments: seg_nrrd.Segments,
    geometry: VolumeGeometry,
    wanted: Mapping[str, int] | None,
    aliases: Mapping[str, str],
    ignore: Ignore,
) -> PackedMasks:
    """The structures of a .seg.nrrd; of all of them where nothing is wanted by name."""
    masks = PackedMasks(geometry.shape)
    for layer, volume in enumerate(segments.volumes()):
        array = on_grid(volume, geometry, path).array
        for structure, value in segments.on_layer(layer):
            masks.add(structure, array == value, segments.notes.get(structure, ()))
    lookup = {} if wanted is None else _lookup(path, wanted, aliases)
    unwanted = {
        name: value
        for name, value in segments.undescribed.items()
        if plain_name(name) not in lookup and not isinstance(ignore, str) and value not in set(ignore)
    }
    if wanted is not None and unwanted:
        raise UnknownLabel(
            f"{path.name} holds values that none of its segments ({listed(segments.structures)}) describes, here "
            f"called {listed(unwanted)} ({sum(masks.voxels[name] for name in unwanted)} voxels). Name them so in "
            '"labels" or "aliases", list the values in "ignore", or read one layer as a label map: "label_frame".'
        )
    return masks if wanted is None else select(path, masks, list(wanted), aliases, geometry.shape)


def _lookup(path: Path, names: Collection[str], aliases: Mapping[str, str]) -> dict[str, str]:
    """Plain name in a file -> structure. Raises InputError when two of the names are one."""
    ours: dict[str, str] = {}
    for name in names:
        other = ours.setdefault(plain_name(name), name)
        if other != name:
            raise InputError(
                f"{path.name}: {other!r} and {name!r} in `labels` are one name (case, spaces, - and _ aside), so it is "
                "not known which of them a structure of the file is. Rename one, and map to it with `aliases`."
            )
    return ours | {plain_name(theirs): name for theirs, name in aliases.items() if name in names}


def names_match(segments: seg_nrrd.Segments, names: Collection[str] | None, aliases: Mapping[str, str]) -> bool:
    """Whether a .seg.nrrd is read by the names of its segments: unless it is a label map that `names` describes."""
    if names is None or segments.layers > 1:
        return True
    known = {plain_name(name) for name in (*names, *aliases)}
    return any(plain_name(name) in known for name in segments.names)


def names_of(path: Path, found: Collection[str], names: Collection[str] | None, aliases: Mapping[str, str]) -> set[str]:
    """Which of `names` a file holds that lists the structures `found`; all of those where `names` is None."""
    if names is None:
        return set(found)
    lookup = _lookup(path, names, aliases)
    return {lookup[plain_name(name)] for name in found if plain_name(name) in lookup}


def select(
    path: Path,
    found: PackedMasks,
    names: Sequence[str],
    aliases: Mapping[str, str],
    shape: tuple[int, int, int],
) -> PackedMasks:
    """The masks of `names` from those in a file, several in one where aliases say so. Raises UnknownLabel for none."""
    lookup = _lookup(path, names, aliases)
    theirs_by_ours: dict[str, list[str]] = {name: [] for name in names}
    for theirs in found:
        if plain_name(theirs) in lookup:
            theirs_by_ours[lookup[plain_name(theirs)]].append(theirs)
    if not any(theirs_by_ours.values()):
        raise UnknownLabel(
            f"{path.name} holds none of {listed(names)}; it holds {listed(found)}. Name the structures as the file "
            'does, or map its names in "aliases".'
        )
    masks = PackedMasks(shape)
    for ours, parts in theirs_by_ours.items():
        masks.add(ours, None)
        for theirs in parts:
            masks.add(ours, found[theirs], found.notes_of(theirs))
        if len(parts) > 1:
            masks.add(ours, None, [f"{', '.join(map(repr, parts))} are read as one structure, {ours!r}."])
    return masks
