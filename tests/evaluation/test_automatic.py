"""Detection scored by hand, and `medsam evaluate --prompt auto` as its user runs it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from tiny_training import drawn, tiny_model, write_case, write_manifest

from medsam.cli.main import main
from medsam.errors import InputError
from medsam.evaluation.automatic import stack_iou, summarise_detection
from medsam.evaluation.record import record
from medsam.models.build import load_model
from medsam.models.detector import Detector, DetectorSizes
from medsam.models.heads import Head, HeadCard, encoder_digest, read_head, save_head


def row(present: bool, found: bool = False, alarms: int = 0, candidates=(), presence=(), **more):
    kept = {"candidates": [list(one) for one in candidates], "presence": [list(one) for one in presence]}
    shared = {"model": "m", "structure": "s", "confidence": 0.5, "box_iou": 0.5 if present else None}
    return {**shared, "present": present, "found": found, "false_alarms": alarms, **kept, **more}


def test_boxes_overlap_over_all_slices_together():
    square = (0.0, 0.0, 2.0, 2.0)
    assert stack_iou({1: square, 2: square}, {1: square, 2: square}) == pytest.approx(1)
    # one slice of three in common, half of it: 2 of 4 + 4 + 4 - 2
    assert stack_iou({1: square, 2: square}, {2: (1.0, 0.0, 3.0, 2.0)}) == pytest.approx(2 / 10)
    assert stack_iou({}, {1: square}) == 0.0


def test_figures_by_hand():
    rows = [
        row(True, True, 0, [(0.9, True), (0.3, False)], [(0.9, True), (0.2, False)]),
        row(True, False, 1, [(0.6, False), (0.4, True)], [(0.4, True), (0.5, False)]),
        row(False, False, 1, [(0.5, False)], [(0.1, False)]),
        row(False),
    ]
    found = summarise_detection(rows)["m"]["s"]
    assert (found["scans"], found["present"], found["found"], found["false_alarms"]) == (4, 2, 1, 2)
    assert (found["scans_without"], found["scans_without_with_alarm"]) == (2, 1)
    # by confidence: a hit, an alarm (a quarter a scan), an alarm, the other hit
    assert found["sensitivity"] == {"0.125": 0.5, "0.25": 0.5, "0.5": 1.0, "1": 1.0, "2": 1.0, "4": 1.0}
    # of 2 x 3 pairs of slices with and without it the first is above in all but one
    assert found["presence_auc"] == pytest.approx(5 / 6)
    assert (found["slices"], found["slices_without"]) == (5, 3)
    assert summarise_detection([]) == {}


def test_nothing_to_find_has_no_sensitivity():
    found = summarise_detection([row(False)])["m"]["s"]
    assert set(found["sensitivity"].values()) == {None}
    assert found["presence_auc"] is None
    json.dumps(found, allow_nan=False)


def test_an_evaluation_without_prompts_beside_boxes(tmp_path, capsys):
    cases = [write_case(tmp_path, f"c{n}", *drawn(n), "test") for n in range(2)]
    label = nib.load(tmp_path / "c1-label.nii.gz")
    without = np.asarray(label.dataobj) * (np.asarray(label.dataobj) != 1)  # no disc in the second
    nib.save(nib.Nifti1Image(without.astype(np.uint8), label.affine), tmp_path / "c1-label.nii.gz")
    manifest, model = write_manifest(tmp_path, cases), tiny_model(tmp_path / "tiny.safetensors", "tiny_vit")
    sam = load_model(str(model))
    torch.manual_seed(0)
    sizes = DetectorSizes(1, sam.spec.decoder.width, 16, 16)
    card = HeadCard("detector", "tiny", ("Disc",), sam.spec.name, encoder_digest(sam), asdict(sizes))
    # so low a threshold that even what has learnt nothing is believed
    head = Head(replace(card, thresholds={"Disc": 0.001}), Detector(sizes).state_dict())
    save_head(head, tmp_path / "head.safetensors")
    words = ["evaluate", "--manifest", str(manifest), "--model", str(model), "--out", str(tmp_path / "out")]
    words += ["--prompt", "box", "auto", "--head", str(tmp_path / "head.safetensors"), "--every", "2", "--json"]
    assert main(words) == 0
    summary = json.loads(capsys.readouterr().out)
    found = summary["detection"]["tiny"]["disc"]
    assert (found["scans"], found["present"], found["scans_without"]) == (2, 1, 1)
    # a mask on the scan without a disc is a false alarm, and no row of Dice
    assert found["scans_without_with_alarm"] == 1
    table = pd.read_csv(tmp_path / "out" / "metrics.csv")
    auto = table[table["prompt"] == "auto"]
    assert list(auto["case"] + "/" + auto["structure"]) == ["c0/disc"]
    assert len(pd.read_csv(tmp_path / "out" / "detection.csv")) == 2
    # every second slice alone is there, for boxes and without
    assert set(pd.read_csv(tmp_path / "out" / "slices.csv")["slice"]) <= {0, 2}
    assert (tmp_path / "out" / "report.html").exists()

    # measured on patients it never saw, a structure is offered
    assert read_head(tmp_path / "head.safetensors").card.untested == ("Disc",)
    assert main([*words, "--record"]) == 2
    assert "has to be measured on patients that it never saw" in capsys.readouterr().err
    assert main([*words[:-1], "--split", "test", "--record"]) == 0
    assert "Disc measured on test" in capsys.readouterr().err
    card = read_head(tmp_path / "head.safetensors").card
    assert card.untested == ()
    assert (card.measured["Disc"]["scans"], card.measured["Disc"]["found"].split()[-1]) == (2, "1")
    # on no scan of the test: nothing was measured of it
    absent = {"detection": {"tiny": {"disc": {**found, "present": 0, "found": 0}}}}
    save_head(head, tmp_path / "head.safetensors")
    with pytest.raises(InputError, match="there is nothing to record"):
        record(tmp_path / "head.safetensors", absent, ["set"], "test")
    # a name is the same however it is spelt, as for `--auto`
    spelt = {"detection": {"tiny": {"disc-": found}}}
    assert record(tmp_path / "head.safetensors", spelt, ["set"], "test") == ["Disc"]

    assert main([*words[:6], str(tmp_path / "none"), "--prompt", "auto+points:1"]) == 2
    assert "There is no prompt 'auto+points:1'" in capsys.readouterr().err
