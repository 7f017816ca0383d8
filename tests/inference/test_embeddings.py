import copy
import gc
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from phantoms import ThresholdSam, block
from safetensors.torch import save_file

from medsam.errors import InputError
from medsam.inference import embeddings
from medsam.inference.embeddings import EmbeddingCache, Precomputed, embedding_key
from medsam.inference.predictor import Predictor
from medsam.models.weights_file import weights_digest
from medsam.prompts.prompt import Prompt, SlicePrompt
from medsam.transforms.intensity import IntensityWindow
from medsam.volume import Volume


def key(letter: str) -> str:
    return letter * 64


def tensor(value: float, shape=(2, 4, 8)) -> torch.Tensor:
    """256 bytes of one number."""
    return torch.full(shape, float(value))


def only_file(folder: Path) -> Path:
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


# -- memory -----------------------------------------------------------------------------------------------------


def test_the_least_recently_used_leaves_first():
    cache = EmbeddingCache(memory_bytes=3 * 256)
    for letter in "abc":
        cache.put(key(letter), tensor(1))
    assert cache.held_bytes == 768
    assert cache.get(key("a")) is not None  # b is now the oldest
    cache.put(key("d"), tensor(1))
    assert [cache.get(key(letter)) is not None for letter in "abcd"] == [True, False, True, True]
    assert (cache.hits, cache.misses) == (4, 1)


def test_the_bound_is_in_bytes_and_makes_as_much_room_as_is_needed():
    cache = EmbeddingCache(memory_bytes=1000)
    for letter in "abc":
        cache.put(key(letter), tensor(1))
    cache.put(key("d"), tensor(1, (5, 4, 8)))  # 640 bytes: one of the small ones may stay
    assert [cache.get(key(letter)) is not None for letter in "abcd"] == [False, False, True, True]
    assert cache.held_bytes == 256 + 640


def test_what_is_larger_than_the_bound_is_not_kept_and_evicts_nothing():
    cache = EmbeddingCache(memory_bytes=300)
    cache.put(key("a"), tensor(1))
    cache.put(key("b"), tensor(1, (5, 4, 8)))
    assert cache.get(key("a")) is not None
    assert cache.get(key("b")) is None


def test_putting_twice_counts_once():
    cache = EmbeddingCache(memory_bytes=1000)
    for _ in range(3):
        cache.put(key("a"), tensor(1))
    assert cache.held_bytes == 256


def test_what_is_kept_is_nobody_elses():
    cache = EmbeddingCache()
    given = tensor(1)
    cache.put(key("a"), given)
    given.zero_()
    assert torch.equal(cache.get(key("a")).features, tensor(1))


def test_a_row_of_a_batch_does_not_keep_the_batch():
    cache = EmbeddingCache()
    with torch.inference_mode():
        batch = torch.rand(8, 2, 4, 8)
    cache.put(key("a"), batch[3])
    found = cache.get(key("a")).features
    assert torch.equal(found, batch[3])
    assert found.untyped_storage().nbytes() == 256
    assert not found.is_inference()


def test_only_float32_is_kept():
    with pytest.raises(ValueError, match="float64"):
        EmbeddingCache().put(key("a"), torch.zeros(1, 2, 2, dtype=torch.float64))


# -- disk -------------------------------------------------------------------------------------------------------


def test_the_disk_gives_back_every_bit(tmp_path):
    features = torch.randn(3, 5, 7)
    features[0, 0, :4] = torch.tensor([float("nan"), float("inf"), -0.0, 1e-42])
    writer = EmbeddingCache(folder=tmp_path / "new" / "folder")
    writer.put(key("a"), features.transpose(1, 2))
    path = only_file(tmp_path)
    assert path == tmp_path / "new" / "folder" / "aa" / f"{key('a')}.safetensors"
    assert writer.written == path.stat().st_size
    reader = EmbeddingCache(folder=tmp_path / "new" / "folder")
    found = reader.get(key("a")).features
    assert found.numpy().tobytes() == features.transpose(1, 2).contiguous().numpy().tobytes()
    assert found.shape == (3, 7, 5)
    path.unlink()
    assert reader.get(key("a")) is not None, "the memory has it too"
    assert (reader.hits, reader.misses) == (2, 0)


