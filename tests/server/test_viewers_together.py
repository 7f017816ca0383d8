"""Clients of several protocols on one server at once: each gets the mask that it would get alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import SimpleITK as sitk
from monai_client import client_module
from nninteractive_viewer import Viewer
from over_a_port import serving
from phantoms import block

from medsam.client.client import Client
from medsam.client.consoles import segmented
from medsam.prompts.prompt import Prompt
from medsam.server.app import create_app
from medsam.server.settings import MonaiLabel, NNInteractive, ServerSettings
from medsam.volume import Volume


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_clients_of_three_protocols_at_once(tmp_path, tiny_predictor):
    remote = pytest.importorskip("nnInteractive.inference.remote", reason="the client of nnInteractive")
    monai = client_module(tmp_path)
    scan, _ = block((6, 24, 32), (6, 8, 1, 18, 18, 5))
    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(scan.array), str(path))
    told = ServerSettings(tmp_path / "store", monailabel=MonaiLabel(), nninteractive=NNInteractive())
    found: dict[str, np.ndarray] = {}

    def through_monai_label(url: str) -> None:
        client = monai.MONAILabelClient(url, tmpdir=str(tmp_path), client_id="tests")
        session = client.create_session(str(path))["session_id"]
        got, _ = client.infer("medsam_slice", "scan", {"roi": [4, 19, 6, 19, 2, 2]}, session_id=session)
        found["MONAI Label"] = sitk.GetArrayFromImage(sitk.ReadImage(got)) != 0

    def through_nninteractive(url: str) -> None:
        with remote.nnInteractiveRemoteInferenceSession(f"{url}/nninteractive") as session:
            viewer = Viewer(session, scan.array, (1.0, 1.0, 1.0))
            session.add_bbox_interaction([[3, 4], [6, 20], [4, 20]], True)
            viewer.wait()
            found["nnInteractive"] = viewer.mask

    def through_medsam(url: str) -> None:
        with Client(url) as client:
            found["medsam"] = segmented(client, scan, [Prompt(box=(5, 7, 19, 19), slice=4)], axis="k", propagate=False)

    asked = (through_monai_label, through_nninteractive, through_medsam)
    with serving(create_app(told, tiny_predictor)) as url:
        threads = [threading.Thread(target=one, args=(url,), daemon=True) for one in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    sent = Volume.from_array(scan.array, (1.0, 1.0, 1.0))

    def alone(prompt: Prompt, propagate: bool = False) -> np.ndarray:
        return tiny_predictor.segment(sent, prompt, axis="k", propagate=propagate).labels.array != 0

    expected = {
        "MONAI Label": alone(Prompt(box=(4, 6, 20, 20), slice=2)),
        "nnInteractive": alone(Prompt(box=(4, 6, 20, 20), slice=3), propagate=True),
        "medsam": alone(Prompt(box=(5, 7, 19, 19), slice=4)),
    }
    assert found.keys() == expected.keys()
    for protocol, mask in expected.items():
        np.testing.assert_array_equal(found[protocol], mask, err_msg=protocol)
        assert mask.any(), protocol
