"""DIMSE: C-ECHO, C-FIND, C-GET and C-STORE, on pynetdicom.

One association a request. pynetdicom raises little and logs much: what it did is asked of the association afterwards,
and why a connection failed is found out by making it once more. C-GET comes back over our own connection, so nothing
here has to be reachable; it needs the role of a storage SCP for every SOP class, or the server sends nothing (0xA702).
An association carries at most 128 presentation contexts.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.presentation import StoragePresentationContexts
from pynetdicom.sop_class import (
    LabelMapSegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from medsam.errors import InputError
from medsam.pacs.association import Connection, Watch, close, leave_answers, wake
from medsam.pacs.inbox import Inbox
from medsam.pacs.outbox import CannotAsk, Failure, Outgoing, reason_text
from medsam.pacs.query import RETURNED, TOO_MUCH, Found, Query, collect
from medsam.pacs.settings import Server
from medsam.pacs.tls import client_context, tls_message
from medsam.progress import ProgressCallback
from medsam.silence import Rule, silence

FIND, GET = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet
_MOST_CONTEXTS = 128
# of one C-GET at the level of images; the list travels in one element
_AT_ONCE = 64
_UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
# what a series may be stored in, and io reads: each in a context of its own, so that it comes as it is stored
_SYNTAXES = (
    *_UNCOMPRESSED,
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.2",
)
# the answer to a C-STORE after which no image is taken: out of resources
_NO_MORE = 0xA700
_UNSUPPORTED = "SOP class or transfer syntax not supported"
_LEVELS = {"study": "STUDY", "series": "SERIES", "instance": "IMAGE"}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the libraries log and warn from the user, and from logs: searches and answers among it.

    Lines of pynetdicom's own threads, which hold no data sets, still reach a logger that somebody set up.
    """
    with silence(Rule(module=r"(pydicom|pynetdicom)(\.|$)"), loggers=("pynetdicom", "pydicom")):
        yield


class NotOffered(InputError):
    """A server that takes the association, and nothing that it was for."""


