"""The tables of an evaluation: `metrics.csv` and `slices.csv`, their columns, and what a blank cell means.

`metrics.csv` has one row per case x structure x model x prompt, `slices.csv` one per slice of those. A blank cell (nan;
an infinite distance is read the same way) means "not defined": it never counts as a number. A distance is not defined
where the answer is empty (`empty_answers`), which is a failure, and where the image has no millimetres, which is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import numpy as np

from medsam.errors import InputError, counted

if TYPE_CHECKING:
    import pandas as pd

# The volume errors follow from the two volume columns: prediction minus reference, positive is too much; in percent
# of the reference, and not defined when the reference has no volume.
METRICS = (
    "dice",
    "iou",
    "nsd",
    "hd95_mm",
    "assd_mm",
    "volume_error_ml",
    "volume_error_percent",
    "predicted_iou",
)
TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "nsd": "NSD",
    "hd95_mm": "HD95 (mm)",
    "assd_mm": "ASSD (mm)",
    "volume_error_ml": "Volume error (ml)",
    "volume_error_percent": "Volume error (%)",
    "predicted_iou": "Predicted IoU",
}
# answers drawn from the box alone, and a rough mask as it was given: what a model has to beat
BASELINES = ("filled-box", "inscribed-ellipse", "given-mask")
# the prompt of rows that score the best of three masks, chosen by the reference
ORACLE = "box:oracle3"
# infinite for an empty answer, and blank then in metrics.csv
DISTANCES = ("hd95_mm", "assd_mm")

NAMES = ("case", "patient", "structure", "model", "prompt")
NUMBERS = (
    "n_slices",
    "dice",
    "iou",
    "nsd",
    "hd95_mm",
    "assd_mm",
    "volume_ml",
    "volume_ref_ml",
    "predicted_iou",
    "seconds",
    "encoder_calls",
)
# columns that folders of earlier versions lack
_LATER = ("encoder_calls",)
# of slices.csv alone: the Dice that is expected of an answer to a box, its interval, and whether its picture is like
# none that this was learnt from (1) or not (0); see `inference.trust`
TRUST = ("expected_dice", "expected_dice_low", "expected_dice_high", "unfamiliar")
COLUMNS = ("case", "patient", "structure", "label", "model", "prompt", *NUMBERS)


def read_table(folder: Path, name: Literal["metrics", "slices"] = "metrics") -> pd.DataFrame:
    """The rows of `metrics.csv` or `slices.csv` of an evaluation folder.

    Names stay text ("001" is a case, "NA" a structure); blank numbers are nan.
    Raises InputError when the folder is not an evaluation, or the file lacks a column, holds no rows, a number that
    is none, or a row twice.
    """
    import pandas as pd

    path = Path(folder) / f"{name}.csv"
    if not path.is_file():
        what = "does not exist" if not Path(folder).exists() else f"is not an evaluation: it holds no {name}.csv"
        raise InputError(f"{folder} {what}. Give the folder that `medsam evaluate --out` wrote.")
    try:
        # "NA" and "null" may be names; only a blank means nothing
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except pd.errors.EmptyDataError:
        raise InputError(f"{path} is empty. Run `medsam evaluate` again.") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a table of comma-separated values: {error}") from None
    of_slices = () if name == "metrics" else ("slice", *TRUST)
    for column in (*_LATER, *of_slices[1:]):
        if column not in table:
            table[column] = ""
    _check_columns(table, str(path), (*COLUMNS, *of_slices))
    numbers = (*NUMBERS, *of_slices)
    for column in numbers:
        text = table[column].str.strip()
        values = pd.to_numeric(text.where(text != ""), errors="coerce")
        wrong = np.flatnonzero((values.isna() & (text != "") & (text.str.lower() != "nan")).to_numpy())
        if wrong.size:
            raise InputError(
                f"{path}, line {wrong[0] + 2}: {column} is {text.iloc[wrong[0]]!r}, which is not a number."
            )
        table[column] = values
    check_rows(table, str(path))
    return table


def file_name(name: str) -> str:
    """A case, model or structure as part of a file name: ids of several manifests hold a slash."""
    # quoted, so that "left lung" and "left_lung" stay two files
    return quote(name.replace("/", "__"), safe="+")


def check_rows(
    table: pd.DataFrame, where: str = "The table of metrics", columns: Sequence[str] = (*NAMES, "dice")
) -> None:
    """Raise InputError unless the rows can be counted: columns there, names given, no row twice.

    where: what to call the table in a message. columns: those that are needed.
    """
    _check_columns(table, where, columns)
    for column in NAMES:
        blank = np.flatnonzero((table[column].isna() | (table[column].astype(str).str.strip() == "")).to_numpy())
        if blank.size:
            raise InputError(
                f"{where}: row {blank[0] + 1} has no {column}. Every row needs one; a case without a patient of its "
                "own takes its case id."
            )
    key = ["case", "structure", "model", "prompt", *(["slice"] if "slice" in table else [])]
    twice = table.duplicated(key)
    if twice.any():
        row = table[twice].iloc[0]
        raise InputError(
            f"{where}: {counted(int(twice.sum()), 'row repeats', 'rows repeat')} an earlier one, first "
            + ", ".join(f"{column} {row[column]}" for column in key)
            + ". They would count twice; keep one."
        )
    owners = table.groupby("case", sort=False)["patient"].nunique()
    shared = owners.index[owners > 1]
    if len(shared):
        raise InputError(f"{where}: case {shared[0]} belongs to {int(owners.max())} patients; a case has one.")


def jsonable(value: float | None) -> float | None:
    """A number JSON can hold: None for nan and the infinities."""
    return None if value is None or not math.isfinite(value) else float(value)


def data_sets(cases: Iterable[str]) -> list[str]:
    """The data set of each case, where all are called SET/CASE; else "" for every one."""
    parts = [str(case).partition("/") for case in cases]
    return [name for name, *_ in parts] if all(slash for _, slash, _ in parts) else [""] * len(parts)


def empty_answers(rows: pd.DataFrame, metric: str) -> np.ndarray:
    """(n,) bool: the rows whose distance is not defined because the answer is empty.

    metric: of `METRICS`; all False unless it is one of the `DISTANCES`. An image without a physical size has no
    distance either, nor a volume of the reference: that is no failure.
    """
    if metric not in DISTANCES:
        return np.zeros(len(rows), dtype=bool)
    distance, dice, reference = (rows[name].to_numpy(dtype=float) for name in (metric, "dice", "volume_ref_ml"))
    return ~np.isfinite(distance) & (dice == 0) & np.isfinite(reference)


def without_distance(rows: pd.DataFrame) -> dict[str, int]:
    """How many of these rows have no HD95, and why: the answer is "empty", no "millimetres", or "unknown"."""
    empty = empty_answers(rows, "hd95_mm")
    undefined = ~np.isfinite(rows["hd95_mm"].to_numpy(dtype=float)) & ~empty
    flat = undefined & ~np.isfinite(rows["volume_ref_ml"].to_numpy(dtype=float))
    return {"empty": int(empty.sum()), "millimetres": int(flat.sum()), "unknown": int((undefined & ~flat).sum())}


def _check_columns(table: pd.DataFrame, where: str, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"{where} lacks the columns {', '.join(missing)}; an evaluation has {', '.join(COLUMNS)}.")
    if not len(table):
        raise InputError(f"{where} holds no rows: nothing was evaluated.")
