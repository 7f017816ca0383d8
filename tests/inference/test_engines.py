import copy
import locale
import logging
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from phantoms import block

from medsam.errors import CheckpointError, InputError, PromptError
from medsam.inference import engines
from medsam.inference import image_predictor as predictor_module
from medsam.inference.engines import OUTSIDE_ROI, EngineError, OpenVinoEngine, TorchEngine, choose_engine
from medsam.inference.image_predictor import ImagePredictor
from medsam.models import runtime
from medsam.models.build import build_model
from medsam.models.checkpoint import save_checkpoint
from medsam.models.specs import tiny_spec

CPU = torch.device("cpu")
SCAN = block((3, 40, 50), (10, 8, 0, 30, 28, 3))[0]


@pytest.fixture(scope="module")
def sam():
    torch.manual_seed(3)
    return build_model(tiny_spec("tiny_vit")).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def exported(sam, folder):
    return OpenVinoEngine(sam, "float32", folder)


@pytest.fixture(scope="module")
def features(sam):
    torch.manual_seed(5)
    return TorchEngine(sam, CPU).encode(torch.rand(1, 3, 64, 64))


def boxes(count):
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(count)) * 30
    return torch.cat([corner, corner + 12], dim=1)


PROMPTS = {
    "a box": lambda: {"boxes": boxes(1)},
    "more boxes than are decoded together": lambda: {"boxes": boxes(7)},
    "clicks": lambda: {"points": boxes(2).view(2, 2, 2), "point_labels": torch.tensor([[1, 0], [1, -1]])},
    "boxes with clicks": lambda: {
        "boxes": boxes(3),
        "points": boxes(3)[:, None, :2],
        "point_labels": torch.ones(3, 1, dtype=torch.int64),
    },
    "masks": lambda: {"masks": torch.linspace(-9, 9, 2 * 64 * 64).view(2, 64, 64)},
    "boxes with masks": lambda: {"boxes": boxes(2), "masks": torch.linspace(-9, 9, 2 * 64 * 64).view(2, 64, 64)},
}


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("kind", PROMPTS)
def test_the_graphs_answer_as_torch_does(sam, exported, features, kind, multimask):
    torch_engine = TorchEngine(sam, CPU)
    wanted = torch_engine.decode(torch_engine.prepare(features), PROMPTS[kind](), multimask=multimask)
    found = exported.decode(exported.prepare(features), PROMPTS[kind](), multimask=multimask)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_encoder_answers_as_torch_does_for_several_images(sam, exported):
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(exported.encode(images), TorchEngine(sam, CPU).encode(images), atol=1e-4, rtol=1e-4)


def test_wrong_inputs_are_refused_as_torch_refuses_them(exported, features):
    with pytest.raises(PromptError, match=r"takes images \(B, 3, 64, 64\)"):
        exported.encode(torch.rand(1, 3, 32, 32))
    with pytest.raises(PromptError, match="finite"):
        exported.decode(exported.prepare(features), {"boxes": torch.full((1, 4), torch.nan)}, multimask=False)
    with pytest.raises(PromptError, match="No prompt"):
        exported.decode(exported.prepare(features), {}, multimask=False)


def test_logits_nobody_asks_for_are_not_made(sam, exported, features):
    asked = torch.tensor([[8.0, 4.0, 20.0, 28.0], [40.0, 44.0, 63.0, 60.0]])
    prepared = exported.prepare(features)
    whole, predicted_iou = exported.decode(prepared, {"boxes": asked}, multimask=False)
    part, same = exported.decode(prepared, {"boxes": asked}, multimask=False, roi=asked)
    torch.testing.assert_close(same, predicted_iou)
    scale = whole.shape[-1] // sam.spec.image_size
    for one, other, (x0, y0, x1, y1) in zip(part[:, 0], whole[:, 0], (asked * scale).int().tolist(), strict=True):
        torch.testing.assert_close(one[y0:y1, x0:x1], other[y0:y1, x0:x1])
        assert (one == OUTSIDE_ROI).float().mean() > 0.3
        made = one != OUTSIDE_ROI
        torch.testing.assert_close(one[made], other[made])


