"""`medsam fit | validate | test` as their user runs them: tiny scans, tiny models, real runs."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from tiny_training import drawn, shapes, tiny_model, write_case, write_manifest

from medsam.cli.main import main
from medsam.cli.train import FitCLI
from medsam.models.build import load_model
from medsam.models.checkpoint import load_checkpoint
from medsam.models.weights_file import CARD_KEY
from medsam.training.module import SamFineTuning
from medsam.training.overlays import SampleOverlays

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs" / "train").glob("*.yaml"))
# those of heads leave no model: tests/training/test_detector.py
MODELS = [path for path in CONFIGS if "head" not in yaml.safe_load(path.read_text())]
EMA = ["--trainer.callbacks+", "lightning.pytorch.callbacks.EMAWeightAveraging", "--trainer.callbacks.decay", "0.9"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    return shapes(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def settings(manifest, model):
    """Words of a run: epochs of six steps of two slices."""

    def words(out: Path, *more: str, steps: int = 4) -> list[str]:
        return [
            *("--model.model", str(model), "--data.manifests", f"[{manifest}]", "--out", str(out)),
            *("--data.batch_size", "2", "--data.epoch_slices", "12", "--data.masks_per_image", "2"),
            *("--model.optimiser.lr", "1e-3", "--model.optimiser.warmup_steps", "2"),
            *("--trainer.accelerator", "cpu", "--trainer.max_steps", str(steps), *more),
        ]  # fmt: skip

    return words


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory) -> tuple[Path, str, str]:
    """The folder of a run of eight steps, its stdout and its stderr."""
    import contextlib
    import io

    out = tmp_path_factory.mktemp("finished") / "out"
    told, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(errors):
        assert main(["fit", *settings(out, "--save_every", "5", "--data.val_jitter_px", "[0,2]", steps=8)]) == 0
    return out, told.getvalue(), errors.getvalue()


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """They take longer than the steps between two; `finished` has them whole."""
    monkeypatch.setattr(FitCLI, "pictures", lambda self: [])


@pytest.fixture
def small_pictures(monkeypatch):
    """One panel a picture."""
    monkeypatch.setattr(FitCLI, "pictures", lambda self: [SampleOverlays(self.out / "overlays", 1)])


def medsam(*words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "medsam.cli.main", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )


def when(path: Path, run: subprocess.Popen) -> None:
    """Wait until a file of a running process is there."""
    while not path.exists():
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.005)


def logged(folder: Path) -> list[str]:
    """Options for a table of every step."""
    return [
        *("--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.log_every_n_steps", "1"),
        *("--trainer.logger.save_dir", str(folder), "--trainer.logger.name", "", "--trainer.logger.version", ""),
    ]  # fmt: skip


def series(folder: Path, column: str = "train/loss") -> dict[int, str]:
    """Step -> value as it is written, to the last digit."""
    with (folder / "metrics.csv").open() as file:
        return {int(row["step"]): row[column] for row in csv.DictReader(file) if row.get(column)}


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).state_dict()


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


# -- the configurations -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("config", MODELS, ids=lambda path: path.stem)
def test_every_configuration_runs_and_leaves_a_model_for_the_other_commands(config, manifest, model, tmp_path, capsys):
    """One step, on a tiny model of the family that it is for."""
    family = "tiny_vit" if "litemedsam" in config.stem else "vit"
    start = tiny_model(tmp_path / "start.safetensors", family) if family == "tiny_vit" else model
    out = tmp_path / "out"
    asked = yaml.safe_load(config.read_text())
    more = ["--data.cache_dir", str(tmp_path / "cache"), "--data.num_workers", "0", "--data.limit", "1"]
    if asked["model"]["embeddings"]:
        more += ["--model.embeddings", str(tmp_path / "embeddings")]
    more += ["--trainer.max_steps", "1", "--trainer.accumulate_grad_batches", "1", "--trainer.accelerator", "cpu"]
    if asked["model"].get("beside"):  # for models of boxes alone
        more += ["--model.beside", "false"]
    words = ["fit", "--config", str(config), "--model.model", str(start), "--data.manifests", f"[{manifest}]"]
    assert main([*words, "--out", str(out), *more]) == 0
    captured = capsys.readouterr()
    assert "Before training: val/dice 0." in captured.err
    assert f"wrote {out / 'model.safetensors'}" in captured.out
    assert load_model(str(out / "model.safetensors")).spec.family == family

    assert main(["models", "info", str(out / "model.safetensors"), "--json"]) == 0
    training = json.loads(capsys.readouterr().out)["training"]
    assert training["started_from"] == f"tiny-{family.replace('_', '')} ({start.name})"
    assert training["licence"] == "not stated"
    assert training["structures"] == ["bar", "disc"]
    assert training["steps"] == 1
    assert training["cases"] == 1
    assert training["lora_rank"] == 8 if asked["model"]["lora"] else "lora_rank" not in training
    assert ("image_encoder" in training["trained"]) == asked["model"]["train"]["image_encoder"]
    assert len(training["data_digest"]) == 64
    assert training["metrics"].keys() == training["metrics_before"].keys() >= {"val/dice", "val/dice_jitter5/bar"}
    assert str(tmp_path) not in json.dumps(training), "a card names no folder"

    scan = manifest.parent / "c2.nii.gz"
    prompt = ["--box", "1:4,14,20,17", "--out", str(tmp_path / "mask.nii.gz")]
    assert main(["segment", str(scan), "--model", str(out / "model.safetensors"), *prompt]) == 0
    assert nib.load(tmp_path / "mask.nii.gz").shape == nib.load(scan).shape


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_begins_with_its_command_and_says_what_memory_it_takes(config):
    first, *rest = config.read_text().splitlines()
    assert first == f'# medsam fit --config configs/train/{config.name} --data.manifests "[MANIFEST.json]"'
    header = " ".join(line for line in rest[: next(n for n, line in enumerate(rest) if not line.startswith("#"))])
    assert "GB" in header
    assert "@" not in header


# -- a whole run ------------------------------------------------------------------------------------------------------


def test_the_folder_holds_what_the_help_says(finished):
    out, told, errors = finished
    assert {path.name for path in out.iterdir() if not path.name.startswith("events")} == {
        *("config.yaml", "hparams.yaml", "checkpoints", "model.safetensors", "overlays"),
    }  # fmt: skip
    assert {path.name for path in (out / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert {path.name for path in (out / "overlays").iterdir()} == {"000000.png", "000006.png", "000008.png"}
    assert list(out.glob("events.out.tfevents.*"))
    assert yaml.safe_load((out / "config.yaml").read_text())["data"]["batch_size"] == 2
    assert "val/dice_jitter2/disc" in told
    assert "results in" in errors


def test_the_untouched_model_is_scored_before_the_first_step(finished, settings, tmp_path, capsys):
    out, _, errors = finished
    assert main(["validate", *settings(out, "--data.val_jitter_px", "[0,2]")]) == 0
    untouched = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("val/"))
    said = errors[errors.index("Before training:") :].splitlines()[0]
    assert f"val/dice {float(untouched['val/dice']):.3f}," in said
    for name in ("best", "last"):
        content = torch.load(out / "checkpoints" / f"{name}.ckpt", weights_only=True)
        before = content[CARD_KEY]["training"]["metrics_before"]
        assert {name: f"{value:.4f}" for name, value in before.items()} == untouched


def test_the_best_model_is_kept_and_scored_again_by_validate_and_test(finished, settings, capsys):
    out, told, _ = finished
    card = torch.load(out / "checkpoints" / "best.ckpt", weights_only=True)[CARD_KEY]["training"]
    assert card["steps"] in (6, 8)
    best = {name: f"{value:.4f}" for name, value in card["metrics"].items()}
    assert {line.split()[0]: line.split()[2] for line in told.splitlines() if line.startswith("val/")} == best
    again = settings(out, "--data.val_jitter_px", "[0,2]", "--ckpt_path", "best")
    assert main(["validate", *again]) == 0
    table = capsys.readouterr().out
    assert dict(line.split() for line in table.splitlines() if line.startswith("val/")) == best
    assert main(["test", *again]) == 0
    assert "test/dice_jitter2/bar" in capsys.readouterr().out
    # the file for the other commands has the same weights, whole
    assert_same_weights(out / "checkpoints" / "best.ckpt", out / "model.safetensors")
    # and is as good, asked as its user asks it
    words = settings(out, "--data.val_jitter_px", "[0,2]")
    assert main(["validate", *words, "--model.model", str(out / "model.safetensors")]) == 0
    assert capsys.readouterr().out == table


def test_the_kept_configuration_is_enough_to_score_the_run(finished, capsys):
    out, _, _ = finished
    assert main(["test", "--config", str(out / "config.yaml"), "--ckpt_path", "best"]) == 0
    assert "test/dice " in capsys.readouterr().out


def test_a_folder_with_a_run_is_not_overwritten(finished, settings, capsys):
    out, _, _ = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert main(["fit", *settings(out)]) == 2
    assert "--ckpt_path last, or name another --out" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


# -- stopped and gone on with -----------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_killed_run_goes_on_to_the_same_losses_and_weights(settings, tmp_path):
    """Killed within an epoch: every later loss and the final weights are those of a run that was left alone.

    However its end is told: the run that was left alone counts epochs.
    """
    steps, epochs = ["--trainer.max_steps", "24"], ["--trainer.max_steps", "-1", "--trainer.max_epochs", "2"]
    more = ["--save_every", "5", "--data.epoch_slices", "24", "--model.interaction.first", "either"]
    more += ["--model.interaction.rounds", "2"]

    def words(folder: str, log: str, *last: str) -> list[str]:
        return ["fit", *settings(tmp_path / folder, *more, *logged(tmp_path / log), *last)]

    killed = ["--trainer.callbacks+", "tiny_training.Killed", "--trainer.callbacks.at", "8"]
    run = medsam(*words("killed", "killed-log", *steps, *killed))
    assert main(words("whole", "whole-log", *epochs)) == 0
    whole = series(tmp_path / "whole-log")
    assert len(whole) == 24
    _, errors = run.communicate()
    assert run.returncode == -signal.SIGKILL, errors
    assert torch.load(tmp_path / "killed" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    left = shutil.copytree(tmp_path / "killed", tmp_path / "left")

    for log, end in (("steps-log", steps), ("epochs-log", epochs)):
        shutil.rmtree(tmp_path / "killed")
        shutil.copytree(left, tmp_path / "killed")
        assert main(words("killed", log, *end, "--ckpt_path", "last")) == 0
        assert series(tmp_path / log) == {step: value for step, value in whole.items() if step >= 5}
        assert series(tmp_path / log, "val/dice") == {
            step: value for step, value in series(tmp_path / "whole-log", "val/dice").items() if step >= 5
        }
        for name in ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "model.safetensors"):
            assert_same_weights(tmp_path / "killed" / name, tmp_path / "whole" / name)


def test_a_step_that_is_validated_is_kept_once_that_is_over(settings, tmp_path):
    """A run that goes on from the last step of an epoch knows how good it was, and ends with the same best weights."""
    left = ["--trainer.callbacks+", "tiny_training.Copied", "--trainer.callbacks.at", "7"]
    left += [
        "--trainer.callbacks.source",
        str(tmp_path / "whole"),
        "--trainer.callbacks.target",
        str(tmp_path / "left"),
    ]
    more = ["--save_every", "3", "--trainer.logger", "false"]
    assert main(["fit", *settings(tmp_path / "whole", *more, *left, steps=8)]) == 0
    kept = torch.load(tmp_path / "left" / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 6
    (best,) = (state for name, state in kept["callbacks"].items() if "val/dice" in name)
    assert best["best_model_score"] is not None
    # in a folder of another name the scores of before do not count
    (tmp_path / "whole").rename(tmp_path / "unbroken")
    (tmp_path / "left").rename(tmp_path / "whole")
    assert main(["fit", *settings(tmp_path / "whole", *more, "--ckpt_path", "last", steps=8)]) == 0
    for name in ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "model.safetensors"):
        assert_same_weights(tmp_path / "whole" / name, tmp_path / "unbroken" / name)


def test_a_run_that_ran_out_of_time_goes_on_with_the_next_epoch(settings, tmp_path, monkeypatch):
    """What trainer.max_time and early stopping do within an epoch."""
    step = SamFineTuning.training_step
    seen: list[list[int]] = []

    def watched(self, batch, batch_idx):
        seen[-1] += batch.seeds.tolist()
        self.trainer.should_stop = len(seen) == 1 and len(seen[-1]) == 8
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SamFineTuning, "training_step", watched)
    end = ["--trainer.max_steps", "-1", "--trainer.max_epochs", "2", "--trainer.min_epochs", "0"]
    for out, more in (("stopped", []), ("stopped", ["--ckpt_path", "last"]), ("whole", [])):
        seen.append([])
        assert main(["fit", *settings(tmp_path / out, *end, *more)]) == 0
    stopped, resumed, whole = seen
    assert stopped == whole[:8]
    assert resumed == whole[12:]


def test_averaged_weights_go_on_too(settings, tmp_path, monkeypatch, capsys):
    def words(folder: str, log: str, *last: str) -> list[str]:
        return ["fit", *settings(tmp_path / folder, "--save_every", "4", *EMA, *logged(tmp_path / log), *last, steps=9)]

    assert main(words("whole", "whole-log")) == 0
    step = SamFineTuning.training_step

    def stopped(self, batch, batch_idx):
        if self.global_step == 5:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SamFineTuning, "training_step", stopped)
        assert main(words("stopped", "stopped-log")) == 130
    assert "Go on with --ckpt_path last" in capsys.readouterr().err
    assert main(words("stopped", "resumed-log", "--ckpt_path", "last")) == 0
    whole = series(tmp_path / "whole-log")
    assert series(tmp_path / "resumed-log") == {number: value for number, value in whole.items() if number >= 4}
    for name in ("checkpoints/last.ckpt", "model.safetensors"):
        assert_same_weights(tmp_path / "stopped" / name, tmp_path / "whole" / name)
    # it is the averaged weights that were kept, not those the last step made
    content = torch.load(tmp_path / "whole" / "checkpoints" / "last.ckpt", weights_only=True)
    stepped = content["current_model_state"]
    assert any(not torch.equal(tensor, stepped[name]) for name, tensor in content["state_dict"].items())


def test_a_finished_run_can_be_made_longer(settings, tmp_path, capsys):
    constant = ["--model.optimiser.schedule", "constant"]
    assert main(["fit", *settings(tmp_path / "two", *constant, steps=4)]) == 0
    longer = settings(tmp_path / "two", *constant, *logged(tmp_path / "two-log"), "--ckpt_path", "last", steps=10)
    assert main(["fit", *longer]) == 0
    assert main(["fit", *settings(tmp_path / "one", *constant, *logged(tmp_path / "one-log"), steps=10)]) == 0
    one, two = series(tmp_path / "one-log"), series(tmp_path / "two-log")
    assert two == {step: value for step, value in one.items() if step >= 4}
    assert_same_weights(*(tmp_path / name / "checkpoints" / "last.ckpt" for name in ("one", "two")))


@pytest.mark.usefixtures("small_pictures")
def test_a_run_that_goes_on_in_another_folder_leaves_the_first_alone(finished, settings, tmp_path, capsys):
    old, new = finished[0], tmp_path / "new"
    before = {path: path.stat().st_mtime_ns for path in old.rglob("*")}
    words = settings(new, "--ckpt_path", str(old / "checkpoints" / "last.ckpt"), steps=10)
    assert main(["fit", *words]) == 0
    assert {path: path.stat().st_mtime_ns for path in old.rglob("*")} == before
    assert {path.name for path in (new / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert main(["models", "info", str(new / "model.safetensors"), "--json"]) == 0
    training = json.loads(capsys.readouterr().out.partition("\nwrote")[2].partition("\n")[2])["training"]
    assert training["steps"] == 10
    assert yaml.safe_load((new / "config.yaml").read_text())["ckpt_path"] is None


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_is_130_and_says_how_to_go_on(settings, tmp_path):
    run = medsam("fit", *settings(tmp_path / "out", "--save_every", "2", steps=2000))
    when(tmp_path / "out" / "checkpoints" / "last.ckpt", run)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate()
    assert run.returncode == 130, errors
    assert "Go on with --ckpt_path last" in errors
    assert "Traceback" not in errors
    torch.load(tmp_path / "out" / "checkpoints" / "last.ckpt", weights_only=True)


# -- several processes ------------------------------------------------------------------------------------------------


def test_two_processes_learn_what_one_learns_from_both_their_batches(settings, tmp_path):
    def words(name: str, batch: int, *more: str) -> list[str]:
        book = ["--trainer.callbacks+", "tiny_training.LossBook", "--trainer.callbacks.folder", str(tmp_path / name)]
        # weights move far enough within six steps for a gradient that is off to show
        noise = ["--model.interaction.box_noise", "0.3", "--data.batch_size", str(batch), *book]
        return ["fit", *settings(tmp_path / f"{name}-out", *noise, *more, steps=6)]

    run = medsam(*words("two", 2, "--trainer.devices", "2", "--trainer.strategy", "ddp"))
    assert main(words("one", 4)) == 0
    _, errors = run.communicate()
    assert run.returncode == 0, errors

    def steps(name: str, rank: int) -> list[dict]:
        return [json.loads(line) for line in (tmp_path / name / f"{rank}.jsonl").read_text().splitlines()]

    one, halves = steps("one", 0), list(zip(steps("two", 0), steps("two", 1), strict=True))
    assert [sorted(step["names"]) for step in one] == [sorted(a["names"] + b["names"]) for a, b in halves]
    assert [step["loss"] for step in one] == pytest.approx([(a["loss"] + b["loss"]) / 2 for a, b in halves], rel=1e-5)
    cards = [
        torch.load(tmp_path / f"{name}-out" / "checkpoints" / "last.ckpt", weights_only=True)[CARD_KEY]["training"]
        for name in ("one", "two")
    ]
    assert cards[0]["metrics_before"] == cards[1]["metrics_before"], "every slice is scored once"
    assert cards[0]["metrics"] == pytest.approx(cards[1]["metrics"], abs=2e-3)
    # and the weights had moved by then: far more than that
    assert one[-1]["loss"] < 0.995 * one[0]["loss"]


# -- what cannot be run -----------------------------------------------------------------------------------------------


def refused(words: list[str], capsys) -> str:
    """stderr of a command that ends in 2 without a traceback."""
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--config", "none.yaml"], "none.yaml"),
        (["--model.modell", "x"], "unrecognized arguments: --model.modell x"),
        (["--data.structures", "[nose]"], "No label names 'nose'. The manifest's structures are: bar, disc."),
        (["--data.min_pixels", "5000"], "has a structure of 5000 pixels on any slice"),
        (["--ckpt_path", "last"], "There is no checkpoint"),
        (["--ckpt_path", "none.ckpt"], "There is no checkpoint none.ckpt"),
        (["--model.interaction.rounds", "0"], "rounds is a whole number from 1"),
        (["--model.interaction.first", "scribble"], "scribble"),
        (["--model.optimiser.lr", "-1"], "model.optimiser.lr"),
        (["--model.model", "none.pth"], "No checkpoint at none.pth"),
        (["--model.embeddings", "kept"], "keeps the answers of a frozen image encoder"),
        (["--data.window", "bones"], "no window 'bones'"),
        (["--data.manifests", "[none.json]"], "none.json"),
        (["--save_every", "0"], "save_every is a whole number from 1"),
        (["--trainer.logger", "lightning.pytorch.loggers.WandbLogger"], "wandb"),
        (["--trainer.devices", "0"], "Lightning refuses these settings"),
        (["--trainer.precision", "17"], "trainer.precision"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_written(settings, tmp_path, capsys, more, message):
    assert message in refused(["fit", *settings(tmp_path / "out", *more)], capsys)
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_part_that_learns_is_refused(settings, tmp_path, capsys):
    parts = ("image_encoder", "prompt_encoder", "mask_decoder")
    frozen = [word for part in parts for word in (f"--model.train.{part}", "false")]
    assert "nothing to train" in refused(["fit", *settings(tmp_path / "out", *frozen)], capsys)


def test_a_manifest_without_splits_or_without_foreground_is_refused(settings, tmp_path, capsys):
    def words(path: Path) -> list[str]:
        return ["fit", *settings(tmp_path / "out", "--data.manifests", f"[{path}]")]

    cases = [write_case(tmp_path, name, *drawn(0)) for name in ("a", "b")]
    error = refused(words(write_manifest(tmp_path, cases, "unsplit")), capsys)
    assert "assigns no split" in error
    assert "medsam data split" in error
    scan, labels = drawn(0)
    empty = np.zeros_like(labels)
    cases = [write_case(tmp_path, split, scan, empty, split) for split in ("train", "val")]
    assert "nothing to learn from" in refused(words(write_manifest(tmp_path, cases, "empty")), capsys)
    assert not (tmp_path / "out").exists()


def test_a_structure_that_no_validation_case_has_is_left_out_of_the_scores(settings, tmp_path, capsys):
    scan, labels = drawn(0)
    disc = np.where(labels == 1, labels, 0)
    cases = [write_case(tmp_path, "a", scan, labels, "train"), write_case(tmp_path, "b", scan, disc, "val")]
    path = write_manifest(tmp_path, cases)
    assert main(["fit", *settings(tmp_path / "out", "--data.manifests", f"[{path}]", steps=1)]) == 0
    capsys.readouterr()
    assert main(["models", "info", str(tmp_path / "out" / "model.safetensors"), "--json"]) == 0
    training = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert training["training"]["metrics"].keys() == {"val/dice", "val/dice/disc", "val/mask_threshold"}
    assert training["training"]["metrics_before"].keys() == training["training"]["metrics"].keys()
    assert training["training"]["structures"] == ["bar", "disc"]


def test_a_checkpoint_of_another_kind_is_refused(finished, settings, model, tmp_path, capsys):
    best = finished[0] / "checkpoints" / "best.ckpt"
    out = tmp_path / "out"
    other = tiny_model(tmp_path / "other.safetensors", "tiny_vit")
    for command in ("fit", "validate", "test"):
        words = [command, *settings(out, "--model.model", str(other), "--ckpt_path", str(best))]
        assert "is of tiny-vit, and model.model is tiny-tinyvit" in refused(words, capsys)
    words = settings(out, "--model.lora.rank", "2", "--ckpt_path", str(best))
    assert "was trained without model.lora, this run is with it" in refused(["fit", *words], capsys)

    foreign = tmp_path / "foreign.ckpt"
    for content, message in (
        (b"hello", "is damaged, incomplete or not a checkpoint"),
        (best.read_bytes()[:5000], "is damaged, incomplete or not a checkpoint"),
        (model.read_bytes(), "was not written by medsam fit"),
    ):
        foreign.write_bytes(content)
        assert message in refused(["fit", *settings(out, "--ckpt_path", str(foreign))], capsys)
    for state in ({"a": torch.zeros(1)}, weights(model)):
        torch.save({"state_dict": state}, foreign)
        assert "was not written by medsam fit" in refused(["fit", *settings(out, "--ckpt_path", str(foreign))], capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "numpy"],
)
def test_a_full_memory_says_what_to_lower(settings, tmp_path, monkeypatch, capsys, error):
    def full(self, batch, batch_idx):
        raise error

    monkeypatch.setattr(SamFineTuning, "training_step", full)
    said = refused(["fit", *settings(tmp_path / "out")], capsys)
    for setting in ("data.batch_size", "model.gradient_checkpointing", "data.masks_per_image", "trainer.precision"):
        assert setting in said
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_loss_that_is_no_number_names_the_case(settings, tmp_path, monkeypatch, capsys):
    step = SamFineTuning.training_step

    def spoilt(self, batch, batch_idx):
        if self.global_step == 2:
            with torch.no_grad():
                self.sam.mask_decoder.iou_token.weight.fill_(torch.nan)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SamFineTuning, "training_step", spoilt)
    error = refused(["fit", *settings(tmp_path / "out", "--save_every", "2")], capsys)
    assert "The loss is nan at step 2, on shapes/c" in error
    assert ", slice " in error
    assert "model.optimiser.lr" in error
    load_checkpoint(tmp_path / "out" / "checkpoints" / "last.ckpt")  # finite


def test_help_tells_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    for option in ("--model.interaction.rounds", "--data.val_jitter_px", "--out", "--save_every", "--ckpt_path"):
        assert option in told


@pytest.mark.parametrize(
    ("more", "written"),
    [
        (["--trainer.limit_val_batches", "0"], True),
        (["--trainer.max_steps", "0"], False),
        (["--trainer.fast_dev_run", "true"], False),
    ],
)
def test_a_run_without_validation_or_steps_ends_in_order(settings, tmp_path, capsys, more, written):
    assert main(["fit", *settings(tmp_path / "run", steps=2), *more]) == 0
    assert (tmp_path / "run" / "model.safetensors").exists() is written
    assert ("Nothing was trained" in capsys.readouterr().err) is not written


def test_precisions_that_round_positions_are_refused(settings, tmp_path, capsys):
    assert main(["fit", *settings(tmp_path / "run"), "--trainer.precision", "bf16-true"]) == 2
    assert "bf16-mixed" in capsys.readouterr().err


def test_a_run_without_a_progress_bar(settings, tmp_path):
    assert main(["fit", *settings(tmp_path / "run", steps=1), "--trainer.enable_progress_bar", "false"]) == 0


def test_a_file_in_two_splits_of_two_manifests_is_refused(manifest, settings, tmp_path, capsys):
    content = json.loads(manifest.read_text())
    turned = {"train": "val", "val": "train"}
    for case in content["cases"]:
        case["split"] = turned.get(case["split"], case["split"])
    other = manifest.with_name("other.json")
    other.write_text(json.dumps({**content, "name": "other"}))
    assert main(["fit", *settings(tmp_path / "run"), "--data.manifests", f"[{manifest},{other}]"]) == 2
    assert "is in the split" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()
