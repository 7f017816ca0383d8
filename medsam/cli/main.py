"""`medsam COMMAND ...`: finds the command, runs it, turns errors into exit codes.

0 done; 2 the input, prompt or checkpoint is wrong (one message on stderr); 1 a defect of ours; 130 Ctrl-C.
Commands are imported when called: `medsam --help` must not load torch.
"""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import importlib
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medsam._version import __version__
from medsam.cli.flags import with_flags
from medsam.cli.remote import fetched_scans
from medsam.errors import MedSAMError, printable

# command -> (module, one line for --help). A module offers add_arguments(parser) and run(arguments) -> None; those of
# `_OWN_PARSER` read their words themselves.
COMMANDS: dict[str, tuple[str, str]] = {
    "segment": (
        "medsam.cli.segment",
        "segment a scan from boxes, clicks, strokes and rough masks; the mask comes back on the scan's own grid",
    ),
    "segment-many": ("medsam.cli.segment_many", "the same for many scans, by processes or a Ray cluster; resumable"),
    "organs": (
        "medsam.cli.organs",
        "every structure that a head was measured on, without a prompt; with a statistics CSV",
    ),
    "everything": ("medsam.cli.everything", "all masks of a slice or volume, from a grid of clicks or boxes"),
    "everything-many": ("medsam.cli.everything_many", "the same for many scans, as segment-many shares them out"),
    "convert": (
        "medsam.cli.convert",
        "labels of any format to NIfTI, NRRD, MHA, DICOM SEG or RTSTRUCT, on the grid of their scan",
    ),
    "evaluate": ("medsam.cli.evaluate", "zero-shot scores against reference masks, with tables and a report"),
    "calibrate": ("medsam.cli.calibrate", "the expected Dice for scans of one's own, from their references"),
    "compare": ("medsam.cli.compare", "evaluations side by side, or two in pairs"),
    "fit": ("medsam.cli.train", "fine-tune a model on a manifest: --config configs/train/*.yaml"),
    "validate": ("medsam.cli.train", "score a run's model on its validation cases"),
    "test": ("medsam.cli.train", "score a run's model on its test cases"),
    "embed": ("medsam.cli.embed", "encode the slices of a manifest once, so that prompts cost a decode only"),
    "export": ("medsam.cli.export", "ONNX encoder and decoder, compared with torch, for other engines and browsers"),
    "data": ("medsam.cli.data", "manifests: check, index a folder, split by patient; DICOM without names (deidentify)"),
    "annotate": ("medsam.cli.annotate", "the data engine: people and the model make the data together"),
    "pacs": ("medsam.cli.pacs", "servers of the settings file: find, get, store, over DICOMweb and DIMSE; a receiver"),
    "serve": ("medsam.cli.serve", "scans, sessions and masks for many readers; users, backups and checks of it"),
    "models": ("medsam.cli.models", "weights: what is known, where it comes from, licence, what is on disk"),
}


# options that a number follows, which may be negative
_NUMBERS = (
    "--window",
    "--keep-range",
    *(f"--{kind}" for kind in ("box", "point", "scribble", "lasso", "line", "ellipse")),
)

_OWN_PARSER = ("fit", "validate", "test")

# the disk is full or may not be written to, a quota or a limit is reached: no defect of ours
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)

# a share has gone, a disk fails
_OF_THE_SHARE = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.ENODEV, errno.ENXIO)

# libraries whose errors hold pieces of the file
_READERS = ("pydicom", "highdicom", "pynetdicom", "dicomweb_client", "nibabel", "nrrd", "PIL")

