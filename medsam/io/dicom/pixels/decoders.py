"""Frames out of the pixel element of one file: as they lie there, or decoded.

Every compressed image is checked before a decoder sees it: it is whole, there are as many as announced, and each has
the size the header states.

Source: DICOM PS3.5 8 and annex A (encodings).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames, get_frame
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    RLELossless,
)

from medsam.errors import InputError
from medsam.io.dicom.header import Header, PixelLayout
from medsam.io.dicom.pixels.common import DECODERS, damaged
from medsam.io.dicom.tags import named


class PlainPixels:
    """The pixels of one file for which `is_plain` holds, read frame by frame. Opens the file once; for one thread."""

    def __init__(self, header: Header) -> None:
        self.header, self.layout = header, header.layout
        order = ">" if header.syntax == ExplicitVRBigEndian else "<"
        kind = np.dtype(f"{order}{'i' if self.layout.signed else 'u'}{self.layout.bits_allocated // 8}")
        # one frame, read into over and over: it stays in the processor's cache
        self._stored = np.empty((self.layout.rows, self.layout.columns), kind)
        self._space = self._stored.data.cast("B")

    def __enter__(self) -> PlainPixels:
        try:
            self._file = self.header.source.open_unbuffered()
        except OSError as error:
            raise damaged(self.header.name, self.header.syntax, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def frame(self, index: int) -> np.ndarray:
        """ImageFrame `index` as (J, I), as stored; valid until the next call."""
        stored = self._stored
        try:
            self._file.seek((self.header.pixel_offset or 0) + index * stored.nbytes)
            done = 0
            while done < stored.nbytes and (read := self._file.readinto(self._space[done:])):
                done += read
        except OSError as error:
            raise damaged(self.header.name, self.header.syntax, error) from error
        if done < stored.nbytes:  # cut since its header was read
            self.header.check_length(self.layout, index * stored.nbytes + done)
        return stored


class EncodedPixels:
    """The encoded pixels of one file, in memory, decoded frame by frame. Opens the file once."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.layout = header.layout
        try:
            value = self._read()
            if header.syntax.is_encapsulated:
                self._encoded = self._split(value)
            else:
                header.check_length(self.layout, len(value))
                self._native = value
        except InputError:
            raise
        except Exception as error:
            raise damaged(header.name, header.syntax, error) from error

    def _read(self) -> bytes:
        """The value of the pixel element; encapsulated, up to the end of the file."""
        with self.header.source.open() as file:
            if self.header.syntax == DeflatedExplicitVRLittleEndian:
                return dcmread(file, force=True)[self.header.pixel_keyword or "PixelData"].value
            file.seek(self.header.pixel_offset or 0)
            return file.read(-1 if self.header.pixel_length is None else self.header.pixel_length)

    def _split(self, value: bytes) -> list[bytes]:
        dataset, wanted = self.header.dataset, self.layout.frames
        if self.header.pixel_length is None and not _is_whole(value):
            raise InputError(
                f"{self.header.name} is truncated: it ends in the middle of {named('PixelData')}. "
                "Copy or export the file again."
            )
        least, most = _count_frames(value, self.header.syntax)
        if not least <= wanted <= most:
            held = most if most < wanted else least
            raise InputError(
                f"{self.header.name}{' is truncated' if held < wanted else ''}: {named('NumberOfFrames')} is {wanted}, "
                f"but {named('PixelData')} holds {held}. Copy or export the file again."
            )
        table = None
        if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
            table = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
        if wanted == 1:
            encoded = [get_frame(value, 0, number_of_frames=1, extended_offsets=table)]
        else:
            encoded = list(generate_frames(value, number_of_frames=wanted, extended_offsets=table))
        if len(encoded) != wanted:  # by its offset table
            raise InputError(
                f"{self.header.name}: {named('NumberOfFrames')} is {wanted}, but the offset table of "
                f"{named('PixelData')} lists {len(encoded)}. Copy or export the file again."
            )
        return encoded

    def frame(self, index: int) -> np.ndarray:
        """ImageFrame `index` as (J, I) or (J, I, 3), as stored: not rescaled. Colours are RGB."""
        layout, syntax = self.layout, self.header.syntax
        name = f"{self.header.name} frame {index + 1}" if layout.frames > 1 else self.header.name
        try:
            if not syntax.is_encapsulated:
                return get_decoder(syntax).as_array(self._native, index=index, **self._options(layout, layout.frames))[
                    0
                ]
            encoded = self._encoded[index]
            _check_codestream(encoded, layout, syntax, name)
            if syntax == JPEGExtended12Bit and layout.bits_stored > 8:
                return _decode_12_bit_jpeg(encoded, layout)
            return get_decoder(syntax).as_array(
                encapsulate([encoded], has_bot=False),
                index=0,
                decoding_plugin=DECODERS[syntax],
                **self._options(layout, 1),
            )[0]
        except InputError:
            raise
        except Exception as error:
            raise damaged(name, syntax, error) from error

    def _options(self, layout: PixelLayout, frames: int) -> dict[str, Any]:
        options: dict[str, Any] = {
            "rows": layout.rows,
            "columns": layout.columns,
            "samples_per_pixel": layout.samples,
            "number_of_frames": frames,
            "bits_allocated": layout.bits_allocated,
            "bits_stored": layout.bits_stored,
            "pixel_representation": int(layout.signed),
            "photometric_interpretation": layout.photometric,
            "pixel_keyword": self.header.pixel_keyword,
            "pixel_vr": self.header.pixel_vr or "OW",
            "allow_excess_frames": False,
            # see `PixelWords`
            "correct_unused_bits": False,
        }
        if layout.samples > 1:
            options["planar_configuration"] = layout.planar
        return options


