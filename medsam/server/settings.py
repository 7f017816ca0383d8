"""What a server is told at its start. Sizes are in bytes, times in seconds."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from medsam.errors import InputError
from medsam.store.readers import Role

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class TrustedProxy:
    """A proxy that is believed where a request comes from, and has asked who its users are.

    addresses: its own, or networks ("10.0.0.0/8"). header: the one that carries a user's name, which the proxy has to
    set or take away in every request; it counts from these addresses alone, and is refused from others. None: users log
    in here. Raises InputError for what is no address, or no name of a header.
    """

    addresses: tuple[str, ...]
    header: str | None = "X-Forwarded-User"

    def __post_init__(self) -> None:
        for address in self.addresses:
            try:
                ipaddress.ip_network(address, strict=False)
            except ValueError:
                raise InputError(f"`proxy` {address[:60]} is no address and no network.", parameter="proxy") from None
        if not self.addresses or not re.fullmatch(r"[A-Za-z0-9-]{1,64}", self.header or "none"):
            raise InputError("A `proxy` needs an address and the name of a header.", parameter="proxy")


@dataclass(frozen=True)
class Limits:
    """How much a client may ask for."""

    upload_bytes: int = 4 * GIB
    # of one upload, unpacked, and how many files; how far the compressed may grow is the readers' own rule
    unpacked_bytes: int = 16 * GIB
    upload_files: int = 20_000
    # of any other request; of JSON, which is parsed on the event loop; of that with masks which a session begins from
    body_bytes: int = 64 * MIB
    json_bytes: int = 2 * MIB
    start_bytes: int = 16 * MIB
    # of one reader, who scrolls through slices
    requests_per_minute: int = 6000
    # failed ones, from an address
    logins_per_minute: int = 30
    sessions_per_reader: int = 8
    # of events, and of long polls, at a time
    streams_per_reader: int = 32
    prompts_per_session: int = 20_000


@dataclass(frozen=True)
class MonaiLabel:
    """That MONAI Label's protocol is served, and how.

    labels: names that viewers offer which pick one from a list (OHIF); Slicer takes any. session_s: how long an image
    that a client sent stays after its last use. ohif: folder of a built OHIF. pacs: that OHIF sees, a server of the
    settings file; None: the only one that there is.
    """

    labels: tuple[str, ...] = ("object",)
    session_s: float = 12 * 3600.0
    ohif: Path | None = None
    pacs: str | None = None

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels) or not all(map(_is_label, self.labels)):
            raise InputError("The `labels` of viewers are different names of 1 to 64 letters.", parameter="labels")


def _is_label(name: str) -> bool:
    return 0 < len(name.strip()) <= 64 and name.isprintable() and name != "background"


@dataclass(frozen=True)
class NNInteractive:
    """How clients of nnInteractive's protocol are served. sessions: at a time, of all of them.

    idle_seconds: without anything that a person does; liveness_seconds: without a sign of the client. A session ends
    after either. image_bytes: of all images and their masks in memory. answer_seconds: after which a client is answered
    with what was found so far; it gives up after 60.
    """

    sessions: int = 4
    idle_seconds: float = 600.0
    liveness_seconds: float = 60.0
    image_bytes: int = 4 * GIB
    answer_seconds: float = 42.0

    def __post_init__(self) -> None:
        if not 0 < self.sessions <= 1000:
            raise InputError("`nninteractive_sessions` is a number from 1 to 1000.", parameter="nninteractive_sessions")


@dataclass(frozen=True)
class ServerSettings:
    """store: folder of the database, uploads and fetched series; made where it is missing, for its owner alone.
    database: URL of one of PostgreSQL with the store's tables, see `Store.open`; None: what the folder knows.

    data: folders whose scans are cases. hosts: names under which the server may be called, beside those of loopback and
    `host`. scan_bytes, embedding_bytes: of scans and embeddings kept in memory. loaders: processes that read scans.
    lock_after: a reader who did nothing for so long has to give the password again; ends_after: and to log in anew.
    uploads_kept: how long uploads nobody has opened stay; None: until they are deleted. poll_seconds: between looks at
    `data`. patients_from: who, of those that may see a case, is also told whose it is. trust: what tells the expected
    Dice, a file of `medsam calibrate`; None: what is shipped. monailabel: None: its protocol is not served.
    nninteractive: how its clients are served; None: they are not. project: folder of the data engine's project that is
    worked on, in whose store all of this is; its active model answers, and not `model`. heads: files or names of heads
    beside those that are shipped, which answer names and find organs; what they were not measured on is never offered.
    """

    store: Path
    data: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    hosts: tuple[str, ...] = ()
    model: str = "litemedsam"
    device: str = "auto"
    proxy: TrustedProxy | None = None
    https: bool = False
    limits: Limits = field(default_factory=Limits)
    scan_bytes: int = 4 * GIB
    embedding_bytes: int = 1 * GIB
    loaders: int = 2
    lock_after: float = 15 * 60.0
    ends_after: float = 12 * 3600.0
    uploads_kept: float | None = 30 * 86400.0
    poll_seconds: float = 5.0
    patients_from: Role = Role.READER
    trust: Path | None = None
    monailabel: MonaiLabel | None = None
    nninteractive: NNInteractive | None = None
    project: Path | None = None
    heads: tuple[str, ...] = ()
    database: str | None = field(default=None, repr=False)