class DimseClient:
    """A server by DIMSE. Not for several threads."""

    def __init__(self, server: Server) -> None:
        if server.dimse is None:
            raise InputError(f"Server {server.name} has no `host`, `port` and `called_aet` in the settings file.")
        self.server, self._at = server, server.dimse
        self._context = client_context(server) if server.dimse.tls else None

    def close(self) -> None:
        """Nothing stays open between requests."""

    def echo(self) -> float:
        """Seconds that C-ECHO took, with its association. Raises InputError when it fails."""
        started = time.perf_counter()
        with self._associated([build_context(Verification)], "C-ECHO") as (association, watch):
            status = association.send_c_echo()
            self._check(status, "C-ECHO", watch)
        return time.perf_counter() - started

    def find(self, query: Query) -> Found:
        """What the server knows. Raises CannotAsk when it takes no C-FIND, else InputError."""
        with (
            self._associated([build_context(FIND)], "C-FIND") as (association, watch),
            closing(self._answers(association, watch, query)) as answers,
        ):
            return collect(query, answers)

    def _answers(self, association: Any, watch: Watch, query: Query) -> Generator[Dataset]:
        ended = False
        try:
            for status, answer in association.send_c_find(_identifier(query), FIND):
                if not _pending(status):
                    ended = True
                    self._check(status, "C-FIND", watch)
                elif answer is not None:
                    yield answer
        finally:
            if not ended:
                # enough: whoever is asked for more than fits would go on for long
                association.abort()

    def fetch(self, inbox: Inbox, progress: ProgressCallback) -> None:
        """Fetch what is missing of a series. Raises InputError; what came until then is kept."""
        progress(inbox.done, len(inbox.listed))
        classes = sorted({match.sop_class for match in inbox.listed.values()} - {""})
        if any(not match.sop_class for match in inbox.listed.values()):
            classes = []
        missing = inbox.missing
        if len(missing) == len(inbox.listed):
            self._get(inbox, None, classes, progress)
            missing = inbox.missing
        for start in range(0, len(missing), _AT_ONCE):
            wanted = [uid for uid in missing[start : start + _AT_ONCE] if uid in inbox.missing]
            self._get(inbox, wanted, classes, progress)

    def _get(
        self, inbox: Inbox, wanted: Sequence[str] | None, classes: Sequence[str], progress: ProgressCallback
    ) -> None:
        """One C-GET: of the whole series, or of the images wanted."""
        if wanted is not None and not wanted:
            return
        errors: list[BaseException] = []
        largest = max(match.most_bytes for match in inbox.listed.values())
        watch = Watch(self.server.timeout_s, largest)
        inbox.new_answer()

        def store(event: Any) -> int:
            if errors:
                return _NO_MORE
            # what is raised here would be logged and answered; the caller shall see it
            try:
                # it may have come before anybody looked
                if watch.left < 0:
                    raise InputError(f"Server {self.server.name} {TOO_MUCH}; C-GET was ended.")
                _take(inbox, event)
                watch.left = largest
                progress(inbox.done, len(inbox.listed))
            except BaseException as error:
                errors.append(error)
                wake(event.assoc)
                return _NO_MORE
            return 0x0000

        contexts, roles = get_contexts(classes)
        try:
            with self._associated(contexts, "C-GET", roles, [(evt.EVT_C_STORE, store)], watch) as (association, _):
                self._accepted(association, GET, "C-GET")
                for status, _answer in association.send_c_get(_wanted(inbox, wanted), GET):
                    if errors:
                        break
                    if not _pending(status):
                        self._check(status, "C-GET", watch)
        finally:
            if errors:
                raise errors[0]

    def send(self, files: Sequence[Outgoing], progress: ProgressCallback) -> list[Failure]:
        """Store files. Returns those that the server did not take. Raises InputError when there is no association."""
        failures, done = list[Failure](), 0
        progress(0, len(files))
        for group in _groups(files):
            pairs = sorted({pair for file in group for pair in _contexts_of(file)})
            contexts = [build_context(sop_class, syntax) for sop_class, syntax in pairs]
            try:
                with self._associated(contexts, "C-STORE") as (association, watch):
                    for file in group:
                        failure = self._store(association, watch, file)
                        failures += [failure] if failure else []
                        done += 1
                        progress(done, len(files))
            except NotOffered:
                failures += [Failure(file.path, file.instance, _UNSUPPORTED) for file in group]
                done += len(group)
        return failures

    def _store(self, association: Any, watch: Watch, file: Outgoing) -> Failure | None:
        accepted = {(one.abstract_syntax, one.transfer_syntax[0]) for one in association.accepted_contexts}
        if not accepted.intersection(_contexts_of(file)):
            return Failure(file.path, file.instance, _UNSUPPORTED)
        watch.moved = time.monotonic()
        try:
            status = association.send_c_store(file.dataset())
        except InputError:
            raise
        except Exception as error:
            if not association.is_established:
                raise self._no_answer("C-STORE", watch) from None
            return Failure(file.path, file.instance, f"it cannot be encoded ({type(error).__name__})")
        if "Status" not in status:
            raise self._no_answer("C-STORE", watch)
        # warnings: stored, with elements coerced or dropped
        stored = status.Status == 0 or 0xB000 <= status.Status <= 0xBFFF
        return None if stored else Failure(file.path, file.instance, reason_text(status.Status))

    # -- associations --------------------------------------------------------------------------------------

    @contextmanager
    def _associated(
        self,
        contexts: Sequence[Any],
        doing: str,
        roles: Sequence[Any] = (),
        handlers: Sequence[Any] = (),
        watch: Watch | None = None,
    ) -> Iterator[tuple[Any, Watch]]:
        """An established association, released in the end. Raises InputError that says why there is none."""
        watch = watch or Watch(self.server.timeout_s)
        at, connection = self._at, Connection(self._context)
        entity = AE(ae_title=at.aet)
        entity.connection_timeout = entity.acse_timeout = entity.network_timeout = self.server.timeout_s
        # for a whole message; whether anything moves is what `watch` looks at
        entity.dimse_timeout = 3600.0
        with quiet():
            try:
                association = entity.associate(
                    at.host,
                    at.port,
                    contexts=list(contexts),
                    ae_title=at.called_aet,
                    ext_neg=list(roles),
                    evt_handlers=[*watch.handlers(), *handlers],
                    tls_args=(connection, at.host),
                )
            # of looking up the name of the host; what comes later is not raised
            except OSError as error:
                raise self._connection_error() or InputError(
                    f"Server {self.server.name} cannot be reached: {error.strerror or type(error).__name__}."
                ) from error
            if not association.is_established:
                connection.close()
                raise self._not_established(association, doing)
            leave_answers(association)
            watch.moved = time.monotonic()
            watch.start(association)
            try:
                yield association, watch
            except BaseException:
                watch.stop()
                if association.is_established:
                    association.abort()
                raise
            else:
                watch.stop()
                if association.is_established:
                    association.release()
            finally:
                close(association)

    def _accepted(self, association: Any, abstract_syntax: str, doing: str) -> None:
        if not any(context.abstract_syntax == abstract_syntax for context in association.accepted_contexts):
            raise InputError(f"Server {self.server.name} does not offer {doing}.")

    def _check(self, status: Dataset, doing: str, watch: Watch) -> None:
        """Raise InputError unless a final status is one of success, or of success with warnings."""
        if "Status" not in status:
            raise self._no_answer(doing, watch)
        code = int(status.Status)
        if code in (0x0000, 0xB000):
            return
        hint = ""
        if code == 0xA702 and doing == "C-GET":
            hint = " It could send none of the images: it may not offer their SOP classes to us."
        raise InputError(f"Server {self.server.name} ended {doing} with status {_status_text(code)}.{hint}")

    def _no_answer(self, doing: str, watch: Watch) -> InputError:
        if watch.why:
            return InputError(f"Server {self.server.name} {watch.why}; {doing} was ended.")
        return InputError(
            f"Server {self.server.name} gave no answer to {doing} and dropped the association: it may not allow this "
            f"to our AE title {self._at.aet}. Its administrator can; the title is `aet` in the settings file."
        )

    def _not_established(self, association: Any, doing: str) -> InputError:
        at, name = self._at, self.server.name
        where = f"{at.host}:{at.port}"
        if association.is_rejected:
            rejection = association.acceptor.primitive
            reason = getattr(rejection, "reason_str", "") or "no reason given"
            return InputError(
                f"Server {name} ({where}) rejected the association: {reason}. It was called {at.called_aet} "
                f"(`called_aet`), we are {at.aet} (`aet`): both are agreed on with its administrator."
            )
        # it took the association, and nothing that it is for
        if association.rejected_contexts:
            kind = CannotAsk if doing == "C-FIND" else NotOffered
            return kind(f"Server {name} does not offer {doing} for what is asked.")
        if (reason := self._connection_error()) is not None:
            return reason
        return InputError(
            f"Server {name} ({where}) took the connection and ended it without an association for {doing}: is it a "
            "DICOM port, does it take what was asked for, and does it want TLS (`tls = true`)?"
        )

    def _connection_error(self) -> InputError | None:
        """Why there is no connection: it is made once more, since pynetdicom does not tell. None: there is one."""
        at, name = self._at, self.server.name
        where = f"{at.host}:{at.port}"
        try:
            with socket.create_connection((at.host, at.port), self.server.timeout_s) as plain:
                if self._context is not None:
                    with self._context.wrap_socket(plain, server_hostname=at.host) as secure:
                        # TLS 1.3 refuses a client certificate only after the handshake
                        secure.settimeout(1.0)
                        secure.recv(1)
        except ssl.SSLError as error:
            return InputError(tls_message(self.server, where, error))
        except socket.gaierror:
            return InputError(f"Server {name}: there is no host {at.host}. Correct `host`.")
        except ConnectionRefusedError:
            return InputError(f"Server {name} cannot be reached: nothing listens at {where}. Is it running?")
        except TimeoutError:
            if self._context is not None:
                return None
            return InputError(f"Server {name} ({where}) did not answer within {self.server.timeout_s:g} s.")
        except ConnectionResetError:
            if self._context is not None:
                return InputError(
                    f"Server {name} ({where}) broke off the handshake of TLS: is the port one without encryption?"
                )
            return InputError(f"Server {name} ({where}) broke off the connection.")
        except OSError as error:
            return InputError(f"Server {name} cannot be reached at {where}: {error.strerror or type(error).__name__}.")
        return None


