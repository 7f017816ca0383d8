"""Frames that GDCM decodes, in a process of its own: damage may crash it, and of some only its stderr tells."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, cast

import numpy as np

from medsam.errors import InputError
from medsam.io.dicom.frame import ImageFrame
from medsam.io.dicom.header import Header
from medsam.io.dicom.pixels.common import damaged
from medsam.io.dicom.tags import named


class GdcmProcess:
    """Frames that a process apart decodes (`gdcm_child`), to be taken in the order given.

    files: the frames of each file. name: the whole as messages call it. Files in memory are written to a temporary
    folder for as long as the process runs.
    """

    def __init__(self, files: Sequence[Sequence[ImageFrame]], name: str) -> None:
        self._name, self._files = name, files
        self._frames = iter([frame for frames in files for frame in frames])

    def __enter__(self) -> GdcmProcess:
        # the folder that holds the package
        root = str(Path(__file__).parents[4])
        search = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        with ExitStack() as opened:
            job = [
                (str(_on_disk(frames[0].header, opened)), frames[0].header.name, [frame.index for frame in frames])
                for frames in self._files
            ]
            self._stderr = opened.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                # -P: a json.py in the user's folder is none of ours
                [sys.executable, "-P", "-m", "medsam.io.dicom.pixels.gdcm_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**os.environ, "PYTHONPATH": search},
            )
            self._opened = opened.pop_all()
        self._reply = cast("IO[bytes]", self._process.stdout)
        # a process that has ended already is noticed at the first frame
        with suppress(OSError), cast("IO[bytes]", self._process.stdin) as there:
            there.write(json.dumps(job).encode())
        return self

    def frame(self, _: int) -> np.ndarray:
        """The next frame as (J, I) or (J, I, 3), as stored."""
        frame = next(self._frames)
        try:
            reply = json.loads(self._reply.readline())
            if isinstance(reply, dict):
                kind, shape = np.dtype(reply["dtype"]), reply["shape"]
                # a bytearray, for arrays of bytes cannot be written to
                words = bytearray(self._reply.read(kind.itemsize * math.prod(shape)))
                return np.frombuffer(words, kind).reshape(shape)
        except ValueError as crash:
            raise damaged(frame.name, frame.header.syntax, ChildProcessError("the decoder has crashed")) from crash
        raise InputError(reply)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reply.close()
        with self._opened:
            self._stderr.seek(0)
            # its JPEG decoder fills damaged parts with something and only prints that it did
            if b"Corrupt JPEG" in self._stderr.read() and kind is None:
                raise InputError(
                    f"{self._name}: {named('PixelData')} holds a damaged or truncated JPEG image. Copy or export it "
                    "again."
                )


def _on_disk(header: Header, opened: ExitStack) -> Path:
    """Where another process finds the file. One in memory is written to a folder that goes when `opened` ends."""
    source = header.source
    if source.path is not None:
        return source.path.absolute()
    path = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="medsam-dicom-")), "file.dcm")
    path.write_bytes(source.data)
    return path
