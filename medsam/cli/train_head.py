"""`medsam fit --config configs/train/detector.yaml`: heads beside an image encoder that stays as it is.

A configuration says `head: detector` at its top, as the command line may (--head detector).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from medsam.cli.train import FitCLI
from medsam.errors import InputError
from medsam.models.heads import save_head


class HeadCLI(FitCLI):
    """As `FitCLI`; nothing is scored before the first step, for a new head knows nothing, and what is left is

    OUT/head.safetensors        the best step's head with its card, for --head of every other command
    """

    monitor = "val/score"

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument("--head", type=Literal["detector", "names"], help="which kind of head")

    def pictures(self) -> list[Callback]:
        return []

    def before_fit(self) -> None:
        self.refuse_another_run()
        self.datamodule.prepare(self.model.spec, "fit")
        self.model.look_at(self.datamodule, self.trainer.strategy.root_device)
        self.model.begin(self.datamodule.classes)
        for note in self.datamodule.notes:
            self._say(f"Note: {note}")
        self._say(f"Training a head for {', '.join(self.datamodule.classes)}; results in {self.out}")

    def after_fit(self) -> None:
        best = self.best_checkpoint()
        if best is None:
            return
        content = torch.load(best, map_location="cpu", weights_only=True)
        self.model.on_load_checkpoint(content)
        self.model.load_state_dict(content["state_dict"])
        head, path = self.model.head(), self.out / "head.safetensors"
        save_head(head, path)
        metrics = ", ".join(f"{name} {value:.3f}" for name, value in head.card.recipe["metrics"].items())
        print(f"wrote {path}")
        self._say(f"{sum(tensor.numel() for tensor in head.state.values()):,} weights; {metrics}")


def asked_head(words: Sequence[str]) -> str | None:
    """`--head` of the words of a command line, or `head` of a configuration that they name; None for neither.

    Raises InputError for a head of no kind.
    """
    options = _options(words)
    configured = [_head_in(Path(value)) for option, value in options if option == "--config"]
    asked = [value for option, value in options if option == "--head"]
    found = next((head for head in (*asked[::-1], *configured[::-1]) if head), None)
    if found is not None and found not in HEADS:
        raise InputError(f"There is no head {str(found)[:40]!r} to train; use {', '.join(HEADS)}.")
    return found


def _options(words: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [word.split("=", 1) for word in words]
    # a value is the rest of its word, or the next one
    return [
        (pair[0], pair[1] if len(pair) > 1 else following)
        for pair, following in zip(pairs, [*words[1:], ""], strict=True)
    ]


def _head_in(config: Path) -> Any:
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None  # Lightning says what is wrong with it
    return content.get("head") if isinstance(content, dict) else None


def _detector() -> tuple[type[FitCLI], type[LightningModule], Callable[..., Any]]:
    from medsam.training.detector import DetectorTraining
    from medsam.training.detector_data import detector_data

    return HeadCLI, DetectorTraining, detector_data


def _names() -> tuple[type[FitCLI], type[LightningModule], Callable[..., Any]]:
    from medsam.training.names import NameTraining
    from medsam.training.names_data import names_data

    return HeadCLI, NameTraining, names_data


# kind -> who trains it
HEADS: dict[str, Callable[[], tuple[type[FitCLI], type[LightningModule], Callable[..., Any]]]] = {
    "detector": _detector,
    "names": _names,
}
