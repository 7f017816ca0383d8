import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from phantoms import ThresholdSam, block

from medsam.inference import image_predictor as image_predictor_module
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.engines.torch import TorchEngine
from medsam.inference.image_predictor import Crop, ImagePredictor
from medsam.inference.predictor import Predictor
from medsam.inference.usage import Usage
from medsam.prompts.prompt import Prompt, SlicePrompt
from medsam.volume import Volume

CPU = torch.device("cpu")
SCAN = block((3, 40, 50), (10, 8, 0, 30, 28, 3))[0]
SCAN.array[:, 30:36, 36:44] = 60 + 30 * np.arange(3)[:, None, None]  # no two slices alike
BOX = [SlicePrompt(1, (4, 4, 20, 20))]


def with_engine(sam, engine, cache=None):
    found = ImagePredictor(sam, "cpu", cache)
    found._engine = engine
    return found


@pytest.fixture
def ran(exported, monkeypatch):
    """The graphs that were run, in order."""
    graphs, run = [], exported._run
    monkeypatch.setattr(exported, "_run", lambda graph, *inputs: graphs.append(graph) or run(graph, *inputs))
    return graphs


def test_of_a_slice_that_was_made_ready_a_prompt_runs_the_rest_alone(tiny_sam, exported, ran):
    image_predictor = with_engine(tiny_sam, exported)
    scan_encoder = image_predictor.encoder_for(SCAN)
    embedding = scan_encoder.make_ready(1)
    before = len(ran)
    assert before >= 2
    found = image_predictor.predict(scan_encoder.encode(1), BOX)
    assert len(ran) == before + 1
    np.testing.assert_array_equal(found.logits, image_predictor.predict(embedding, BOX).logits)


def test_the_image_part_is_computed_once_a_crop_however_often_it_is_asked_for(tiny_sam, exported, ran):
    image_predictor = with_engine(tiny_sam, exported)
    embedding = image_predictor.embed(SCAN)
    for _ in range(3):
        image_predictor.predict(embedding, BOX)
    # another encoder of the same scan meets it, too
    image_predictor.predict(image_predictor.embed(SCAN), BOX)
    assert ran == ["encoder", "precompute", "decode_tokens", "decode_tokens", "decode_tokens", "decode_tokens"]


def test_clicks_on_a_slice_compute_its_image_part_once(tiny_sam, exported, ran):
    predictor = Predictor(tiny_sam, "cpu")
    predictor.images._engine = exported
    session = predictor.session(SCAN, zoom="off")
    session.box(1, (4, 4, 20, 20))
    for x in (5, 7, 9):
        session.click(1, x, 6)
    assert (ran.count("encoder"), ran.count("precompute")) == (1, 1)


def test_without_a_cache_an_embedding_still_keeps_its_image_part(tiny_sam, exported, ran):
    image_predictor = with_engine(tiny_sam, exported, EmbeddingCache(memory_bytes=0))
    embedding = image_predictor.embed(SCAN)
    for _ in range(2):
        image_predictor.predict(embedding, BOX)
    image_predictor.predict(image_predictor.embed(SCAN), BOX)
    assert (ran.count("encoder"), ran.count("precompute")) == (2, 2)


def test_an_embedding_outlives_the_engine_that_precomputed_it(tiny_sam, exported):
    image_predictor = with_engine(tiny_sam, exported)
    embedding = image_predictor.embed(SCAN)
    before = image_predictor.predict(embedding, BOX)
    image_predictor._engine = TorchEngine(tiny_sam, CPU)
    after = image_predictor.predict(embedding, BOX)
    torch.testing.assert_close(after.logits, before.logits, atol=1e-5, rtol=1e-4)


def test_a_crop_is_prepared_once_a_scan_encoder(monkeypatch):
    prepared, prepare = [], image_predictor_module.slice_input
    monkeypatch.setattr(
        image_predictor_module, "slice_input", lambda *given: prepared.append(given[2]) or prepare(*given)
    )
    digested, digest = [], image_predictor_module.embedding_key
    monkeypatch.setattr(image_predictor_module, "embedding_key", lambda *given: digested.append(1) or digest(*given))
    scan_encoder = ImagePredictor(ThresholdSam(), "cpu").encoder_for(SCAN)
    for _ in range(3):
        scan_encoder.encode_many([Crop(0), Crop(2), Crop(2, (0, 0, 10, 10))])
    # the scan's own window, named or not, is one crop
    scan_encoder.encode(2, window=scan_encoder.window)
    assert prepared == [0, 2, 2]
    assert len(digested) == 3


