"""What is offered to MONAI Label's clients: `GET /info/`.

Clients go by a model's `type`: "deepgrow" has clicks and a box about one segment, whatever it is called, "scribbles"
a label map of strokes, "segmentation" nothing: structures that a head answers by name. Every `config` comes back with
each request, from 3D Slicer as the first item of a list: the first is what is meant where nobody chose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medsam._version import __version__
from medsam.inference.predictor import Predictor
from medsam.inference.segmentation import algorithm_of
from medsam.labels import english
from medsam.models.specs import takes_clicks
from medsam.server.settings import MonaiLabel

STRATEGIES = {
    "first": "The first scan that you have submitted no label for",
    "random": "Any scan that you have submitted no label for",
}
WINDOWS = ("auto", "abdomen", "lung", "bone", "brain", "mediastinum")
AXES = ("auto", "k", "j", "i")
ZOOMS = ("auto", "on", "off")
MODALITIES = ("auto", "CT", "MR", "US", "PT")
_SEEN = {"window": WINDOWS, "modality": MODALITIES, "zoom": ZOOMS}


@dataclass(frozen=True)
class Offered:
    """A model as clients see it. flat: it answers on one slice, the k of the last click. config: choices by name."""

    type: str
    flat: bool
    description: str
    config: Mapping[str, Sequence[str]]

    def to_dict(self, labels: Sequence[str]) -> dict[str, Any]:
        config = {name: list(choices) for name, choices in self.config.items()}
        if "axis" in self.config:
            # text: 3D Slicer has a field for it; 0 is as far as the object goes
            config["max_mm"] = 0.0  # type: ignore[assignment]
        return {
            "type": self.type,
            "labels": list(labels),
            "dimension": 2 if self.flat else 3,
            "description": self.description,
            "config": config,
        }


# answers without a prompt: every structure that was measured on unseen patients (docs/names.md)
STRUCTURES = "medsam_structures"
OFFERED: Mapping[str, Offered] = {
    "medsam_slice": Offered(
        "deepgrow", True, "Clicks or a box on one slice: the object there, any structure", dict(_SEEN)
    ),
    "medsam_volume": Offered(
        "deepgrow",
        False,
        "Clicks on one slice or several: the object followed through the scan; a box (ROI): the object on each of its "
        "slices",
        {**_SEEN, "axis": AXES},
    ),
    "medsam_scribbles": Offered(
        "scribbles",
        False,
        "Strokes inside and outside: the object on the slices that have some",
        {**_SEEN, "axis": AXES},
    ),
    STRUCTURES: Offered("segmentation", False, "Without a prompt: the structures that a head of this server knows", {}),
}


def structures(predictor: Predictor) -> list[str]:
    """What `STRUCTURES` answers, in the order of its label values, from 1; [] where no head knows any."""
    return [english(name) for name, one in predictor.names.known.items() if not one.untested]


def info(predictor: Predictor, settings: MonaiLabel, total: int, completed: int) -> dict[str, Any]:
    """The document. total, completed: scans, and those with labels."""
    images, labels = predictor.images, settings.labels
    # OHIF 3.9 makes a segment of every name of every model, and cannot open a SEG of its own in which one is empty
    known = structures(predictor) if settings.ohif is None else []
    algorithm = algorithm_of(images)
    licence = algorithm.licence or "not known"
    how = "" if takes_clicks(images.sam.spec) else "; trained with boxes, clicks become some"
    return {
        "name": "medsam",
        "description": f"medsam {__version__}, {algorithm.name} (licence of the weights: {licence}{how})",
        "version": __version__,
        "labels": list(labels),
        "models": {
            name: one.to_dict(known if name == STRUCTURES else labels)
            for name, one in OFFERED.items()
            if known or name != STRUCTURES
        },
        "trainers": {},
        "strategies": {name: {"description": text} for name, text in STRATEGIES.items()},
        "scoring": {},
        "train_stats": {},
        "datastore": {"total": total, "completed": completed},
        "licence": licence,
    }
