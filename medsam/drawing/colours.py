"""The colours of every picture and plot: Okabe and Ito's palette, distinct to colour-blind readers too.

Source: Okabe and Ito 2008, "Color universal design".
"""

from __future__ import annotations

ORANGE, SKY, GREEN, YELLOW, VERMILLION, PINK, BLUE = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#D55E00",
    "#CC79A7",
    "#0072B2",
)
# without black, which vanishes on a scan
LABELS = (ORANGE, SKY, GREEN, YELLOW, VERMILLION, PINK, BLUE)
# on white, where yellow vanishes; the darkest first
SERIES = (BLUE, VERMILLION, GREEN, PINK, SKY, ORANGE)
# the two outlines of an overlay
REFERENCE, PREDICTION = SKY, ORANGE


def label_colour(label: int) -> str:
    """The colour of a label id, from 1 on; they repeat."""
    return LABELS[(label - 1) % len(LABELS)]


def rgb(colour: str) -> tuple[int, int, int]:
    """ "#E69F00" as red, green and blue, 0 ... 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
