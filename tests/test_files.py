import ast
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import medsam
from medsam.files import holds_files, move, write_text, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_appears_when_all_of_it_is_written(tmp_path):
    path = tmp_path / "a.nii.gz"
    with write_whole(path) as part:
        assert (part.name, part.parent.parent) == (path.name, tmp_path)
        part.write_bytes(b"half")
        assert not path.exists()
        with part.open("ab") as file:
            file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert names(tmp_path) == [path.name]


def test_what_is_raised_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")

    def fail() -> None:
        with write_whole(path) as part:
            part.write_text("new")
            part.with_name("b.json").write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (path.read_text(), names(tmp_path)) == ("old", ["a.json"])


def test_what_is_written_beside_a_file_is_there_before_it(tmp_path, monkeypatch):
    moved = []
    monkeypatch.setattr("medsam.files.move", lambda part, target: moved.append(target.name) or move(part, target))
    with write_whole(tmp_path / "b.onnx") as part:
        for name in ("c.data", "b.onnx", "a.data"):
            part.with_name(name).write_text(name)
    assert moved == ["a.data", "c.data", "b.onnx"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: name for name in moved}


def test_texts_keep_their_line_ends_and_are_utf_8(tmp_path):
    write_text(tmp_path / "a.txt", "Körper\nzwei\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "Körper\nzwei\r\n".encode()


@pytest.mark.skipif(sys.platform == "win32", reason="modes are of POSIX")
@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_whatever_wrote_it_a_file_has_the_mode_of_a_new_one(tmp_path, umask, expected):
    code = (
        "import os, sys; from pathlib import Path; from medsam.files import write_whole\n"
        f"os.umask({umask})\n"
        "with write_whole(Path(sys.argv[1])) as part: part.touch(0o600); part.with_name('b').touch(0o400)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=True)
    assert [mode(tmp_path / name) for name in "ab"] == [expected, expected]


@pytest.mark.skipif(sys.platform == "win32", reason="modes are of POSIX")
def test_files_of_other_threads_keep_their_mode_meanwhile(tmp_path):
    """Asking for the umask by setting it makes what another thread writes in that instant anyone's to change."""
    ended = threading.Event()
    found = set()

    def others() -> None:
        n = 0
        while not ended.is_set() or n < 3:
            path = tmp_path / f"other {n % 50}"
            path.unlink(missing_ok=True)
            path.touch()
            found.add(mode(path))
            n += 1

    thread = threading.Thread(target=others)
    thread.start()
    try:
        for _ in range(200):
            write_text(tmp_path / "a", "a")
    finally:
        ended.set()
        thread.join()
    assert found == {mode(tmp_path / "a")}


def test_many_threads_and_processes_write_one_file(tmp_path):
    path, letters = tmp_path / "a", "abcdefgh"

    def write(letter: str) -> None:
        for _ in range(20):
            write_text(path, letter * 5000)
            seen = path.read_text()
            assert seen == seen[0] * 5000

    code = "import sys; from pathlib import Path; from medsam.files import write_text\nfor _ in range(100): "
    code += "write_text(Path(sys.argv[1]), 'z' * 5000)"
    other = subprocess.Popen([sys.executable, "-c", code, str(path)])
    with ThreadPoolExecutor(len(letters)) as pool:
        list(pool.map(write, letters))
    assert other.wait(60) == 0
    assert names(tmp_path) == ["a"]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError), write_whole(tmp_path / "none" / "a"):
        pass


def test_the_longest_name_a_file_may_have_can_be_written(tmp_path):
    name = "n" * 251 + ".txt"
    write_text(tmp_path / name, "text")
    assert names(tmp_path) == [name]


def test_folders_and_what_was_cut_off_are_no_files(tmp_path):
    assert not holds_files(tmp_path)
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / ".medsam-abc").mkdir()
    (tmp_path / "cases" / ".medsam-abc" / "a.json").write_text("{")
    assert not holds_files(tmp_path), "as a share leaves it that went in the middle of a file"
    write_text(tmp_path / "cases" / "a.json", "{}")
    assert holds_files(tmp_path)


def test_nothing_else_moves_files_or_sets_the_level_of_a_logger():
    """What ruff's banned-api does not see: methods."""
    package = Path(medsam.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            # of a text, `replace` takes two; of a date and a dataclass, names
            moves = node.func.attr in ("replace", "rename") and len(node.args) == 1 and not node.keywords
            if (moves and path.name != "files.py") or node.func.attr == "setLevel":
                found.append(f"{path.relative_to(package)}:{node.lineno} {node.func.attr}")
    assert not found
