"""Put a text in place of every element of real DICOM files, one at a time, and read what the readers say of it.

    python scripts/parity/nobody_named.py DATA [--most N]

DATA: a folder that holds folders of DICOM series with SEG or RTSTRUCT. Of each, a few images and the labels are
copied; then each element of an image and of a label, at the top and in the first item of each sequence, holds the
marker instead of its value, as it might hold a name. Results, errors, warnings and logs are searched for it. The exit
status is 1 when it is found, or when a reader fails with an error that is none of ours.
"""

from __future__ import annotations

import argparse
import io
import logging
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from medsam.data.index import index_folder
from medsam.errors import MedSAMError
from medsam.io.dicom.read import files_below, is_dicom, quiet
from medsam.io.dicom.series import list_series, read_dicom
from medsam.io.dicom.tree import dicom_kind, structure_names

MARKER = "QZXWUMMARA"
# what people call structures is asked for and shown
_SPOKEN = ("SegmentLabel", "ROIName")
_IMAGES = 3

Place = tuple[int, ...]


@dataclass
class Heard:
    """asked: how often. leaks: (reader, keyword) -> what was said. broken: errors that are none of ours."""

    asked: int = 0
    leaks: dict[tuple[str, str], str] = field(default_factory=dict)
    broken: Counter[str] = field(default_factory=Counter)


def places(dataset: pydicom.Dataset, path: Place = ()) -> Iterator[tuple[Place, str, str]]:
    """(tags and items on the way, keyword, VR) of every element but pixels, in first items alone."""
    for element in dataset:
        if element.tag.group == 0x7FE0 or element.keyword in _SPOKEN:
            continue
        yield (*path, element.tag), element.keyword, element.VR
        if element.VR == "SQ" and element.value:
            yield from places(element.value[0], (*path, element.tag))


def planted(dataset: pydicom.Dataset, path: Place, vr: str) -> pydicom.Dataset:
    holder = dataset
    for tag in path[:-1]:
        holder = holder[tag].value[0]
    kind = "LO" if vr == "SQ" else vr
    value = MARKER.encode() + b" " * (-len(MARKER) % 8)
    tag = BaseTag(path[-1])
    holder[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)
    return dataset


def listen(ask: Callable[[], Any], log: io.StringIO, heard: Heard, key: tuple[str, str]) -> None:
    """Ask once, and look through all that is said."""
    log.seek(0)
    log.truncate()
    heard.asked += 1
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            said = repr(ask())
        except MedSAMError as error:
            said = str(error)
        except Exception as error:  # what we look for
            said = str(error)
            heard.broken[f"{key}: {type(error).__name__}"] += 1
    said += log.getvalue() + "".join(str(one.message) for one in warned)
    if MARKER.casefold() in said.casefold():
        heard.leaks.setdefault(key, said)


def one_file(name: str, source: Path, log: io.StringIO, heard: Heard, most: int) -> None:
    """Every element of one file of a copied folder in turn."""
    with quiet():
        found = list(places(pydicom.dcmread(source / name)))[:most]
    kind = dicom_kind(source / name)
    for path, keyword, vr in found:
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch, "work")
            shutil.copytree(source, work)
            with quiet():
                try:
                    planted(pydicom.dcmread(work / name), path, vr).save_as(work / name)
                except Exception:  # such a file cannot be made
                    continue
            readers: list[Callable[[Path], Any]] = [index_folder]
            readers += [read_dicom, list_series] if kind == "image" else []
            for reader in readers:
                listen(partial(reader, work), log, heard, (reader.__name__, keyword))
            if kind in ("seg", "rtstruct"):
                listen(partial(structure_names, work / name), log, heard, ("structure_names", keyword))


def one_folder(folder: Path, log: io.StringIO, most: int) -> bool:
    """Print what was heard of a folder; whether nobody was named."""
    heard = Heard()
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "source")
        source.mkdir()
        chosen: dict[str, Path] = {}
        count: Counter[str] = Counter()
        for path in files_below(folder):
            kind = dicom_kind(path) if is_dicom(path) else None
            if kind is None or kind == "other" or count[kind] >= (_IMAGES if kind == "image" else 1):
                continue
            count[kind] += 1
            chosen[f"{kind}{count[kind]}.dcm"] = path
        for name, path in chosen.items():
            shutil.copy(path, source / name)
        for name in chosen:
            if name not in ("image2.dcm", "image3.dcm"):
                one_file(name, source, log, heard, most)
    print(f"{folder.name}: asked {heard.asked} times, named in {len(heard.leaks)}, broken {heard.broken.total()}")
    for key, said in heard.leaks.items():
        place = said.casefold().find(MARKER.casefold())
        print(f"  {key}: ...{said[max(0, place - 120) : place + 40]!r}")
    for what, number in heard.broken.items():
        print(f"  {what}: {number} times")
    return not heard.leaks and not heard.broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--most", type=int, default=400, help="elements of a file (default: 400)")
    arguments = parser.parse_args()
    log = io.StringIO()
    for logger in (logging.getLogger(), logging.getLogger("pydicom")):
        logger.addHandler(logging.StreamHandler(log))
    folders = [folder for folder in sorted(arguments.data.iterdir()) if folder.is_dir()]
    found = [one_folder(one, log, arguments.most) for one in folders if any(map(is_dicom, files_below(one)[:5]))]
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
