"""DICOMweb: QIDO-RS to find, WADO-RS to fetch, STOW-RS to store, on dicomweb-client.

Addresses are made of UIDs that were checked; those that a server puts into its answers are never used (Orthanc's lack
the port). Images come as they are stored there, without being encoded anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from medsam.pacs.inbox import Inbox
from medsam.pacs.outbox import Failure, Outgoing, reason_text
from medsam.pacs.query import ANSWER_BYTES, RETURNED, Found, Query, collect, fits, loosened
from medsam.pacs.settings import Server
from medsam.pacs.web_session import Guard, open_session, with_retries
from medsam.progress import ProgressCallback
from medsam.silence import Rule, silence

# of one message with images to store
_BATCH_BYTES = 64 * 2**20
# more missing ones than this are asked for by the series, not one by one
_ONE_BY_ONE = 16

# of a list of answers
_PAGE = 1000
_UID = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID", "instance": "SOPInstanceUID"}

# they log addresses, with what was searched for in them
LOGGERS = ("dicomweb_client", "urllib3", "requests", "retrying", "pydicom")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the libraries log and warn from the user, and from logs."""
    with silence(Rule(module=r"(pydicom|dicomweb_client)(\.|$)"), loggers=LOGGERS):
        yield


class WebClient:
    """A DICOMweb server. Not for several threads."""

    def __init__(self, server: Server) -> None:
        self.server, self._guard = server, Guard()
        self._session = open_session(server, self._guard)
        self._client = DICOMwebClient(
            server.dicomweb, session=self._session, permissive_uid=True, timeout=server.timeout_s
        )
        # tried again here: it would send an empty body the second time
        self._client.set_http_retry_params(retry=False)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def echo(self) -> float:
        """Seconds that the smallest search took. Raises InputError when the server does not answer it."""
        started = time.perf_counter()
        self._ask("search", lambda: self._search(Query("study"), 1, 0))
        return time.perf_counter() - started

    def find(self, query: Query) -> Found:
        """What the server knows. Raises InputError."""
        found = collect(query, self._answers(query))
        loose = None if found.matches else loosened(query)
        if loose is None:
            return found
        return collect(loose, self._answers(loose), lambda match: fits(query, match))

    def _answers(self, query: Query) -> Iterator[Dataset]:
        """All answers, asked for in pages: servers refuse large limits, and have limits of their own.

        Ends with a page that brings nothing new: not every server knows offsets.
        """
        if query.limit is not None and query.limit < _PAGE:
            yield from self._ask("search", lambda: self._search(query, query.limit + 1, 0))
            return
        seen, offset = set[str](), 0
        while True:
            page = self._ask("search", lambda offset=offset: self._search(query, _PAGE, offset))
            yield from page
            told = {str(answer.get(_UID[query.level], "")) for answer in page}
            if told <= seen:
                return
            seen |= told
            offset += len(page)

    def _search(self, query: Query, limit: int, offset: int) -> list[Dataset]:
        self._guard.allow(ANSWER_BYTES)
        keys = dict(query.keys)
        study, series = keys.pop("StudyInstanceUID", None), keys.pop("SeriesInstanceUID", None)
        if query.level == "study":
            if study is not None:
                keys["StudyInstanceUID"] = study
            if "Modality" in keys:
                keys["ModalitiesInStudy"] = keys.pop("Modality")
            search, uids = self._client.search_for_studies, {}
        elif query.level == "series":
            if series is not None:
                keys["SeriesInstanceUID"] = series
            search, uids = self._client.search_for_series, {"study_instance_uid": study}
        else:
            search = self._client.search_for_instances
            uids = {"study_instance_uid": study, "series_instance_uid": series}
        with quiet():
            fields = list(RETURNED[query.level])
            answers = search(**uids, search_filters=keys, fields=fields, limit=limit, offset=offset or None)
            return [_told(answer, query) for answer in answers]

    def fetch(self, inbox: Inbox, progress: ProgressCallback) -> None:
        """Fetch what is missing of a series. Raises InputError; what came until then is kept."""
        total = len(inbox.listed)
        progress(inbox.done, total)
        self._ask("transfer", lambda: self._whole_series(inbox, progress))
        for uid in inbox.missing:
            self._ask("transfer", lambda uid=uid: self._one(inbox, uid))
            progress(inbox.done, total)

    def _whole_series(self, inbox: Inbox, progress: ProgressCallback) -> None:
        if len(inbox.missing) <= max(_ONE_BY_ONE, len(inbox.listed) // 4):
            return
        largest = max(match.most_bytes for match in inbox.listed.values())
        self._guard.allow(largest)
        inbox.new_answer()
        with quiet():
            for dataset in self._client.iter_series(inbox.study, inbox.series):
                _take(inbox, dataset)
                self._guard.allow(largest)
                progress(inbox.done, len(inbox.listed))

    def _one(self, inbox: Inbox, uid: str) -> None:
        self._guard.allow(inbox.listed[uid].most_bytes)
        with quiet():
            _take(inbox, self._client.retrieve_instance(inbox.study, inbox.series, uid))

    def send(self, files: Sequence[Outgoing], progress: ProgressCallback) -> list[Failure]:
        """Store files. Returns those that the server did not take. Raises InputError when it takes none at all."""
        failures, done = list[Failure](), 0
        progress(0, len(files))
        for batch in _batches(files):
            failures += self._ask("storing", lambda batch=batch: self._store(batch))
            done += len(batch)
            progress(done, len(files))
        return failures

    def _store(self, batch: Sequence[Outgoing]) -> list[Failure]:
        self._guard.allow(ANSWER_BYTES)
        answers: list[requests.Response] = []

        def keep(response: requests.Response, *_: Any, **__: Any) -> None:
            answers.append(response)

        self._session.hooks["response"] = [keep]
        try:
            with quiet():
                self._client.store_instances([file.dataset() for file in batch])
        except Exception:
            # 409: none was stored, and the answer says why. The others: the client could not read the answer
            if not answers or answers[-1].status_code not in (200, 202, 409):
                raise
        finally:
            self._session.hooks["response"] = []
        return _failures(batch, answers[-1])

    def _ask(self, doing: str, call: Any) -> Any:
        return with_retries(self.server, doing, call)


def _told(answer: Any, query: Query) -> Dataset:
    """What is needed of an answer; a value that is none does not cost the others. Raises TypeError for no object."""
    if not isinstance(answer, dict):
        raise TypeError
    found = Dataset()
    for keyword in RETURNED[query.level]:
        tag = f"{tag_for_keyword(keyword):08X}"
        if tag in answer:
            # pydicom raises what it likes
            with suppress(Exception):
                found.update(Dataset.from_json({tag: answer[tag]}))
    return found


def _take(inbox: Inbox, dataset: Dataset) -> None:
    def write(path: Path) -> None:
        dataset.save_as(path, enforce_file_format=True)

    inbox.take(dataset, write)


def _batches(files: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Files for one message each: together not too large, and of one study."""
    batch, size = list[Outgoing](), 0
    for file in files:
        if batch and (size + file.size > _BATCH_BYTES or file.study != batch[0].study):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _failures(batch: Sequence[Outgoing], response: requests.Response) -> list[Failure]:
    """The files that an answer to STOW-RS does not count as stored."""
    status, (stored, failed) = response.status_code, _outcome(response)
    # by PS3.18, 200 is all of them
    if status == 200 and not failed:
        return []
    silent = f"HTTP {status}, without a reason"
    if status == 202:
        silent = "HTTP 202: some were not stored, and the server does not say which"
    elif stored:
        silent = "not among those that the server says it stored"
    return [
        Failure(file.path, file.instance, failed.get(file.instance, silent))
        for file in batch
        if file.instance in failed or file.instance not in stored
    ]


def _outcome(response: requests.Response) -> tuple[set[str], dict[str, str]]:
    """The instances that were stored, and those that were not with the reason, as far as the answer tells.

    Its media type is not always stated as dicomweb-client expects.
    """
    try:
        answer = json.loads(response.content or b"{}")
        dataset = Dataset.from_json(answer[0] if isinstance(answer, list) else answer)
        # FailedSOPSequence is present and empty in Orthanc's answer when all went well
        stored, failed = (list(dataset.get(f"{which}SOPSequence") or []) for which in ("Referenced", "Failed"))
        return (
            {str(item.get("ReferencedSOPInstanceUID", "")) for item in stored},
            {str(item.get("ReferencedSOPInstanceUID", "")): reason_text(item.get("FailureReason")) for item in failed},
        )
    # text, XML, or a wrong kind of value: the status alone speaks
    except Exception:
        return set(), {}
