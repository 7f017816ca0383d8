"""The picture: rectangles that a rule blackens, and bits and bytes that are no part of it.

Pixels are passed on as they are stored. They are decoded only to be blackened, and compressed again where that loses
nothing.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    UID,
    JPEG2000Lossless,
    JPEG2000TransferSyntaxes,
    JPEGLSLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    MPEGTransferSyntaxes,
    RLELossless,
    RLETransferSyntaxes,
    UncompressedTransferSyntaxes,
)

from medsam.errors import InputError
from medsam.io.dicom.deidentify.codestreams import without_comments
from medsam.io.dicom.read import quiet, syntax_of
from medsam.io.dicom.tags import OVERLAY_BITS, named, text, whole_number

# what a rule may ask for -> the element it is compared with
_ASKED = {
    "modality": "Modality",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "rows": "Rows",
    "columns": "Columns",
}
_KEYS = (*_ASKED, "rectangles", "note")
# encoders of pydicom that lose nothing
_RECOMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)
_READ = frozenset(
    (
        *UncompressedTransferSyntaxes,
        *JPEGTransferSyntaxes,
        *JPEGLSTransferSyntaxes,
        *JPEG2000TransferSyntaxes,
        *RLETransferSyntaxes,
    )
)
_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")


@dataclass(frozen=True)
class MaskRule:
    """asked: name of `_ASKED` -> value, all of which an image must have. rectangles: x0, y0, x1, y1, half-open; none
    means that such images were looked at and hold no text.
    """

    asked: dict[str, str]
    rectangles: tuple[tuple[int, int, int, int], ...]

    def fits(self, dataset: Dataset) -> bool:
        return all(
            (text(dataset, _ASKED[name]) or "").casefold() == value.casefold() for name, value in self.asked.items()
        )


def read_rules(path: Path) -> tuple[MaskRule, ...]:
    """The rules of a file: {"rules": [{"modality": "US", "rows": 600, "rectangles": [[0, 0, 800, 40]]}]}.

    The first that fits counts. Raises InputError for a file that is not like that.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", parameter="masks") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON.", parameter="masks") from error
    listed = document.get("rules") if isinstance(document, dict) else None
    if not isinstance(listed, list) or set(document) != {"rules"}:
        raise InputError(f'{path}: {{"rules": [...]}} is needed.', parameter="masks")
    return tuple(_rule(one, f"{path}: rule {number}") for number, one in enumerate(listed, start=1))


def _rule(given: Any, where: str) -> MaskRule:
    if not isinstance(given, dict) or "rectangles" not in given:
        raise InputError(f"{where} has no `rectangles`.")
    if unknown := [key for key in given if key not in _KEYS]:
        raise InputError(f"{where}: {unknown[0]!r} is not known; {', '.join(_KEYS)} are.")
    rectangles = given["rectangles"]
    if not isinstance(rectangles, list) or not all(_is_rectangle(one) for one in rectangles):
        raise InputError(f"{where}: a rectangle is [x0, y0, x1, y1] in pixels, x0 < x1, y0 < y1, x1 and y1 outside.")
    asked = {name: str(given[name]) for name in _ASKED if name in given}
    if not asked:
        raise InputError(f"{where} fits every image: name at least one of {', '.join(_ASKED)}.")
    return MaskRule(asked, tuple(tuple(one) for one in rectangles))


def _is_rectangle(one: Any) -> bool:
    numbers = isinstance(one, list) and len(one) == 4 and all(type(number) is int for number in one)
    return numbers and 0 <= one[0] < one[2] and 0 <= one[1] < one[3]


def check_syntax(dataset: Dataset) -> None:
    """Raises InputError when the pixels are stored in a way that can hold more than pictures."""
    syntax = syntax_of(dataset)
    if syntax in MPEGTransferSyntaxes:
        raise InputError("a video: its stream may hold texts of its own")
    if syntax not in _READ:
        raise InputError("(0002,0010) Transfer Syntax UID is one whose streams are not known here")
    # 0: the overlay lies in an element of its own
    if syntax.is_encapsulated and any(tag in dataset and dataset[tag].value for tag in OVERLAY_BITS):
        raise InputError("overlays lie among the bits of compressed pixels, and may hold text")


