"""File in, box in stored indices, mask file out: the same block on the same grid, however the scan is stored."""

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import ThresholdSam, block, random_affine

from medsam.inference.predictor import Predictor
from medsam.io.load import load_volume
from medsam.io.save import save_labels
from medsam.prompts.prompt import Prompt

FORMATS = [".nii.gz", ".nii", ".nrrd", ".mha"]


def write(path: Path, array: np.ndarray, lps: np.ndarray) -> None:
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([-1.0, -1, 1, 1]) @ lps), path)
        return
    image = sitk.GetImageFromArray(array)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path))


def affine_bytes(path: Path) -> bytes:
    """What another program says of the grid."""
    if path.name.endswith((".nii", ".nii.gz")):
        return nib.load(path).affine.tobytes()
    image = sitk.ReadImage(str(path))
    return np.array([*image.GetOrigin(), *image.GetSpacing(), *image.GetDirection()]).tobytes()


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    spacing=st.tuples(*[st.floats(0.4, 3)] * 3),
    shape=st.tuples(*[st.integers(3, 18)] * 3),
    oblique=st.booleans(),
    axis=st.sampled_from(["i", "j", "k", None]),
    suffix=st.sampled_from(FORMATS),
    data=st.data(),
)
def test_a_box_round_a_bright_block_gives_that_block_back_on_the_source_grid(
    seed, spacing, shape, oblique, axis, suffix, data
):
    low = [data.draw(st.integers(0, n - 2)) for n in shape[::-1]]
    # never a whole axis: a slice all bright has no contrast
    high = [data.draw(st.integers(a + 2, n - (a == 0))) for a, n in zip(low, shape[::-1], strict=True)]
    lps = random_affine(np.random.default_rng(seed), spacing, oblique)
    made, mask = block(shape, (*low, *high))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"scan{suffix}"
        write(source, made.array.astype(np.int16), lps)
        scan = load_volume(source)
        predictor = Predictor(ThresholdSam(), device="cpu")
        found = predictor.segment(scan, [Prompt("block", box3d=(*low, *high))], axis=axis, window="110,400", zoom="off")
        written = save_labels(found.labels, Path(folder) / f"mask{suffix}", source)
        answer = load_volume(written)
        np.testing.assert_array_equal(answer.array, mask.astype(answer.array.dtype))
        assert affine_bytes(written) == affine_bytes(source)
        assert answer.geometry.affine.tobytes() == scan.geometry.affine.tobytes()


@pytest.mark.weights
def test_the_real_model_gives_the_same_mask_however_the_scan_is_stored(litemedsam, tmp_path):
    predictor = Predictor(litemedsam, "cpu")
    made, mask = block((3, 50, 60), (12, 15, 0, 40, 33, 3))
    rng = np.random.default_rng(0)
    made.array[...] += rng.normal(0, 10, made.array.shape)
    ras = nib.Nifti1Image(made.array.transpose(2, 1, 0), np.diag([1, 1, 4, 1.0]))
    truth = nib.Nifti1Image(mask.transpose(2, 1, 0).astype(np.uint8), ras.affine)
    answers = []
    for codes in ("RAS", "LPS", "PIR", "SLA"):
        turn = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(ras.affine), nib.orientations.axcodes2ornt(codes)
        )
        stored, where = ras.as_reoriented(turn), truth.as_reoriented(turn)
        nib.save(stored, tmp_path / f"{codes}.nii.gz")
        inside = np.argwhere(np.asarray(where.dataobj))
        box = tuple(float(n) for n in (*inside.min(axis=0), *(inside.max(axis=0) + 1)))
        found = predictor.segment(load_volume(tmp_path / f"{codes}.nii.gz"), [Prompt(box3d=box)], zoom="off")
        path = save_labels(found.labels, tmp_path / f"{codes}-mask.nii.gz", tmp_path / f"{codes}.nii.gz")
        answers.append(np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj))
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])
    reference = mask.transpose(2, 1, 0)
    assert 2 * (answers[0] & reference).sum() / (answers[0].sum() + reference.sum()) > 0.95
