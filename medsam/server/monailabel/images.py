"""Which scan a request means, and the grid that its client has of it.

`image=` is the id of a case, the name under which a reader put an image into the data store, or a SeriesInstanceUID:
of a case, or else of the PACS, from where the series is fetched to be the reader's case. `session_id=` is an image
that was sent.

Clients sort a DICOM series along its row x column direction, and number its slices so; this program along the
patient's axes. Where the two run against each other (sagittal series, most of them) the slices are `mirrored`.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medsam.errors import InputError, MedSAMError
from medsam.geometry import VolumeGeometry
from medsam.server.cases.found import FoundCase, ScanFiles, shown_name
from medsam.server.cases.rooms import CaseRooms, NotAllowed
from medsam.server.cases.schemas import KEY
from medsam.server.monailabel.sent import Sent
from medsam.server.monailabel.tickets import without_ticket
from medsam.store.readers import Reader
from medsam.store.records import StoredCase
from medsam.volume import Volume

_UID = re.compile(r"[0-9]+(\.[0-9]+){3,}")
_SUFFIXES = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha", "dicom": ".nrrd"}
# names that were found are remembered
_KNOWN = 10_000
_PAGE = 500


class NoImage(MedSAMError):
    """There is none of that id that this reader may see."""

    status = 404


@dataclass(frozen=True)
class Image:
    """scan: as it lies in memory. case: None for one that was sent. suffix: of masks of it, where nobody says."""

    scan: Volume
    files: ScanFiles
    case: StoredCase | None
    suffix: str

    @property
    def mirrored(self) -> bool:
        """Whether the client counts the slices from the other end."""
        return self.files.case.kind == "dicom" and bool(np.linalg.det(self.scan.geometry.affine[:3, :3]) < 0)

    @property
    def geometry(self) -> VolumeGeometry:
        """As the client has it."""
        grid = self.scan.geometry
        if not self.mirrored:
            return grid
        affine = grid.affine.copy()
        affine[:3, 3] += affine[:3, 2] * (grid.shape[0] - 1)
        affine[:3, 2] *= -1
        return replace(grid, affine=affine)

    def turned(self, array: np.ndarray) -> np.ndarray:
        """Voxels (K, J, I) from the one grid to the other."""
        return array[::-1] if self.mirrored else array

    @property
    def path(self) -> Path | None:
        """The one file that lends its header to masks of it."""
        return None if self.files.case.kind == "dicom" else self.files.path


class Images:
    """For the event loop. pacs: name of a server of the settings file; None: the only one there is."""

    def __init__(self, rooms: CaseRooms, sent: Sent, pacs: str | None) -> None:
        self._rooms, self._sent, self._pacs = rooms, sent, pacs
        self._known: OrderedDict[tuple[int, str], str] = OrderedDict()

    async def of_session(self, reader: Reader, token: str) -> Image:
        """An image that was sent. Raises NoSession, and what reading it raises."""
        image = await self._rooms.calls(self._sent.get, token, reader)
        files = self._sent.files(image)
        scan = await self._rooms.scans.get(f"sent/{token}", files)
        return Image(scan, files, None, suffix_of(files.case))

    async def of_file(self, reader: Reader, part: Path, name: str, path: Path) -> Image:
        """An image that came with the request, to folder `part`; one that comes again is not read again."""
        digest = await self._rooms.calls(_digest, path)
        found = replace(only((await self._rooms.sort(part, [name])).cases), version=digest)
        files = ScanFiles(part, found)
        scan = await self._rooms.scans.get(f"file/{reader.id}/{digest}", files)
        return Image(scan, files, None, suffix_of(found))

    async def of_id(self, reader: Reader, name: str) -> Image:
        """A case by its id, its name or its series. Raises NoImage, NotAllowed, and what reading it raises."""
        case = await self.case(reader, name)
        files = await self._rooms.place(case)
        return Image(await self._rooms.scans.get(case.key, files), files, case, suffix_of(files.case))

    async def case(self, reader: Reader, name: str, *, fetch: bool = True) -> StoredCase:
        """The case that is meant. fetch: whether a series that no case has may come from the PACS.

        Raises NoImage, NotAllowed, and what fetching raises."""
        name = without_ticket(name)
        if not name or name in ("undefined", "null"):
            raise NoImage(f"The request names no image (`image` is {name!r}).", parameter="image")
        key = self._known.get((reader.id, name), name)
        if re.fullmatch(KEY, key) and (known := await self._rooms.calls(self._rooms.store.case, reader, key)):
            return known
        # the last that was put in under a name is meant by it, also after a restart
        found = (await self.all(reader))[::-1]
        for case in sorted(found, key=lambda one: one.owner != reader.id):
            if name in (image_id(case, reader), case.details["scan"].get("series")):
                return self.remember(reader, name, case)
        if fetch and _UID.fullmatch(name) and len(name) <= 64:
            return self.remember(reader, name, await self._fetched(reader, name))
        raise NoImage("There is no image of that id that you may see.", parameter="image")

    def whole(self, reader: Reader, case: StoredCase) -> bool:
        """Whether a reader gets the file as it is, whose header may say whose it is, and not its voxels alone."""
        return case.owner == reader.id or self._rooms.may_know(reader)

    async def all(self, reader: Reader) -> list[StoredCase]:
        """Every case that a reader may see."""
        found = list[StoredCase]()
        while True:
            after = found[-1].key if found else None
            page = await self._rooms.cases(reader, "", after, _PAGE)
            found += page
            if len(page) < _PAGE:
                return found

    async def server(self) -> str:
        """The PACS. Raises InputError where it is not clear which."""
        if self._pacs is not None:
            return self._pacs
        names = await self._rooms.pacs.names()
        if len(names) != 1:
            raise InputError(
                f"The settings file names {len(names)} servers: say which one viewers see (`pacs`).", parameter="pacs"
            )
        return names[0]

    async def _fetched(self, reader: Reader, series: str) -> StoredCase:
        if not self._rooms.may_know(reader):
            raise NotAllowed("Whose scans these are is not for this role.")
        if self._pacs is None and not await self._rooms.pacs.names():
            raise NoImage("There is no image of that series here, and no PACS to fetch it from.", parameter="image")
        server = await self.server()
        matches = (await self._rooms.pacs.find(server, "series", {"series": series}, 2)).matches
        if not matches:
            raise NoImage("Neither this server nor its PACS has that series.", parameter="image")
        return await self._rooms.fetch(reader, server, matches[0].study, series)

    def remember(self, reader: Reader, name: str, case: StoredCase) -> StoredCase:
        """That a reader calls a case so from now on."""
        self._known[reader.id, name] = case.key
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return case


def only(cases: Sequence[FoundCase]) -> FoundCase:
    """The one scan of what a client sent. Raises InputError for several."""
    if len(cases) != 1:
        raise InputError(f"A request is about one image, and these files hold {len(cases)}.", parameter="file")
    return cases[0]


def image_id(case: StoredCase, reader: Reader) -> str:
    """What a reader's clients call a case: the name this reader put it in under, or its key. Names are a reader's own:
    two readers may have one for two scans."""
    return str((case.details.get("image") if case.owner == reader.id else None) or case.key)


def file_name(case: StoredCase, *, whole: bool) -> str:
    """Of its image as a file: no two cases have the same, since clients keep files by their names. whole: as
    `Images.whole`."""
    found = FoundCase.from_dict(case.details["scan"])
    # of DICOM the name is no file's
    name = "series" if found.kind == "dicom" else shown_name(found.name).partition(", volume ")[0]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    return f"{case.key}-{name}" if whole and found.kind != "dicom" else f"{case.key}-{name}.nrrd"


def suffix_of(found: FoundCase) -> str:
    """Of masks of a scan, where nobody says: as its file."""
    if found.kind == "nifti" and found.path.lower().endswith(".nii"):
        return ".nii"
    return _SUFFIXES.get(found.kind, ".nrrd")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
