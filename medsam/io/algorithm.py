"""What a file of labels says beside where they are: who made them; and as which object, for a .dcm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from medsam._version import __version__

# as DICOM calls them, (0062,0008) Segment Algorithm Type
Kind = Literal["SEMIAUTOMATIC", "AUTOMATIC", "MANUAL"]
# a SEG bit by bit, a SEG that is a label map (see `dicom.seg_write`), a set of contours (`dicom.rtstruct_write`)
DicomFormat = Literal["seg", "seg-labelmap", "rtstruct"]
DICOM_FORMATS: tuple[DicomFormat, ...] = get_args(DicomFormat)

# name and version of what made labels that come from elsewhere
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Algorithm:
    """Who made a label map, and under which conditions it may be used.

    name: of the model, or of the program for what no model made. version: of the program. digest: of the weights,
    hexadecimal sha256, "" for none. licence: of the weights, as SPDX or by name, "" where it is not known.
    kind: SEMIAUTOMATIC with a person's prompts, AUTOMATIC without, MANUAL for what a person drew.
    drawn: structures among the others that a person drew, by name.
    """

    name: str = "medsam"
    version: str = __version__
    digest: str = ""
    licence: str = ""
    kind: Kind = "SEMIAUTOMATIC"
    drawn: frozenset[str] = frozenset()

    def of(self, *names: str) -> Algorithm:
        """Who made these structures: a person, where all of them were drawn."""
        return Algorithm(UNKNOWN, "", kind="MANUAL") if names and self.drawn.issuperset(names) else self


@dataclass(frozen=True)
class DicomOptions:
    """What a .dcm says, and how.

    algorithm: who made the labels. series: (0020,000E) of the source where its folder holds several; a `Volume` knows
    its own. keyhole, tps: of an RTSTRUCT, see `dicom.rtstruct_write`. remarks: what else the descriptions of structures
    say, by name.
    """

    algorithm: Algorithm = field(default_factory=Algorithm)
    series: str | None = None
    keyhole: bool = False
    tps: bool = False
    remarks: Mapping[str, str] = field(default_factory=dict)
