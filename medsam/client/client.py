"""A medsam server from a program: its cases, and sessions on them. Neither torch nor pydicom is imported.

client = medsam.Client("http://127.0.0.1:8000")
case = client.upload("ct.nii.gz")
with client.open(case) as session:
    result = session.box(41, (120, 88, 212, 176))
    session.export("nifti", "mask.nii.gz")
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

from medsam.client.annotate import Annotating
from medsam.client.connection import Connection
from medsam.client.raw import file_of, read_raw
from medsam.client.session import RemoteSession
from medsam.errors import InputError
from medsam.geometry import Axis, VolumeGeometry
from medsam.masks import CompactMask
from medsam.prompts.limits import Limits
from medsam.prompts.prompt import DEFAULT_LABEL
from medsam.prompts.standing import each_mask, names_of
from medsam.volume import LabelVolume, Volume

Zoom = Literal["auto", "on", "off"]
_PIECE = 2**20
# cases of one answer
_PAGE = 200
# Seconds between two looks at a case that is being read.
_LOOKS = (0.02, 0.05, 0.1, 0.25)


@dataclass(frozen=True)
class RemoteCase:
    """A scan of the server. name: as it shows it. state: "listed", "loading", "ready" (in memory), "broken" or "gone".

    shape: (K, J, I), None while that is not known. more: everything the server says of it. said: the modality of a scan
    that was uploaded from memory, whose file has no word for it: sessions are opened with it.
    """

    id: str
    name: str
    modality: str | None = None
    kind: str | None = None
    shape: tuple[int, int, int] | None = None
    state: str = "listed"
    more: dict[str, Any] = field(default_factory=dict, compare=False)
    said: str | None = None

    def __repr__(self) -> str:
        # no `more`: it may hold whose scan it is
        return f"RemoteCase({self.id!r}, modality={self.modality!r}, shape={self.shape}, state={self.state!r})"

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> RemoteCase:
        shape = told.get("shape")
        return cls(
            id=str(told["id"]),
            name=str(told.get("name", "")),
            modality=told.get("modality"),
            kind=told.get("kind"),
            shape=None if shape is None else (int(shape[0]), int(shape[1]), int(shape[2])),
            state=str(told.get("state", "listed")),
            more=dict(told),
        )


class Client:
    """A server, and who asks it. For any number of threads; its sessions are for one each.

    url: http://HOST:PORT or https://HOST. token: of a program, or user and password: of a person; neither where the
    server runs for one reader on this machine. verify: whether a certificate is checked, or the file of the authority
    that signed it. timeout_s: for the next bytes of an answer.
    Raises InputError where no server answers, it is none of ours or an older one, or it knows nobody of that name.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        user: str | None = None,
        password: str | None = None,
        verify: bool | str | Path = True,
        timeout_s: float = 60.0,
    ) -> None:
        self._connection = Connection(url, token, user, password, verify, timeout_s)
        try:
            # name and role of who asks
            self.me: dict[str, Any] = self._connection.greet()
        except BaseException:
            self._connection.close()
            raise

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return self._connection.url

    def close(self) -> None:
        """Close the connections; sessions stay open at the server."""
        self._connection.close()

    # -- cases ----------------------------------------------------------------------------------------------------

    def cases(
        self,
        query: str = "",
        *,
        kind: Literal["data", "upload", "pacs"] | None = None,
        mine: bool | None = None,
        order: Literal["oldest", "newest"] = "oldest",
    ) -> list[RemoteCase]:
        """All cases that who asks may see, and whose names hold `query`. kind, mine: only those; order: of coming."""
        given = {"q": query or None, "kind": kind, "mine": mine, "order": order if order != "oldest" else None}
        return list(self._pages({name: value for name, value in given.items() if value is not None}))

    def case(self, case: RemoteCase | str) -> RemoteCase:
        """One of them as it is now. Raises InputError where there is none."""
        return self._connection.told(RemoteCase.from_dict, "GET", f"/cases/{_id(case)}")

    def upload(self, scan: str | Path | Volume, name: str | None = None) -> RemoteCase:
        """Make a file, or a scan in memory, a case of one's own. name: as the server shows it; default: the file's.

        A scan in memory keeps voxels, grid and modality. Several DICOM files go as one zip. Raises InputError for a
        file that cannot be read, one of several series (all are there then; the message names them), and what the
        server refuses.
        """
        if isinstance(scan, Volume):
            suffix, content = file_of(scan)
            case = self._uploaded(content, f"{(name or 'scan').removesuffix(suffix)}{suffix}", None)
            return replace(case, said=None if case.modality else scan.modality)
        path = Path(scan)
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                pieces = iter(lambda: file.read(_PIECE), b"")
                return self._uploaded(pieces, name or path.name, size)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.", parameter="scan") from error

    def delete(self, case: RemoteCase | str) -> None:
        """Delete an upload of one's own; what was drawn on it stays in the server's store."""
        self._connection.request("DELETE", f"/cases/{_id(case)}")

    def share(self, case: RemoteCase | str, user: str, may: bool = True) -> None:
        """Let somebody see a case of one's own, or no longer. user: as they log in."""
        self._connection.request("POST", f"/cases/{_id(case)}/share", json={"user": user, "may": may})

    def load(self, case: RemoteCase | str, timeout_s: float = 600.0) -> RemoteCase:
        """Have the server read a case into memory; returns it when that is done. Raises what its reader raises."""
        path = f"/cases/{_id(case)}"
        end, looks = time.monotonic() + timeout_s, iter(_LOOKS)
        while True:
            answer = self._connection.request("POST", f"{path}/open", wait_s=timeout_s)
            if answer.status_code != 202:
                return self.case(case)
            if time.monotonic() > end:
                raise InputError(f"The case was not read within {timeout_s:g} s.")
            time.sleep(next(looks, _LOOKS[-1]))

    def geometry(self, case: RemoteCase | str) -> VolumeGeometry:
        """The grid of a case, which is read for it."""
        return self._connection.told(VolumeGeometry.from_dict, "GET", f"/cases/{_id(case)}/geometry")

    def volume(self, case: RemoteCase | str) -> Volume:
        """The scan itself: all voxels as the server has them."""
        answer = self._connection.request("GET", f"/cases/{_id(case)}/volume", wait_s=600.0)
        array, meta = read_raw(answer)
        return Volume(array, VolumeGeometry.from_dict(meta["geometry"]), meta.get("modality"))

    def slice(self, case: RemoteCase | str, index: int, axis: Axis = "k") -> np.ndarray:
        """One slice: (rows, columns), or with a last axis of 3 in colour."""
        return read_raw(self._connection.request("GET", f"/cases/{_id(case)}/slices/{axis}/{index}"))[0]

    def thumbnail(self, case: RemoteCase | str) -> bytes:
        """A PNG of the slice in the middle, its longer side 160 pixels; the scan is not read into memory for it."""
        return self._connection.request("GET", f"/cases/{_id(case)}/thumbnail", wait_s=120.0).content

    def vocabulary(self, text: str = "", limit: int = 20) -> list[dict[str, Any]]:
        """Structures that are called so or begin so, the likeliest first: {"name", "synonyms", "colour"}."""
        return self._connection.told(list, "GET", "/vocabulary", params={"q": text, "limit": limit})

    # -- sessions -------------------------------------------------------------------------------------------------

    def open(
        self,
        case: RemoteCase | str,
        *,
        axis: Axis | None = None,
        window: str | None = None,
        modality: str | None = None,
        zoom: Zoom | None = None,
        label: str = DEFAULT_LABEL,
        limits: Limits | None = None,
        start: LabelVolume | Mapping[str, np.ndarray] | RemoteSession | None = None,
    ) -> RemoteSession:
        """A session on a case; the one that is open already, where there is one.

        axis, zoom, limits: as of `Predictor.session`. window: a preset, "LEVEL,WIDTH" or "auto". label: of the object
        that steps are about when they name none. start: labels to correct, on the scan's grid, or those of another
        session of one's own on the same grid, open or closed.
        """
        body: dict[str, Any] = {"case": _id(case)}
        modality = modality or (case.said if isinstance(case, RemoteCase) else None)
        given = {"axis": axis, "window": window, "modality": modality, "zoom": zoom}
        body |= {name: value for name, value in given.items() if value is not None}
        if limits is not None:
            body["limits"] = limits.to_dict()
        if start is not None:
            body["start"] = self._start(case, start)
        return self._session("POST", "/sessions", label, json=body, wait_s=600.0)

    def resume(self, session: str, label: str = DEFAULT_LABEL) -> RemoteSession:
        """Go on with an open session, by its id; also after the server was started anew."""
        return self._session("GET", f"/sessions/{session}", label)

    def sessions(self) -> list[dict[str, Any]]:
        """One's own sessions, as the server lists them."""
        return self._connection.told(list, "GET", "/sessions")

    def annotate(self) -> Annotating:
        """The project of the data engine that is served here: its tasks, review and numbers."""
        return Annotating(self._connection)

    # -- PACS -----------------------------------------------------------------------------------------------------

    def servers(self) -> list[str]:
        """The names of those that the server knows."""
        return self._connection.told(lambda told: [str(one["name"]) for one in told], "GET", "/pacs")

    def find(
        self, server: str, level: Literal["study", "series"] = "study", limit: int = 100, **keys: str
    ) -> list[dict[str, Any]]:
        """Search a PACS. keys: patient_id, modality, date, study, ..., as of `medsam pacs find`; at most `limit`."""
        body = {"level": level, "keys": keys, "limit": limit}
        path = f"/pacs/{server}/find"
        return self._connection.told(lambda told: list(told["found"]), "POST", path, json=body, wait_s=60.0)

    def fetch(self, server: str, study: str, series: str) -> RemoteCase:
        """Have the server fetch a series of its PACS."""
        body = {"study": study, "series": series}
        path = f"/pacs/{server}/fetch"
        return self._connection.told(RemoteCase.from_dict, "POST", path, json=body, wait_s=600.0)

    # -- how ------------------------------------------------------------------------------------------------------

    def _session(self, method: str, path: str, label: str, **options: Any) -> RemoteSession:
        return self._connection.told(lambda told: RemoteSession(self._connection, told, label), method, path, **options)

    def _start(
        self, case: RemoteCase | str, labels: LabelVolume | Mapping[str, np.ndarray] | RemoteSession
    ) -> dict[str, Any]:
        """Labels as a session begins from them: {"names": {number: name}, "masks": {name: a `CompactMask`}}."""
        if isinstance(labels, RemoteSession):
            return {"session": labels.id}
        names = names_of(labels)
        if isinstance(labels, LabelVolume):
            each = each_mask(labels, names, self.geometry(self.load(case)))
            masks = {name: CompactMask.of(mask) for name, mask in each}
        else:
            masks = {name: CompactMask.of(np.asarray(mask, bool)) for name, mask in labels.items()}
        return {
            "names": {str(number): name for number, name in names.items()},
            "masks": {name: mask.to_dict() for name, mask in masks.items()},
        }

    def _pages(self, given: dict[str, Any]) -> Iterator[RemoteCase]:
        after: str | None = None
        while True:
            params = {"limit": _PAGE} | given | ({"after": after} if after else {})
            page = self._connection.told(_cases, "GET", "/cases", params=params)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].id

    def _uploaded(self, content: Any, name: str, size: int | None) -> RemoteCase:
        # a header has no letters beyond Latin-1
        headers = {"X-Filename": quote(name), "Content-Type": "application/octet-stream"}
        if size is not None:
            headers["Content-Length"] = str(size)
        cases = self._connection.told(
            lambda told: _cases(told["cases"]), "POST", "/cases", content=content, headers=headers, wait_s=600.0
        )
        if len(cases) != 1:
            listed = "; ".join(f"{one.id} ({one.name})" for one in cases[:12])
            raise InputError(f"These are {len(cases)} series, each a case now: {listed}. Open one by its id.")
        return cases[0]


def _cases(told: Any) -> list[RemoteCase]:
    return [RemoteCase.from_dict(one) for one in told]


def _id(case: RemoteCase | str) -> str:
    return case.id if isinstance(case, RemoteCase) else case
