"""What native libraries print past Python: MetaIO, libtiff and GDCM write to file descriptor 2 themselves."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def native_stderr() -> Iterator[IO[bytes]]:
    """Keep everything written to stderr in this block away from the user; yields the file that receives it.

    Process-wide while it lasts. Read the file after the block's work, from its beginning.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
