"""`SamFineTuning` on tiny models: what it learns, what stays still, what its scores are."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from tiny_training import shapes, tiny_model
from torch import Tensor, nn

from medsam.cli.main import main
from medsam.cli.train import slice_data
from medsam.data.manifest_json import read_manifest
from medsam.errors import CheckpointError, InputError
from medsam.inference.image_predictor import ImagePredictor, box_prompts
from medsam.models.build import load_model
from medsam.models.checkpoint import save_checkpoint
from medsam.models.sam import Sam
from medsam.models.specs import ModelSpec, tiny_spec
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import next_click, tight_box
from medsam.training import step as training
from medsam.training.batch import Batch
from medsam.training.datamodule import SliceDataModule
from medsam.training.loops import quiet
from medsam.training.lora import LoraSettings
from medsam.training.losses import LossWeights
from medsam.training.module import SamFineTuning, TrainingDiverged
from medsam.training.optimise import OptimiserSettings
from medsam.training.prompt_simulation import PromptSimulation
from medsam.training.samples import ValidationSample
from medsam.training.score import MASK_THRESHOLDS
from medsam.training.step import TrainableParts
from medsam.transforms.augment import AugmentSettings

FAST = OptimiserSettings(lr=2e-3, warmup_steps=0, schedule="constant")
CLICKS = PromptSimulation(rounds=3, first="either")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    return shapes(tmp_path_factory.mktemp("data"), ("train", "val", "val"))


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {family: str(tiny_model(folder / f"{family}.safetensors", family)) for family in ("vit", "tiny_vit")}


def slices(manifest: Path, **changes) -> SliceDataModule:
    """Batches of two slices with two structures each."""
    return slice_data([str(manifest)], **{"batch_size": 2, "masks_per_image": 2, **changes})


def fit(module: SamFineTuning, data: SliceDataModule, steps: int, *callbacks: Callback, **last) -> Trainer:
    """A trainer that has trained, without any file."""
    with quiet():
        trainer = Trainer(
            accelerator="cpu",
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=list(callbacks),
        )
        trainer.fit(module, datamodule=data, **last)
    return trainer


def validate(module: SamFineTuning, data: SliceDataModule) -> dict[str, float]:
    with quiet():
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
        [scores] = trainer.validate(module, datamodule=data, verbose=False)
    return dict(scores)


def batch_of(module: SamFineTuning, manifest: Path, **changes) -> Batch:
    data = slices(manifest, **changes)
    data.prepare(module.spec)
    return next(iter(data.train_dataloader()))


def copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def moved(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


class Gradients(Callback):
    """Names of the weights that had a gradient other than zero, and of those that once had none at all."""

    def __init__(self) -> None:
        self.reached: set[str] = set()
        self.missing: set[str] = set()

    def on_after_backward(self, trainer, pl_module) -> None:
        for name, weight in pl_module.sam.named_parameters():
            if weight.grad is None:
                self.missing |= {name} if weight.requires_grad else set()
            elif weight.grad.any():
                self.reached.add(name)


# -- what it learns ---------------------------------------------------------------------------------------------------


def test_two_drawn_masks_of_one_image_are_learned_by_heart(tmp_path, models):
    """Everything learns: the boxes of a slice end in its own two masks."""
    manifest = shapes(tmp_path, ("train", "val"), (1, 20, 24))
    for name in ("c1.nii.gz", "c1-label.nii.gz"):  # the same slice is scored
        shutil.copy(tmp_path / name.replace("c1", "c0"), tmp_path / name)
    module = SamFineTuning(models["vit"], interaction=PromptSimulation(box_noise=0.05), optimiser=FAST)
    data = slices(manifest, batch_size=1, epoch_slices=150)
    before = validate(module, data)
    assert max(before.values()) < 0.6
    scores = fit(module, data, 150).callback_metrics
    assert scores["val/dice/disc"] > 0.95
    assert scores["val/dice/bar"] > 0.95


@pytest.mark.parametrize("family", ["vit", "tiny_vit"])
def test_gradients_reach_every_part(manifest, models, family):
    module = SamFineTuning(models[family], interaction=CLICKS, optimiser=FAST)
    seen = Gradients()
    # both first prompts come up within these steps; a mask token learns only where its mask is the best
    fit(module, slices(manifest), 12, seen)
    assert seen.missing == set(), "DistributedDataParallel would wait for these"
    unreached = {name for name, weight in module.sam.named_parameters() if weight.requires_grad} - seen.reached
    # which of the three masks for ambiguous prompts learn depends on whose was the best so far
    best = {f"mask_decoder.output_hypernetworks_mlps.{token}" for token in (1, 2, 3)}
    unlearned = {".".join(name.split(".")[:3]) for name in unreached}
    assert unlearned < best


@pytest.mark.parametrize(
    ("interaction", "resting"),
    [
        (PromptSimulation(), {"mask_downscaling", "point_embeddings.0", "point_embeddings.1", "not_a_point_embed"}),
        (PromptSimulation(first="point"), {"mask_downscaling", "point_embeddings.2", "point_embeddings.3"}),
        (PromptSimulation(first="either"), {"mask_downscaling"}),
        (PromptSimulation(rounds=2), set()),
        (PromptSimulation(rounds=2, first="point"), {"point_embeddings.2", "point_embeddings.3"}),
        (CLICKS, set()),
    ],
    ids=lambda value: f"{value.rounds} {value.first}" if isinstance(value, PromptSimulation) else "",
)
def test_prompts_that_are_never_shown_rest_and_all_others_have_a_gradient(manifest, models, interaction, resting):
    module = SamFineTuning(models["vit"], interaction=interaction, optimiser=FAST)
    encoder = module.sam.prompt_encoder
    frozen = {name for name, weight in encoder.named_parameters() if not weight.requires_grad}
    assert frozen == {name for name, _ in encoder.named_parameters() if name.startswith(tuple(resting))}
    before, seen = copies(encoder), Gradients()
    fit(module, slices(manifest), 4, seen)
    assert seen.missing == set()
    assert not moved(encoder, before) & frozen


@pytest.mark.parametrize(
    ("interaction", "evidence"),
    [
        (PromptSimulation(), False),
        (PromptSimulation(outward_px=5), False),
        (PromptSimulation(box_noise=0.0), True),
        (PromptSimulation(first="point"), True),
    ],
)
def test_who_learns_loose_boxes_needs_no_other_witness(models, interaction, evidence):
    module = SamFineTuning(models["vit"], interaction=interaction)
    assert module.sam.spec.use_priors is evidence
    assert ModelSpec.from_dict(module.spec.to_dict()) == module.spec


@pytest.mark.parametrize(
    ("interaction", "prompts"),
    [
        (PromptSimulation(), ("box",)),
        (PromptSimulation(first="point"), ("box", "points")),
        (PromptSimulation(rounds=2, first="either"), ("box", "points")),
        (PromptSimulation(rounds=2), ("box",)),  # clicks beside a box, never alone
    ],
)
def test_a_model_of_boxes_that_is_shown_clicks_says_that_it_knows_them(tmp_path, interaction, prompts):
    boxed = Sam.from_spec(replace(tiny_spec(), prompts=("box",)))
    save_checkpoint(boxed, tmp_path / "boxed.safetensors")
    module = SamFineTuning(str(tmp_path / "boxed.safetensors"), interaction=interaction)
    assert module.spec.prompts == module.sam.spec.prompts == prompts


def test_a_decoder_of_clicks_stands_beside_the_one_of_boxes(manifest, tmp_path):
    boxed = Sam.from_spec(replace(tiny_spec(), prompts=("box",)))
    save_checkpoint(boxed, tmp_path / "boxed.safetensors")
    shown = PromptSimulation(first="mixed", shares={"point": 1.0, "scribble": 1.0})
    asked = {"model": str(tmp_path / "boxed.safetensors"), "interaction": shown, "beside": True, "optimiser": FAST}
    module = SamFineTuning(**asked, train=TrainableParts(image_encoder=False))
    fit(module, slices(manifest), 3)
    whole = module.finished(module.sam)
    assert (whole.spec.prompts, whole.proposer.spec.prompts) == (("box",), ("points",))
    assert all(torch.equal(whole.state_dict()[name], tensor) for name, tensor in boxed.state_dict().items())
    assert moved(whole.proposer, boxed.state_dict())
    for wrong, message in (
        ({"train": TrainableParts()}, "set model.train.image_encoder to false"),
        ({"interaction": PromptSimulation(first="either")}, "leave box and mask out"),
        ({"model": str(tiny_model(tmp_path / "all.safetensors"))}, "start from such a model"),
    ):
        with pytest.raises(InputError, match=message):
            SamFineTuning(**{**asked, **wrong})


@pytest.mark.parametrize("part", ["image_encoder", "prompt_encoder", "mask_decoder"])
def test_a_frozen_part_stays_what_it_was(manifest, models, part):
    module = SamFineTuning(models["vit"], train=TrainableParts(**{part: False}), interaction=CLICKS, optimiser=FAST)
    before = copies(module.sam)
    fit(module, slices(manifest), 3)
    changed = {name.split(".")[0] for name in moved(module.sam, before)}
    assert changed == {"image_encoder", "prompt_encoder", "mask_decoder"} - {part}


def test_lora_moves_the_thin_matrices_and_the_decoder_only(manifest, models):
    module = SamFineTuning(models["vit"], lora=LoraSettings(rank=2), optimiser=FAST)
    before = copies(module.sam)
    fit(module, slices(manifest), 3)
    changed = moved(module.sam, before)
    inside = {name for name in changed if name.startswith("image_encoder")}
    assert inside == {
        f"image_encoder.blocks.{block}.attn.{layer}.parametrizations.weight.0.{thin}"
        for block in (0, 1)
        for layer in ("qkv", "proj")
        for thin in ("up", "down")
    }
    assert any(name.startswith("mask_decoder") for name in changed)
    assert any(name.startswith("prompt_encoder") for name in changed)


@pytest.mark.parametrize("follow", [False, True])
def test_running_statistics_move_only_when_asked(manifest, models, follow):
    module = SamFineTuning(models["tiny_vit"], batch_norm=follow, optimiser=FAST)
    before = copies(module.sam)
    fit(module, slices(manifest), 2)
    statistics = {name for name in before if "running_" in name}
    assert statistics
    assert moved(module.sam, before) & statistics == (statistics if follow else set())


def test_running_statistics_of_a_resting_encoder_never_move(manifest, models):
    module = SamFineTuning(
        models["tiny_vit"], train=TrainableParts(image_encoder=False), batch_norm=True, optimiser=FAST
    )
    before = copies(module.sam.image_encoder)
    fit(module, slices(manifest), 2)
    assert moved(module.sam.image_encoder, before) == set()


# -- a frozen encoder -------------------------------------------------------------------------------------------------


def test_a_frozen_encoder_sees_each_slice_once_in_its_life(manifest, models, tmp_path):
    def run(embeddings: Path | None) -> tuple[int, dict[str, Tensor]]:
        module = SamFineTuning(
            models["tiny_vit"],
            train=TrainableParts(image_encoder=False),
            optimiser=FAST,
            embeddings=None if embeddings is None else str(embeddings),
        )
        images = []
        module.sam.image_encoder.register_forward_hook(lambda _, given, __: images.append(len(given[0])))
        fit(module, slices(manifest), 4)  # four slices, twice; and eight to validate on, twice
        return sum(images), copies(module.sam)

    first, learned = run(tmp_path / "kept")
    assert first == 4 + 8
    again, repeated = run(tmp_path / "kept")
    assert again == 0
    in_memory, remembered = run(None)
    assert in_memory == 4 + 8
    for other in (repeated, remembered):
        assert all(torch.equal(learned[name], tensor) for name, tensor in other.items())


def test_kept_embeddings_are_those_of_the_encoder(manifest, models, tmp_path):
    module = SamFineTuning(models["tiny_vit"], train=TrainableParts(image_encoder=False), embeddings=str(tmp_path))
    batch = batch_of(module, manifest)
    module.train()
    with torch.no_grad():
        direct = torch.cat([module.sam.encode_image(image[None]) for image in batch.image])
    for _ in range(2):
        assert torch.equal(module.features(batch.image), direct)
    assert module.training, "asking the cache does not end training"
    assert module.sam.mask_decoder.training


def test_embeddings_of_an_encoder_that_learns_are_refused(models, tmp_path):
    with pytest.raises(InputError, match=r"model\.train\.image_encoder to false"):
        SamFineTuning(models["vit"], embeddings=str(tmp_path))
    with pytest.raises(InputError, match="keeps the answers of a frozen image encoder"):
        SamFineTuning(models["vit"], lora=LoraSettings(rank=2), embeddings=str(tmp_path))


def test_kept_embeddings_of_slices_that_change_are_refused(manifest, models, tmp_path):
    module = SamFineTuning(models["vit"], train=TrainableParts(image_encoder=False), embeddings=str(tmp_path / "kept"))
    with pytest.raises(InputError, match=r"data\.augment to null"):
        fit(module, slices(manifest, augment=AugmentSettings()), 1)
    assert not (tmp_path / "kept").exists()


# -- the loss ---------------------------------------------------------------------------------------------------------


def test_the_terms_of_the_loss_are_logged_and_add_up(manifest, models):
    shares = LossWeights(focal=3, dice=2, iou=0.5)
    module = SamFineTuning(models["vit"], interaction=CLICKS, loss=shares, optimiser=FAST)
    logged = fit(module, slices(manifest), 1).callback_metrics
    assert {name for name in logged if name.startswith("train/")} == {
        f"train/{name}" for name in ("loss", "focal", "dice", "iou")
    }
    total = 3 * logged["train/focal"] + 2 * logged["train/dice"] + 0.5 * logged["train/iou"]
    assert float(logged["train/loss"]) == pytest.approx(float(total), rel=1e-5)


@pytest.mark.parametrize("family", ["vit", "tiny_vit"])
def test_checkpointed_gradients_are_the_same(manifest, models, family):
    found = []
    for checkpointing in (False, True):
        module = SamFineTuning(models[family], gradient_checkpointing=checkpointing)
        module.train()
        loss = module.losses(batch_of(module, manifest))["loss"]
        loss.backward()
        found.append((loss, {name: weight.grad for name, weight in module.sam.named_parameters()}))
    (loss, gradients), (same_loss, same_gradients) = found
    assert torch.equal(loss, same_loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, same_gradients[name], msg=name)


def test_a_loss_that_is_no_number_names_its_slices(manifest, models):
    module = SamFineTuning(models["vit"])
    with torch.no_grad():
        module.sam.mask_decoder.iou_token.weight.fill_(torch.nan)
    batch = batch_of(module, manifest)
    with pytest.raises(TrainingDiverged) as raised:
        module.training_step(batch, 0)
    assert "The loss is nan at step 0" in str(raised.value)
    assert all(name.startswith("shapes/c0, slice ") and name in str(raised.value) for name in batch.names)


def test_a_resumed_run_draws_the_same_prompts(manifest, models, monkeypatch, tmp_path):
    drawn: list[tuple[list[int], int]] = []
    real = training.simulate

    def recorded(decode, targets, boxes, pixel, bounds, seeds, *more, choose=0):
        drawn.append((seeds.tolist(), choose))
        return real(decode, targets, boxes, pixel, bounds, seeds, *more, choose=choose)

    monkeypatch.setattr(training, "simulate", recorded)

    def module() -> SamFineTuning:
        return SamFineTuning(models["vit"], interaction=CLICKS, optimiser=FAST)

    data = {"epoch_slices": 8}  # epochs of four steps
    fit(module(), slices(manifest, **data), 7)
    whole, drawn[:] = list(drawn), []
    fit(module(), slices(manifest, **data), 3).save_checkpoint(tmp_path / "last.ckpt")
    fit(module(), slices(manifest, **data), 7, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert drawn == whole
    assert [choose for _, choose in whole] == list(range(whole[0][1], whole[0][1] + 7))
    assert len({seed for seeds, _ in whole for seed in seeds}) == 14


# -- the scores -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["vit", "tiny_vit"])
def test_validation_asks_as_inference_does_bit_for_bit(manifest, models, family):
    module = SamFineTuning(models[family]).eval()
    data = slices(manifest)
    data.prepare(module.spec)
    network = ImagePredictor(models[family], "cpu")
    cases = {f"shapes/{case.id}": case for case in read_manifest(manifest).in_split("val")}
    count = 0
    for sample in data.val_dataloader():
        name, index = sample.name.split(", slice ")
        embedding = network.embed(cases[name].load_image(), int(index))
        boxes = np.array([tight_box(mask, 1) for mask in sample.masks.numpy()])
        with torch.no_grad():
            answer = module.predict_masks(sample)
        assert answer.shape == (1, 2, 20, 24)
        assert np.array_equal(answer[0].numpy(), network.predict(embedding, box_prompts(boxes)).masks[:, 0])
        count += 1
    assert count == 8


def test_who_was_shown_no_box_is_scored_by_a_click_in_the_middle(manifest, models):
    module = SamFineTuning(models["vit"], interaction=PromptSimulation(first="point")).eval()
    data = slices(manifest, val_jitter_px=[0, 3])
    data.prepare(module.spec)
    network = ImagePredictor(models["vit"], "cpu")
    cases = {f"shapes/{case.id}": case for case in read_manifest(manifest).in_split("val")}
    sample = next(iter(data.val_dataloader()))
    name, index = sample.name.split(", slice ")
    clicks = [SlicePrompt(1, points=(next_click(mask),)) for mask in sample.masks.numpy()]
    wanted = network.predict(network.embed(cases[name].load_image(), int(index)), clicks).masks[:, 0]
    with torch.no_grad():
        answers = module.predict_masks(sample).numpy()
    assert np.array_equal(answers, np.stack([wanted, wanted]))


def test_validation_scores_are_those_of_evaluate(manifest, models, tmp_path):
    """Volume Dice, averaged over cases; counted here by hand, and by `medsam evaluate` as published models answer."""
    module = SamFineTuning(models["vit"], optimiser=FAST)
    data = slices(manifest, val_jitter_px=[0, 3], epoch_slices=80)  # validated once
    # partly right by then, so that every pixel that is answered otherwise shows
    scores = {name: float(value) for name, value in fit(module, data, 40).callback_metrics.items()}
    assert 0.3 < scores["val/dice"] < 0.98

    module.eval()
    samples: list[ValidationSample] = list(data.val_dataloader())
    sums: dict[tuple[int, int, int], np.ndarray] = {}
    with torch.no_grad():
        for sample in samples:
            answers = module.predict_masks(sample).numpy()
            for jitter, place in np.ndindex(2, len(sample.structures)):
                answer, truth = answers[jitter, place], sample.masks[place].numpy()
                key = jitter, sample.structures[place], sample.case
                counts = np.array([2 * (answer & truth).sum(), answer.sum() + truth.sum()])
                sums[key] = sums.get(key, 0) + counts
    for jitter, pixels in enumerate((0, 3)):
        for place, structure in enumerate(("bar", "disc")):
            by_case = [sums[jitter, place, case][0] / sums[jitter, place, case][1] for case in (0, 1)]
            assert scores[f"val/dice_jitter{pixels}/{structure}"] == pytest.approx(np.mean(by_case), abs=1e-6)

    path = tmp_path / "learned.safetensors"
    save_checkpoint(module.sam, path, module.card())
    words = ["evaluate", "--manifest", str(manifest), "--split", "val", "--model", str(path), "--zoom", "off"]
    words += ["--keep-islands", "--jitter-px", "0", "3", "--no-timing", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    table = pd.read_csv(tmp_path / "out" / "metrics.csv")
    table = table[~table["model"].isin(["filled-box", "inscribed-ellipse"])]
    for pixels in (0, 3):
        mine = table[table["prompt"] == ("box+3px" if pixels else "box")]
        for structure in ("bar", "disc"):
            dice = mine[mine["structure"] == structure]["dice"]
            assert len(dice) == 2
            assert scores[f"val/dice_jitter{pixels}/{structure}"] == pytest.approx(dice.mean(), abs=1e-6)


class Timid(Callback):
    """Has the network be sure of too little, as one that learnt on few examples: every logit is so much lower."""

    def __init__(self, by: float) -> None:
        self.by = by

    def on_validation_start(self, trainer, pl_module) -> None:
        pl_module._predict = lambda sample: SamFineTuning._predict(pl_module, sample) - self.by


def test_validation_chooses_the_mask_threshold_and_the_card_keeps_it(manifest, models):
    module = SamFineTuning(models["vit"], optimiser=FAST)
    data = slices(manifest, epoch_slices=80)  # validated once
    plain = float(fit(module, data, 40).callback_metrics["val/dice"])
    usual = module.spec.mask_threshold
    shifted = SamFineTuning(models["vit"], optimiser=FAST)
    found = fit(shifted, data, 40, Timid(1.5)).callback_metrics
    # the same masks come out, where the threshold may go as far
    assert shifted.spec.mask_threshold == max(usual - 1.5, min(MASK_THRESHOLDS)) == found["val/mask_threshold"]
    assert float(found["val/dice"]) == pytest.approx(plain, abs=0.01)
    kept: dict = {"state_dict": module.state_dict(), "loops": {}}
    shifted.on_save_checkpoint(kept)
    again = SamFineTuning(models["vit"])
    again.on_load_checkpoint(kept)
    assert again.spec.mask_threshold == shifted.spec.mask_threshold


def test_a_model_that_is_not_trained_is_scored_by_its_own_threshold(manifest, models, tmp_path):
    sam = load_model(models["vit"])
    sam.spec = replace(sam.spec, mask_threshold=0.5)
    path = tmp_path / "own.safetensors"
    save_checkpoint(sam, path)
    module = SamFineTuning(str(path))
    assert validate(module, slices(manifest))["val/mask_threshold"] == 0.5
    assert module.spec.mask_threshold == 0.5


def test_what_stands_beside_another_decoder_keeps_its_threshold(manifest, models, tmp_path):
    sam = load_model(models["vit"])
    sam.spec = replace(sam.spec, prompts=("box",))
    boxes_alone = str(tmp_path / "boxes.safetensors")
    save_checkpoint(sam, Path(boxes_alone))
    parts = TrainableParts(image_encoder=False)
    module = SamFineTuning(boxes_alone, parts, interaction=PromptSimulation(first="point"), beside=True)
    fit(module, slices(manifest), 2, Timid(3.0))
    assert module.spec.mask_threshold == 0


# -- cards ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_without_a_card_or_of_other_settings_is_refused(models):
    module = SamFineTuning(models["vit"])
    with pytest.raises(CheckpointError, match=r"give it as model\.model"):
        module.on_load_checkpoint({"state_dict": {}})
    kept: dict = {"state_dict": module.state_dict(), "loops": {}}
    module.on_save_checkpoint(kept)
    SamFineTuning(models["vit"]).on_load_checkpoint(kept)
    with pytest.raises(CheckpointError, match="another architecture"):
        SamFineTuning(models["tiny_vit"]).on_load_checkpoint(kept)
    with pytest.raises(CheckpointError, match=r"without model\.lora"):
        SamFineTuning(models["vit"], lora=LoraSettings(rank=2)).on_load_checkpoint(kept)


def test_a_card_says_where_weights_come_from_and_names_no_folder(models):
    card = SamFineTuning(models["vit"], licence="CC0-1.0", train=TrainableParts(image_encoder=False)).card()
    assert card["started_from"] == "tiny-vit (vit.safetensors)"
    assert card["licence"] == "CC0-1.0"
    assert card["trained"] == ["prompt_encoder", "mask_decoder"]
    assert str(Path(models["vit"]).parent) not in repr(card)
