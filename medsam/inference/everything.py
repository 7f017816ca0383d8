"""What `Predictor.everything` gives: all masks of a slice or a volume, and how they came about; into JSON and back."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from medsam.errors import counted
from medsam.geometry import SlicePlane, VolumeGeometry
from medsam.inference.automatic import AutomaticSettings, everything_in_volume, everything_on_slice, label_map
from medsam.inference.documents import headed, reading
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.usage import Usage
from medsam.io.sa1b import mask_from_dict, mask_to_dict
from medsam.masks import AutomaticMask
from medsam.progress import ProgressCallback
from medsam.transforms.intensity import IntensityWindow
from medsam.volume import LabelVolume

KIND, VERSION = "medsam everything", 1


@dataclass(frozen=True, eq=False, repr=False)
class Everything:
    """All masks, on the stored slices of `plane`, with how they came about.

    slice: the only one that was segmented; None where all were, and masks of neighbours were linked into objects.
    left_out_as_background: masks that lay on the background round the scan. settings: of the grid and the filters.
    usage: what was run for it. masks_s: seconds it took, without preparing the engine. engine, precision, notes: as in
    `Segmentation`.
    """

    masks: tuple[AutomaticMask, ...]
    geometry: VolumeGeometry
    plane: SlicePlane
    window: IntensityWindow
    settings: AutomaticSettings
    slice: int | None
    left_out_as_background: int
    model: str
    engine: str
    precision: str
    usage: Usage
    masks_s: float
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        where = f"slice {self.slice}" if self.slice is not None else f"{self.plane.count} slices"
        return f"Everything({len(self.masks)} masks on {where} of axis {self.plane.axis})"

    @property
    def objects(self) -> int | None:
        """How many objects the masks are of; None where one slice was segmented."""
        return None if self.slice is not None else len({one.object for one in self.masks if one.object is not None})

    @property
    def labels(self) -> LabelVolume:
        """The masks as one label map on the scan's grid, see `automatic.label_map`."""
        return label_map(self.masks, self.geometry, self.plane)

    @classmethod
    def of(
        cls,
        scan_encoder: ScanEncoder,
        index: int | None,
        settings: AutomaticSettings,
        *,
        link_iou_thresh: float = 0.5,
        progress: ProgressCallback | None = None,
    ) -> Everything:
        """Find all masks of slice `index`, or with None of all slices. Raises PromptError for no such slice."""
        image_predictor = scan_encoder.image_predictor
        started = time.perf_counter()
        if index is None:
            found = everything_in_volume(scan_encoder, settings, link_iou_thresh=link_iou_thresh, progress=progress)
        else:
            found = everything_on_slice(scan_encoder, index, settings, progress)
        notes = list(scan_encoder.notes)
        if found.no_contrast and index is not None:  # empty slices are normal in a volume
            notes.append(scan_encoder.no_contrast_note(found.no_contrast))
        return cls(
            masks=tuple(found.masks),
            geometry=scan_encoder.scan.geometry,
            plane=scan_encoder.plane,
            window=scan_encoder.window,
            settings=settings,
            slice=index,
            left_out_as_background=found.left_out,
            model=image_predictor.name,
            engine=image_predictor.engine.name,
            precision=image_predictor.precision,
            usage=found.usage,
            masks_s=time.perf_counter() - started - found.usage.prepare_s,
            notes=(*notes, *_filter_notes(len(found.masks), found.left_out, settings)),
        )

    def to_dict(self, masks: bool = True) -> dict[str, Any]:
        """All of it as JSON: what `medsam everything --json` prints, with the masks as SA-1B annotations.

        masks: False leaves them out; such a document is not read back.
        """
        content: dict[str, Any] = {
            "model": self.model,
            "engine": self.engine,
            "precision": self.precision,
            "axis": self.plane.axis,
            "window": self.window.to_dict(),
            "settings": asdict(self.settings),
            "slices": self.plane.count if self.slice is None else 1,
            "slice": self.slice,
            "masks": len(self.masks),
            "left_out_as_background": self.left_out_as_background,
            "objects": self.objects,
            "encoded": self.usage.encoded,
            "decoded": self.usage.decoded,
            "notes": list(self.notes),
            "seconds": {"prepare": self.usage.prepare_s, "masks": self.masks_s},
        }
        if masks:
            content |= {
                "geometry": self.geometry.to_dict(),
                "annotations": [mask_to_dict(one, number) for number, one in enumerate(self.masks, start=1)],
            }
        return headed(KIND, VERSION, content)

    @classmethod
    def from_dict(cls, document: Any) -> Everything:
        """The other way; masks come back numbered.

        Raises InputError for a document of another kind or version, a damaged one, or one without masks.
        """
        with reading(document, KIND, VERSION) as found:
            geometry = VolumeGeometry.from_dict(found["geometry"])
            plane = geometry.plane(found["axis"])
            index = found["slice"]
            return cls(
                masks=tuple(mask_from_dict(one, plane.shape, plane.count) for one in found["annotations"]),
                geometry=geometry,
                plane=plane,
                window=IntensityWindow.from_dict(found["window"]),
                settings=AutomaticSettings(**found["settings"]),
                slice=None if index is None else int(index),
                left_out_as_background=int(found["left_out_as_background"]),
                model=str(found["model"]),
                engine=str(found["engine"]),
                precision=str(found["precision"]),
                usage=Usage(int(found["encoded"]), int(found["decoded"]), prepare_s=float(found["seconds"]["prepare"])),
                masks_s=float(found["seconds"]["masks"]),
                notes=tuple(map(str, found["notes"])),
            )


def _filter_notes(found: int, left_out: int, settings: AutomaticSettings) -> list[str]:
    """What the user should know of the filters. found, left_out: numbers of masks."""
    notes = []
    if left_out:
        notes.append(
            f"{counted(left_out, 'mask')} left out: more than {settings.max_background_ratio:g} of each lay on the "
            "background round the scan. `max_background_ratio` 1 keeps them."
        )
    if not found:
        notes.append(
            "No mask passed the filters. Lower `pred_iou_thresh` and `stability_score_thresh`; a model trained with "
            "boxes alone answers clicks badly, so leave `prompt` out (docs/everything.md)."
        )
    return notes
