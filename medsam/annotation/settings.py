"""What a project of the data engine is told, as JSON in its store. It may be changed later, for what comes then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from medsam.errors import InputError
from medsam.geometry import Axis

# which scan comes first: "unsure": the one the model expects least of. "different": the one least like those that are
# done. "rare": the one that may hold the structure with the fewest masks. "random": by the seed.
Order = Literal["unsure", "different", "rare", "random"]


@dataclass(frozen=True)
class RoundSettings:
    """How a model is made of the masks. config: a file of configs/train or a path; steps: of training.

    overrides: further options of `medsam fit`, "model.optimiser.lr" -> "1e-4". every: a round begins by itself when so
    many masks are new; None: only when somebody asks. prompt: what `medsam evaluate` asks with. least: the gain of Dice
    below which nothing is promoted. worst: the loss of Dice of one structure from which nothing is. slices: of each
    structure, so many are measured on; None: all of them.
    """

    config: str = "litemedsam_decoder.yaml"
    steps: int = 120
    overrides: Mapping[str, str] = field(default_factory=dict)
    every: int | None = None
    prompt: str = "box"
    least: float = 0.0
    worst: float = 0.01
    slices: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("every", self.every), ("measure", self.slices)):
            if value is not None and value < 1:
                raise InputError(f"`{name}` is a whole number from 1, not {value}.", parameter=name)


@dataclass(frozen=True)
class Settings:
    """axis: along which slices are counted; None: as acquired. model: to begin with.

    stage: 1 people draw, 2 confident masks come filled in, 3 the model alone. order: see `Order`. seed: of everything
    drawn at random. propose: from which expected Dice on a mask is filled in. gold, second: shares of tasks on scans
    whose reference is known, and of those that two people do. differ: Dice of two readings below which they do not
    agree. lease_s: after which a task without a sign of life comes back. slices: so many of each scan are to be drawn
    on, one in each of so many equal parts; None: wherever the structures are.
    """

    axis: Axis | None = None
    model: str = "litemedsam"
    stage: int = 1
    order: Order = "unsure"
    seed: int = 0
    propose: float = 0.85
    gold: float = 0.0
    second: float = 0.0
    differ: float = 0.8
    lease_s: float = 1800.0
    slices: int | None = None
    round: RoundSettings = field(default_factory=RoundSettings)

    def __post_init__(self) -> None:
        if self.stage not in (1, 2, 3):
            raise InputError(f"A `stage` is 1, 2 or 3, not {self.stage}.", parameter="stage")
        if self.order not in get_args(Order):
            raise InputError(f"An `order` is one of {', '.join(get_args(Order))}.", parameter="order")
        for name in ("propose", "gold", "second", "differ"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` is a share from 0 to 1, not {getattr(self, name):g}.", parameter=name)
        if self.slices is not None and self.slices < 1:
            raise InputError(f"`slices` is a number from 1, not {self.slices}.", parameter="slices")
        if self.lease_s <= 0:
            raise InputError("`lease_s` is a number of seconds above 0.", parameter="lease_s")

    def agrees(self, dice: float) -> bool:
        """Whether two masks of one structure are the same to this project: of two readers, or of a model that was left
        alone and who audits it. Else a reviewer decides, or the model was wrong."""
        return dice >= self.differ

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Settings:
        """The other way; what a newer medsam wrote and this one does not know is left out."""
        known = {one.name for one in fields(cls)}
        values = {name: value for name, value in document.items() if name in known}
        rounds = {one.name for one in fields(RoundSettings)}
        told = {name: value for name, value in values.pop("round", {}).items() if name in rounds}
        return cls(**values, round=RoundSettings(**told))
