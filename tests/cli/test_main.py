import subprocess
import sys

import pytest

from medsam import __version__
from medsam.cli.main import COMMANDS, main
from medsam.errors import InputError, PromptError


def test_help_names_every_command_and_loads_no_torch():
    code = """
import sys
from medsam.cli.main import main
try:
    main(["--help"])
finally:
    assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command in done.stdout


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["paint"], ["segment"], ["segment", "a.nii", "--axis", "z"]])
def test_a_wrong_command_line_is_exit_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_an_unexpected_error_is_a_defect_of_ours(monkeypatch, capsys):
    monkeypatch.setattr("medsam.cli.segment.run", lambda arguments: 1 / 0)
    assert main(["segment", "a.nii"]) == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError" in error
    assert "--debug" in error
    assert main(["segment", "a.nii", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_what_a_library_says_of_a_header_is_not_repeated(monkeypatch, capsys):
    def reads(arguments):
        from pydicom.valuerep import DSfloat

        DSfloat("DOE^JANE")

    monkeypatch.setattr("medsam.cli.segment.run", reads)
    assert main(["segment", "a.nii"]) == 1
    error = capsys.readouterr().err
    assert "ValueError" in error
    assert "DOE" not in error


def test_debug_shows_where_a_users_error_was_found_and_keeps_its_status(capsys):
    assert main(["segment", "none.nii", "--box", "1,1,2,2", "--debug"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "InputError: none.nii does not exist" in error


def test_a_window_may_start_with_a_minus(monkeypatch):
    seen = []
    monkeypatch.setattr("medsam.cli.segment.run", lambda arguments: seen.append(arguments.window))
    assert main(["segment", "a.nii", "--window", "-600,1500"]) == 0
    assert seen == ["-600,1500"]


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            OSError(28, "No space left on device", "out/mask.nii.gz"),
            "InputError: out/mask.nii.gz: No space left on device.",
        ),
        (
            OSError(116, "Stale file handle", "out/mask.nii.gz"),
            "InputError: out/mask.nii.gz: Stale file handle. What was finished is kept, nothing is half written. "
            "The disk or the share does not answer: see to it",
        ),
        (OSError(5, "Input/output error"), "InputError: Input/output error. What was finished"),
        (OSError(30, "Read-only file system", "out"), "InputError: out: Read-only file system."),
        (OSError(27, "File too large"), "InputError: File too large."),
    ],
)
def test_a_disk_that_takes_nothing_is_no_defect(error, shown, monkeypatch, capsys):
    def fails(arguments):
        raise error

    monkeypatch.setattr("medsam.cli.segment.run", fails)
    assert main(["segment", "a.nii"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(shown)
    assert "nothing is half written" in said


def test_a_missing_extra_is_named(monkeypatch, capsys):
    def needs(arguments):
        raise ModuleNotFoundError("No module named 'pandas'", name="pandas.core")

    monkeypatch.setattr("medsam.cli.segment.run", needs)
    assert main(["segment", "a.nii"]) == 2
    assert "pip install 'medsam-framework[evaluate]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (InputError("a holds one. Leave `frame` out.", parameter="frame"), "a holds one. Leave --frame out."),
        (PromptError("`max_mm` needs `propagate`.", parameter=("max_mm", "propagate")), "--max-mm needs --propagate."),
        # a key of a file, and what is no option of this command
        (InputError("a.json has no `frame`."), "a.json has no `frame`."),
        (InputError("Leave `fold` out.", parameter="fold"), "Leave `fold` out."),
        (InputError("Leave `frame` out.", parameter="frame").within("Case 7"), "Case 7: Leave --frame out."),
    ],
)
def test_what_an_error_names_is_shown_as_an_option(error, shown, monkeypatch, capsys):
    def fails(arguments):
        raise error

    monkeypatch.setattr("medsam.cli.segment.run", fails)
    assert main(["segment", "a.nii"]) == 2
    assert capsys.readouterr().err == f"{type(error).__name__}: {shown}\n"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--jitter-px", "-1"], "--jitter-px takes different whole numbers from 0, not (-1,)."),
        (["--oracle", "--prompt", "point"], "--oracle is the best of three masks for a box: add box to --prompt."),
    ],
)
def test_a_protocol_that_cannot_be_names_its_options(words, shown, tmp_path, capsys):
    manifest = tmp_path / "none.json"
    assert main(["evaluate", "--manifest", str(manifest), "--out", str(tmp_path / "out"), *words]) == 2
    assert shown in capsys.readouterr().err


def test_ctrl_c_is_130(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("medsam.cli.segment.run", interrupted)
    assert main(["segment", "a.nii"]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_training_names_its_own_extra(monkeypatch, capsys):
    def needs(arguments):
        raise ModuleNotFoundError("No module named 'lightning'", name="lightning")

    monkeypatch.setattr("medsam.cli.train.run", needs)
    assert main(["fit", "--config", "any.yaml"]) == 2
    assert "pip install 'medsam-framework[train]'" in capsys.readouterr().err