def test_what_has_left_the_memory_is_prepared_and_encoded_again():
    sam = ThresholdSam()
    scan_encoder = ImagePredictor(sam, "cpu", EmbeddingCache(memory_bytes=0)).encoder_for(SCAN)
    first, second = scan_encoder.encode(1), scan_encoder.encode(1)
    assert torch.equal(first.features, second.features)
    assert (sam.encoded, first.usage.encoded, second.usage.encoded) == (2, 1, 1)


def test_six_threads_one_encode():
    sam = ThresholdSam()
    encode = sam.encode_image

    def slow(images):
        threading.Event().wait(0.2)  # the others arrive meanwhile
        return encode(images)

    sam.encode_image = slow
    scan_encoder = ImagePredictor(sam, "cpu").encoder_for(SCAN)
    start = threading.Barrier(6)

    def work(_):
        start.wait()
        return scan_encoder.encode(1)

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(work, range(6)))
    assert sam.encoded == 1
    assert sum(one.usage.encoded for one in found) == 1
    assert all(torch.equal(one.features, found[0].features) for one in found)


def test_two_at_once_tell_their_own_cost():
    """Each segment on its own scan, again and again at the same time on one predictor."""
    scans = [Volume(SCAN.array.copy(), SCAN.geometry) for _ in range(2)]
    scans[1].array[:, :5, 40:] = 150
    predictor = Predictor(ThresholdSam(), "cpu", EmbeddingCache(memory_bytes=0))
    start = threading.Barrier(2)

    def work(number):
        slices = [(0,), (0, 1, 2)][number]
        found = []
        for _ in range(5):
            start.wait()
            prompts = [Prompt(box=(10, 8, 30, 28), slice=index) for index in slices]
            found.append(predictor.segment(scans[number], prompts, zoom="off").encoded)
        return found

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, range(2))) == [[1] * 5, [3] * 5]


def test_usage_tells_what_was_run_and_what_was_looked_at():
    image_predictor = ImagePredictor(ThresholdSam(), "cpu")
    scan_encoder = image_predictor.encoder_for(SCAN)
    first, second = scan_encoder.encode(1), scan_encoder.encode(1)
    whole = Crop(1, None, scan_encoder.window)
    assert (first.usage.encoded, second.usage.encoded) == (1, 0)
    # what it cost when it was first encoded, however it was come by
    assert first.usage.crops == second.usage.crops == {whole: pytest.approx(first.usage.embed_s)}
    assert second.usage.embed_s < 0.1
    batch = scan_encoder.encode_many([Crop(0), Crop(1), Crop(0)])
    assert [one.usage.encoded for one in batch] == [1, 0, 0]
    found = image_predictor.predict(first, BOX * 3)
    assert (found.usage.decoded, found.usage.encoded) == (3, 0)
    assert found.usage.decode_s > 0
    assert len(sum((one.usage for one in batch), Usage()).crops) == 2


def test_making_graphs_is_preparing_not_embedding(tiny_sam, exported, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(image_predictor_module, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    image_predictor = with_engine(tiny_sam, exported)
    embedding = image_predictor.embed(SCAN)
    assert embedding.usage.seconds == {"prepare": 10, "embed": 10, "decode": 0}
    found = image_predictor.predict(embedding, BOX)
    assert found.usage.seconds == {"prepare": 0, "embed": 0, "decode": 10}


def test_predictors_can_be_copied_and_sent(tiny_sam, exported):
    image_predictor = with_engine(tiny_sam, exported)
    embedding = image_predictor.embed(SCAN)
    image_predictor.predict(embedding, BOX)
    for twin in (copy.deepcopy(image_predictor), pickle.loads(pickle.dumps(image_predictor))):
        torch.testing.assert_close(twin.embed(SCAN).features, embedding.features, atol=1e-4, rtol=1e-4)
    twin = pickle.loads(pickle.dumps(embedding))
    assert torch.equal(twin.features, embedding.features)
    assert twin.precomputed.nbytes == 0


def test_masks_are_where_logits_are_above_the_models_threshold(tiny_sam):
    usual = ImagePredictor(tiny_sam, "cpu")
    other = ImagePredictor(copy.deepcopy(tiny_sam), "cpu")
    other.sam.spec = replace(tiny_sam.spec, mask_threshold=0.75)
    embedding = usual.embed(SCAN, 1)
    plain, moved = usual.predict(embedding, BOX), other.predict(embedding, BOX)
    np.testing.assert_allclose(moved.logits, plain.logits - 0.75, atol=1e-6)
    np.testing.assert_array_equal(moved.masks, embedding.frame.restore(plain.logits[0] - 0.75).numpy()[None] > 0)
    # what is given back with the next click is what the network said
    again = usual.predict(embedding, BOX, previous=[plain.logits[0, 0]])
    back = other.predict(embedding, BOX, previous=[moved.logits[0, 0]])
    np.testing.assert_allclose(back.logits, again.logits - 0.75, atol=1e-5)
