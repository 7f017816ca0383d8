"""What a command imports is what its user waits for before anything happens: nothing heavy that is not needed."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from phantoms import block
from pydicom.data import get_testdata_file

from medsam.cli.main import COMMANDS

# runs `medsam WORDS` and tells what is imported by then
_TELL = """
import json, sys
from medsam.cli.main import main
try:
    code = main(sys.argv[2:])
except SystemExit as left:
    code = left.code
with open(sys.argv[1], "w") as file:
    json.dump([code, sorted(sys.modules)], file)
"""

HEAVY = {"torch", "numpy", "scipy", "monai", "nibabel", "pydicom", "SimpleITK", "PIL", "matplotlib", "rich"}
# seconds each, and no part of a plain segmentation
UNUSED = {"highdicom", "SimpleITK", "nrrd", "lightning", "pandas", "matplotlib", "transformers", "monai", "sympy"}
UNUSED |= {"scipy.stats", "scipy.signal", "torch._dynamo", "torch._inductor.compile_fx", "tensorboard"}


def imported(folder: Path, *words: str) -> set[str]:
    """The modules a command has imported when it is done."""
    told = folder / "modules.json"
    subprocess.run([sys.executable, "-c", _TELL, str(told), *words], check=True, cwd=folder, capture_output=True)
    code, modules = json.loads(told.read_text())
    assert code == 0
    return set(modules)


def test_help_imports_nothing_heavy(tmp_path):
    modules = imported(tmp_path, "--help")
    assert "medsam.cli.main" in modules
    assert modules & HEAVY == set()


# fit, validate and test: their options are those of the classes they start
@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"fit", "validate", "test"}))
def test_the_help_of_a_command_imports_nothing_heavy(tmp_path, command):
    assert imported(tmp_path, command, "--help") & HEAVY == set()


@pytest.mark.weights
def test_segmenting_a_nifti_imports_what_it_uses(tmp_path):
    made, _ = block((4, 32, 40), (10, 8, 1, 30, 24, 3))
    nib.save(nib.Nifti1Image(made.array.transpose(2, 1, 0).astype(np.int16), np.eye(4)), tmp_path / "scan.nii.gz")
    modules = imported(tmp_path, "segment", "scan.nii.gz", "--box", "1:10,8,30,24", "--axis", "k")
    assert {"torch", "nibabel"} <= modules
    assert modules & (UNUSED | {"medsam.io.dicom.series"}) == set()


@pytest.mark.weights
def test_segmenting_a_dicom_file_imports_what_it_uses(tmp_path):
    scan = get_testdata_file("CT_small.dcm", download=False)
    modules = imported(tmp_path, "segment", scan, "--box", "30,30,90,90")
    assert "medsam.io.dicom.series" in modules
    assert modules & UNUSED == set()
