import copy
import json
import locale
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medsam.errors import InputError, PromptError
from medsam.inference.engines import openvino
from medsam.inference.engines.base import OUTSIDE_ROI, EngineError
from medsam.inference.engines.openvino import OpenVinoEngine
from medsam.inference.engines.torch import TorchEngine
from medsam.models.build import build_model
from medsam.models.specs import tiny_spec

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


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
def test_the_graphs_answer_as_torch_does(tiny_sam, exported, features, kind, multimask):
    torch_engine = TorchEngine(tiny_sam, CPU)
    wanted = torch_engine.decode(features, PROMPTS[kind](), multimask=multimask)
    found = exported.decode(features, PROMPTS[kind](), multimask=multimask)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_encoder_answers_as_torch_does_for_several_images(tiny_sam, exported):
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(exported.encode(images), TorchEngine(tiny_sam, CPU).encode(images), atol=1e-4, rtol=1e-4)


def test_wrong_inputs_are_refused_as_torch_refuses_them(exported, features):
    with pytest.raises(PromptError, match=r"takes images \(B, 3, 64, 64\)"):
        exported.encode(torch.rand(1, 3, 32, 32))
    with pytest.raises(PromptError, match="finite"):
        exported.decode(features, {"boxes": torch.full((1, 4), torch.nan)}, multimask=False)
    with pytest.raises(PromptError, match="No prompt"):
        exported.decode(features, {}, multimask=False)


def test_logits_nobody_asks_for_are_not_made(tiny_sam, exported, features):
    asked = torch.tensor([[8.0, 4.0, 20.0, 28.0], [40.0, 44.0, 63.0, 60.0]])
    image = exported.precompute(features)
    whole, predicted_iou = exported.decode(features, {"boxes": asked}, multimask=False, image=image)
    part, same = exported.decode(features, {"boxes": asked}, multimask=False, image=image, roi=asked)
    torch.testing.assert_close(same, predicted_iou)
    scale = whole.shape[-1] // tiny_sam.spec.image_size
    for one, other, (x0, y0, x1, y1) in zip(part[:, 0], whole[:, 0], (asked * scale).int().tolist(), strict=True):
        torch.testing.assert_close(one[y0:y1, x0:x1], other[y0:y1, x0:x1])
        assert (one == OUTSIDE_ROI).float().mean() > 0.3
        made = one != OUTSIDE_ROI
        torch.testing.assert_close(one[made], other[made])


def test_boxes_of_all_sizes_come_back_in_their_order(exported, features):
    asked = boxes(11)
    asked[:, 2:] += torch.linspace(0, 18, 11)[torch.randperm(11, generator=torch.Generator().manual_seed(2)), None]
    image = exported.precompute(features)
    whole, predicted_iou = exported.decode(features, {"boxes": asked}, multimask=True, image=image)
    part, same = exported.decode(features, {"boxes": asked}, multimask=True, image=image, roi=asked)
    torch.testing.assert_close(same, predicted_iou)
    made = part != OUTSIDE_ROI
    assert made.flatten(2).any(dim=2).all()
    torch.testing.assert_close(part[made], whole[made])


@pytest.mark.parametrize("threshold", [0.0, -0.5])
def test_a_mask_that_leaves_its_box_is_made_whole(exported, features, threshold, monkeypatch):
    """Windows of a cell or so: the random network's masks reach out of nearly all of them."""
    monkeypatch.setattr(exported.sam, "spec", replace(exported.sam.spec, mask_threshold=threshold))
    asked = boxes(6)
    middle = (asked[:, :2] + asked[:, 2:]) / 2
    tiny = torch.cat([middle, middle + 1], dim=1)
    image = exported.precompute(features)
    whole, predicted_iou = exported.decode(features, {"boxes": asked}, multimask=False, image=image)
    near, same = exported.decode(features, {"boxes": asked}, multimask=False, image=image, roi=tiny, extend_roi=True)
    torch.testing.assert_close(same, predicted_iou)
    followed = (near != OUTSIDE_ROI).flatten(1).all(dim=1)
    strict, _ = exported.decode(features, {"boxes": asked}, multimask=False, image=image, roi=tiny)
    touched = []
    for one in strict[:, 0]:
        rows, columns = ((one != OUTSIDE_ROI).any(dim=d).nonzero().flatten() for d in (1, 0))
        window = one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] > threshold
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
    first, sizes = openvino._windows(roi, len(corners), side, size)
    assert (sizes >= 1).all()
    assert (first >= 0).all()
    assert (first + sizes <= side).all()
    cells = openvino._cells(first, sizes, side)
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


