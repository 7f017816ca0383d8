"""`medsam export` as its user runs it: what it writes and says, what it refuses, and its exit status."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from medsam import __version__
from medsam.cli import export as command
from medsam.cli.main import main
from medsam.models.build import build_model, load_model
from medsam.models.checkpoint import save_checkpoint
from medsam.models.export import GRAPHS, OPSET
from medsam.models.prompt_encoder import as_tokens
from medsam.models.specs import SPECS, ModelSpec, tiny_spec
from medsam.models.weights_file import weights_digest

pytestmark = pytest.mark.slow


@pytest.fixture
def model(export) -> str:
    return str(export.model)


@pytest.fixture
def exported(export) -> tuple[Path, str]:
    """A folder, and what the command printed."""
    return export.folder, export.printed


@pytest.fixture
def report(exported) -> dict:
    return json.loads((exported[0] / "export.json").read_text())


@pytest.fixture
def one_graph(monkeypatch) -> None:
    """Only the smallest graph, for what does not depend on which."""
    small = {"precompute": GRAPHS["precompute"]}
    monkeypatch.setattr("medsam.models.export.GRAPHS", small)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_graph_and_the_report_are_there_and_nothing_else(exported):
    assert names(exported[0]) == {"export.json", *(f"{name}.onnx" for name in GRAPHS)}


def test_json_on_stdout_is_the_report(exported, report):
    assert json.loads(exported[1]) == report


def test_the_report_says_which_weights_were_written_by_what(report, model):
    sam = load_model(model)
    assert ModelSpec.from_dict(report["model"]) == sam.spec
    assert report["weights_sha256"] == weights_digest(sam)
    assert report["opset"] == OPSET
    assert report["versions"] == report["versions"] | {
        "medsam": __version__,
        "torch": str(torch.__version__),
        "onnxruntime": onnxruntime.__version__,
    }


def test_the_report_describes_the_files(exported, report):
    for name, graph in report["graphs"].items():
        (file,) = graph["files"]
        content = (exported[0] / file["name"]).read_bytes()
        assert (file["name"], file["bytes"]) == (f"{name}.onnx", len(content))
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
    decoder = report["graphs"]["decoder"]
    assert decoder["inputs"] == [
        {"name": "embedding", "type": "float32", "shape": [1, 32, 16, 16]},
        {"name": "point_coords", "type": "float32", "shape": [1, "prompts", "positions", 2]},
        {"name": "point_labels", "type": "int64", "shape": [1, "prompts", "positions"]},
    ]
    assert decoder["outputs"] == [
        {"name": "logits", "type": "float32", "shape": [1, "prompts", 4, 64, 64]},
        {"name": "predicted_iou", "type": "float32", "shape": [1, "prompts", 4]},
    ]


def test_parity_was_measured_on_all_kinds_of_prompts(report):
    parity = report["parity"]
    assert parity["passed"] is True
    assert set(parity["graphs"]) == set(GRAPHS)
    for name, found in parity["graphs"].items():
        # exactly nothing would mean that torch was compared with itself
        assert 0 < found["largest_difference"] <= parity["largest_difference_allowed"] == 1e-3
        assert found["largest_difference"] == max(each["largest_difference"] for each in found["inputs"].values())
        assert 0 < found["relative_difference"] < 1e-3
        if "logits" in GRAPHS[name].outputs:
            # one logit of 49,152 may lie on the threshold
            assert found["mask_pixels_that_differ"] < 2 / 49_152
            for kind in ("1 box", "32 boxes", "1 point", "3 prompts of 7 points", "2 boxes with 3 points", "padded"):
                assert any(kind in what for what in found["inputs"]), kind
        else:
            assert found["mask_pixels_that_differ"] is None


def test_encoder_and_decoder_alone_segment_as_the_model_does(exported, model):
    sam = load_model(model)
    image, boxes = torch.rand(1, 3, 64, 64), torch.tensor([[[8.0, 8, 40, 40], [20, 4, 60, 30]]])
    encoder, decoder = (onnxruntime.InferenceSession(str(exported[0] / f"{n}.onnx")) for n in ("encoder", "decoder"))
    (embedding,) = encoder.run(None, {"image": image.numpy()})
    coordinates, token_types = as_tokens(boxes, None, None)
    given = {
        "embedding": embedding,
        "point_coords": coordinates.numpy(),
        "point_labels": token_types.contiguous().numpy(),
    }
    logits, predicted_iou = decoder.run(None, given)
    with torch.no_grad():
        wanted, score = sam.decode(sam.encode_image(image), boxes=boxes, multimask=None)
    np.testing.assert_allclose(logits, wanted.numpy(), atol=1e-4)
    np.testing.assert_allclose(predicted_iou, score.numpy(), atol=1e-4)


def test_the_table_names_every_graph_and_how_far_it_is(one_graph, model, tmp_path, capsys):
    assert main(["export", "--model", model, "--out", str(tmp_path / "graphs")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("precompute.onnx")
    assert "off by" in out
    assert f"wrote {tmp_path / 'graphs'}: tiny-tinyvit, opset {OPSET}" in out
    # nobody can say how long a graph takes, so a log is told when it begins
    assert err.splitlines() == [
        f"tiny-tinyvit, graph 1 of 1: {step}"
        for step in ("writing the precompute", "comparing the precompute with torch")
    ]


@pytest.mark.parametrize("name", ["litemedsam", "sam-vit-b", "medsam-vit-b"])
def test_preprocessing_is_told_in_the_models_own_numbers(name):
    step = SPECS[name].preprocess
    told = " ".join(command._in_words(step)["image"])
    assert f"{step.size} pixels" in told
    assert ("subtract [123.675, 116.28, 103.53]" in told) == (name == "sam-vit-b")
    assert ("pad with zeros" in told) == (step.fit == "pad")
    assert step.interpolation in told


# -- folders ----------------------------------------------------------------------------------------------------


def test_an_earlier_export_is_replaced_and_other_files_stay(one_graph, exported, model, tmp_path):
    out = tmp_path / "graphs"
    shutil.copytree(exported[0], out)
    (out / "notes.txt").write_text("mine")
    assert main(["export", "--model", model, "--out", str(out)]) == 0
    # graphs that only the earlier export had would be of other weights
    assert names(out) == {"export.json", "precompute.onnx", "notes.txt"}
    assert list(json.loads((out / "export.json").read_text())["graphs"]) == ["precompute"]


def test_a_file_of_our_name_that_is_not_ours_is_left_alone(model, tmp_path, capsys):
    (tmp_path / "encoder.onnx").write_text("another's")
    assert main(["export", "--model", model, "--out", str(tmp_path)]) == 2
    assert "holds encoder.onnx, which no export.json" in capsys.readouterr().err
    assert names(tmp_path) == {"encoder.onnx"}
    assert (tmp_path / "encoder.onnx").read_text() == "another's"


def test_a_report_never_makes_us_delete_what_we_do_not_write(one_graph, model, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    out = tmp_path / "graphs"
    out.mkdir()
    files = [{"name": "../mine.txt"}, {"name": "scan.nii"}]
    (out / "export.json").write_text(json.dumps({"made_by": "medsam export", "graphs": {"a": {"files": files}}}))
    (out / "scan.nii").write_text("mine, too")
    assert main(["export", "--model", model, "--out", str(out)]) == 0
    assert mine.exists()
    assert names(out) == {"export.json", "precompute.onnx", "scan.nii"}


def test_a_folder_that_cannot_be_made_is_exit_2(one_graph, model, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out, why in (("file", "is a file. Name a folder"), ("file/graphs", "cannot be written")):
        assert main(["export", "--model", model, "--out", str(tmp_path / out)]) == 2
        assert why in capsys.readouterr().err
    assert names(tmp_path) == {"file"}


# -- failures ---------------------------------------------------------------------------------------------------


def test_a_graph_of_other_weights_does_not_pass(exported, model):
    path = exported[0] / "precompute.onnx"
    sam = load_model(model)
    assert command.compare_graph(sam, "precompute", path)["passed"]
    with torch.no_grad():
        sam.mask_decoder.transformer.layers[0].cross_attn_image_to_token.q_proj.bias[3] += 0.002
    with pytest.raises(command.ParityError, match=r"precompute of tiny-tinyvit answers 0\.002 away from torch"):
        command.compare_graph(sam, "precompute", path)


def test_masks_that_differ_do_not_pass(exported, model, monkeypatch):
    path = exported[0] / "decoder.onnx"
    sam = load_model(model)
    monkeypatch.setattr(command, "TOLERANCE", 10.0)
    with torch.no_grad():
        sam.mask_decoder.output_hypernetworks_mlps[0].layers[2].bias += 0.5
    with pytest.raises(command.ParityError, match="of the mask pixels differ"):
        command.compare_graph(sam, "decoder", path)


def test_graphs_that_do_not_pass_are_not_there(one_graph, exported, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "TOLERANCE", 1e-12)
    assert main(["export", "--model", model, "--out", str(tmp_path / "graphs"), "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "ParityError: the exported precompute of tiny-tinyvit" in err
    assert "Nothing was written" in err
    assert not (tmp_path / "graphs").exists()

    before = tmp_path / "before"
    shutil.copytree(exported[0], before)
    assert main(["export", "--model", model, "--out", str(before)]) == 1
    assert names(before) == names(exported[0])
    assert (before / "export.json").read_bytes() == (exported[0] / "export.json").read_bytes()


def test_weights_that_overflow_are_the_checkpoints_fault(one_graph, tmp_path, capsys):
    sam = build_model(tiny_spec("vit"))
    with torch.no_grad():
        sam.mask_decoder.transformer.layers[0].cross_attn_token_to_image.k_proj.weight.fill_(3e38)
    save_checkpoint(sam, tmp_path / "broken.safetensors")
    assert main(["export", "--model", str(tmp_path / "broken.safetensors"), "--out", str(tmp_path / "graphs")]) == 2
    assert "not finite in torch already" in capsys.readouterr().err
    assert names(tmp_path) == {"broken.safetensors"}


def test_ctrl_c_leaves_nothing(model, tmp_path, monkeypatch):
    def interrupted(sam, name, target):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("medsam.models.export.export_graph", interrupted)
    assert main(["export", "--model", model, "--out", str(tmp_path / "a" / "b")]) == 130
    assert not (tmp_path / "a" / "b").exists()


def test_no_such_model_is_exit_2(tmp_path, capsys):
    assert main(["export", "--model", "nomodel", "--out", str(tmp_path / "graphs")]) == 2
    assert "not the name of a model" in capsys.readouterr().err
    assert not (tmp_path / "graphs").exists()


def test_without_onnxruntime_the_extra_is_named(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", "--model", model, "--out", str(tmp_path / "graphs")]) == 2
    assert "pip install 'medsam-framework[export]'" in capsys.readouterr().err
    assert not (tmp_path / "graphs").exists()


def test_help_tells_what_the_exit_status_and_the_folder_are(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["export", "--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert "--model NAME|CHECKPOINT" in told
    assert "docs/export.md" in told
