"""`medsam fit | validate | test`: Lightning's command line over `SamFineTuning` and `SliceDataModule`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from medsam.cli.table import print_table
from medsam.errors import CheckpointError, InputError
from medsam.geometry import Axis
from medsam.io.save import check_folder
from medsam.models.checkpoint import model_of, read_checkpoint, save_checkpoint
from medsam.prompts.simulate import MIN_PIXELS
from medsam.training.datamodule import CacheSettings, SamplingSettings, SliceDataModule
from medsam.training.loops import LastCheckpoint, WholeCheckpoints, interruptible, progress_bar, quiet
from medsam.training.module import SamFineTuning
from medsam.training.overlays import SampleOverlays
from medsam.transforms.augment import AugmentSettings


def run(arguments: argparse.Namespace) -> None:
    """Raises MedSAMError subclasses for everything a user can fix."""
    words: Sequence[str] = arguments.words
    whole, module, data = what_is_trained(words)
    command_line = _alone(whole, arguments.command)
    try:
        with quiet():
            command_line(
                module,
                data,
                args=[arguments.command, *words],
                seed_everything_default=0,
                # the configuration as it was run, overrides included, beside the results
                save_config_kwargs={"overwrite": True},
                parser_kwargs={"prog": "medsam", "exit_on_error": False}
                | {command: {"exit_on_error": False} for command in command_line.subcommands()},
                auto_configure_optimizers=False,
                # the checkpoint's card tells what it is; hyperparameters of its own would be a second home for that
                load_from_checkpoint_support=False,
                # the untouched model is validated before the first step, on everything
                trainer_defaults={"num_sanity_val_steps": 0, "enable_model_summary": False, "log_every_n_steps": 10},
            )
    except argparse.ArgumentError as error:
        raise InputError(f"{error}\nFor every option and its type: medsam {arguments.command} --help") from error
    except ModuleNotFoundError as error:
        if error.name is None:  # Lightning misses what an option needs, such as a logger's package
            raise InputError(str(error)) from error
        raise
    except MisconfigurationException as error:
        raise InputError(f"Lightning refuses these settings: {error}") from error
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
            raise InputError(
                "The memory is full. In this order: lower data.batch_size (and raise trainer.accumulate_grad_batches "
                "by as much), set model.gradient_checkpointing to true, lower data.masks_per_image, set "
                "trainer.precision to bf16-mixed, freeze the image encoder (model.train.image_encoder: false)."
            ) from error
        raise


def _alone(command_line: type[FitCLI], command: str) -> type[FitCLI]:
    """For this command alone: gathering the options of every one of them takes four times as long."""
    asked = {command: command_line.subcommands()[command]}
    return type(command_line.__name__, (command_line,), {"subcommands": staticmethod(lambda: asked)})


def what_is_trained(words: Sequence[str]) -> tuple[type[FitCLI], type[LightningModule], Callable[..., Any]]:
    """By `head` in the configuration or on the command line: a head beside a model, else the model itself."""
    from medsam.cli.train_head import HEADS, asked_head

    head = asked_head(words)
    return (FitCLI, SamFineTuning, slice_data) if head is None else HEADS[head]()


def slice_data(
    manifests: list[str],
    structures: list[str] | None = None,
    axis: Axis | None = None,
    window: str = "auto",
    min_pixels: int = MIN_PIXELS,
    batch_size: int = 8,
    masks_per_image: int = 4,
    epoch_slices: int | None = None,
    balanced: bool = True,
    pseudo: float = 0.0,
    variants: int | None = None,
    augment: AugmentSettings | None = None,
    cache: Literal["memory", "disk", "none"] = "memory",
    cache_dir: str | None = None,
    num_workers: int = 0,
    val_jitter_px: list[int] = [0],  # noqa: B006 - read only; jsonargparse shows it as it is
    limit: int | None = None,
    seed: int = 0,
    slice_step: int = 1,
) -> SliceDataModule:
    """`SliceDataModule`, its groups of settings side by side: options and configurations say data.batch_size."""
    return SliceDataModule(
        manifests,
        structures,
        axis,
        window,
        min_pixels,
        SamplingSettings(batch_size, masks_per_image, epoch_slices, balanced, seed, pseudo, variants),
        augment,
        CacheSettings(cache, None if cache_dir is None else Path(cache_dir)),
        num_workers,
        val_jitter_px,
        limit,
        slice_step,
    )


# LightningCLI wants the class itself, not its name
slice_data.__annotations__["return"] = SliceDataModule


class FitCLI(LightningCLI):
    """Adds the run's folder, its checkpoints, and the validation of the untouched model.

    OUT/config.yaml             the configuration as it was run
    OUT/checkpoints/last.ckpt   to go on from, every `save_every` steps: --ckpt_path last
    OUT/checkpoints/best.ckpt   by val/dice
    OUT/model.safetensors       the best one's weights and card, for every other command
    OUT/overlays/STEP.png       what it answers on a few validation slices
    OUT/events...               TensorBoard, unless trainer.logger says otherwise
    """

    # by which the best checkpoint is kept
    monitor = "val/dice"

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str, default="out/train", help="folder of the run")
        parser.add_argument("--save_every", type=int, default=50, help="steps between checkpoints to go on from")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        asked = self.config_init[self.subcommand]
        self.out = Path(asked.out)
        if asked.save_every < 1:
            raise InputError(f"save_every is a whole number from 1, not {asked.save_every}.")
        given = asked.trainer
        first: list[Callback] = []
        own: list[Callback] = [] if given.enable_progress_bar is False else [progress_bar()]
        changed: dict[str, Any] = {
            "default_root_dir": given.default_root_dir or str(self.out),
            # our loader deals the draws out itself
            "use_distributed_sampler": False,
            "plugins": [WholeCheckpoints(), *_several(given.plugins)],
        }
        if self.subcommand == "fit":
            check_folder(self.out)
            folder = self.out / "checkpoints"
            keep: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
            self.best = ModelCheckpoint(filename="best", monitor=self.monitor, mode="max", **keep)
            if not given.fast_dev_run:
                first = [_LastStep(folder / "last.ckpt")]
            own += [
                self.best,
                LastCheckpoint(asked.save_every, **keep),
                *self.pictures(),
            ]
            if given.logger in (None, True):
                changed["logger"] = TensorBoardLogger(self.out, name="", version="")
            if given.logger is not False:
                own.append(LearningRateMonitor("step"))
        elif given.logger in (None, True):
            changed["logger"] = False
        given.callbacks = [*first, *(given.callbacks or []), *own]
        return super().instantiate_trainer(**changed, **kwargs)

    def pictures(self) -> list[Callback]:
        """What shows how training goes."""
        return [SampleOverlays(self.out / "overlays")]

    def refuse_another_run(self) -> None:
        """Raise InputError where OUT holds one that this does not go on with."""
        if self.checkpoint is None and (self.out / "checkpoints" / "last.ckpt").exists():
            raise InputError(
                f"{self.out} holds a run already. Go on with it by --ckpt_path last, or name another --out."
            )

    @property
    def validates(self) -> bool:
        """Whether training is watched on the split val; without, that may be empty."""
        return self.trainer.limit_val_batches != 0

    def before_fit(self) -> None:
        self.refuse_another_run()
        # everything is read before anything is written, and both validations know the same structures
        self.datamodule.prepare(self.model.spec, "fit", validated=self.validates)
        if not self.validates:
            self._say(
                "Note: nothing is validated (trainer.limit_val_batches is 0), so the last step's weights are kept."
            )
        elif self.checkpoint is None:
            for scores in self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False):
                self.model.baseline_scores = {name: float(value) for name, value in scores.items()}
                self._say(f"Before training: {_sentence(scores)}")
        for note in self.datamodule.notes:
            self._say(f"Note: {note}")
        learning = sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)
        every = sum(weight.numel() for weight in self.model.parameters())
        self._say(f"Training {learning:,} of {every:,} weights; results in {self.out}")

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            with interruptible(self.trainer):
                super()._run_subcommand(subcommand)
        except KeyboardInterrupt:
            if (self.out / "checkpoints" / "last.ckpt").exists():
                self._say(f"Go on with --ckpt_path last (every {self._asked.save_every} steps are kept).")
            raise

    def best_checkpoint(self) -> Path | None:
        """The file of the best step, once the last one was scored, too; None where nothing was trained, or is ours."""
        best = self.out / "checkpoints" / "best.ckpt"
        if self.validates and self.model.scored_at != self.trainer.global_step:  # stopped between two validations
            self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
            before, now = self.best.best_model_score, self.trainer.callback_metrics.get(self.monitor)
            if now is not None and (before is None or now > before) and not self._asked.trainer.fast_dev_run:
                self.trainer.save_checkpoint(best)
        if not best.exists():  # nothing was validated
            best = best.with_name("last.ckpt")
        if not best.exists():
            self._say("Nothing was trained, so nothing is written.")
            return None
        return best if self.trainer.global_rank == 0 else None

    def after_fit(self) -> None:
        best = self.best_checkpoint()
        if best is None:
            return
        checkpoint = read_checkpoint(best)
        training = checkpoint.training
        save_checkpoint(self.model.finished(model_of(checkpoint)), self.out / "model.safetensors", training)
        before, after = training["metrics_before"], training["metrics"]
        if after:
            _print_table([("before", before), (f"step {training['steps']}", after)])
        print(f"wrote {self.out / 'model.safetensors'}")
        if before.get("val/dice", 0.0) >= after.get("val/dice", 1.0):
            self._say(
                "Note: by val/dice the untouched model is no worse than the best of this run. With few cases a lower "
                "model.optimiser.lr or a part less to train (model.train) may help; otherwise stay with it."
            )

    def validate(self, **kwargs: Any) -> None:
        self._score(self.trainer.validate(**{**kwargs, "verbose": False}))

    def test(self, **kwargs: Any) -> None:
        self._score(self.trainer.test(**{**kwargs, "verbose": False}))

    def _score(self, found: Any) -> None:
        if self.checkpoint is None:
            self._say("Note: no --ckpt_path, so this is model.model as it was before training.")
        if self.trainer.global_rank == 0:
            _print_table([("now", found[0])])

    @property
    def _asked(self) -> Any:
        return self.config_init[self.subcommand]

    def _parse_ckpt_path(self) -> None:
        """`last` and `best` are those of this run's folder. Lightning looks for hyperparameters here; ours has none."""
        asked = self.config[self.config.subcommand]
        # taken out: the configuration that is kept tells how to run, not where this run went on
        path, asked.ckpt_path = asked.ckpt_path, None
        if path in ("last", "best"):
            path = Path(asked.out) / "checkpoints" / f"{path}.ckpt"
        self.checkpoint = None if path is None else Path(path)
        if self.checkpoint is not None and not self.checkpoint.is_file():
            raise CheckpointError(f"There is no checkpoint {path} to go on from. Leave --ckpt_path out to start anew.")

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:  # settings that look at themselves
            raise InputError(str(error)) from error

    def after_instantiate_classes(self) -> None:
        self._asked.weights_only = True
        if self.checkpoint is None:
            return
        self._asked.ckpt_path = str(self.checkpoint)
        # refused before the run's folder is touched: Lightning asks only after it has written there
        try:
            content = torch.load(self.checkpoint, map_location="cpu", mmap=True, weights_only=True)
        except Exception:  # a foreign file can raise nearly anything
            read_checkpoint(self.checkpoint)  # says what is wrong with it
            content = {}
        self.model.on_load_checkpoint(content)

    def _say(self, text: str) -> None:
        if self.trainer.global_rank == 0:
            print(text, file=sys.stderr)


class _LastStep(Callback):
    """Keeps what came after the last multiple of `save_every`, too: a finished run can be made longer.

    The first callback of all: when training ends, averaging ones replace the weights that the steps made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = getattr(trainer, "datamodule", None)
        if trainer.should_stop and isinstance(data, SliceDataModule):
            data.end_epoch()
        trainer.save_checkpoint(self.path)


def _several(given: Any) -> list[Any]:
    return [] if given is None else list(given) if isinstance(given, list | tuple) else [given]


def _sentence(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


def _print_table(columns: Sequence[tuple[str, Mapping[str, float]]]) -> None:
    rows = [(key, *(f"{values[key]:.4f}" if key in values else "-" for _, values in columns)) for key in columns[-1][1]]
    print_table(("", *(name for name, _ in columns)), rows)
