"""The tables of an evaluation, read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluations import row, table

from medsam.errors import InputError
from medsam.evaluation.tables import read_table


def test_names_stay_text_and_blanks_are_not_defined(tmp_path: Path) -> None:
    metrics = table(row("001", "NA", 0.5, patient="007", hd95_mm=np.nan), row("002", "null", 1.0, patient="008"))
    metrics.to_csv(tmp_path / "metrics.csv", index=False)
    read = read_table(tmp_path)
    assert list(read["case"]) == ["001", "002"]
    assert list(read["patient"]) == ["007", "008"]
    assert list(read["structure"]) == ["NA", "null"]
    assert np.isnan(read["hd95_mm"][0])
    assert list(read["dice"]) == [0.5, 1.0]


def test_files_that_are_no_evaluation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_table(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"not an evaluation: it holds no metrics\.csv"):
        read_table(tmp_path)
    path = tmp_path / "metrics.csv"
    path.write_text("")
    with pytest.raises(InputError, match="is empty"):
        read_table(tmp_path)
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="not a table"):
        read_table(tmp_path)
    metrics = table(row("a", "liver", 0.5), row("b", "liver", 0.5)).astype({"dice": object})
    metrics.drop(columns="prompt").to_csv(path, index=False)
    with pytest.raises(InputError, match="lacks the columns prompt"):
        read_table(tmp_path)
    metrics.loc[1, "dice"] = "0,5"
    metrics.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"line 3: dice is '0,5', which is not a number"):
        read_table(tmp_path)


def test_a_folder_from_before_encoder_calls_were_counted_is_still_read(tmp_path) -> None:
    old = table(row("a", "liver", 0.9)).drop(columns="encoder_calls")
    old.to_csv(tmp_path / "metrics.csv", index=False)
    assert read_table(tmp_path)["encoder_calls"].isna().all()
