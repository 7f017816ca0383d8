"""Who made a label map, for formats that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medsam._version import __version__

# as DICOM calls them, (0062,0008) Segment Algorithm Type
Kind = Literal["SEMIAUTOMATIC", "AUTOMATIC", "MANUAL"]


@dataclass(frozen=True)
class Algorithm:
    """Who made a label map, and under which conditions it may be used.

    name: of the model, or of the program for what no model made. version: of the program. digest: of the weights,
    hexadecimal sha256, "" for none. licence: of the weights, as SPDX or by name, "" where it is not known.
    kind: SEMIAUTOMATIC with a person's prompts, AUTOMATIC without, MANUAL for what a person drew.
    """

    name: str = "medsam"
    version: str = __version__
    digest: str = ""
    licence: str = ""
    kind: Kind = "SEMIAUTOMATIC"
