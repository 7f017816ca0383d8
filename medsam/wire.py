"""Masks on the wire: the changed rectangle of a slice, as bits or run lengths. The server writes it, the client reads.

A body of type `MEDIA_TYPE` is any number of frames, one after the other. All numbers are little-endian. A frame:

    offset  bytes  what
    0       4      magic: "MSAM"
    4       2      version, 1; a reader refuses a higher one
    6       1      encoding of the payload: 0 bits, 1 run lengths
    7       1      0
    8       4      n, length of the head
    12      4      m, length of the payload
    16      n      head: JSON in UTF-8, keys below; unknown ones are left alone
    16+n    m      payload

Head: `object` (its number in the session), `axis` ("i", "j", "k"), `slice`, `shape` [rows, columns] of the slice,
`rectangle` [x0, y0, x1, y1], half-open, of what changed, `base`: since which revision of this mask; beyond the
rectangle it is as it was then. With base 0 the frame stands alone: beyond the rectangle everything is outside.
`revision` (of the session, when the mask came to be), `status` ("first": a refined one follows; "refined";
"propagated"; "restored" by undo or redo; "drawn": as it was drawn; "removed": the object has no mask on this slice any
more; "candidate": another answer to the same prompt, which does not stand), `predicted_iou` (what the network says of
its own answer: not calibrated; null where it said nothing), `expected_dice` (of a whole answer to a box alone: an
estimate by a model, not a measurement; null of all others, and where nothing was learnt of the network), with
`expected_dice_low` and `expected_dice_high` (eight in ten such answers lie between them) and `unfamiliar` (true: the
picture is unlike all that this was learnt from), which are left out where there is nothing to say,
`confidence` (of a propagated mask, 0 to 1: it ranks slices, and is no probability; left out where it is not known),
`ambiguous` (true: one click is all that was asked, which may mean a part or the whole; left out otherwise).

Bits: one a pixel of the rectangle, row by row, columns ascending, the highest bit of a byte first, zeros up to a whole
byte at the end. Run lengths: of the same pixels in the same order, how many are outside, then inside, then outside ...
(each a 32-bit number); the first may be 0. The writer takes what is shorter. An empty rectangle has no payload.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

from medsam.errors import InputError
from medsam.geometry import Axis
from medsam.masks import RLE, CompactMask, pack_bits, unpack_bits, xyxy

MEDIA_TYPE = "application/vnd.medsam.frames"
VERSION = 1
Status = Literal["first", "refined", "propagated", "restored", "drawn", "removed", "candidate"]

_PREFIX = struct.Struct("<4sHBBII")
_MAGIC = b"MSAM"
_BITS, _RUNS = 0, 1
# numbers of a head that are left out where they are not known
_IF_KNOWN = ("expected_dice_low", "expected_dice_high", "confidence")
# and what is left out where it is not so
_IF_TRUE = ("unfamiliar", "ambiguous")
# what a reader believes: a slice of this many pixels, and a head of this many bytes
_MAX_PIXELS = 2**28
_MAX_HEAD = 2**16


@dataclass(frozen=True, eq=False)
class MaskFrame:
    """What changed of an object's mask on a slice. Fields: see the top of this file.

    pixels: bool (y1 - y0, x1 - x0), the mask inside `rectangle` as it is now.
    """

    object: int
    axis: Axis
    slice: int
    shape: tuple[int, int]
    rectangle: tuple[int, int, int, int]
    pixels: np.ndarray
    revision: int = 0
    status: Status = "refined"
    predicted_iou: float | None = None
    expected_dice: float | None = None
    base: int = 0
    confidence: float | None = None
    expected_dice_low: float | None = None
    expected_dice_high: float | None = None
    unfamiliar: bool = False
    ambiguous: bool = False

    @classmethod
    def whole(cls, mask: CompactMask, **head: Any) -> MaskFrame:
        """A mask (h, w) on nothing. head: the other fields, but for shape, rectangle and base."""
        rectangle = xyxy(mask.part) if mask else (0, 0, 0, 0)
        return cls(shape=(mask.shape[0], mask.shape[1]), rectangle=rectangle, pixels=mask.crop, **head)

    def paint(self, mask: np.ndarray) -> None:
        """Bring a mask, bool of `shape`, up to date, in place. mask: of revision `base`; with base 0 any."""
        x0, y0, x1, y1 = self.rectangle
        if not self.base:
            mask[...] = False
        mask[y0:y1, x0:x1] = self.pixels

    def to_bytes(self) -> bytes:
        """The frame."""
        pixels = np.ascontiguousarray(self.pixels, dtype=bool)
        bits, runs = pack_bits(pixels).tobytes(), _runs(pixels)
        encoding, payload = (_RUNS, runs) if len(runs) < len(bits) else (_BITS, bits)
        head = {
            "object": self.object,
            "axis": self.axis,
            "slice": self.slice,
            "shape": list(self.shape),
            "rectangle": list(self.rectangle),
            "base": self.base,
            "revision": self.revision,
            "status": self.status,
            "predicted_iou": self.predicted_iou,
            "expected_dice": self.expected_dice,
            **{name: said for name in _IF_KNOWN if (said := getattr(self, name)) is not None},
            **{name: True for name in _IF_TRUE if getattr(self, name)},
        }
        text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
        return _PREFIX.pack(_MAGIC, VERSION, encoding, 0, len(text), len(payload)) + text + payload


def write_frames(frames: Iterable[MaskFrame]) -> bytes:
    """A body."""
    return b"".join(frame.to_bytes() for frame in frames)


def read_frames(body: bytes) -> Iterator[MaskFrame]:
    """The frames of a body. Raises InputError for one that is damaged, or of a later version."""
    at = 0
    while at < len(body):
        if len(body) - at < _PREFIX.size:
            raise InputError("A frame of masks ends in its prefix.")
        magic, version, encoding, _, head_length, length = _PREFIX.unpack_from(body, at)
        if magic != _MAGIC:
            raise InputError("This is no frame of masks.")
        if version > VERSION:
            raise InputError(f"This frame of masks is of version {version}; this medsam reads up to {VERSION}: update.")
        end = at + _PREFIX.size + head_length + length
        if head_length > _MAX_HEAD or end > len(body):
            raise InputError("A frame of masks is cut short.")
        start = at + _PREFIX.size
        head = body[start : start + head_length]
        try:
            yield _frame(json.loads(head), encoding, body[start + head_length : end])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"A frame of masks is damaged ({type(error).__name__}).") from None
        at = end


def _frame(head: dict[str, Any], encoding: int, payload: bytes) -> MaskFrame:
    rows, columns = (int(length) for length in head["shape"])
    x0, y0, x1, y1 = (int(number) for number in head["rectangle"])
    if not (0 <= x0 <= x1 <= columns and 0 <= y0 <= y1 <= rows and rows * columns <= _MAX_PIXELS):
        raise ValueError("rectangle")
    # a later version may have further statuses
    if head["axis"] not in get_args(Axis) or not isinstance(head["status"], str):
        raise ValueError("axis or status")
    shape = y1 - y0, x1 - x0
    pixels = _from_bits(payload, shape) if encoding == _BITS else _from_runs(payload, shape)
    return MaskFrame(
        object=int(head["object"]),
        axis=head["axis"],
        slice=int(head["slice"]),
        shape=(rows, columns),
        rectangle=(x0, y0, x1, y1),
        pixels=pixels,
        revision=int(head["revision"]),
        status=cast(Status, head["status"]),
        predicted_iou=_number(head.get("predicted_iou")),
        expected_dice=_number(head.get("expected_dice")),
        base=int(head["base"]),
        unfamiliar=head.get("unfamiliar") is True,
        ambiguous=head.get("ambiguous") is True,
        **{name: _number(head.get(name)) for name in _IF_KNOWN},
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _runs(pixels: np.ndarray) -> bytes:
    if not pixels.size:
        return b""
    # `RLE` goes column by column
    return RLE.of(pixels.T).counts.astype("<u4").tobytes()


def _from_runs(payload: bytes, shape: tuple[int, int]) -> np.ndarray:
    lengths = np.frombuffer(payload, dtype="<u4").astype(np.int64)
    if int(lengths.sum()) != shape[0] * shape[1]:
        raise ValueError("run lengths")
    return RLE((shape[1], shape[0]), lengths).to_array().T


def _from_bits(payload: bytes, shape: tuple[int, int]) -> np.ndarray:
    if len(payload) != -(-shape[0] * shape[1] // 8):
        raise ValueError("bits")
    return unpack_bits(np.frombuffer(payload, dtype=np.uint8), shape)
