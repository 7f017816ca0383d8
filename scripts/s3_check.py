"""Many scans from a bucket to a bucket, on a moto server of this machine: the bytes of a local run, after a kill too.

    python scripts/s3_check.py DATA/msd_hippocampus_mr [--scans 6]

It needs s3fs and moto[server], which ask for an older python-dateutil than `scripts/constraints.txt` names, so they go
into an environment of their own (docs/many.md). Exit status 1: something differs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "speed"))
from many import make_set


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def many(*words: str, wait: bool = True) -> subprocess.Popen[bytes]:
    running = subprocess.Popen([sys.executable, "-m", "medsam.cli.main", "segment-many", *words, "--threads", "1"])
    if wait and running.wait():
        raise SystemExit(f"segment-many {words} ended with {running.returncode}")
    return running


def contents(files: Any, place: str) -> dict[str, bytes]:
    """Results by name: masks and what is told of them, without what tells the run and where inputs lay."""
    names = [name for name in files.find(place) if "/masks/" in name]
    return {name.rpartition("/")[2]: files.cat_file(name) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--scans", type=int, default=6)
    arguments = parser.parse_args()
    port = free_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        with tempfile.TemporaryDirectory() as temporary:
            compare(arguments, Path(temporary), port)
    finally:
        server.terminate()
        server.wait()


def compare(arguments: argparse.Namespace, root: Path, port: int) -> None:
    import fsspec

    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    manifest = make_set(arguments.data, root / "set", arguments.scans, slices=1)
    prompts = ["--zoom", "off", "--prompts", str(manifest.parent / "{id}.json")]
    many(str(manifest), "--out", str(root / "out"), *prompts)

    s3 = fsspec.filesystem("s3")
    s3.mkdir("scans")
    content = json.loads(manifest.read_text())
    for case in content["cases"]:
        for key in ("image", "label"):
            s3.put_file(case[key], f"scans/set/{case['id']}-{key}.nii.gz")
            case[key] = f"{case['id']}-{key}.nii.gz"
    s3.pipe_file("scans/set/manifest.json", json.dumps(content).encode())

    place = ["s3://scans/set/manifest.json", "--out", "s3://scans/out", *prompts]
    killed = many(*place, wait=False)
    while not s3.exists("scans/out/cases") or len(s3.ls("scans/out/cases", refresh=True)) < 2:
        time.sleep(0.2)
        s3.invalidate_cache()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    s3.invalidate_cache()
    before = {one: s3.info(one)["LastModified"] for one in s3.find("scans/out/cases")}
    many(*place)
    s3.invalidate_cache()
    again = [one for one, when in before.items() if s3.info(one)["LastModified"] != when]

    local, remote = contents(fsspec.filesystem("file"), str(root / "out")), contents(s3, "scans/out")
    print(f"{len(local)} files here, {len(remote)} in the bucket, {'equal' if local == remote else 'NOT equal'}")
    print(f"{len(before)} of {arguments.scans} scans were done before the kill, {len(again)} of them done again")
    table = s3.cat_file("scans/out/jobs.csv").decode()
    print(f"jobs.csv: {table.count(',done,')} done")
    if local != remote or not local or again or table.count(",done,") != arguments.scans:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
