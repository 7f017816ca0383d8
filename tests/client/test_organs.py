"""Organs on a server from a program: the masks of `Predictor.organs`, and none of a search that was given up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from named_heads import learnt, name_network, named_head
from organ_heads import detector_head
from over_a_port import serving

from medsam.client.client import Client
from medsam.errors import Cancelled, PromptError
from medsam.geometry import VolumeGeometry
from medsam.inference.predictor import Predictor
from medsam.inference.worker import Priority, Worker
from medsam.models.build import build_model
from medsam.models.specs import tiny_spec
from medsam.server.app import create_app
from medsam.server.settings import ServerSettings
from medsam.volume import Volume


@contextmanager
def held(worker: Worker) -> Iterator[None]:
    on = [True]

    def wait(_: Any) -> Iterator[None]:
        while on:
            time.sleep(0.001)
            yield

    job = worker.submit(wait, priority=Priority.SLICE)
    try:
        yield
    finally:
        on.clear()
        job.result(5)


def test_organs_are_those_of_the_predictor_and_none_of_one_given_up(tmp_path):
    torch.manual_seed(0)
    sam = build_model(tiny_spec()).eval()
    measured = {"Left Kidney": {"patients": 9, "dice": 0.9, "scans_without": 5}}
    names = named_head(tmp_path / "names.safetensors", sam, learnt(sam), name_network(sam))
    heads = names, detector_head(tmp_path / "boxes.safetensors", sam, measured=measured)
    array = np.random.default_rng(3).normal(100, 30, (6, 20, 30)).clip(0).astype(np.float32)
    scan = Volume(array, VolumeGeometry(array.shape, np.diag([1.0, 1.0, 2.0, 1.0])))
    with Worker() as worker:
        predictor = Predictor(sam, "cpu", engine="torch", worker=worker, heads=heads)
        app = create_app(ServerSettings(store=tmp_path / "store", loaders=1), predictor)
        with serving(app) as url, Client(url) as client, client.open(client.upload(scan, "noise.nrrd")) as session:
            offer = session.organs_offered()
            assert (offer["modality"], offer["modality_by"]) == ("MR", "not below 0")
            assert [one["structure"] for one in offer["structures"]] == ["spleen", "left kidney"]

            def stop(*_: object) -> None:
                raise Cancelled

            # in a block in which the server does nothing less urgent than a click
            with held(worker), pytest.raises(Cancelled):
                session.organs(progress=stop)
            assert (session.names, session.results) == ({}, {})

            told: list[int] = []
            rows = session.organs(progress=lambda done, _: told.append(done))
            assert told == sorted(told)
            assert told[-1] >= 6
            assert [(row["outcome"], row["object"]) for row in rows] == [("found", 1), ("found", 2)]
            assert session.names == {1: "spleen", 2: "kidney_left"}
            own = predictor.organ_reader
            masks = own.answer(predictor.encoder_for(scan), own.offered("MR")).masks
            for number, (name, mask) in enumerate(zip(("spleen", "kidney_left"), masks, strict=True)):
                assert rows[number]["voxels"] == np.count_nonzero(mask.mask) > 0
                for index, result in session.results[name].items():
                    np.testing.assert_array_equal(result.mask, mask.mask[index])
            with pytest.raises(PromptError, match="has a mask already"):
                session.organs()
