"""What came into the server, sorted into scans: a folder of files under numbers, an upload or what a PACS sent.

Nothing of what a client or an archive calls a file is ever a path here. A name tells a kind by its suffix, which scan a
label belongs to, and how a case is called; files lie under numbers of our own:

    in/000001               as it came
    000001/scan.nii.gz      a file that is a scan
    s001/000001.dcm, ...    a series

`sort_scans` runs in a process (`pool`), for the files are not to be trusted.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from medsam.data.label_contents import read_contents
from medsam.data.pairs import pair_files
from medsam.errors import InputError, counted
from medsam.files import move
from medsam.io.archive import unpack_files
from medsam.io.dicom.tree import dicom_kind, image_header
from medsam.io.formats import check_content, format_of, suffix_of
from medsam.server.cases.disk import DiskFull, room
from medsam.server.cases.folder import Folder
from medsam.server.cases.found import FoundCase, kind_of, shown_name

# where files lie as they came, and how each is called there
INCOMING = "in"
# more than is written at once
_PIECE = 2 * 2**20
# a header in one file and voxels in another: the one names the other, and names are no paths here
_IN_PARTS = (".mhd", ".nhdr", ".hdr", ".img", ".raw", ".zraw")


@dataclass(frozen=True)
class Sorted:
    """cases: `path` is below the folder. notes: what was left out."""

    cases: tuple[FoundCase, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arrived:
    """A file that came. name: what its sender calls it."""

    path: Path
    name: str

    @property
    def shown(self) -> str:
        """The name for messages."""
        return shown_name(self.name)


def incoming(folder: Path, number: int) -> Path:
    """Where file `number` lies as it came."""
    return folder / INCOMING / f"{number:06d}"


def sort_scans(folder: Path, names: Sequence[str], most_bytes: int, most_files: int) -> Sorted:
    """Sort what lies in `folder` as it came. names: of the files, in the order of their numbers.

    most_bytes, most_files: of the whole, zips unpacked. Raises InputError when there is no scan, a DICOM file is
    damaged, or a zip is damaged or grows too far; the folder is then to be removed.
    """
    files = [Arrived(incoming(folder, number), name) for number, name in enumerate(names)]
    files = _without_zips(folder, files, most_bytes, most_files)
    series, others = _dicom(folder, files)
    scans, labels = _named(folder, others)
    cases, unused = list[FoundCase](), len(others) - len(scans) - len(labels)
    if series:
        cases += _cases_in(folder, "dicom", {})
    if scans:
        cases += _cases_in(folder, "named", {path: file.shown for path, file in scans.items()})
    for one in files:
        one.path.unlink(missing_ok=True)
    if not cases:
        raise InputError(_why_none(files, labels))
    notes = [f"{counted(len(labels), 'file is a label', 'files are labels')} and no scan; left out"] if labels else []
    if unused:
        notes.append(f"{counted(unused, 'file is', 'files are')} of no kind that is read; left out")
    return Sorted(tuple(cases), tuple(notes))


def _without_zips(folder: Path, files: Sequence[Arrived], most_bytes: int, most_files: int) -> list[Arrived]:
    """The files, those of zips in place of them."""
    kept, number, room = list[Arrived](), len(files), most_bytes
    for one in files:
        if one.name.lower().endswith(".npz") or not zipfile.is_zipfile(one.path):
            kept.append(one)
            continue
        members, size = _unpacked(folder, one, number, max(room, 0), most_files - len(kept))
        one.path.unlink()
        number, room = number + len(members), room - size
        kept += members
    return kept


def _unpacked(folder: Path, one: Arrived, first: int, most_bytes: int, most_files: int) -> tuple[list[Arrived], int]:
    """The files of a zip under numbers from `first` on, and their bytes."""
    found = list[Arrived]()

    def place(name: str) -> Path:
        found.append(Arrived(incoming(folder, first + len(found)), name))
        return found[-1].path

    left = room(folder)
    try:
        return found, unpack_files(one.path, place, most_bytes=min(most_bytes, left), most_files=most_files)
    except InputError as error:
        written = sum(other.path.stat().st_size for other in found if other.path.is_file())
        full = left < most_bytes and written + _PIECE > left
        raise (DiskFull() if full else _as_named(error, one)) from None


def _dicom(folder: Path, files: Sequence[Arrived]) -> tuple[bool, list[Arrived]]:
    """Move DICOM images to folders of their series; whether there are any, and the files that are not DICOM."""
    places: dict[tuple[str, str, str], Path] = {}
    others = list[Arrived]()
    for number, one in enumerate(files):
        try:
            header = image_header(one.path)
            if header is None and dicom_kind(one.path) is None:
                others.append(one)
        except InputError as error:
            raise _as_named(error, one) from None
        if header is None:
            continue
        key = (header.series, header.person, "" if header.series else str(number))
        if key not in places:
            places[key] = folder / "dicom" / f"s{len(places) + 1:03d}"
            places[key].mkdir(parents=True)
        move(one.path, places[key] / f"{number + 1:06d}.dcm")
    return bool(places), others


def _named(folder: Path, files: Sequence[Arrived]) -> tuple[dict[str, Arrived], list[Arrived]]:
    """Move files whose names say what they are to folders of their own: path -> file; and those that are labels."""
    known: dict[PurePosixPath, Arrived] = {}
    for one in files:
        # a text: it is compared with others, and leads nowhere
        name = PurePosixPath(*(part for part in PurePosixPath(one.name.replace("\\", "/")).parts if part != "/"))
        if kind_of(Path(one.shown)) is not None:
            known.setdefault(name, one)

    placed = {name: _placed(folder, number, one) for number, (name, one) in enumerate(known.items(), start=1)}

    def is_mask(name: object) -> bool:
        try:
            return read_contents(folder / "named" / placed[PurePosixPath(str(name))], None).looks_like_label
        except InputError:
            return False

    scans = {PurePosixPath(pair.image) for pair in pair_files(known, is_mask).pairs}
    # one file alone is what it was sent as
    scans = scans if len(known) > 1 else set(known)
    for name in known.keys() - scans:
        (folder / "named" / placed[name]).unlink()
    return {placed[name]: known[name] for name in scans}, [known[name] for name in known.keys() - scans]


def _placed(folder: Path, number: int, one: Arrived) -> str:
    suffix = suffix_of(PurePosixPath(one.shown)).lower()
    if suffix in _IN_PARTS:
        raise InputError(f"{one.shown} is one file of two. Send .nii, .nii.gz, .nrrd or .mha, which are one.")
    kind = format_of(PurePosixPath(one.shown))
    path = f"{number:06d}/scan{suffix}"
    target = folder / "named" / path
    target.parent.mkdir(parents=True)
    move(one.path, target)
    if kind is not None:
        try:
            check_content(target, kind)
        except InputError as error:
            raise InputError(str(error).replace(target.name, one.shown)) from None
    return path


def _cases_in(folder: Path, part: str, names: Mapping[str, str]) -> list[FoundCase]:
    """The cases of what lies in a part of the folder. names: of files there."""
    found = list[FoundCase]()
    for place in sorted((folder / part).iterdir()):
        for delta in Folder(place, settle=0).look():
            for case in delta.found:
                inside = f"{part}/{place.name}" if case.path == "." else f"{part}/{place.name}/{case.path}"
                shown = names.get(f"{place.name}/{case.path}")
                name = case.name if shown is None else case.name.replace(PurePosixPath(case.path).name, shown)
                found.append(replace(case, path=inside, name=name))
    return found


def _as_named(error: InputError, one: Arrived) -> InputError:
    """The same error, with the sender's name in place of ours."""
    return InputError(str(error).replace(one.path.name, one.shown), parameter=error.parameters)


def _why_none(files: Sequence[Arrived], labels: Sequence[Arrived]) -> str:
    if labels:
        return "These are labels, and no scan they were drawn on is among them."
    what = f"{files[0].shown} is no scan" if len(files) == 1 else "There is no scan among these files"
    return (
        f"{what} that can be read: send NIfTI, NRRD, MHA, PNG, JPEG, TIFF, .npz with `imgs`, DICOM, or a zip of these."
    )
