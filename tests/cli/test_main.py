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
    with pytest.raises(ZeroDivisionError):
        main(["segment", "a.nii", "--debug"])


def test_ctrl_c_is_130(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("medsam.cli.segment.run", interrupted)
    assert main(["segment", "a.nii"]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"
