"""Exit status 0 where the server of this container is ready, else 1: for the engine's health check."""

from __future__ import annotations

import os
import ssl
import sys
import urllib.request


def main() -> int:
    """Ask over the loopback, by http or, of a server that speaks it itself, https (its name is not ours to judge)."""
    port = os.environ.get("MEDSAM_PORT", "8000")
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    for scheme in ("http", "https"):
        try:
            with urllib.request.urlopen(f"{scheme}://127.0.0.1:{port}/health", timeout=4, context=unchecked) as answer:
                return 0 if answer.status == 200 else 1
        except OSError as error:
            print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
