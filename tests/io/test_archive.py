"""Zips of DICOM files: unpacked whole and gone afterwards, or refused with a reason."""

from __future__ import annotations

import random
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from medsam.errors import InputError
from medsam.io import archive
from medsam.io.archive import unpacked


def pack(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return path


def message(path: Path) -> str:
    with pytest.raises(InputError) as caught, unpacked(path):
        pass
    return str(caught.value)


def test_unpacks_into_a_folder_of_that_name_and_cleans_up(tmp_path):
    path = pack(tmp_path / "scan.zip", {"a/1": b"one", "a/b/2": b"two", "top": b""})
    with unpacked(path) as folder:
        assert folder.name == "scan.zip"
        assert (folder / "a" / "1").read_bytes() == b"one"
        assert (folder / "a" / "b" / "2").read_bytes() == b"two"
        assert (folder / "top").is_file()
    assert not folder.parent.exists()


def test_cleans_up_after_an_error_in_the_block(tmp_path):
    path = pack(tmp_path / "scan.zip", {"a": b"one"})
    folders = []

    def work() -> None:
        with unpacked(path) as folder:
            folders.append(folder)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert not folders[0].parent.exists()


def test_hidden_files_resource_forks_and_zips_within_are_left_out(tmp_path):
    names = ("a/1", ".DS_Store", "a/.x", ".git/config", "__MACOSX/a/._1", "inner.zip", "a/INNER.ZIP")
    path = pack(tmp_path / "scan.zip", dict.fromkeys(names, b"x"))
    with unpacked(path) as folder:
        assert [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()] == ["a/1"]


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/etc/evil", "C:/evil", "C:evil", "..\\evil", "a\\..\\..\\evil", "\\evil"]
)
def test_names_outside_the_folder_are_refused(tmp_path, name):
    path = pack(tmp_path / "scan.zip", {"a": b"x", name: b"x"})
    assert "scan.zip names a file outside its own folder" in message(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scan.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, kind):
    entry = zipfile.ZipInfo("a")
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as out:
        out.writestr(entry, "/etc/passwd")
    assert "holds a link or a special file (a)" in message(tmp_path / "scan.zip")


def test_encrypted(tmp_path):
    path = pack(tmp_path / "scan.zip", {"a": b"x"}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[6] |= 1  # general purpose flags of the local header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and of the central directory
    path.write_bytes(content)
    assert "scan.zip is encrypted. Unpack it with its password" in message(path)


def test_growing_beyond_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "most_unpacked", lambda packed: 2**20)
    path = pack(tmp_path / "scan.zip", {"a": b"\0" * 4 * 2**20})
    assert "grows from 0.0 MiB to more than 1 MiB when unpacked" in message(path)
    monkeypatch.setattr(archive, "most_unpacked", lambda packed: 2**10)
    path = pack(tmp_path / "scan.zip", {"a": bytes(range(256)) * 8}, zipfile.ZIP_STORED)
    assert "when unpacked, which no scan does" in message(path)


def test_a_black_volume_is_no_bomb(tmp_path):
    path = pack(tmp_path / "scan.zip", {f"{k}": b"\0" * 2**20 for k in range(8)})
    assert 200 * path.stat().st_size < 8 * 2**20
    with unpacked(path) as folder:
        assert len(list(folder.iterdir())) == 8


def test_a_lie_about_the_size_is_found_out(tmp_path):
    path = pack(tmp_path / "scan.zip", {"a": b"\0" * 2**20})
    content = bytearray(path.read_bytes())
    for marker, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<L", content, content.index(marker) + place, 100)
    path.write_bytes(content)
    assert "scan.zip cannot be unpacked" in message(path)


def test_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    path = pack(tmp_path / "scan.zip", {f"{k}": b"" for k in range(4)})
    assert "holds 4 files; at most 3" in message(path)


def test_no_room_on_the_disk(tmp_path, monkeypatch):
    path = pack(tmp_path / "scan.zip", {"a": bytes(3 * 2**20)})
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: usage)
    assert "needs 3 MiB to unpack, but the disk of temporary files has 1 MiB free" in message(path)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_two_files_of_one_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as out:
        out.writestr("a", b"1")
        out.writestr("a", b"2")
    assert "holds two files named a" in message(tmp_path / "scan.zip")


def test_a_file_where_a_folder_should_be(tmp_path):
    assert "cannot be unpacked" in message(pack(tmp_path / "scan.zip", {"a": b"1", "a/b": b"2"}))


def test_a_list_of_files_with_a_changed_bit_hides_none(tmp_path):
    """No checksum covers it: slices at the end of a series would be missing without a word."""
    path = pack(tmp_path / "scan.zip", {f"IM{n}": bytes([n]) * 20 for n in range(3)})
    content = path.read_bytes()
    for at in range(content.index(b"PK\1\2"), len(content)):
        for bit in range(0, 8, 2):
            damaged = bytearray(content)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                with unpacked(path) as folder:
                    assert sorted(file.read_bytes()[0] for file in folder.iterdir()) == [0, 1, 2], (at, bit)
            except InputError:
                pass


@pytest.mark.parametrize("cut", [0, 10, 300])
def test_no_zip_or_a_truncated_one(tmp_path, cut):
    path = pack(tmp_path / "scan.zip", {"a": bytes(range(256)) * 4}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes()[:cut])
    assert "scan.zip cannot be unpacked" in message(path)


def test_damaged_content(tmp_path):
    path = pack(tmp_path / "scan.zip", {"a": bytes(range(256)) * 4}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)
    assert "damaged" in message(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compression(tmp_path, method):
    rng = random.Random(0)
    whole = pack(tmp_path / "scan.zip", {"a": rng.randbytes(3000) * 2}, method).read_bytes()
    path = tmp_path / "scan.zip"
    for start in (*range(31, 45), *rng.sample(range(45, len(whole) - 80), 30)):
        content = bytearray(whole)
        content[start : start + 8] = bytes(byte ^ 0xFF for byte in content[start : start + 8])
        path.write_bytes(content)
        assert "damaged or truncated. Copy or download it again." in message(path), start


def test_missing(tmp_path):
    assert "nothing.zip cannot be unpacked: No such file or directory" in message(tmp_path / "nothing.zip")