def blacken(dataset: Dataset, rectangles: tuple[tuple[int, int, int, int], ...]) -> None:
    """Blacken rectangles in every frame. Changes `dataset`, and its transfer syntax where that cannot be written.

    Raises InputError when the pixels cannot be decoded, or are stored in a way that is not known here.
    """
    syntax = syntax_of(dataset)
    try:
        with quiet():
            if syntax.is_compressed and syntax.is_encapsulated:
                dataset.decompress(as_rgb=False, generate_instance_uid=False)
            _fill(dataset, rectangles)
            if syntax in _RECOMPRESSED:
                # an encoder that does not take this kind of pixels leaves them as they are
                with suppress(NotImplementedError, RuntimeError, ValueError):
                    dataset.compress(syntax, generate_instance_uid=False)
    except InputError:
        raise
    except Exception as error:  # decoders raise what they like
        raise InputError(f"the pixels cannot be decoded to be masked ({type(error).__name__})") from error
    for keyword in _OFFSETS:
        if keyword in dataset:
            del dataset[keyword]


def _fill(dataset: Dataset, rectangles: tuple[tuple[int, int, int, int], ...]) -> None:
    photometric = text(dataset, "PhotometricInterpretation") or ""
    rows, columns = whole_number(dataset, "Rows") or 0, whole_number(dataset, "Columns") or 0
    samples, frames = whole_number(dataset, "SamplesPerPixel") or 1, whole_number(dataset, "NumberOfFrames") or 1
    allocated = whole_number(dataset, "BitsAllocated") or 0
    if "PixelData" not in dataset or allocated not in (8, 16, 32) or photometric == "YBR_FULL_422":
        raise InputError("pixels that are stored like this cannot be masked: half colours, or bits instead of bytes")
    big = dataset.original_encoding[1] is False
    kind = np.dtype(f"{'>' if big else '<'}u{allocated // 8}")
    count = frames * rows * columns * samples
    data = np.frombuffer(bytes(dataset.PixelData), kind, count).copy()
    planar = samples > 1 and whole_number(dataset, "PlanarConfiguration") == 1
    pixels = data.reshape((frames, samples, rows, columns) if planar else (frames, rows, columns, samples))
    black = np.array(_black(dataset, photometric, data), kind)
    for x0, y0, x1, y1 in rectangles:
        if planar:
            pixels[:, :, y0:y1, x0:x1] = black[None, :, None, None]
        else:
            pixels[:, y0:y1, x0:x1] = black
    encoded = data.tobytes()
    dataset.PixelData = encoded + b"\0" * (len(encoded) % 2)


def _black(dataset: Dataset, photometric: str, data: np.ndarray) -> list[int]:
    """The sample values of what is shown darkest in this image, as bits: no value comes in that it has not.

    data: all samples, as numbers without a sign.
    """
    if photometric.startswith("YBR"):
        grey = 1 << (whole_number(dataset, "BitsStored") or 8) - 1
        return [0, grey, grey]
    if photometric == "RGB":
        return [0, 0, 0]
    signed = whole_number(dataset, "PixelRepresentation") == 1
    values = data.view(data.dtype.str.replace("u", "i")) if signed else data
    darkest = values.max() if photometric == "MONOCHROME1" else values.min()
    return [int(darkest) % (1 << 8 * data.itemsize)]


