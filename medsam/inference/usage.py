"""What a result has cost: returned with it, and added up by callers, so that two who share a predictor never count each
other's work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medsam.inference.image_predictor import Crop


@dataclass(frozen=True)
class Usage:
    """What was run for a result; `sum(usages, Usage())` is a total.

    encoded: images the encoder ran on; an embedding from the cache adds none. decoded: prompts the decoder ran on.
    prepare_s, embed_s, decode_s: seconds for making and compiling graphs, for images, for prompts.
    crops: what of one scan was encoded, from the cache or not, with the seconds each took when it was first encoded:
    what it would cost alone.
    """

    encoded: int = 0
    decoded: int = 0
    prepare_s: float = 0.0
    embed_s: float = 0.0
    decode_s: float = 0.0
    crops: Mapping[Crop, float] = field(default_factory=dict)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.encoded + other.encoded,
            self.decoded + other.decoded,
            self.prepare_s + other.prepare_s,
            self.embed_s + other.embed_s,
            self.decode_s + other.decode_s,
            {**other.crops, **self.crops},
        )

    @property
    def seconds(self) -> dict[str, float]:
        """As reports name them: {"prepare", "embed", "decode"}."""
        return {"prepare": self.prepare_s, "embed": self.embed_s, "decode": self.decode_s}

    @classmethod
    def from_report(cls, encoded: int, decoded: int, seconds: Mapping[str, float]) -> Usage:
        """From the numbers of a report, without crops. seconds: as the property gives them."""
        prepare_s, embed_s, decode_s = (float(seconds[step]) for step in ("prepare", "embed", "decode"))
        return cls(int(encoded), int(decoded), prepare_s, embed_s, decode_s)