def test_threads_share_an_engine(exported, features):
    image = exported.precompute(features)

    def answer(count):
        return exported.decode(features, {"boxes": boxes(count)}, multimask=False, image=image)[0]

    alone = [answer(count) for count in range(1, 9)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(answer, range(1, 9)))
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_threads_are_not_bound_to_the_cores_that_other_processes_have(exported, features):
    """OpenVINO would bind each process's to the first ones: of two workers with a thread each, one core is idle."""
    exported.precompute(features)
    assert exported._ready("precompute").get_property("ENABLE_CPU_PINNING") is False


def test_graphs_are_written_once(tiny_sam, graph_folder, exported, features, monkeypatch):
    exported.encode(torch.zeros(1, 3, 64, 64))

    def never(*arguments):
        raise AssertionError("exported again")

    monkeypatch.setattr(openvino, "export_graph", never)
    monkeypatch.setattr(openvino, "graph_module", never)  # nor compared again
    OpenVinoEngine(tiny_sam, "float32", graph_folder).encode(torch.zeros(1, 3, 64, 64))


def assert_precomputes(engine, sam, features):
    """The smallest graph answers as the network does. What is written again does not depend on which graph it is."""
    with torch.no_grad():
        wanted = sam.precompute(features)
    for one, other in zip(engine.precompute(features), wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_graph_of_other_weights_is_not_trusted_but_written_again(graph_folder, tiny_sam, features, tmp_path):
    shutil.copy(graph_folder / "precompute.onnx", tmp_path)
    torch.manual_seed(4)
    other = build_model(tiny_sam.spec).eval()
    assert_precomputes(OpenVinoEngine(other, "float32", tmp_path), other, features)


def test_a_damaged_graph_is_written_again(tiny_sam, graph_folder, features, tmp_path):
    (tmp_path / "precompute.onnx").write_bytes((graph_folder / "precompute.onnx").read_bytes()[:-5000])
    assert_precomputes(OpenVinoEngine(tiny_sam, "float32", tmp_path), tiny_sam, features)


@pytest.mark.parametrize("note", ["null", "[]", "{", '{"encoder float32": 3}'])
def test_a_damaged_note_of_what_was_compared_is_made_anew(tiny_sam, exported, graph_folder, tmp_path, note):
    exported.encode(torch.rand(1, 3, 64, 64))
    shutil.copy(graph_folder / "encoder.onnx", tmp_path)
    (tmp_path / "checked.json").write_text(note)
    image = torch.rand(1, 3, 64, 64)
    found = OpenVinoEngine(tiny_sam, "float32", tmp_path).encode(image)
    torch.testing.assert_close(found, exported.encode(image))
    (name,) = json.loads((tmp_path / "checked.json").read_text()).keys() - {"encoder float32"}
    assert name.startswith("encoder float32, OpenVINO ")


def test_machines_and_versions_of_openvino_that_share_a_folder_check_once_each(
    tiny_sam, graph_folder, exported, features, tmp_path, monkeypatch
):
    shutil.copy(graph_folder / "precompute.onnx", tmp_path)
    compared = []
    right = OpenVinoEngine._compare_anew
    monkeypatch.setattr(
        OpenVinoEngine, "_compare_anew", lambda self, *what: (compared.append(what[0]), right(self, *what))
    )
    for name in ("2026.3", "2026.4/branch", "2026.3", "2026.4/branch"):
        monkeypatch.setattr("openvino.__version__", name)
        openvino._machine.cache_clear()
        assert_precomputes(OpenVinoEngine(tiny_sam, "float32", tmp_path), tiny_sam, features)
    openvino._machine.cache_clear()
    assert len(compared) == 2
    assert len([*tmp_path.glob("compiled-f32-*")]) == 2


def test_graphs_of_a_network_that_computes_something_else_are_kept_apart(tiny_sam, monkeypatch):
    names = {openvino._graph_digest(tiny_sam)}
    for constant in ("_FORMAT", "STRUCTURES", "OPSET"):
        with monkeypatch.context() as patch:
            patch.setattr(openvino, constant, 99)
            names.add(openvino._graph_digest(tiny_sam))
    assert len(names) == 4


def test_the_first_preparation_is_told_in_a_log_once(tiny_sam, graph_folder, exported, capsys):
    exported.warm_up()
    capsys.readouterr()
    OpenVinoEngine(tiny_sam, "float32", graph_folder).warm_up()
    assert capsys.readouterr() == ("", "")
    (graph_folder / "precompute.onnx").unlink()
    OpenVinoEngine(tiny_sam, "float32", graph_folder).warm_up()
    assert capsys.readouterr().err.splitlines()[0] == "Preparing tiny-tinyvit for this processor (once)"


def test_the_locale_is_what_it_was_although_graphs_that_are_read_at_once_change_it(tiny_sam, graph_folder, monkeypatch):
    before = locale.setlocale(locale.LC_ALL)
    # what two threads in OpenVINO leave behind now and then
    monkeypatch.setattr(OpenVinoEngine, "_ready", lambda self, graph: locale.setlocale(locale.LC_ALL, "C"))
    OpenVinoEngine(tiny_sam, "float32", graph_folder).warm_up()
    assert locale.setlocale(locale.LC_ALL) == before


def test_a_structure_that_does_not_fit_is_not_used(tiny_sam, features, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino, "find_structure", lambda spec, graph: b"of a network that was changed since")
    assert_precomputes(OpenVinoEngine(tiny_sam, "float32", tmp_path), tiny_sam, features)


def test_weights_that_changed_are_not_filed_under_the_old_ones(tiny_sam, tmp_path):
    changed = copy.deepcopy(tiny_sam)
    engine = OpenVinoEngine(changed, "float32")
    engine._folder = tmp_path
    with torch.no_grad():
        changed.mask_decoder.iou_token.weight += 1
    with pytest.raises(EngineError, match="have changed since"):
        engine.encode(torch.rand(1, 3, 64, 64))


def test_a_roi_has_one_box_a_prompt(exported, features):
    for wrong in (torch.zeros(2, 4), torch.full((3, 4), torch.nan), torch.zeros(4)):
        with pytest.raises(PromptError, match="roi: finite boxes"):
            exported.decode(features, {"boxes": boxes(3)}, multimask=False, roi=wrong)


def test_int8_is_calibrated_on_the_sample_scans_once(tiny_sam, graph_folder, monkeypatch):
    shown = []

    def sample_crops(preprocess):
        # stands in for the downloads alone; the real ones are the next test's
        for seed in range(4):
            shown.append(seed)
            yield torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(seed)).numpy()

    monkeypatch.setattr(openvino, "_sample_crops", sample_crops)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    exact = TorchEngine(tiny_sam, CPU).encode(image)
    for _ in range(2):
        engine = OpenVinoEngine(tiny_sam, "int8", graph_folder)
        assert engine.precision == "int8"
        assert 0 < (engine.encode(image) - exact).norm() / exact.norm() < 0.3
    assert shown == [0, 1, 2, 3]
    with pytest.raises(InputError, match="int8 runs as an exported graph"):
        TorchEngine(tiny_sam, CPU, "int8")


@pytest.mark.weights
def test_sample_crops_are_slices_of_both_scans(litemedsam):
    spec = tiny_spec("tiny_vit")
    samples = list(openvino._sample_crops(spec.preprocess))
    assert len(samples) == 2 * 3 * 6
    assert all(one.shape == (3, 64, 64) and np.isfinite(one).all() and one.std() > 0.05 for one in samples)
    assert len({one.tobytes() for one in samples}) == len(samples)
