"""What native libraries print past Python: libtiff writes to file descriptor 2 itself."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_LOCK = threading.Lock()


@contextmanager
def native_stderr() -> Iterator[IO[bytes]]:
    """Keep everything written to stderr in this block away from the user; yields the file that receives it.

    Process-wide while it lasts, hence one block at a time: two that overlap would hear each other, and the one that
    began last would give back the file of the other in place of the user's. Not to be nested.
    Read the file after the block's work, from its beginning.
    """
    with _LOCK:
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
