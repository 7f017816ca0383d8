"""medsam's own commands as processes of a round: what they are told, and how they end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import medsam
from medsam.errors import InputError
from medsam.prompts.simulate import MIN_PIXELS

# words of a command -> its exit status; raises KeyboardInterrupt for Ctrl-C
RunCommand = Callable[[Sequence[str]], int]

# seconds that a command has to end after Ctrl-C
_PATIENCE_S = 60.0


def run_command(words: Sequence[str]) -> int:
    """`medsam WORDS` in a process of its own, which ends with this one. What it prints goes to stderr."""
    own_group: dict[str, Any] = {"start_new_session": True} if sys.platform != "win32" else {}
    # a session of its own: Ctrl-C reaches it once, from here
    process = subprocess.Popen(
        [sys.executable, "-m", "medsam.cli.child", *words], stdin=subprocess.PIPE, stdout=2, **own_group
    )
    try:
        return process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        if process.stdin is not None:
            process.stdin.close()


def _end(process: subprocess.Popen) -> None:
    """Ask for an end, then do not ask."""
    process.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)
    try:
        process.wait(_PATIENCE_S)
    except BaseException:
        process.kill()
        process.wait()


def check_ended(code: int, what: str) -> None:
    """Raise KeyboardInterrupt for a command that Ctrl-C ended, InputError for one that failed."""
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise InputError(
            f"{what} ended with exit status {code}; what it said stands above. Mend that and run `annotate round` "
            "again: the round goes on. Or give it up: `annotate round --abandon`."
        )


def fit_words(told: Mapping[str, Any], folder: Path, manifest: Path, embeddings: Path, model: str) -> list[str]:
    """`medsam fit` of a round. told: the round's settings. folder: FOLDER/config.yaml is read, FOLDER/fit written."""
    config = read_config(told["config"])
    steps, overrides = int(told["steps"]), dict(told["overrides"])
    options = {
        "seed_everything": told["seed"],
        "data.seed": told["seed"],
        "data.structures": json.dumps(told["structures"]),
        "trainer.max_steps": steps,
        "trainer.max_epochs": -1,
        "save_every": max(1, min(50, steps // 4)),
    }
    if told["axis"] is not None:
        options["data.axis"] = told["axis"]
    batch = _whole(told, "data.batch_size", 8)
    # four validations, however many slices there are
    options["data.epoch_slices"] = batch * max(1, -(-steps // 4))
    if config.get("model", {}).get("embeddings"):
        options["model.embeddings"] = embeddings
    if not told["validated"]:
        options["trainer.limit_val_batches"] = 0
    options |= overrides
    # what makes it this round is nobody's to change
    options |= {"model.model": model, "data.manifests": json.dumps([str(manifest)]), "out": folder / "fit"}
    words = ["fit", "--config", str(folder / "config.yaml")]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    if (folder / "fit" / "checkpoints" / "last.ckpt").is_file():
        words += ["--ckpt_path", "last"]
    return words


def least_pixels(told: Mapping[str, Any]) -> int:
    """How many pixels of a structure a slice needs for `fit`. told: the round's settings."""
    return _whole(told, "data.min_pixels", MIN_PIXELS)


def _whole(told: Mapping[str, Any], name: str, otherwise: int) -> int:
    """A number of the training, as a round is told it or its configuration has it."""
    room, key = name.split(".")
    value = told["overrides"].get(name) or read_config(told["config"]).get(room, {}).get(key) or otherwise
    try:
        return int(value)
    except (TypeError, ValueError):
        raise InputError(f"`{name}` of the training is a whole number, not {value!r}.", parameter="set") from None


def evaluate_words(told: Mapping[str, Any], manifest: Path, model: str, out: Path, embeddings: Path) -> list[str]:
    """`medsam evaluate` of a model on frozen patients, which goes on where it was. told: the round's settings."""
    words = ["evaluate", "--manifest", str(manifest), "--model", model, "--out", str(out)]
    words += ["--prompt", *told["prompt"].split(), "--seed", str(told["seed"]), "--no-timing"]
    words += ["--embeddings", str(embeddings)]
    for flag, name in (("--slices", "slices"), ("--axis", "axis"), ("--limit", "limit_test")):
        if told[name] is not None:
            words += [flag, str(told[name])]
    return words


def read_config(text: str) -> dict[str, Any]:
    """A training configuration. Raises InputError where it is none."""
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"The training configuration is no YAML: {error}", parameter="config") from error
    if not isinstance(content, dict):
        raise InputError("The training configuration holds no settings.", parameter="config")
    if content.get("head"):
        raise InputError(
            "This configuration trains a head; a round trains the model that answers. Take one without `head`.",
            parameter="config",
        )
    return content


def find_config(name: str) -> str:
    """The text of a configuration: a path, or the name of a file in configs/train. Raises InputError for neither."""
    package = Path(medsam.__file__).parent
    for path in (Path(name), package / "training" / "configs" / name, package.parent / "configs" / "train" / name):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise InputError(f"There is no training configuration {name}. Name a YAML file.", parameter="config")
