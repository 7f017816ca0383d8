"""`python -m medsam.cli.child WORDS`: `medsam WORDS` for a program, with which it ends, however that ends.

The program holds the other end of this process's stdin, on which nothing ever comes: when it is killed, the system
closes that end.
"""

from __future__ import annotations

import os
import sys
import threading


def _end_with_the_parent() -> None:
    while os.read(0, 1024):
        pass
    # as if it had been killed, too: what is on the disk is whole
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_parent, daemon=True).start()

    from medsam.cli.main import main

    sys.exit(main(sys.argv[1:]))
