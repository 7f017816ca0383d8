"""The pages' templates: one frame, one style sheet, and everything that is put into them escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jinja2 import Template


@cache
def template(name: str) -> Template:
    """A template of the folder `templates`; what it is not given is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        # names come from untrusted files
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "thousands": lambda count: f"{count:,}"}
    return environment.get_template(name)


def number(value: float | None, metric: str) -> str:
    """A value as the page shows it: three decimals for shares, two for mm, one for percent and counts; – for none."""
    if value is None or not np.isfinite(value):
        return "–"
    decimals = 1 if metric.endswith(("_percent", "_calls")) else 2 if metric.endswith(("_mm", "_ml", "seconds")) else 3
    # typographic minus, and never "-0.00"
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")