# -- contexts and identifiers -------------------------------------------------------------------------------


def get_contexts(classes: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """Presentation contexts and roles of a C-GET for images of these SOP classes; none: of all that are usual.

    With few classes every transfer syntax has a context of its own, and images come as they are stored; with many, a
    context has them all and the server chooses.
    """
    if not classes or len(classes) > _MOST_CONTEXTS - 1:
        usual = [str(context.abstract_syntax) for context in StoragePresentationContexts]
        classes = [LabelMapSegmentationStorage, *usual][: _MOST_CONTEXTS - 1]
    if len(classes) * len(_SYNTAXES) < _MOST_CONTEXTS:
        storage = [build_context(sop_class, syntax) for sop_class in classes for syntax in _SYNTAXES]
    else:
        storage = [build_context(sop_class, list(_SYNTAXES)) for sop_class in classes]
    return [build_context(GET), *storage], [build_role(sop_class, scp_role=True) for sop_class in classes]


def _contexts_of(file: Outgoing) -> list[tuple[str, str]]:
    """The SOP class of a file with its transfer syntax, and with those it can be written in without loss."""
    others = _UNCOMPRESSED if file.syntax in _UNCOMPRESSED else ()
    return [(file.sop_class, syntax) for syntax in dict.fromkeys((file.syntax, *others))]


def _groups(files: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Files for one association each, which has at most so many contexts."""
    group, contexts = list[Outgoing](), set[tuple[str, str]]()
    for file in files:
        more = contexts.union(_contexts_of(file))
        if len(more) > _MOST_CONTEXTS:
            yield group
            group, more = [], set(_contexts_of(file))
        group.append(file)
        contexts = more
    if group:
        yield group


def _identifier(query: Query) -> Dataset:
    """The data set of a C-FIND: what is asked for, and, empty, what is to be told."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = _LEVELS[query.level]
    for keyword in RETURNED[query.level]:
        setattr(identifier, keyword, None)
    for keyword, value in query.keys.items():
        asked = "ModalitiesInStudy" if keyword == "Modality" and query.level == "study" else keyword
        setattr(identifier, asked, value)
        if not value.isascii():
            identifier.SpecificCharacterSet = "ISO_IR 192"
    return identifier


def _wanted(inbox: Inbox, instances: Sequence[str] | None) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES" if instances is None else "IMAGE"
    identifier.StudyInstanceUID, identifier.SeriesInstanceUID = inbox.study, inbox.series
    if instances is not None:
        identifier.SOPInstanceUID = list(instances)
    return identifier


def _take(inbox: Inbox, event: Any) -> None:
    """Take the image of a C-STORE request as it came: its bytes are written, not encoded anew."""
    encoded = event.encoded_dataset()

    def write(path: Path) -> None:
        path.write_bytes(encoded)

    inbox.take(dcmread(BytesIO(encoded)), write)


def _pending(status: Dataset) -> bool:
    return "Status" in status and status.Status in (0xFF00, 0xFF01)


def _status_text(code: int) -> str:
    known = {
        0xA700: "out of resources",
        0xA701: "out of resources: it cannot count the matches",
        0xA702: "out of resources: it cannot send the images",
        0xA900: "the question does not fit its model",
        0x0122: "SOP class not supported",
        0x0124: "not authorised",
        0xFE00: "cancelled",
    }
    group = "it cannot process this" if 0xC000 <= code <= 0xCFFF else ""
    meaning = known.get(code, group)
    return f"0x{code:04X}" + (f" ({meaning})" if meaning else "")
