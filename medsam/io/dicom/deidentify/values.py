"""Values in place of others: dummies, and dates that are moved."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

REMOVED = "REMOVED"
NAME = "Anonymous"

# valid for each kind of element (PS3.5 table 6.2-1), never empty: an element may be required
_DUMMIES: dict[str, Any] = {
    "AE": REMOVED,
    "AS": "000Y",
    "AT": 0,
    "CS": REMOVED,
    "DA": "19000101",
    "DS": "0",
    "DT": "19000101000000",
    "FD": 0.0,
    "FL": 0.0,
    "IS": "0",
    "LO": REMOVED,
    "LT": REMOVED,
    "OB": b"\0\0",
    "OD": b"\0" * 8,
    "OF": b"\0" * 4,
    "OL": b"\0" * 4,
    "OV": b"\0" * 8,
    "OW": b"\0\0",
    "PN": NAME,
    "SH": REMOVED,
    "SL": 0,
    "SS": 0,
    "ST": REMOVED,
    "SV": 0,
    "TM": "000000",
    "UC": REMOVED,
    "UI": "2.25.0",
    "UL": 0,
    "UN": b"",
    "UR": "http://removed.invalid",
    "US": 0,
    "UT": REMOVED,
    "UV": 0,
}
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_TIME = re.compile(r"\d{2}(:?\d{2}(:?\d{2}(\.\d{1,6})?)?)?")
_DATE_TIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?([+-]\d{4})?")
_ZONE = re.compile(r"[+-]\d{4}")
_AGE = re.compile(r"(\d{3})([DWMY])")
_OLDEST = 90


def dummy(vr: str) -> Any:
    return _DUMMIES.get(vr, b"")


def is_several(value: Any) -> bool:
    """Whether a value of pydicom is one of several; the parts of a name in other scripts are one."""
    return not isinstance(value, str | bytes) and hasattr(value, "__iter__") and not hasattr(value, "components")


def each(value: Any, change: Callable[[str], Any]) -> Any:
    """`change` of a value, or of each of several."""
    if value is None or value == "":
        return value
    return [change(str(one)) for one in value] if is_several(value) else change(str(value))


def moved(value: str, vr: str, days: int) -> str:
    """A date (DA, DT) so many days later; of a time (TM) the same. A dummy for what is none."""
    value = value.strip(" \0")
    if not value:
        return value
    if vr == "TM":
        return value if _TIME.fullmatch(value) else dummy(vr)
    if vr == "SH":
        # (0008,0201) Timezone Offset From UTC
        return value if _ZONE.fullmatch(value) else "+0000"
    if vr == "DT":
        return _moved_time(value, days)
    match = _DATE.fullmatch(value)
    return (_moved(match[1], match[2], match[3], days) if match else None) or dummy(vr)


def _moved_time(value: str, days: int) -> str:
    match = _DATE_TIME.fullmatch(value)
    if not match:
        return dummy("DT")
    year, month, day, time, zone = match.groups()
    # a year or a month alone is moved as its first day, and as coarse as it was
    found = _moved(year, month or "01", day or "01", days)
    if found is None:
        return dummy("DT")
    return found[: 4 + 2 * bool(month) + 2 * bool(day)] + (time or "") + (zone or "")


def _moved(year: str, month: str, day: str, days: int) -> str | None:
    try:
        return (date(int(year), int(month), int(day)) + timedelta(days)).strftime("%Y%m%d").rjust(8, "0")
    except (ValueError, OverflowError):
        return None


def coarse_age(value: str) -> str:
    """(0010,1010) Patient's Age; from 90 years on all are 90, for so few reach them."""
    match = _AGE.fullmatch(value.strip())
    if not match:
        return ""
    number, unit = int(match[1]), match[2]
    years = {"D": number / 365.25, "W": number / 52.18, "M": number / 12, "Y": number}[unit]
    return f"{_OLDEST:03d}Y" if years >= _OLDEST else match[0]