def test_boxes_of_all_sizes_come_back_in_their_order(exported, features):
    asked = boxes(11)
    asked[:, 2:] += torch.linspace(0, 18, 11)[torch.randperm(11, generator=torch.Generator().manual_seed(2)), None]
    prepared = exported.prepare(features)
    whole, predicted_iou = exported.decode(prepared, {"boxes": asked}, multimask=True)
    part, same = exported.decode(prepared, {"boxes": asked}, multimask=True, roi=asked)
    torch.testing.assert_close(same, predicted_iou)
    made = part != OUTSIDE_ROI
    assert made.flatten(2).any(dim=2).all()
    torch.testing.assert_close(part[made], whole[made])


def test_a_mask_that_leaves_its_box_is_made_whole(exported, features):
    """Windows of a cell or so: the random network's masks reach out of nearly all of them."""
    asked = boxes(6)
    middle = (asked[:, :2] + asked[:, 2:]) / 2
    tiny = torch.cat([middle, middle + 1], dim=1)
    prepared = exported.prepare(features)
    whole, predicted_iou = exported.decode(prepared, {"boxes": asked}, multimask=False)
    near, same = exported.decode(prepared, {"boxes": asked}, multimask=False, roi=tiny, extend_roi=True)
    torch.testing.assert_close(same, predicted_iou)
    followed = (near != OUTSIDE_ROI).flatten(1).all(dim=1)
    strict, _ = exported.decode(prepared, {"boxes": asked}, multimask=False, roi=tiny)
    touched = []
    for one in strict[:, 0]:
        rows, columns = ((one != OUTSIDE_ROI).any(dim=d).nonzero().flatten() for d in (1, 0))
        window = one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] > 0
        far = len(one) - 1
        touched.append(
            bool(
                (rows[0] > 0 and window[0].any())
                or (columns[0] > 0 and window[:, 0].any())
                or (rows[-1] < far and window[-1].any())
                or (columns[-1] < far and window[:, -1].any())
            )
        )
    assert followed.tolist() == touched
    assert any(touched)
    torch.testing.assert_close(near[followed], whole[followed])


@given(
    st.lists(st.tuples(*[st.floats(-40, 300)] * 4), min_size=1, max_size=4),
    st.sampled_from([8, 16, 64]),
)
def test_windows_lie_on_the_grid_and_hold_their_boxes(corners, side):
    size = 4 * side
    roi = torch.tensor([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners])
    first, sizes = engines._windows(roi, len(corners), side, size)
    assert (sizes >= 1).all()
    assert (first >= 0).all()
    assert (first + sizes <= side).all()
    cells = engines._cells(first, sizes, side)
    for (row, column), (rows, columns), mine, (x0, y0, x1, y1) in zip(
        first.tolist(), sizes.tolist(), cells, (roi.clamp(0, size) / 4).tolist(), strict=True
    ):
        grid = torch.arange(side * side).view(side, side)[row : row + rows, column : column + columns]
        assert mine[: rows * columns].tolist() == grid.flatten().tolist()
        assert set(mine.tolist()) == set(grid.flatten().tolist())
        assert row <= max(0, np.floor(y0) - 1) or y0 >= side - 1
        assert column <= max(0, np.floor(x0) - 1) or x0 >= side - 1
        assert row + rows >= min(side, np.ceil(y1))
        assert column + columns >= min(side, np.ceil(x1))


def test_the_image_is_prepared_once_an_embedding(sam, exported, monkeypatch):
    image_predictor = ImagePredictor(sam, "cpu")
    image_predictor._engine = exported
    ran = []
    run = exported._run
    monkeypatch.setattr(exported, "_run", lambda graph, *inputs: ran.append(graph) or run(graph, *inputs))
    embedding = image_predictor.embed(SCAN)
    for _ in range(3):
        image_predictor.predict(embedding, np.array([[4, 4, 20, 20]]))
    image_predictor.predict(image_predictor.embed(SCAN), np.array([[4, 4, 20, 20]]))
    assert ran == ["encoder", "image_part", "answer", "answer", "answer", "image_part", "answer"]


