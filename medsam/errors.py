"""Everything medsam raises on purpose.

MedSAMError
├── InputError              the file or the scan
│   ├── InconsistentSeries  slices that do not make one regular volume
│   └── SeveralSeries       a folder with more than one series; says which
├── PromptError             the box, point or mask
├── CheckpointError         the weights
├── AssetError              a download or the cache
└── Cancelled               nothing is wrong: the caller ended the job

A message says what is wrong, where (file, DICOM tag number and name, or which prompt) and what to do.
It never holds a patient's name, number or date of birth. Where an argument is to be changed, the message names it as
Python does, in backquotes, and `parameter` says which one it is: the command line shows its option instead, prints the
message without a traceback and exits with 2; a server answers 422.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Self

# what a terminal obeys instead of showing (a line end is let through: some messages have several lines), and bytes of
# a file name that are no UTF-8, which no stream takes
_UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` as a terminal may have it: what comes from a file or its name in place of letters is shown as \\x1b."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


class MedSAMError(Exception):
    """Base of all expected errors; `str()` is ready to be shown to a user, control characters made visible.

    parameters: the arguments to change, which the message names in backquotes, the likeliest one first.
    """

    def __init__(self, message: str = "", *, parameter: str | Sequence[str] = ()) -> None:
        super().__init__(message)
        self.parameters = (parameter,) if isinstance(parameter, str) else tuple(parameter)

    @property
    def parameter(self) -> str | None:
        """The argument to change; None when the fault lies elsewhere, as in a file."""
        return self.parameters[0] if self.parameters else None

    def within(self, where: str) -> Self:
        """The same error, its message led by where it happened: "WHERE: message"."""
        return type(self)(f"{where}: {self}", parameter=self.parameters)

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(MedSAMError):
    """A file that cannot be read as a scan, or a scan that cannot be used."""


class InconsistentSeries(InputError):
    """DICOM slices that do not form one regular volume."""


class SeveralSeries(InputError):
    """More than one DICOM series where one is needed; the message lists them."""


class PromptError(MedSAMError):
    """A prompt that cannot be answered."""


class CheckpointError(MedSAMError):
    """Weights that are damaged, unsafe, or of another architecture."""


class AssetError(MedSAMError):
    """A weight file or sample scan that could not be fetched or verified."""


class Cancelled(MedSAMError):
    """A long job that was ended on purpose: raise it from the job's `progress` (see `medsam.progress`).

    Nothing is half written, and the job can be started again.
    """

    def __init__(self, message: str = "The job was cancelled.", *, parameter: str | Sequence[str] = ()) -> None:
        super().__init__(message, parameter=parameter)


def counted(number: int, one: str, several: str | None = None) -> str:
    """ "1 slice", "3 slices"; for messages. several: where it is not `one` with an s."""
    return f"{number} {one if number == 1 else several or one + 's'}"


def slices_named(indices: Iterable[int]) -> str:
    """ "slice 4", "slices 4, 7, 9"; the first eight of them."""
    slices = sorted(set(indices))
    some = f"{', '.join(map(str, slices[:8]))}{' ...' if len(slices) > 8 else ''}"
    return f"slice{'s' if len(slices) > 1 else ''} {some}"


def listed(items: Iterable[object], most: int = 12) -> str:
    """The first of some items, for a message."""
    words = [str(item) for item in items]
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
