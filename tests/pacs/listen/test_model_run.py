"""Rules that run our own model."""

from __future__ import annotations

import json

import measured
import pytest
from dicom_files import STUDY, slices, write
from pydicom import dcmread
from running import KEY, images

from medsam.errors import CheckpointError, MedSAMError
from medsam.models.build import build_model
from medsam.models.checkpoint import save_checkpoint
from medsam.models.specs import tiny_spec
from medsam.pacs.listen.model_run import Models
from medsam.pacs.listen.names import SeriesKey
from medsam.pacs.listen.rules import Match, ModelRun, Rule

# what highdicom, as a workstation, copies from the images
TYPE_2 = {
    "PatientSex": "F",
    "StudyID": "",
    "StudyDate": "20240229",
    "StudyTime": "120000",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(build_model(tiny_spec("vit")), path)
    return str(path)


@pytest.fixture
def start(run):
    return lambda action: run(Rule("liver", Match(), action, send_to="main"), engine="torch", device="cpu")


def test_an_rtstruct_is_made_where_the_rule_says_so(start, model, tmp_path):
    prompts = tmp_path / "boxes.json"
    prompts.write_text(json.dumps({"prompts": [{"label": "liver", "slice": 2, "box": [2, 2, 12, 12]}]}))
    found = start(ModelRun(model, prompts, format="rtstruct"))
    found.send(images(6))
    found.until(lambda: found.sent, 60)
    results = found.receiver.spool.find(KEY).results(1)
    assert dcmread(results / "result.dcm").Modality == "RTSTRUCT"
    assert json.loads((results / "report.json").read_text())["labels"][0]["name"] == "liver"
    assert "DOE" not in (results / "report.json").read_text()


def test_prompts_that_do_not_fit_are_a_failure_that_says_so(start, model, tmp_path):
    prompts = tmp_path / "boxes.json"
    prompts.write_text(json.dumps({"prompts": [{"label": "liver", "slice": 99, "box": [2, 2, 12, 12]}]}))
    found = start(ModelRun(model, prompts))
    found.send(images(6))
    found.until(lambda: found.rounds())
    assert found.rounds()[0].state == "failed"
    assert "99" in found.rounds()[0].message


def test_measurements_of_the_study_prompt_when_they_come(start, model, tmp_path):
    found = start(ModelRun(model, None))
    some = images(6, **TYPE_2)
    found.send(some)
    found.until(lambda: found.rounds())
    assert (found.rounds()[0].state, found.rounds()[0].message) == ("none", "no measurements on it yet")
    assert found.receiver.spool.failures() == []
    line = measured.graphic("POLYLINE", [[3, 3], [12, 11]])
    drawing = dcmread(measured.gsps(tmp_path / "drawing.dcm", [(some[2], [line])]))
    drawing.StudyInstanceUID = STUDY
    found.send([drawing])
    found.until(lambda: found.sent, 60)
    assert [made.state for made in found.rounds()] == ["none", "done"]
    report = json.loads((found.receiver.spool.find(KEY).results(2) / "report.json").read_text())
    assert {one["slice"] for one in report["prompts"]} == {2}
    # the drawing itself is no scan, and another scan of the study has nothing drawn on it
    assert [one.state for one in found.rounds(SeriesKey(STUDY, drawing.SeriesInstanceUID))] == ["none"]
    found.send(images(6, "1.2.9.9"))
    found.until(lambda: found.rounds(SeriesKey(STUDY, "1.2.9.9")))
    assert found.rounds(SeriesKey(STUDY, "1.2.9.9"))[0].message == "no measurements on it yet"


def test_a_series_that_is_no_scan_is_a_failure(start, model, tmp_path):
    prompts = tmp_path / "boxes.json"
    prompts.write_text(json.dumps({"prompts": [{"label": "liver", "slice": 0, "box": [2, 2, 12, 12]}]}))
    found = start(ModelRun(model, prompts))
    odd = images(2)
    odd[1].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    found.send(odd)
    found.until(lambda: found.rounds())
    assert found.rounds()[0].state == "failed"
    assert "DOE" not in json.dumps(found.said)


def test_a_model_that_is_none_is_said_before_anything_comes(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"no weights")
    rule = Rule("liver", Match(), ModelRun(str(tmp_path / "weights.pt"), tmp_path / "prompts.json"))
    with pytest.raises((CheckpointError, MedSAMError)):
        Models([rule]).load()


def test_a_model_that_takes_too_long_is_ended(model, tmp_path):
    folder = tmp_path / "scan"
    for k, pixels in enumerate(slices(6, 16, 16)):
        write(folder / f"{k}.dcm", pixels, ImagePositionPatient=[0, 0, 2 * k])
    prompts = tmp_path / "boxes.json"
    prompts.write_text(json.dumps({"prompts": [{"label": "liver", "slice": 2, "box": [2, 2, 12, 12]}]}))
    run = ModelRun(model, prompts, propagate=True)
    models = Models([Rule("liver", Match(), run)], "cpu", "torch")
    models.load()
    try:
        with pytest.raises(MedSAMError, match="longer than"):
            models.run(run, folder, tmp_path, [], timeout_s=-1, stopped=lambda: False)
        with pytest.raises(MedSAMError, match="cancelled"):
            models.run(run, folder, tmp_path, [], timeout_s=60, stopped=lambda: True)
    finally:
        models.close()