def without_rest(dataset: Dataset) -> list[str]:
    """Take out of (7FE0,0010) Pixel Data what is no picture: bytes behind it, bits beside it, comments of its streams.

    Changes `dataset`. Returns what was found. Raises InputError where it cannot be told apart.
    """
    for keyword in ("FloatPixelData", "DoubleFloatPixelData"):
        if keyword in dataset and len(dataset[keyword].value) != _length(dataset):
            raise InputError(f"{named(keyword)} has more or fewer bytes than the picture needs")
    if "PixelData" not in dataset:
        return []
    syntax = syntax_of(dataset)
    pixels = dataset.PixelData
    if not isinstance(pixels, bytes):
        raise InputError(f"{named('PixelData')} is damaged")
    if syntax not in UncompressedTransferSyntaxes:
        return _without_comments(dataset, pixels, syntax)
    found = []
    length = _length(dataset)
    if len(pixels) < length:
        raise InputError(f"{named('PixelData')} is cut off: it has fewer bytes than the picture needs")
    if any(pixels[length:]):
        found.append("bytes behind the pixels")
    if len(pixels) > length + length % 2:
        pixels = pixels[:length] + b"\0" * (length % 2)
    elif found:
        pixels = pixels[:length] + b"\0"
    bits = _without_bits(dataset, pixels)
    if bits is not None:
        found.append("bits beside the pixels, as overlays are")
        pixels = bits
    if pixels is not dataset.PixelData:
        dataset.PixelData = pixels
    return found


def _without_comments(dataset: Dataset, pixels: bytes, syntax: UID) -> list[str]:
    if not syntax.is_encapsulated:
        # deflated: the data set as a whole
        return []
    # its places are of no use when lengths change, and its bytes may be letters
    for keyword in _OFFSETS:
        if keyword in dataset:
            del dataset[keyword]
    sizes = [whole_number(dataset, one) or 0 for one in ("Rows", "Columns", "BitsAllocated")]
    plane = sizes[0] * sizes[1] if sizes[2] >= 8 else -(-sizes[0] * sizes[1] // 8)
    cleaned = without_comments(pixels, syntax, whole_number(dataset, "NumberOfFrames") or 1, plane)
    if cleaned is None:
        return []
    dataset.PixelData = cleaned[0]
    return ["comments in compressed frames"] if cleaned[1] else []


def _length(dataset: Dataset) -> int:
    """How many bytes the picture needs, without the one that makes them even."""
    sizes = [whole_number(dataset, one) for one in ("Rows", "Columns", "BitsAllocated")]
    if None in sizes:
        raise InputError(f"{named('Rows')}, columns or bits are missing")
    rows, columns, bits = (size or 0 for size in sizes)
    samples, frames = whole_number(dataset, "SamplesPerPixel") or 1, whole_number(dataset, "NumberOfFrames") or 1
    if text(dataset, "PhotometricInterpretation") == "YBR_FULL_422":
        samples = 2
    return -(-rows * columns * samples * frames * bits // 8)


def _without_bits(dataset: Dataset, pixels: bytes) -> bytes | None:
    """The pixels without what stands in the bits that they do not use; None where nothing does."""
    allocated, stored = whole_number(dataset, "BitsAllocated"), whole_number(dataset, "BitsStored")
    high = whole_number(dataset, "HighBit")
    if allocated not in (8, 16, 32) or not stored or stored >= allocated or high != stored - 1:
        return None
    kind = np.dtype(f"{'>' if dataset.original_encoding[1] is False else '<'}u{allocated // 8}")
    words = np.frombuffer(pixels, kind, len(pixels) // kind.itemsize)
    used = kind.type((1 << stored) - 1)
    cleaned = words & used
    if whole_number(dataset, "PixelRepresentation") == 1:
        # a negative number has the bits above it set
        cleaned = np.where(cleaned >> (stored - 1) & 1, cleaned | ~used, cleaned).astype(kind)
    padding = whole_number(dataset, "PixelPaddingValue")
    if padding is not None:
        # of some scanners it is a number that the bits cannot hold
        cleaned = np.where(words == kind.type(padding % (1 << allocated)), words, cleaned)
    if np.array_equal(cleaned, words):
        return None
    rest = pixels[len(words) * kind.itemsize :]
    return cleaned.astype(kind).tobytes() + rest
