"""De-identify real series with names planted in them, and look for the names; `dciodvfy` compares errors.

    python scripts/parity/deidentify.py DATA

DATA: a folder that holds folders of DICOM series. Every file gets a marker in each element that names people or is
free text, in a private block and in a nested sequence. The exit status is 1 when a marker is left in a byte that was
written, when a reference leads nowhere that did not before, or when a kind of object has an error that it had not.
Then files with damaged headers are de-identified, which must be refused or name nobody, too.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pydicom
from dicom_referees import dciodvfy
from pydicom.datadict import dictionary_VR

from medsam.io.dicom.deidentify.folder import Deidentifier, deidentify_folder, encoded
from medsam.io.dicom.deidentify.options import Options
from medsam.io.dicom.deidentify.tags import words
from medsam.io.dicom.read import files_below, is_dicom, quiet, read_dataset
from medsam.io.dicom.source import Source

MARKER = "QZXWUMMARA"
_PLANTED = words(
    "PatientName OtherPatientIDs PatientAddress PatientComments ReferringPhysicianName OperatorsName InstitutionName "
    "InstitutionAddress StationName StudyDescription SeriesDescription ProtocolName ImageComments AccessionNumber "
    "RequestedProcedureDescription PerformedProcedureStepDescription AdditionalPatientHistory PhysiciansOfRecord "
    "DeviceSerialNumber StructureSetLabel StructureSetDescription"
)
# of each kind of object in a folder
_CHECKED = 3


def plant(path: Path, target: Path) -> None:
    dataset = pydicom.dcmread(path, force=True)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _PLANTED:
        value = f"{MARKER}^ANNA" if dictionary_VR(keyword) == "PN" else MARKER
        setattr(dataset, keyword, value)
    item = pydicom.Dataset()
    item.PatientID, item.IssuerOfPatientID = MARKER, MARKER
    dataset.OtherPatientIDsSequence = [item]
    equipment = pydicom.Dataset()
    equipment.Manufacturer, equipment.InstitutionName, equipment.StationName = "ACME", MARKER, MARKER
    dataset.ContributingEquipmentSequence = [equipment]
    block = dataset.private_block(0x0029, "MAKER 1", create=True)
    block.add_new(0x10, "LO", MARKER)
    block.add_new(0x11, "SQ", [item])
    for region in dataset.get("StructureSetROISequence", []):
        region.ROIDescription = f"drawn by {MARKER}"
    target.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(target)


def cited(dataset: pydicom.Dataset) -> Iterator[str]:
    for element in dataset.iterall():
        if element.keyword == "ReferencedSOPInstanceUID":
            yield str(element.value)


def resolved(files: list[Path]) -> Counter[str]:
    """Kind of object -> references that lead to a file of the set."""
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    there = {str(header.SOPInstanceUID) for header in headers}
    found: Counter[str] = Counter()
    for header in headers:
        found[header.Modality] += sum(uid in there for uid in cited(header))
    return found


def errors(files: list[Path]) -> dict[str, Counter[str]]:
    """Kind of object -> errors of its first files, without what differs in each."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    seen: Counter[str] = Counter()
    for path in files:
        kind = pydicom.dcmread(path, stop_before_pixels=True).Modality
        seen[kind] += 1
        if seen[kind] > _CHECKED:
            continue
        found[kind] += Counter(re.sub(r"<[^>]*>", "<>", line) for line in dciodvfy(path))
    return found


def damaged(paths: list[Path], count: int) -> tuple[int, int]:
    """De-identify so many files with bytes changed, cut and added: how many were cleaned, how many name anybody."""
    dice, cleaner = random.Random(1), Deidentifier(Options(), bytes(range(32)))
    cleaned = named = 0
    for _ in range(count):
        data = bytearray(dice.choice(paths).read_bytes())
        for _ in range(dice.choice((1, 1, 2, 8))):
            # headers are what there is to damage
            place = dice.randrange(132, min(len(data), 20_000))
            what = dice.random()
            if what < 0.75:
                data[place] = dice.choice((0, 1, 127, 255, dice.randrange(256)))
            elif what < 0.85:
                del data[place : place + dice.randrange(1, 12)]
            elif what < 0.97:
                data[place:place] = dice.randbytes(dice.randrange(1, 9))
            else:
                del data[max(place, 1000) :]
        try:
            written = encoded(cleaner.clean(read_dataset(Source("it", data=bytes(data)), "it")).dataset)
        except Exception:  # refused or damaged: it is not written
            continue
        cleaned += 1
        named += MARKER.encode() in written
    return cleaned, named


def one_folder(folder: Path, count: int) -> bool:
    """Print what became of a folder; whether all is well."""
    with tempfile.TemporaryDirectory() as scratch, quiet():
        source, target = Path(scratch, "in"), Path(scratch, "out")
        paths = [path for path in files_below(folder) if is_dicom(path)]
        for number, path in enumerate(paths):
            plant(path, source / f"{number:05}.dcm")
        report = deidentify_folder(source, target, bytes(range(32)))
        before, after = files_below(source), [path for path in files_below(target) if path.suffix == ".dcm"]
        left = [path for path in after if MARKER.encode() in path.read_bytes()]
        same = resolved(before) == resolved(after)
        old, new = errors(before), errors(after)
        fresh = {kind: found - old[kind] for kind, found in new.items() if found - old[kind]}
        cleaned, named = damaged(before, count)
        print(
            f"{folder.name}: {report.files['written']} of {len(paths)} written, markers left in {len(left)}, "
            f"references {'hold' if same else 'are broken'}, errors "
            + ", ".join(f"{kind} {old[kind].total()} -> {found.total()}" for kind, found in sorted(new.items()))
            + (f"; new: {fresh}" if fresh else "")
            + f"; of {count} damaged files {cleaned} cleaned, markers left in {named}"
        )
    return not named and not left and same and not fresh and report.files["written"] == len(paths)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--damaged", type=int, default=500, help="damaged files of each folder (default: 500)")
    arguments = parser.parse_args()
    folders = [
        folder
        for folder in sorted(arguments.data.iterdir())
        if folder.is_dir() and any(is_dicom(path) for path in files_below(folder)[:5])
    ]
    sound = [one_folder(folder, arguments.damaged) for folder in folders]
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main())