# module -> the extra of pyproject.toml that brings it
_EXTRAS = {
    "lightning": "train",
    "ray": "ray",
    "pandas": "evaluate",
    "jinja2": "evaluate",
    "huggingface_hub": "hub",
    "jsonargparse": "train",
    "tensorboard": "train",
    "onnxruntime": "export",
    "dicomweb_client": "pacs",
    "requests": "pacs",
    "pynetdicom": "pacs",
    "dicomanonymizer": "deidentify",
    "fastapi": "serve",
    "uvicorn": "serve",
    "sqlalchemy": "serve",
    "alembic": "serve",
    "argon2": "serve",
    "prometheus_client": "serve",
    "psycopg": "postgres",
    "transformers": "clip",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # names of files may hold bytes that are no UTF-8; stderr shows them escaped, and so should stdout
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    argv = _joined(sys.argv[1:] if argv is None else argv)
    # imports make objects by the hundred thousand, and all stay: looking for cycles among them after every 700, as
    # Python does, takes a sixth of a start
    gc.set_threshold(10_000)
    # nor at the end, when memory is given back anyway: nearly a second
    atexit.register(gc.freeze)
    arguments = _parsed(argv)
    try:
        with _terminable(), fetched_scans(arguments):
            importlib.import_module(COMMANDS[arguments.command][0]).run(arguments)
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our stdout (head, less) has left: not an error of ours; keep the interpreter quiet at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MedSAMError as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"{type(error).__name__}: {with_flags(str(error), error.parameters, arguments)}", file=sys.stderr)
        return 2
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno in (*_OF_THE_DISK, *_OF_THE_SHARE):
            print(_disk(error), file=sys.stderr)
            return 2
        if isinstance(error, ModuleNotFoundError) and (extra := _extra(arguments.command, error)):
            print(
                f"medsam {arguments.command} needs {error.name}, which is not installed: "
                f"pip install 'medsam-framework[{extra}]' (in a checkout: pip install '.[{extra}]').",
                file=sys.stderr,
            )
            return 2
        print(
            f"A defect in medsam, not in your input: {_told(error)}\n"
            "Run again with --debug for the traceback, and report it.",
            file=sys.stderr,
        )
        return 1
    return 0


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The words of the command line; of commands with a parser of their own, as they are."""
    parser = argparse.ArgumentParser(
        prog="medsam",
        description="Promptable segmentation of medical images. Not a medical device.",
        epilog="medsam COMMAND --help tells more about a command.",
    )
    parser.add_argument("--version", action="version", version=f"medsam {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, line) in COMMANDS.items():
        command = commands.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        if argv[:1] == [name] and name not in _OWN_PARSER:
            importlib.import_module(module).add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")

    if argv[:1] and argv[0] in _OWN_PARSER:
        words = [word for word in argv[1:] if word != "--debug"]
        return argparse.Namespace(command=argv[0], words=words, debug="--debug" in argv)
    return parser.parse_args(argv)


def _disk(error: OSError) -> str:
    """What the system says of a file that could not be written or read, and what to do."""
    names = [
        printable(os.fsdecode(name)) for name in (error.filename2, error.filename) if isinstance(name, str | bytes)
    ]
    where, what = f"{names[0]}: " if names else "", error.strerror or "it cannot be written"
    todo = "Make room, or name a folder that can be written to"
    if error.errno in _OF_THE_SHARE:
        todo = "The disk or the share does not answer: see to it"
    return (
        f"InputError: {where}{what}. What was finished is kept, nothing is half written. {todo}, and run the same "
        "command again."
    )


def _extra(command: str, error: ModuleNotFoundError) -> str | None:
    """The extra that brings what is missing; None for what no extra brings."""
    extra = _EXTRAS.get((error.name or "").split(".")[0])
    return "train" if extra and extra != "clip" and command in _OWN_PARSER else extra


def _told(error: Exception) -> str:
    """An unexpected error, without the words of a library that reads headers: they quote what stands there."""
    frames = traceback.extract_tb(error.__traceback__)
    # what the system says of a file names nobody but the file
    if not isinstance(error, OSError) and any(
        f"site-packages/{name}" in frame.filename.replace("\\", "/") for frame in frames for name in _READERS
    ):
        ours = [frame for frame in frames if "medsam" in frame.filename]
        place = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
        return f"{type(error).__name__}{place}, while a file was read (what it says may be about a patient)"
    return f"{type(error).__name__}: {error}"


def _joined(argv: Sequence[str]) -> list[str]:
    """`--window -600,1500` as one word: argparse takes what starts with a dash for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in _NUMBERS and re.match(r"-(\.?\d|inf)", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that temporary files go; threads other than the first cannot set this."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
