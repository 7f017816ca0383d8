"""The model that answers, and its decoder for pages."""

import json
import logging

import torch

from medsam.errors import CheckpointError
from medsam.inference.predictor import Predictor
from medsam.models.build import build_model
from medsam.models.specs import SPECS, tiny_spec
from medsam.server.model import DecoderFile
from medsam.server.watch.logs import JsonLines

API = "/api/v1"


def test_an_architecture_without_a_structure_has_no_decoder(serve_all):
    told = serve_all().get(f"{API}/model").json()
    spec = tiny_spec("vit")
    assert told == {
        "name": spec.name,
        "licence": spec.licence or None,
        "knows_clicks": True,
        "input_size": 64,
        "decoder": None,
    }


def test_a_decoder_is_named_by_its_bytes_and_may_be_kept(serve, monkeypatch):
    made = []

    def of(sam):
        made.append(sam)
        return DecoderFile(b"a graph", "0123abcd")

    monkeypatch.setattr(DecoderFile, "of", of)
    client = serve()
    path = client.get(f"{API}/model").json()["decoder"]
    assert path == "/model/decoder/0123abcd.onnx"
    answer = client.get(API + path)
    assert (answer.status_code, answer.content) == (200, b"a graph")
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert client.get(f"{API}/model/decoder/0123abce.onnx").status_code == 404
    assert len(made) == 1


def test_a_released_model_has_one_of_some_megabytes():
    torch.manual_seed(1)
    sam = build_model(SPECS["litemedsam"])
    file = DecoderFile.of(sam)
    assert file is not None
    assert 4_000_000 < len(file.content) < 30_000_000
    assert file == DecoderFile.of(sam)


def test_another_network_than_sam_has_none():
    assert DecoderFile.of(torch.nn.Identity()) is None


def test_why_there_is_no_decoder_stands_in_the_log(monkeypatch, caplog):
    def damaged(*given):
        raise CheckpointError("The graph is of other weights.")

    monkeypatch.setattr("medsam.server.model.filled_structure", damaged)
    with caplog.at_level(logging.WARNING, "medsam.server"):
        assert DecoderFile.of(build_model(SPECS["litemedsam"])) is None
    line = json.loads(JsonLines().format(caplog.records[-1]))
    assert (line["event"], line["reason"]) == ("no decoder for pages", "The graph is of other weights.")


def test_once_another_model_answers_pages_get_its_decoder(serve, monkeypatch, tiny_predictor):
    monkeypatch.setattr(DecoderFile, "of", lambda sam: DecoderFile(b"a graph", f"{id(sam):x}"))
    client = serve()
    before = client.get(f"{API}/model").json()["decoder"]
    other = Predictor(build_model(tiny_spec("vit")), "cpu", engine="torch", worker=tiny_predictor.worker)
    client.app.state.services.readings.adopt(other)
    now = client.get(f"{API}/model").json()["decoder"]
    assert now != before
    assert client.get(API + now).status_code == 200
    assert client.get(API + before).status_code == 404
