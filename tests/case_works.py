"""Work for `run_cases` that other processes can import."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

from medsam.errors import InputError
from medsam.progress import ProgressCallback


class Doubles:
    """2 -> 4. Negative numbers are bad cases, 13 and 14 are defects, 99 ends the process, 77 goes on for ever.

    folder: one file a case, made before anything else, and `unwound` when 77 was ended by an exception.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, case: int, progress: ProgressCallback) -> tuple[int, int]:
        (self.folder / str(case)).touch()
        if case == 77:
            try:
                while True:
                    progress(1, 2)
                    time.sleep(0.01)
            finally:
                (self.folder / "unwound").touch()
        progress(0, 2)
        if case < 0:
            raise InputError(f"{case} is negative.")
        if case == 13:
            raise ZeroDivisionError("thirteen")
        if case == 14:
            # as a pipe that is closed would
            raise EOFError("fourteen")
        if case == 99:
            os._exit(3)
        # the first cases take longest, so that results come in another order than the cases
        time.sleep(max(0.0, 0.3 - 0.1 * case))
        progress(2, 2)
        return 2 * case, torch.get_num_threads()


class Broken:
    """Cannot be made again in another process."""

    def __call__(self, case: int, progress: ProgressCallback) -> int:
        return case

    def __reduce__(self) -> tuple:
        return os._exit, (5,)


class Slow:
    """Takes half a second and writes a file a time it was done; one that is there when it begins is a repeat."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def is_done(self, case: int) -> bool:
        return any(self.folder.glob(f"{case}.done.*"))

    def __call__(self, case: int, progress: ProgressCallback) -> int:
        if self.is_done(case):
            (self.folder / f"{case}.repeated").touch()
        (self.folder / f"{case}.begun.{os.getpid()}").touch()
        for done in range(10):
            progress(done, 10)
            time.sleep(0.05)
        (self.folder / f"{case}.done.{os.getpid()}").touch()
        return 10 * case
