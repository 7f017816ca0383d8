"""From an archive and back: a series arrives, the model runs, its SEG stands beside the images and is read back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from dicom_files import SERIES, STUDY
from running import KEY, QUIET

from medsam.io.labels import load_labels
from medsam.io.load import load_volume
from medsam.models.build import build_model
from medsam.models.checkpoint import save_checkpoint
from medsam.models.specs import tiny_spec
from medsam.pacs.client import find, get, store
from medsam.pacs.listen.deliver import deliver
from medsam.pacs.listen.rules import Match, ModelRun, Rule
from medsam.pacs.query import Query


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(build_model(tiny_spec("vit")), path)
    return path


@pytest.mark.parametrize("via", ["dicomweb", "dimse"])
def test_a_series_goes_in_and_its_segmentation_comes_out(empty_orthanc, series, run, model, tmp_path, via):
    main = empty_orthanc.server(**({"dicomweb": None} if via == "dimse" else {}))
    store(main, [series])
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"axis": "k", "prompts": [{"label": "liver", "box3d": [4, 4, 1, 16, 18, 5]}]}))
    rule = Rule("liver", Match(modality=("CT",)), ModelRun(str(model), prompts), send_to="main")
    found = run(rule, deliver=deliver, servers={"main": main}, calling=("ORTHANC",), engine="torch", device="cpu")

    ours = {"AET": "MEDSAM", "Host": "127.0.0.1", "Port": found.port}
    empty_orthanc.rest("/modalities/medsam", "PUT", json.dumps(ours).encode())
    (study,) = json.loads(empty_orthanc.rest("/studies"))

    def forward() -> int:
        answer = json.loads(empty_orthanc.rest("/modalities/medsam/store", "POST", study.encode()))
        found.skipped += QUIET
        return answer["InstancesCount"]

    assert forward() == 6
    found.until(lambda: found.rounds() and found.rounds()[0].send["state"] == "sent", 60)
    (seg,) = find(main, Query("series", {"StudyInstanceUID": STUDY, "Modality": "SEG"})).matches
    (folder,) = get(main, STUDY, seg.series, tmp_path / "back").folders
    (back,) = folder.iterdir()
    made = found.receiver.spool.find(KEY).results(1) / "result.dcm"
    scan = load_volume(series)
    masks, kept = load_labels(back, scan.geometry), load_labels(made, scan.geometry)
    assert list(masks) == list(kept) == ["liver"]
    assert np.array_equal(masks["liver"], kept["liver"])
    assert masks["liver"].any()
    # the archive forwards all of the study, as many do whenever something is added to it: no new work
    assert forward() == 7
    found.until(lambda: found.heard("job_none"))
    assert found.heard("job_none")[0]["message"] == "it is a result that was made here"
    assert [len(one.results) for one in found.rounds()] == [1]
    assert SERIES not in json.dumps(found.said)
