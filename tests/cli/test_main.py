import subprocess
import sys

import pytest

from medsam import __version__
from medsam.cli.main import COMMANDS, main


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


def test_a_missing_extra_is_named(monkeypatch, capsys):
    def needs(arguments):
        raise ModuleNotFoundError("No module named 'pandas'", name="pandas.core")

    monkeypatch.setattr("medsam.cli.segment.run", needs)
    assert main(["segment", "a.nii"]) == 2
    assert "pip install 'medsam-framework[evaluate]'" in capsys.readouterr().err


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
