"""`scripts/gpu-check` on the smallest networks: on a bare machine, with a parity that is broken, with no time left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("machine", "parity", "two_processes", "training_step", "training_variants", "encode", "decode", "compile")

# run by every Python that is started, before anything else: no package is there but torch, what it needs, and numpy
BARE = """
    from importlib.machinery import PathFinder

    ABSENT = {"PIL", "SimpleITK", "highdicom", "jsonargparse", "lightning", "matplotlib", "monai", "nibabel", "nrrd"}
    ABSENT |= {"onnx", "onnxruntime", "onnxscript", "openvino", "pandas", "platformdirs", "pydicom", "rich"}
    ABSENT |= {"safetensors", "scipy", "yaml"}
    found = PathFinder.find_spec

    def find_spec(name, path=None, target=None):
        # as where it is not installed: torch asks for some of them, too
        return None if name.partition(".")[0] in ABSENT else found(name, path, target)

    PathFinder.find_spec = find_spec
"""
# every answer of a mask decoder is another one
PERTURBED = """
    import sys

    if "gpu_check.worker" in sys.orig_argv:
        import torch
        from medsam.models.mask_decoder import MaskDecoder

        def perturb(module, given, answer):
            if isinstance(module, MaskDecoder):
                return answer[0] + 0.1 * torch.randn_like(answer[0]), answer[1]

        torch.nn.modules.module.register_module_forward_hook(perturb)
"""


def run(
    folder: Path, *arguments: str, startup: str = "", **environment: str
) -> tuple[subprocess.CompletedProcess, dict]:
    """The command in a process of its own; what it says, and its JSON."""
    (folder / "sitecustomize.py").write_text(dedent(startup))
    path = folder / "report.json"
    command = [ROOT / "scripts" / "gpu-check", "--device", "cpu", "--json", path, *arguments]
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done, json.loads(path.read_text()) if path.exists() else {}


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("MEDSAM_LONG"), reason="takes half a minute: MEDSAM_LONG=1 ./scripts/test tests/scripts"
)
def test_every_part_runs_where_nothing_but_torch_and_numpy_is_installed(tmp_path):
    done, report = run(tmp_path, "--quick", startup=BARE, CXX="no-such-compiler", MEDSAM_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["passed"] is True
    assert (report["device"], report["quick"]) == ("cpu", True)
    assert tuple(report["parts"]) == PARTS
    assert {name: part["status"] for name, part in report["parts"].items() if name != "compile"} == dict.fromkeys(
        PARTS[:-1], "done"
    )
    rows = {name: part["rows"] for name, part in report["parts"].items()}
    assert [(row["model"], row["precision"]) for row in rows["parity"]] == [
        (model, precision) for model in ("tiny-tinyvit", "tiny-vit") for precision in ("float32", "bfloat16")
    ]
    # the processor beside itself
    assert [row["decode"] for row in rows["parity"] if row["precision"] == "float32"] == [0, 0]
    [together] = rows["two_processes"]
    assert together["passed"]
    assert together["weights_compared"] > 100
    assert [row["rounds"] for row in rows["training_step"]] == [3, 1]
    assert all(row["seconds_plain"] > 0 and row["seconds_ours"] > 0 for row in rows["training_step"])
    whole, low_rank = (row["trainable"] for row in rows["training_variants"])
    assert low_rank < whole
    assert [row["boxes"] for row in rows["decode"]] == [1, 64, 1, 64]
    # no numbers, but a reason
    assert report["parts"]["compile"] | {"seconds": 0} == {
        "status": "unavailable",
        "seconds": 0,
        "rows": [],
        "message": "torch.compile needs a C++ compiler, and there is none (no-such-compiler)",
    }
    assert "every comparison made passed" in done.stdout
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".medsam-")]


@pytest.mark.slow
def test_answers_that_differ_do_not_pass(tmp_path):
    done, report = run(tmp_path, "--quick", "--parts", "parity", startup=PERTURBED)
    assert done.returncode == 1, done.stdout + done.stderr
    assert report["passed"] is False
    assert [row["passed"] for row in report["parts"]["parity"]["rows"]] == [False] * 4
    # what it does not perturb is told apart
    assert report["parts"]["parity"]["rows"][0]["encode"] == 0
    assert "NOT PASSED" in done.stdout


def test_parts_that_no_time_is_left_for_are_in_the_report(tmp_path):
    done, report = run(tmp_path, "--quick", "--budget", "0")
    assert done.returncode == 0
    assert {(part["status"], part["message"]) for part in report["parts"].values()} == {("left out", "the time was up")}
    assert tuple(report["parts"]) == PARTS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--device", "tpu"), "invalid choice: 'tpu'"),
        (("--weights", "nowhere.pth"), "--weights: there is no file nowhere.pth"),
        (("--quick", "--weights", __file__), "give one of the two"),
        (("--json", "nowhere/report.json"), "--json: there is no folder nowhere"),
    ],
)
def test_bad_arguments_are_told_before_anything_runs(monkeypatch, capsys, arguments, said):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from gpu_check.main import main

    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
