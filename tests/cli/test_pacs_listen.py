"""`medsam pacs listen` as an administrator runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from dicom_files import dataset, slices
from senders import association, send

from medsam.cli.main import main

RULE = """
[[listen.rules]]
name = "lung"
modality = "CT"
at_least = 10
command = ["segment-lung", "{folder}", "{out}"]
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Writes the settings file."""
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("MEDSAM_SETTINGS", str(path))
    return lambda text: path.write_text(text)


def test_check_says_what_the_settings_mean(settings, capsys):
    settings('[listen]\nfolder = "in"\nhost = "0.0.0.0"\nport = 104\n' + RULE)
    assert main(["pacs", "listen", "--check"]) == 0
    said = capsys.readouterr().out
    assert "listens at 0.0.0.0, port 104, as MEDSAM" in said
    assert "lets in: nobody" in said
    assert "rule 1, lung: modality CT, at_least 10; runs segment-lung; result stays in the folder" in said
    assert said.count("WARNING") == 2


def test_settings_that_are_wrong_end_it(settings, capsys):
    settings('[listen]\nfolder = "in"\nquota = 5\n')
    assert main(["pacs", "listen"]) == 2
    assert "there is no key `quota`" in capsys.readouterr().err


def test_a_model_that_is_not_there_ends_it(settings, tmp_path, capsys):
    (tmp_path / "boxes.json").write_text('{"prompts": []}')
    (tmp_path / "weights.pt").write_bytes(b"none")
    settings(
        '[listen]\nfolder = "in"\nport = 0\n[[listen.rules]]\nprompts = "boxes.json"\n'
        f'model = "{tmp_path / "weights.pt"}"\n'
    )
    assert main(["pacs", "listen"]) == 2
    assert "weights.pt" in capsys.readouterr().err


def test_status_of_nothing(settings, capsys):
    settings('[listen]\nfolder = "in"\n')
    assert main(["pacs", "listen", "--status"]) == 2
    assert "No receiver has used the folder" in capsys.readouterr().err


def test_it_runs_until_it_is_told_to_end(settings, tmp_path, capsys):
    settings('[listen]\nfolder = "in"\nport = 0\ncalling_aets = ["CT1"]\nkeep_free_gib = 0\nquiet_s = 0.05\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "medsam.cli.main", "pacs", "listen", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    try:
        started = json.loads(process.stdout.readline())
        assert started["event"] == "listening"
        with association(started["port"]) as peer:
            assert peer.send_c_echo().Status == 0
        # damaged values, which pydicom would quote on stderr
        odd = dataset(slices(1)[0])
        odd.add_new(0x00200052, "SH", "DOE^JANE")
        odd["FrameOfReferenceUID"].VR = "UI"
        assert send(started["port"], [odd]) == [0]
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [line["event"] for line in lines] == ["warning", "job_none"]
        assert main(["pacs", "listen", "--status", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["running"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["stopped"]
    assert err == ""
