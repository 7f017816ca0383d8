"""A small DICOMweb server of the tests, right by default, so that one answer at a time can be made wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydicom import Dataset, dcmread

from medsam.pacs.settings import Server

BOUNDARY = "parts"
MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
JSON = "application/dicom+json"


class Reply:
    """One answer. body: bytes, or pieces that are sent one by one. length: as announced; None: until the end."""

    def __init__(
        self,
        body: bytes | Iterable[bytes] = b"",
        status: int = 200,
        kind: str | None = JSON,
        length: int | None = None,
        **headers: str,
    ) -> None:
        self.body, self.status, self.kind, self.length, self.headers = body, status, kind, length, headers


def as_json(answers: object, status: int = 200) -> Reply:
    return Reply(json.dumps(answers).encode(), status)


def multipart(parts: Iterable[bytes], end: bytes = b"--\r\n") -> bytes:
    start = f"\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(start + part for part in parts) + f"\r\n--{BOUNDARY}".encode() + end


def encoded(dataset: Dataset) -> bytes:
    with BytesIO() as file:
        dataset.save_as(file, enforce_file_format=True)
        return file.getvalue()


class Stub:
    """A server that has one series. rules: (method, start of the path) -> what answers instead, may return None.

    asked: every request, as METHOD /path?query. auth: what came as Authorization.
    """

    def __init__(self, folder: Path) -> None:
        self.images = [dcmread(file) for file in sorted(folder.iterdir())] if folder.is_dir() else []
        self.study, self.series = str(self.images[0].StudyInstanceUID), str(self.images[0].SeriesInstanceUID)
        self.rules: dict[tuple[str, str], Callable[[str], Reply | None]] = {}
        self.asked: list[str] = []
        self.auth: list[str | None] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/rs"

    def server(self, **changed) -> Server:
        return Server("stub", **({"dicomweb": self.url, "timeout_s": 10.0} | changed))

    def reply(self, method: str, path: str) -> Reply:
        for (verb, start), rule in sorted(self.rules.items(), key=lambda item: -len(item[0][1])):
            if method == verb and path.startswith(start) and (reply := rule(path)) is not None:
                return reply
        return self.usual(method, path)

    def usual(self, method: str, path: str) -> Reply:
        steps = urlsplit(path).path.strip("/").split("/")[1:]
        if method == "POST":
            return as_json({"00081199": {"vr": "SQ", "Value": []}, "00081198": {"vr": "SQ"}})
        if len(steps) == 4 and steps[2] == "series":
            return Reply(multipart(map(encoded, self.images)), kind=MULTIPART)
        if len(steps) == 6:
            return Reply(
                multipart(encoded(one) for one in self.images if one.SOPInstanceUID == steps[5]), kind=MULTIPART
            )
        return as_json(self.listed(steps[-1]))

    def listed(self, level: str) -> list[dict]:
        keys = {
            "studies": ["StudyInstanceUID", "PatientID", "ModalitiesInStudy"],
            "series": ["StudyInstanceUID", "SeriesInstanceUID", "Modality"],
            "instances": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Rows", "Columns"],
        }[level]
        answers = []
        for image in self.images if level == "instances" else self.images[:1]:
            answer = Dataset()
            for key in keys:
                setattr(answer, key, image.Modality if key == "ModalitiesInStudy" else image[key].value)
            answers.append(answer.to_json_dict())
        return answers


@contextmanager
def serving(stub: Stub) -> Iterator[Stub]:
    """The stub on a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._drain()
            self._answer("POST")

        def _drain(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    self.rfile.read(size + 2)
                self.rfile.readline()
            else:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _answer(self, method: str) -> None:
            stub.asked.append(f"{method} {unquote(self.path)}")
            stub.auth.append(self.headers.get("Authorization"))
            reply = stub.reply(method, self.path)
            self.send_response(reply.status)
            if reply.kind is not None:
                self.send_header("Content-Type", reply.kind)
            for name, value in reply.headers.items():
                self.send_header(name.replace("_", "-"), value)
            whole = isinstance(reply.body, bytes)
            length = len(reply.body) if whole and reply.length is None else reply.length
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.send_header("Connection", "close")
            self.close_connection = True
            self.end_headers()
            try:
                for piece in [reply.body] if whole else reply.body:
                    self.wfile.write(piece)
            # whoever asked has had enough
            except OSError:
                pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
