"""Commands of rules: real processes."""

import sys
import time
from pathlib import Path

import pytest

from medsam.errors import Cancelled, InputError
from medsam.pacs.listen.command import run_command


def run(tmp_path, code: str, *arguments: str, timeout_s: float = 20, stopped=lambda: False, has_room=lambda: True):
    words = [sys.executable, "-c", code, *arguments]
    run_command(words, tmp_path, tmp_path / "log", timeout_s=timeout_s, stopped=stopped, has_room=has_room)
    return (tmp_path / "log").read_text()


def shell(tmp_path, text: str, timeout_s: float = 20) -> None:
    words = ["/bin/sh", "-c", text]
    nothing = {"stopped": lambda: False, "has_room": lambda: True}
    run_command(words, tmp_path, tmp_path / "log", timeout_s=timeout_s, **nothing)


def test_arguments_are_no_shell_words(tmp_path):
    assert run(tmp_path, "import sys; print(sys.argv[1:])", "$HOME; rm -r *", "`x`") == "['$HOME; rm -r *', '`x`']\n"


def test_our_passwords_are_not_its(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSAM_MAIN_PASSWORD", "hunter2")
    monkeypatch.setenv("MEDSAM_MAIN_TOKEN", "hunter2")
    monkeypatch.setenv("MEDSAM_DATA", "there")
    printed = run(tmp_path, "import os; print(dict(os.environ))")
    assert "hunter2" not in printed
    assert "MEDSAM_DATA" in printed


def test_it_reads_nothing(tmp_path):
    assert run(tmp_path, "import sys; print(repr(sys.stdin.read()))") == "''\n"


@pytest.mark.parametrize(
    ("code", "how"), [("raise SystemExit(3)", "exit status 3"), ("import os; os.abort()", "signal 6")]
)
def test_its_failure_is_ours_and_its_words_are_not(tmp_path, code, how):
    with pytest.raises(InputError, match=how) as caught:
        run(tmp_path, "print('DOE^JANE', flush=True); " + code)
    assert "DOE" not in str(caught.value)
    assert "DOE" in (tmp_path / "log").read_text()


def test_a_program_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be started: No such file"):
        run_command(
            ["/no/such/program"], tmp_path, tmp_path / "log", timeout_s=1, stopped=lambda: False, has_room=lambda: True
        )


# a child in the background, and whether its parent waits for it
CHILD = "sleep 60 & echo $! > child.tmp; mv child.tmp child; "


def test_what_takes_too_long_ends_with_its_children(tmp_path):
    began = time.monotonic()
    with pytest.raises(InputError, match=r"longer than 0\.5 s"):
        shell(tmp_path, CHILD + "wait", timeout_s=0.5)
    assert time.monotonic() - began < 10
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 5
    while _lives(child):
        assert time.monotonic() < until
        time.sleep(0.02)


def _lives(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_receiver_that_ends_takes_it_along(tmp_path):
    with pytest.raises(Cancelled):
        run(tmp_path, "import time; time.sleep(60)", stopped=lambda: True)


def test_what_writes_without_end_is_ended(tmp_path):
    with pytest.raises(InputError, match="quota"):
        run(tmp_path, "import time; time.sleep(60)", has_room=lambda: False)


def test_a_child_that_it_leaves_behind_is_ended(tmp_path):
    shell(tmp_path, CHILD)
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 5
    while _lives(child):
        assert time.monotonic() < until
        time.sleep(0.02)
