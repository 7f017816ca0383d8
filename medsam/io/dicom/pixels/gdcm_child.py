"""`python -m medsam.io.dicom.pixels.gdcm_child`: decode frames in a process that may crash without its parent.

stdin: JSON, a list of (path, name for messages, frame numbers). stdout, for every frame in that order: a line of JSON,
{"dtype", "shape"}, and the frame's bytes; or the message of an InputError as the last line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from medsam.errors import InputError
from medsam.io.dicom.pixels.decoders import EncodedPixels
from medsam.io.dicom.read import quiet, read_header
from medsam.io.dicom.source import Source


def main() -> None:
    """Answer one job."""
    out = sys.stdout.buffer
    try:
        with quiet():
            for path, name, numbers in json.load(sys.stdin.buffer):
                header = read_header(Source(name, Path(path)))
                if header is None:
                    raise InputError(f"{name} is not a DICOM file any more.")
                encoded = EncodedPixels(header)
                for number in numbers:
                    frame = np.ascontiguousarray(encoded.frame(number))
                    out.write(json.dumps({"dtype": frame.dtype.str, "shape": frame.shape}).encode() + b"\n")
                    out.write(frame.data)
                    out.flush()
    except InputError as error:
        out.write(json.dumps(str(error)).encode() + b"\n")


if __name__ == "__main__":
    main()