def test_without_memory_the_disk_answers(tmp_path):
    cache = EmbeddingCache(memory_bytes=0, folder=tmp_path)
    cache.put(key("a"), tensor(1))
    assert cache.held_bytes == 0
    assert torch.equal(cache.get(key("a")).features, tensor(1))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def _scribble(path: Path) -> None:
    path.write_bytes(b"<html>502 Bad Gateway</html>" * 9)


def _of_somebody_else(path: Path) -> None:
    save_file({"weight": tensor(1)}, path)


def _of_another_key(path: Path) -> None:
    other = EmbeddingCache(folder=path.parents[1] / "other")
    other.put(key("b"), tensor(2))
    (path.parents[1] / "other" / "bb" / f"{key('b')}.safetensors").replace(path)


@pytest.mark.parametrize("damage", [_cut, _empty, _flip_one_bit, _scribble, _of_somebody_else, _of_another_key])
def test_a_damaged_file_counts_as_absent_and_is_replaced(tmp_path, damage):
    EmbeddingCache(folder=tmp_path).put(key("a"), tensor(1))
    damage(tmp_path / "aa" / f"{key('a')}.safetensors")
    cache = EmbeddingCache(folder=tmp_path)
    assert cache.get(key("a")) is None
    cache.put(key("a"), tensor(1))
    assert torch.equal(EmbeddingCache(folder=tmp_path).get(key("a")).features, tensor(1))


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_full_disk_is_said_once_and_leaves_nothing_behind(tmp_path):
    import resource

    cache = EmbeddingCache(folder=tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with pytest.raises(InputError, match=r"cannot be written: .*another folder"):
            cache.put(key("a"), tensor(1))
        cache.put(key("b"), tensor(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert torch.equal(cache.get(key("a")).features, tensor(1)), "the memory goes on"
    assert torch.equal(cache.get(key("b")).features, tensor(2))
    cache.put(key("c"), tensor(3))
    assert not (tmp_path / "cc").exists(), "this cache leaves the folder alone from now on"


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="embedding folder .*file.* cannot be written"):
        EmbeddingCache(folder=tmp_path / "file")
    (tmp_path / "aa").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        EmbeddingCache(folder=tmp_path).put(key("a"), tensor(1))


def test_a_copy_starts_empty_with_the_same_bound_and_folder(tmp_path):
    cache = EmbeddingCache(1000, tmp_path)
    cache.put(key("a"), tensor(1))
    twin = copy.deepcopy(cache)
    assert (twin.memory_bytes, twin.folder, twin.held_bytes) == (1000, tmp_path, 0)
    assert torch.equal(twin.get(key("a")).features, tensor(1))


# -- many at once -----------------------------------------------------------------------------------------------


def test_threads_share_a_cache(tmp_path):
    """Eight threads over sixteen keys, with room in memory for four: every answer is right and the books balance."""
    cache = EmbeddingCache(memory_bytes=4 * 256, folder=tmp_path)
    wrong, start = [], threading.Barrier(8)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        start.wait()
        for number in rng.integers(16, size=100):
            name = key(f"{number:x}")
            found = cache.get(name)
            if found is None:
                cache.put(name, tensor(float(number)))
            elif not torch.equal(found.features, tensor(float(number))):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.hits + cache.misses == 800
    assert cache.held_bytes == 4 * 256
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 16
    assert {path.suffix for path in files} == {".safetensors"}


_WRITER = """
import sys, torch
from medsam.inference.embeddings import EmbeddingCache
cache = EmbeddingCache(0, sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(100):
    cache.put("a" * 64, torch.full((64, 32, 32), 3.0))
"""


def test_processes_write_one_key_while_a_third_reads_it(tmp_path):
    command = [sys.executable, "-c", _WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n", writer.communicate()[1]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    reader, seen = EmbeddingCache(0, tmp_path), 0
    while any(writer.poll() is None for writer in writers):
        found = reader.get(key("a"))
        # absent until the first file appears, complete ever after
        assert (found is None and not seen) or torch.equal(found.features, torch.full((64, 32, 32), 3.0))
        seen += found is not None
    for writer in writers:
        assert (writer.communicate()[1], writer.returncode) == ("", 0)
    assert seen
    assert only_file(tmp_path).name == f"{key('a')}.safetensors"


_VERSION = """
import sys, torch
from medsam.inference import embeddings
embeddings._FORMAT = version = int(sys.argv[2])
cache = embeddings.EmbeddingCache(0, sys.argv[1])
print("ready", flush=True)
for turn in range(2):
    assert sys.stdin.readline() == "go\\n"
    for number in range(25):
        key = embeddings.embedding_key(torch.full((3, 4, 4), float(number)), "weights")
        mine = torch.full((2, 4, 4), 1000.0 * version + number)
        (found,) = cache.fetch([key], lambda keys: [mine]).values()
        assert torch.equal(found.features, mine), "an entry of the other version"
    print(cache.misses, flush=True)
"""


def test_two_versions_share_a_folder_and_keep_their_own(tmp_path):
    now = embeddings._FORMAT
    versions = [
        subprocess.Popen(
            [sys.executable, "-c", _VERSION, str(tmp_path), str(version)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for version in (now - 1, now)
    ]
    for version in versions:
        assert version.stdout.readline() == "ready\n", version.communicate()[1]
    for _ in range(2):
        for version in versions:
            version.stdin.write("go\n")
            version.stdin.flush()
        # made in the first turn, kept in the second
        assert [version.stdout.readline() for version in versions] == ["25\n", "25\n"]
    for version in versions:
        assert (version.communicate()[1], version.returncode) == ("", 0)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 50


def at_once(count, work):
    """What `work` gives or raises in each of so many threads that start together."""
    start = threading.Barrier(count)

    def run(number):
        start.wait()
        try:
            return work(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize("memory_bytes", [0, 2**20])
def test_of_six_threads_one_makes_what_all_ask_for(memory_bytes):
    cache = EmbeddingCache(memory_bytes)
    made = []

    def make(keys):
        for name in keys:
            made.append(name)
            time.sleep(0.2)  # the others arrive meanwhile
            yield tensor(1)

    found = at_once(6, lambda _: cache.fetch([key("a"), key("b")], make))
    assert sorted(made) == [key("a"), key("b")]
    assert all(torch.equal(each[key("b")].features, tensor(1)) for each in found)
    assert cache.hits + cache.misses == 12
    assert cache.misses == 2


def test_threads_that_wait_for_each_other_come_to_an_end():
    cache = EmbeddingCache(0)
    names = [key(letter) for letter in "abcdef"]

    def make(keys):
        for name in keys:
            time.sleep(0.01)
            yield tensor(float(names.index(name)))

    for found in at_once(6, lambda number: cache.fetch(names[number:] + names[:number], make)):
        assert [float(found[name].features[0, 0, 0]) for name in names] == [0, 1, 2, 3, 4, 5]


def test_what_fails_fails_for_all_who_wait_and_is_not_kept():
    cache = EmbeddingCache()
    calls = []

    def fail(keys):
        calls.append(keys)
        time.sleep(0.2)
        raise RuntimeError("out of memory")

    found = at_once(6, lambda _: cache.fetch([key("a")], fail))
    assert len(calls) == 1
    assert {str(error) for error in found} == {"out of memory"}
    assert torch.equal(cache.fetch([key("a")], lambda keys: [tensor(1)])[key("a")].features, tensor(1))


def test_when_one_is_interrupted_another_takes_its_place():
    cache = EmbeddingCache()
    waiting, calls = threading.Event(), []

    def make(keys):
        calls.append(keys)
        if len(calls) == 1:
            waiting.set()
            time.sleep(0.2)
            raise KeyboardInterrupt
        return [tensor(1)]

    def first(_):
        with pytest.raises(KeyboardInterrupt):
            cache.fetch([key("a")], make)

    def second(_):
        waiting.wait()
        return cache.fetch([key("a")], make)

    _, found = at_once(2, lambda number: (first, second)[number](number))
    assert torch.equal(found[key("a")].features, tensor(1))
    assert len(calls) == 2


class Tokens:
    """An engine whose image tokens take 100 bytes."""

    def __init__(self):
        self.computed = 0

    def precompute(self, features):
        self.computed += 1
        return (torch.zeros(25),)


def test_what_prompts_share_is_made_once_an_engine_and_counts():
    cache, engine = EmbeddingCache(), Tokens()
    kept = cache.put(key("a"), tensor(1))
    at_once(6, lambda _: kept.precomputed.of(engine, kept.features))
    assert engine.computed == 1
    assert cache.held_bytes == 256 + 100
    other = Tokens()
    kept.precomputed.of(other, kept.features)
    assert (engine.computed, other.computed) == (1, 1)
    assert cache.held_bytes == 256 + 100, "of one engine at a time"


def test_what_prompts_share_leaves_before_embeddings_do_but_for_the_last_two():
    cache, engine = EmbeddingCache(memory_bytes=4 * 256 + 250), Tokens()
    for letter in "abcd":
        kept = cache.put(key(letter), tensor(1))
        kept.precomputed.of(engine, kept.features)
        cache.make_room()
    shared = {letter: cache.get(key(letter)).precomputed.nbytes for letter in "abcd"}
    assert shared == {"a": 0, "b": 0, "c": 100, "d": 100}
    cache.put(key("e"), tensor(1))
    assert cache.get(key("a")) is None
    assert cache.held_bytes <= cache.memory_bytes


def test_where_only_embeddings_fit_they_stay():
    cache, engine = EmbeddingCache(memory_bytes=256), Tokens()
    kept = cache.put(key("a"), tensor(1))
    kept.precomputed.of(engine, kept.features)
    cache.make_room()
    assert cache.get(key("a")) is kept
    assert cache.held_bytes == 256


# -- keys -------------------------------------------------------------------------------------------------------


def test_a_key_changes_with_everything_the_answer_depends_on(monkeypatch):
    pixels = torch.rand(3, 8, 8)
    one_bit = pixels.clone()
    one_bit[2, 7, 7] = torch.nextafter(pixels[2, 7, 7], torch.tensor(2.0))
    keys = {
        "same": embedding_key(pixels, "w", "torch", "float32"),
        "pixel": embedding_key(one_bit, "w"),
        "shape": embedding_key(pixels.reshape(3, 4, 16), "w"),
        "dtype": embedding_key(pixels.view(torch.int32), "w"),
        "weights": embedding_key(pixels, "v"),
        "engine": embedding_key(pixels, "w", "openvino"),
        "precision": embedding_key(pixels, "w", "torch", "bfloat16"),
    }
    again = embedding_key(pixels.transpose(1, 2).contiguous().transpose(1, 2), "w")
    monkeypatch.setattr(embeddings, "_FORMAT", embeddings._FORMAT + 1)
    keys["format"] = embedding_key(pixels, "w")
    assert len(set(keys.values())) == len(keys)
    assert again == keys["same"], "the layout in memory does not matter"
    assert all(len(one) == 64 and set(one) <= set("0123456789abcdef") for one in keys.values())


def test_a_key_is_the_same_on_every_machine():
    """Pinned: a folder filled by an older version must stay good, or `_FORMAT` must rise."""
    pixels = torch.arange(12, dtype=torch.float32).reshape(3, 2, 2)
    assert embedding_key(pixels, "weights") == "28f3f377cc18e763b9596e72aefabc6ba804f7123f4ea6d88e51c602787cea4c"


def test_the_weights_digest_sees_values_and_names():
    def image_predictor(**layers: torch.nn.Module) -> torch.nn.Module:
        return torch.nn.ModuleDict(layers)

    torch.manual_seed(0)
    layer, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    digest = weights_digest(image_predictor(a=layer, b=other))
    assert weights_digest(image_predictor(b=other, a=layer)) == digest, "the order of definition does not matter"
    assert weights_digest(image_predictor(a=other, b=layer)) != digest
    assert weights_digest(image_predictor(a=layer, c=other)) != digest
    with torch.no_grad():
        layer.weight[0, 0] += 1e-7
    assert weights_digest(image_predictor(a=layer, b=other)) != digest


# -- in use -----------------------------------------------------------------------------------------------------


@pytest.fixture
def scan() -> Volume:
    rng = np.random.default_rng(0)
    volume, _ = block((3, 20, 30), (4, 6, 0, 14, 12, 3))
    return Volume((volume.array + rng.normal(0, 5, volume.array.shape)).astype(np.float32), volume.geometry)


class Weighted(ThresholdSam):
    """With a weight, so that two of them can differ."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))


def test_a_second_prompt_on_a_slice_costs_a_decode_only(scan):
    predictor = Predictor(ThresholdSam(), "cpu")
    first = predictor.segment(scan, [Prompt(box=(4, 6, 14, 12), slice=1)])
    second = predictor.segment(scan, [Prompt(box=(4, 6, 9, 12), slice=1)])
    predictor.predict(predictor.encoder_for(scan).encode(1), [SlicePrompt(1, (5.0, 7, 10, 11))])
    assert predictor.sam.encoded == 1
    assert predictor.sam.decoded == 3
    again = predictor.segment(scan, [Prompt(box=(4, 6, 14, 12), slice=1)])
    assert predictor.sam.encoded == 1
    np.testing.assert_array_equal(again.labels.array, first.labels.array)
    assert 0 < second.labels.array.sum() < first.labels.array.sum()


def test_a_new_predictor_on_the_same_folder_encodes_nothing(scan, tmp_path):
    prompts = [Prompt(box3d=(4, 6, 0, 14, 12, 3))]
    first = Predictor(Weighted(), "cpu", cache=EmbeddingCache(folder=tmp_path))
    expected = first.segment(scan, prompts)
    second = Predictor(Weighted(), "cpu", cache=EmbeddingCache(folder=tmp_path))
    found = second.segment(scan, prompts)
    assert (first.sam.encoded, second.sam.encoded) == (3, 0)
    assert (expected.encoded, found.encoded) == (3, 0)
    np.testing.assert_array_equal(found.labels.array, expected.labels.array)
    assert [answer.predicted_iou for answer in found.results] == [answer.predicted_iou for answer in expected.results]


def test_whatever_changes_is_encoded_again(scan, tmp_path):
    def encodes(scan=scan, weight=1.0, window="auto", **scan_encoder) -> int:
        predictor = Predictor(Weighted(weight), "cpu", cache=EmbeddingCache(folder=tmp_path))
        predictor.encoder_for(scan, window=window).encode(1, **scan_encoder)
        return predictor.sam.encoded

    assert [encodes(), encodes()] == [1, 0]
    touched = scan.array.copy()
    touched[1, 3, 3] += 1
    changes = {
        "a voxel": {"scan": Volume(touched, scan.geometry)},
        "the window": {"window": IntensityWindow(0.0, 150.0, "narrow")},
        "the weights": {"weight": 1.5},
        "the region": {"region": (2, 2, 20, 18)},
    }
    assert {name: (encodes(**change), encodes(**change)) for name, change in changes.items()} == dict.fromkeys(
        changes, (1, 0)
    )
    assert encodes() == 0, "what was there stays"


def test_equal_slices_share_an_embedding(tmp_path):
    scan, _ = block((4, 20, 30), (4, 6, 0, 14, 12, 4))  # without noise all four are alike
    predictor = Predictor(ThresholdSam(), "cpu", cache=EmbeddingCache(folder=tmp_path))
    predictor.segment(scan, [Prompt(box3d=(4, 6, 0, 14, 12, 4))])
    assert predictor.sam.encoded == 1


def test_a_fresh_embedding_is_laid_out_as_a_kept_one(scan, tmp_path):
    """Else a decoder may sum in another order, and answer otherwise from the folder than it did the first time."""
    sam = Weighted()
    encode = sam.encode_image
    sam.encode_image = lambda images: encode(images).expand(-1, 4, -1, -1).to(memory_format=torch.channels_last)
    fresh = Predictor(sam, "cpu", cache=EmbeddingCache(folder=tmp_path)).encoder_for(scan).encode(1).features
    kept = Predictor(sam, "cpu", cache=EmbeddingCache(folder=tmp_path)).encoder_for(scan).encode(1).features
    assert fresh.stride() == kept.stride()
    assert torch.equal(fresh, kept)


@pytest.mark.weights
def test_the_real_model_answers_from_the_folder_to_the_bit(litemedsam, scan, tmp_path):
    prompt = [SlicePrompt(1, (3.0, 5, 15, 13))]
    fresh = Predictor(litemedsam, "cpu", cache=EmbeddingCache(folder=tmp_path))
    kept = Predictor(litemedsam, "cpu", cache=EmbeddingCache(folder=tmp_path))
    first, second = (predictor.encoder_for(scan).encode(1) for predictor in (fresh, kept))
    expected, found = fresh.predict(first, prompt), kept.predict(second, prompt)
    assert (first.usage.encoded, second.usage.encoded) == (1, 0)
    assert torch.equal(found.logits, expected.logits)
    np.testing.assert_array_equal(found.predicted_iou, expected.predicted_iou)
    assert only_file(tmp_path).stat().st_size == pytest.approx(4 * 2**20, rel=1e-3)


def test_an_embedding_that_is_kept_keeps_no_engine():
    class Counting:
        made = 0

        def precompute(self, features):
            Counting.made += 1

    precomputed, engine = Precomputed(), Counting()
    for _ in range(2):
        precomputed.of(engine, torch.zeros(1, 1, 2, 2))
    assert Counting.made == 1
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    precomputed.of(Counting(), torch.zeros(1, 1, 2, 2))
    assert Counting.made == 2
