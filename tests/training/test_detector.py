"""A detector learns where two shapes are, by `medsam fit` as its user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import shapes, tiny_model

from medsam.cli.main import main
from medsam.errors import InputError
from medsam.models.build import load_model
from medsam.models.detector import DetectorMaps
from medsam.models.heads import encoder_digest, find_head
from medsam.models.specs import tiny_spec
from medsam.training.detector import DetectorTraining, best_threshold, overlap_score
from medsam.training.detector_data import DetectorDataModule
from medsam.training.detector_loss import detector_losses, giou, target_heat

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "train" / "detector.yaml"
NONE = [float("nan")] * 4


def test_heat_is_one_in_the_middles_cell_alone_and_nothing_where_a_class_is_absent():
    boxes = torch.tensor([[[8.0, 16, 24, 40], NONE]])  # middle (16, 28): column 2, row 3 of 8-pixel cells
    heat = target_heat(boxes, 8, 64)
    assert (heat == 1).nonzero().tolist() == [[0, 0, 3, 2]]
    # wider along the longer side
    assert heat[0, 0, 4, 2] >= heat[0, 0, 3, 3] > 0
    assert not heat[0, 1].any()


def test_the_loss_is_least_for_the_truth():
    boxes = torch.tensor([[[8.0, 16, 24, 40], NONE]])
    heat = torch.full((1, 2, 8, 8), -9.0)
    heat[0, 0, 3, 2] = 9.0
    box = torch.zeros(1, 2, 4, 8, 8)
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    box[0, 0] = torch.stack(
        [2 - columns - 0.5, 3.5 - rows - 0.5, torch.full((8, 8), 2.0).log(), torch.full((8, 8), 3.0).log()]
    )
    right = DetectorMaps(heat, box, torch.tensor([[9.0, -9.0]]))
    assert detector_losses(right, boxes, 64)["box"] == pytest.approx(0, abs=1e-5)
    least = detector_losses(right, boxes, 64)["loss"]
    for wrong in (
        right._replace(heat=heat.roll(2, -1)),
        right._replace(box=box + 0.3),
        right._replace(presence=-right.presence),
    ):
        assert detector_losses(wrong, boxes, 64)["loss"] > least + 0.05
    # slices without any structure have a loss, too, and no division by nothing
    assert detector_losses(right, torch.tensor([[NONE, NONE]]), 64)["loss"].isfinite()


def test_giou_by_hand():
    def cell(*box):
        return torch.tensor(box, dtype=torch.float32)[:, None, None]

    assert giou(cell(0, 0, 2, 2), cell(0, 0, 2, 2)).item() == 1
    # apart: no overlap, and half of the box round both is in neither
    assert giou(cell(0, 0, 1, 1), cell(3, 0, 4, 1)).item() == pytest.approx(-0.5)


def test_a_threshold_counts_wrong_boxes_and_missed_ones():
    there, score, iou = np.array([True, True, False]), np.array([0.8, 0.4, 0.6]), np.array([1.0, 0.5, 0.0])
    assert overlap_score(there, score, iou, 0.7) == pytest.approx(2 / 3)
    assert overlap_score(there, score, iou, 0.1) == pytest.approx(3 / 5)
    assert 0.6 < best_threshold(there, score, iou) <= 0.8


def test_no_threshold_is_chosen_on_test_patients(tmp_path, monkeypatch):
    module = DetectorTraining(str(tiny_model(tmp_path / "tiny.safetensors", "tiny_vit")))
    module.begin(["Disc"])
    monkeypatch.setattr(module, "log", lambda *values, **options: None)
    module._seen = [(0, True, 0.9, 0.8, 0.9), (0, False, 0.6, 0.0, 0.1)]
    module.on_test_epoch_end()
    assert module.thresholds == {"Disc": 0.3}


def test_slices_without_a_structure_are_learnt_from_in_their_share(tmp_path):
    import nibabel as nib

    path = shapes(tmp_path, ("train", "val"), (6, 20, 24))
    for name in ("c0", "c1"):
        label = nib.load(tmp_path / f"{name}-label.nii.gz")
        array = np.asarray(label.dataobj).copy()
        array[:, :, 3:] = 0  # nothing on the upper half of the slices
        nib.save(nib.Nifti1Image(array, label.affine), tmp_path / f"{name}-label.nii.gz")
    data = DetectorDataModule([str(path)], negatives=0.25)
    data.prepare(tiny_spec())
    batches = data.train_dataloader()
    weights = batches.dataset.weights
    bare = np.array([not item.structures for item in batches.dataset.items])
    assert bare.sum() == 3
    assert weights[bare].sum() / weights.sum() == pytest.approx(0.25)
    with_both = batches.dataset[0, 0]
    assert with_both.boxes.isfinite().all()
    assert batches.dataset[int(np.flatnonzero(bare)[0]), 0].boxes.isnan().all()
    with pytest.raises(InputError, match="negatives is a share"):
        DetectorDataModule([str(path)], negatives=1.0)


def test_a_run_leaves_a_head_that_finds_the_shapes(tmp_path, capsys):
    manifest = shapes(tmp_path / "data", ("train",) * 4 + ("val", "test"))
    model = tiny_model(tmp_path / "model.safetensors", "tiny_vit")
    out = tmp_path / "out"
    words = ["--config", str(CONFIG), "--model.model", str(model), "--data.manifests", f"[{manifest}]"]
    words += ["--model.embeddings", str(tmp_path / "embeddings"), "--out", str(out), "--data.slice_step", "1"]
    words += ["--model.width", "16", "--model.trunk", "16", "--trainer.accelerator", "cpu", "--model.name", "shapes"]
    words += ["--trainer.max_epochs", "60", "--model.optimiser.lr", "5e-3", "--trainer.logger", "false"]
    words += ["--trainer.check_val_every_n_epoch", "30", "--model.licence", "CC0"]
    assert main(["fit", *words]) == 0
    told = capsys.readouterr()
    assert f"wrote {out / 'head.safetensors'}" in told.out
    sam = load_model(str(model))
    head = find_head(str(out / "head.safetensors"), sam, "detector")
    card = head.card
    assert (card.classes, card.encoder, card.licence) == (("bar", "disc"), encoder_digest(sam), "CC0")
    assert card.data == ({"name": "shapes", "cases": 4, "patients": 4, "slices": 16},)
    assert card.modalities == ("MR",)
    assert card.thresholds.keys() == {"bar", "disc"}
    assert card.untested == ("bar", "disc")
    # the bar never moves: even a tiny untrained encoder shows where it is
    assert card.recipe["metrics"]["val/box_iou/bar"] > 0.5
    json.dumps(card.to_dict())

    assert main(["test", *words, "--ckpt_path", "best"]) == 0
    assert "test/box_iou/bar" in capsys.readouterr().out


def test_a_head_of_no_kind_is_refused(tmp_path, capsys):
    assert main(["fit", "--head", "surprise", "--config", str(CONFIG)]) == 2
    assert "There is no head 'surprise' to train; use detector, names" in capsys.readouterr().err
