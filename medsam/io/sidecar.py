"""The names of a label map's numbers, which `save_labels` and others write beside it as JSON."""

from __future__ import annotations

from pathlib import Path

from medsam.errors import InputError
from medsam.io.files import is_whole, read_json
from medsam.io.formats import suffix_of

# longer ones are no names of structures
_MAX_NAME = 256


def names_beside(path: Path) -> dict[int, str]:
    """Label id -> name from `NAME.json` (of NIfTI) or `NAME.mha.json` beside a label map; {} where there are none.

    The file holds `{"labels": {"1": "liver", ...}}`, as `save_labels` writes it and as the description of a data set
    does; anything else of that name says nothing of the labels. 0, background, is left out.
    """
    suffix = suffix_of(path)
    stem = path.name.removesuffix(suffix) if suffix.lower() in (".nii", ".nii.gz") else path.name
    file = path.with_name(f"{stem}.json")
    try:
        document = read_json(file) if file.is_file() else None
    except (InputError, OSError):
        return {}
    labels = document.get("labels") if isinstance(document, dict) else None
    if not isinstance(labels, dict) or not labels:
        return {}
    named = {key: name for key, name in labels.items() if is_whole(key) and isinstance(name, str) and name.strip()}
    if len(named) < len(labels) or any(len(name) > _MAX_NAME for name in named.values()):
        return {}
    return {int(key): name.strip() for key, name in named.items() if int(key) != 0}