def _fragments(value: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each item of encapsulated pixels: first the offset table, then the fragments (PS3.5 A.4)."""
    place = 0
    while place + 8 <= len(value):
        tag, length = struct.unpack_from("<4sL", value, place)
        if tag != b"\xfe\xff\x00\xe0":
            return
        yield place + 8, min(place + 8 + length, len(value))
        place += 8 + length


def _count_frames(value: bytes, syntax: UID) -> tuple[int, int]:
    """How many frames encapsulated pixels hold at least and at most: none is less than a fragment (PS3.5 A.4)."""
    fragments = [*_fragments(value)][1:]
    if syntax == RLELossless:  # a fragment each
        return len(fragments), len(fragments)
    # images that begin where another has ended
    ended, count = True, 0
    for start, end in fragments:
        # SOI of JPEG and JPEG-LS, SOC and SIZ of JPEG 2000; all end with FFD9, perhaps padded
        if ended and value.startswith((b"\xff\xd8\xff", b"\xff\x4f\xff\x51"), start):
            count += 1
        ended = value[max(end - 3, start) : end].rstrip(b"\0").endswith(b"\xff\xd9")
    return count, len(fragments)


def _is_whole(value: bytes) -> bool:
    """Whether encapsulated pixels end as they must, with a delimiter (PS3.5 A.4)."""
    end = max((end for _, end in _fragments(value)), default=0)
    return value[end : end + 4] == b"\xfe\xff\xdd\xe0"


def _check_codestream(encoded: bytes, layout: PixelLayout, syntax: UID, name: str) -> None:
    """Compare the size inside a compressed image with the header's before a decoder allocates it."""
    if syntax == RLELossless:
        return
    is_2000 = syntax in JPEG2000TransferSyntaxes or syntax in (HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)
    found = _jpeg_2000_shape(encoded) if is_2000 else _jpeg_shape(encoded)
    if found != (layout.rows, layout.columns, layout.samples):
        held = "none" if found is None else f"{found[0]} x {found[1]} with {found[2]} sample(s) a pixel"
        raise InputError(
            f"{name}: {named('Rows')} x {named('Columns')} is {layout.rows} x {layout.columns} with "
            f"{layout.samples} sample(s) a pixel, but the compressed image in {named('PixelData')} is {held}. "
            "It is damaged; copy or export the file again."
        )


def _jpeg_2000_shape(encoded: bytes) -> tuple[int, int, int] | None:
    """Rows, columns, components of a codestream (ISO 15444-1 A.5.1, marker SIZ), bare or in a JP2 box."""
    start = encoded.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(encoded) < start + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">4L", encoded, start + 8)
    (components,) = struct.unpack_from(">H", encoded, start + 40)
    return bottom - top, right - left, components


def _jpeg_shape(encoded: bytes) -> tuple[int, int, int] | None:
    """Rows, columns, components of a JPEG (ISO 10918-1 B.2.2) or JPEG-LS (ISO 14495-1) frame header."""
    place = 2
    while place + 10 <= len(encoded):
        if encoded[place] != 0xFF:
            return None
        marker = encoded[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns, components = struct.unpack_from(">HHB", encoded, place + 5)
            return rows, columns, components
        place += 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    return None


def _decode_12_bit_jpeg(encoded: bytes, layout: PixelLayout) -> np.ndarray:
    """Lossy JPEG with 12 bits a sample, which pydicom hands to none of its decoders; GDCM reads it."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((layout.columns, layout.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(layout.photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, layout.bits_stored, layout.bits_stored - 1, int(layout.signed)))
    buffer = image.GetBuffer()
    if buffer is None:
        raise ValueError("GDCM cannot decode the image")
    # the binding returns bytes as text
    decoded = buffer.encode("utf-8", "surrogateescape")
    kind = np.dtype("<i2" if layout.signed else "<u2")
    return np.frombuffer(decoded, kind, layout.rows * layout.columns).reshape(layout.rows, layout.columns)