def test_threads_share_an_engine(exported, features):
    prepared = exported.prepare(features)
    alone = [exported.decode(prepared, {"boxes": boxes(n)}, multimask=False)[0] for n in range(1, 9)]
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda n: exported.decode(prepared, {"boxes": boxes(n)}, multimask=False)[0], range(1, 9))
        )
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_graphs_are_written_once(sam, folder, exported, features, monkeypatch):
    exported.encode(torch.zeros(1, 3, 64, 64))

    def never(*arguments):
        raise AssertionError("exported again")

    monkeypatch.setattr(engines, "export_graph", never)
    monkeypatch.setattr(engines, "graph_module", never)  # nor compared again
    OpenVinoEngine(sam, "float32", folder).encode(torch.zeros(1, 3, 64, 64))


def test_a_graph_of_other_weights_is_not_trusted_but_written_again(sam, tmp_path):
    torch.manual_seed(4)
    other = build_model(sam.spec).eval()
    engines.export_graph(other, "encoder", tmp_path / "encoder.onnx")
    image = torch.rand(1, 3, 64, 64)
    found = OpenVinoEngine(sam, "float32", tmp_path).encode(image)
    torch.testing.assert_close(found, TorchEngine(sam, CPU).encode(image), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("note", ["null", "[]", "{", '{"encoder float32": 3}'])
def test_a_damaged_cache_is_mended(sam, exported, folder, tmp_path, note):
    exported.encode(torch.rand(1, 3, 64, 64))
    (tmp_path / "encoder.onnx").write_bytes((folder / "encoder.onnx").read_bytes()[:-5000])
    (tmp_path / "checked.json").write_text(note)
    image = torch.rand(1, 3, 64, 64)
    found = OpenVinoEngine(sam, "float32", tmp_path).encode(image)
    torch.testing.assert_close(found, TorchEngine(sam, CPU).encode(image), atol=1e-4, rtol=1e-4)


@pytest.fixture
def broken(sam, tmp_path, monkeypatch):
    """An engine whose graphs cannot be written."""

    def failing(*arguments):
        raise CheckpointError("The encoder cannot be written as ONNX.")

    monkeypatch.setattr(engines, "export_graph", failing)
    return OpenVinoEngine(sam, "float32", tmp_path)


def test_where_a_graph_fails_torch_answers_and_says_so(sam, broken, caplog):
    expected = ImagePredictor(sam, "cpu").embed(SCAN).features
    image_predictor = ImagePredictor(sam, "cpu")
    image_predictor._wanted = ("auto", "auto")
    image_predictor._engine = broken
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(4) as pool:
        found = [each.features for each in pool.map(lambda _: image_predictor.embed(SCAN), range(4))]
    assert caplog.text.count("Torch answers instead") == 1
    assert image_predictor.engine.name == "torch"
    for one in found:
        torch.testing.assert_close(one, expected)


@pytest.mark.parametrize("wanted", [("auto", "openvino"), ("int8", "auto")])
def test_what_was_asked_for_is_not_replaced(sam, broken, wanted):
    image_predictor = ImagePredictor(sam, "cpu")
    image_predictor._wanted = wanted
    image_predictor._engine = broken
    with pytest.raises(EngineError, match="cannot be written as ONNX"):
        image_predictor.embed(SCAN)


def test_an_embedding_outlives_the_engine_that_prepared_it(sam, exported):
    image_predictor = ImagePredictor(sam, "cpu")
    image_predictor._engine = exported
    embedding = image_predictor.embed(SCAN)
    before = image_predictor.predict(embedding, np.array([[4, 4, 20, 20]]))
    image_predictor._engine = TorchEngine(sam, CPU)
    after = image_predictor.predict(embedding, np.array([[4, 4, 20, 20]]))
    torch.testing.assert_close(after.logits, before.logits, atol=1e-5, rtol=1e-4)


def test_one_engine_gives_all_answers_of_a_run(sam, exported, monkeypatch):
    """What fails once it is known who answers is told, and answered by nobody else."""
    image_predictor = ImagePredictor(sam, "cpu")
    image_predictor._wanted = ("auto", "auto")
    image_predictor._engine = exported
    embedding = image_predictor.embed(SCAN)

    def failing(*arguments, **options):
        raise EngineError("OpenVINO cannot run answer.")

    monkeypatch.setattr(exported, "decode", failing)
    with pytest.raises(EngineError, match="cannot run answer"):
        image_predictor.predict(embedding, np.array([[4, 4, 20, 20]]))
    assert image_predictor.engine.name == "openvino"


def test_making_graphs_is_preparing_not_embedding(sam, exported, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(predictor_module, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    image_predictor = ImagePredictor(sam, "cpu")
    image_predictor._engine = exported
    embedding = image_predictor.embed(SCAN)
    assert image_predictor.seconds == {"prepare": 10, "embed": 10, "decode": 0}
    image_predictor.predict(embedding, np.array([[4, 4, 20, 20]]))
    assert image_predictor.seconds == {"prepare": 10, "embed": 10, "decode": 10}


def test_the_first_preparation_is_told_in_a_log_once(sam, folder, exported, capsys):
    exported.ready()
    capsys.readouterr()
    OpenVinoEngine(sam, "float32", folder).ready()
    assert capsys.readouterr() == ("", "")
    (folder / "image_part.onnx").unlink()
    OpenVinoEngine(sam, "float32", folder).ready()
    assert capsys.readouterr().err.splitlines()[0] == "Preparing tiny-tinyvit for this processor (once)"


def test_the_locale_is_what_it_was_although_graphs_that_are_read_at_once_change_it(sam, folder, monkeypatch):
    before = locale.setlocale(locale.LC_ALL)
    # what two threads in OpenVINO leave behind now and then
    monkeypatch.setattr(OpenVinoEngine, "_ready", lambda self, graph: locale.setlocale(locale.LC_ALL, "C"))
    OpenVinoEngine(sam, "float32", folder).ready()
    assert locale.setlocale(locale.LC_ALL) == before


def test_a_structure_that_does_not_fit_is_not_used(sam, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "find_structure", lambda spec, graph: b"of a network that was changed since")
    image = torch.rand(1, 3, 64, 64)
    found = OpenVinoEngine(sam, "float32", tmp_path).encode(image)
    torch.testing.assert_close(found, TorchEngine(sam, CPU).encode(image), atol=1e-4, rtol=1e-4)


def test_networks_can_be_copied_and_sent(sam, exported):
    image_predictor = ImagePredictor(sam, "cpu")
    image_predictor._engine = exported
    embedding = image_predictor.embed(SCAN)
    image_predictor.predict(embedding, np.array([[4, 4, 20, 20]]))
    for twin in (copy.deepcopy(image_predictor), pickle.loads(pickle.dumps(image_predictor))):
        torch.testing.assert_close(twin.embed(SCAN).features, embedding.features, atol=1e-4, rtol=1e-4)


def test_weights_that_changed_are_not_filed_under_the_old_ones(sam, tmp_path):
    changed = copy.deepcopy(sam)
    engine = OpenVinoEngine(changed, "float32")
    engine._folder = tmp_path
    with torch.no_grad():
        changed.mask_decoder.iou_token.weight += 1
    with pytest.raises(EngineError, match="have changed since"):
        engine.encode(torch.rand(1, 3, 64, 64))


def test_within_has_one_box_a_prompt(exported, features):
    for wrong in (torch.zeros(2, 4), torch.full((3, 4), torch.nan), torch.zeros(4)):
        with pytest.raises(PromptError, match="within: finite boxes"):
            exported.decode(exported.prepare(features), {"boxes": boxes(3)}, multimask=False, roi=wrong)


def test_small_networks_and_networks_in_training_stay_in_torch(sam, tmp_path):
    save_checkpoint(sam, tmp_path / "small.safetensors")
    assert ImagePredictor(tmp_path / "small.safetensors", "cpu").engine.name == "torch"
    assert ImagePredictor(sam, "cpu").engine.name == "torch"


@pytest.mark.weights
def test_known_weights_run_as_graphs_that_need_no_exporter(litemedsam, tmp_path, monkeypatch):
    image_predictor = ImagePredictor("litemedsam", "cpu")
    assert image_predictor.engine.name == "openvino"
    image_predictor.engine._folder = tmp_path

    def never(*arguments):
        raise AssertionError("a structure of the package is outdated: run scripts/structures.py")

    monkeypatch.setattr(engines, "export_graph", never)
    image_predictor.ready()  # compares each graph with torch
    assert image_predictor.engine.name == "openvino"


def test_without_openvino_torch_answers_and_says_so(sam, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "openvino", None)
    # not the one this process has already
    monkeypatch.setattr(runtime, "_core", runtime._core.__wrapped__)
    monkeypatch.setattr(engines, "_WORTH_EXPORTING", 0)
    with caplog.at_level(logging.WARNING):
        assert choose_engine(sam, CPU).name == "torch"
    assert "OpenVINO is missing" in caplog.text
    with pytest.raises(ImportError):
        choose_engine(sam, CPU, engine="openvino")


def test_what_is_not_there_is_named(sam):
    with pytest.raises(InputError, match="no precision 'int4'; use auto, float32"):
        choose_engine(sam, CPU, "int4")
    with pytest.raises(InputError, match="no engine 'tvm'; use auto, torch, openvino"):
        choose_engine(sam, CPU, engine="tvm")
    with pytest.raises(InputError, match="runs on the CPU, not on cuda"):
        choose_engine(sam, torch.device("cuda"), engine="openvino")


def test_lower_precision_is_near(sam):
    engine = choose_engine(sam, CPU, "bfloat16", "torch")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    exact = TorchEngine(sam, CPU).encode(image)
    assert engine.precision == "bfloat16"
    assert 0 < (engine.encode(image) - exact).norm() / exact.norm() < 0.1


def test_graphs_run_in_no_precision_that_the_processor_lacks(sam):
    can = runtime.openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision, capability in (("bfloat16", "BF16"), ("float16", "FP16")):
        if capability in can:
            assert choose_engine(sam, CPU, precision, "openvino").precision == precision
        else:
            with pytest.raises(InputError, match=f"does not compute in {precision}"):
                choose_engine(sam, CPU, precision, "openvino")


def test_int8_is_calibrated_on_the_sample_scans_once(sam, folder, monkeypatch):
    shown = []

    def sample_looks(preprocess):
        # stands in for the downloads alone; the real ones are the next test's
        for seed in range(4):
            shown.append(seed)
            yield torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(seed)).numpy()

    monkeypatch.setattr(engines, "_sample_looks", sample_looks)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    exact = TorchEngine(sam, CPU).encode(image)
    for _ in range(2):
        engine = OpenVinoEngine(sam, "int8", folder)
        assert engine.precision == "int8"
        assert 0 < (engine.encode(image) - exact).norm() / exact.norm() < 0.3
    assert shown == [0, 1, 2, 3]
    with pytest.raises(InputError, match="int8 runs as an exported graph"):
        TorchEngine(sam, CPU, "int8")


@pytest.mark.weights
def test_sample_looks_are_slices_of_both_scans(litemedsam):
    spec = tiny_spec("tiny_vit")
    looks = list(engines._sample_looks(spec.preprocess))
    assert len(looks) == 2 * 3 * 6
    assert all(
        scan_encoder.shape == (3, 64, 64) and np.isfinite(scan_encoder).all() and scan_encoder.std() > 0.05
        for scan_encoder in looks
    )
    assert len({scan_encoder.tobytes() for scan_encoder in looks}) == len(looks)
