"""What `serve_hostile.py` sends: bodies, archives and scans made to fill or break a server; prompts no client sends."""

from __future__ import annotations

import gzip
import io
import re
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hostile_requests import API, REFUSED, Answer, Attack, Request, Target, asked, request_head, sent, told

RAW = "application/octet-stream"


def bodies() -> Iterator[Attack]:
    """Too much, too deep, too long, malformed."""
    big = f"Content-Length: {10 * 2**30}"
    yield Attack("10 GiB are announced", asked("POST", f"{API}/sessions", big), (413,))
    yield Attack("10 GiB of an upload are announced", asked("POST", f"{API}/cases", big), (413,))
    yield Attack("endless chunks", endless("/sessions"), (413, 0))
    yield Attack("endless chunks of an upload", endless("/cases"), (413, 0))
    yield Attack("endless chunks of a stranger", endless("/login", by=None), (413, 0))
    yield Attack("two lengths", asked("POST", f"{API}/sessions", "Content-Length: 5", body=b"{}"), (400,))
    both = request_head("POST", "/login", "Transfer-Encoding: chunked", "Content-Length: 4")
    yield Attack("chunked and a length", sent(both + b"0\r\n\r\nGET /x"), (400, 401, 422))
    yield Attack("length below zero", asked("POST", f"{API}/sessions", "Content-Length: -1"), (400,))
    strange = request_head("POST", "/login", "Transfer-Encoding: x")
    yield Attack("strange coding", sent(strange + b"{}"), (400, 501))
    yield Attack("headers of 1 MiB", asked("GET", "/health", "X-Long: " + "a" * 2**20), (400, 431, 0))
    yield Attack("ten thousand headers", asked("GET", "/health", *["A: b"] * 10_000), (400, 431, 0))
    yield Attack("no HTTP", sent(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), (400, 0))
    texts = {
        "deep": b"[" * 50_000, "deep objects": b'{"a":' * 50_000, "cut": b'{"case": ', "no UTF-8": b'{"case": "\xff"}',
        "NaN": b'{"case": NaN}', "huge number": b'{"case": 1' + b"0" * 10_000 + b"}", "list": b"[]", "null": b"null",
        "huge exponent": b'{"case": 1e999999}', "surrogate": b'{"case": "\\ud800"}', "zero": b'{"case": "\\u0000"}',
        "same key twice": b'{"case": "a", "case": "b"}', "prototype": b'{"__proto__": {"role": 3}, "case": "x"}',
        "unknown key": b'{"case": "x", "reader": 1}', "empty": b"", "UTF-16": '{"case": "x"}'.encode("utf-16"),
    }  # fmt: skip
    for name, text in texts.items():
        yield Attack(f"JSON {name}", asked("POST", f"{API}/sessions", body=text), (400, 404, 413, 422))
    multipart = "multipart/form-data"
    for form in ("text/xml", "application/x-www-form-urlencoded", multipart, f"{multipart}; boundary=", "a", ""):
        request = asked("POST", f"{API}/sessions", body=b'{"case": "x"}', form=form)
        yield Attack(f"form {form!r}", request, (400, 404, 415, 422))


def endless(path: str, by: str | None = "ben") -> Request:
    """More chunks than any limit of this server takes."""

    def send(target: Target) -> Answer:
        lines = ["Transfer-Encoding: chunked", f"Content-Type: {RAW}"]
        if by is not None:
            lines.append(f"Authorization: Bearer {target.tokens[by]}")
        piece = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
        return target.send(request_head("POST", path, *lines) + piece * 400)

    return send


def uploads() -> Iterator[Attack]:
    """Archives and scans made to fill memory and disk, or to leave their folder."""
    link = {"link": b"/etc/passwd"}
    evil = {"../../../../tmp/evil.nii.gz": scan_bytes(), "/etc/evil.nii": scan_bytes(), "..\\evil.nii.gz": scan_bytes()}
    pickled = (
        b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" + b" " * 60 + b"\ncos\n."
    )
    nrrd = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 10 10 100\nencoding: raw\ndata file: %s\n\n"
    mha = b"NDims = 3\nDimSize = 10 10 100\nElementType = MET_UCHAR\nElementDataFile = %s\n"
    made: dict[str, tuple[str, Callable[[], bytes]]] = {
        "zip bomb": ("a.zip", lambda: zipped({"a.nii": b"\0" * 300_000_000})),
        "zip in zip in zip": ("a.zip", lambda: zipped({"a.zip": zipped({"b.zip": zipped({"c.nii": b"\0" * 10**7})})})),
        "zip of many files": ("a.zip", lambda: zipped({f"{n}.dcm": b"x" for n in range(500)})),
        "zip that leaves its folder": ("a.zip", lambda: zipped(evil)),
        "zip with links": ("a.zip", lambda: zipped(link, link=True)),
        "zip cut short": ("a.zip", lambda: zipped({"a.nii.gz": scan_bytes()})[:-30]),
        "zip that lies of its sizes": ("a.zip", lying_zip),
        "gzip bomb": ("a.nii.gz", lambda: gzip.compress(nifti_head((2000, 2000, 500)) + b"\0" * 5 * 10**7)),
        "scan of 2^45 voxels": ("a.nii", lambda: nifti_head((32767, 32767, 32767))),
        "scan of no voxels": ("a.nii", lambda: nifti_head((0, 0, 0))),
        "scan of less than none": ("a.nii", lambda: nifti_head((-5, 5, 5))),
        "picture bomb": ("a.png", png_bomb),
        "text": ("a.bin", lambda: b"hello"),
        "nothing": ("a.bin", lambda: b""),
        "NRRD that names another file": ("a.nrrd", lambda: nrrd),
        "MHA that names another file": ("a.mha", lambda: mha),
        "pickle in npz": ("a.npz", lambda: zipped({"imgs.npy": pickled})),
        "DICOM of garbage": ("a.dcm", lambda: b"\0" * 128 + b"DICM" + b"\xff" * 2000),
    }
    for name, (filename, make) in made.items():
        yield Attack(f"upload: {name}", brought(make, filename), (201, *REFUSED))
    names = ("../../../evil.nii.gz", "/etc/evil.nii.gz", "..\\..\\evil.nii.gz", "a/../../evil.nii.gz", "\0.nii.gz")
    for filename in (*names, "a" * 3000 + ".nii.gz", "%2e%2e%2fevil.nii.gz", ".", "evil.nii.gz\x00.png"):
        yield Attack(f"upload called {filename[:24]!r}", brought(scan_bytes, filename), (201, *REFUSED))
    part = b"--x\r\nContent-Disposition: form-data; name=file; filename=%s\r\n\r\nabc\r\n"
    forms = {
        "without end": part % b"a.nii",
        "without headers": b"--x\r\n\r\nabc\r\n--x--\r\n",
        "with long headers": b"--x\r\nContent-Disposition: form-data; name=" + b"a" * 10**6 + b"\r\n\r\n--x--\r\n",
        "of ten thousand parts": part % b"a.nii" * 10_000 + b"--x--\r\n",
        "of paths": part % b"../../../evil.nii" + b"--x--\r\n",
        "of nothing": b"--x--\r\n",
    }
    for name, body in forms.items():
        request = asked("POST", f"{API}/cases", body=body, form="multipart/form-data; boundary=x")
        # the last part of a path is what a file is called
        yield Attack(f"multipart {name}", request, (201, *REFUSED) if name == "of paths" else REFUSED)


def brought(make: Callable[[], bytes], filename: str) -> Request:
    """An upload, and whatever became of it opened: broken scans are often seen to be so only then."""

    def send(target: Target) -> Answer:
        data = make().replace(b"%s", target.outside.encode())
        answer = target.ask("POST", f"{API}/cases", f"X-Filename: {filename}", body=data, form=RAW)
        for case in re.findall(rb'"id":"([^"]+)"', answer.body) if answer.status == 201 else ():
            seen = target.ask("GET", f"{API}/cases/{case.decode()}/volume")
            if seen.status not in (200, *REFUSED):
                return seen
        return answer

    return send


def sessions() -> Iterator[Attack]:
    """Prompts, numbers and queries that no client sends."""
    box = [1, 1, 9, 9]
    asks: dict[str, dict[str, Any]] = {
        "box inverted": {"box": [9, 9, 1, 1]}, "box outside": {"box": [900, 900, 950, 950]},
        "box enormous": {"box": [-1e308, -1e308, 1e308, 1e308]}, "slice outside": {"slice": 10**6, "box": box},
        "slice below": {"slice": -1, "box": box}, "slice enormous": {"slice": 2**80, "box": box},
        "object unknown": {"object": 99, "box": box}, "object enormous": {"object": 2**80, "box": box}, "nothing": {},
        "mask of another size": {"mask": {"size": [3, 3], "counts": "a"}},
        "mask that overflows": {"mask": {"size": [2**31, 2**31], "counts": "oooooooo"}},
        "mask of garbage": {"mask": {"size": [32, 32], "counts": "\0\xff"}},
        "mask of numbers": {"mask": {"size": [32, 32], "counts": [2**70, -5]}},
        "mask from a file": {"mask": "/etc/passwd"},
        "points outside": {"points": [[1e9, 1e9, 1]]}, "point neither in nor out": {"points": [[1, 1, 7]]},
        "stroke of no width": {"scribbles": [{"points": [[1, 1]], "width_px": 0}]},
        "stroke enormous": {"scribbles": [{"points": [[1, 1]], "width_px": 1e300}]},
        "stroke far": {"scribbles": [{"points": [[-1e300, 0], [1e300, 5]], "inside": False}]},
        "lasso of one": {"lasso": [[1, 1]]}, "lasso enormous": {"lasso": [[0, 0], [1e300, 0], [0, 1e300]]},
        "text": {"text": "liver"}, "label": {"label": "x", "box": box}, "ellipse of nothing": {"ellipse": [5, 5, 5, 5]},
    }  # fmt: skip
    for name, body in asks.items():
        request = told("POST", "/sessions/{session}/prompts", {"object": 1, "slice": 1, **body})
        # what lies partly inside may be answered
        lenient = name in ("box enormous", "stroke far", "stroke enormous", "lasso enormous", "mask of garbage")
        yield Attack(f"prompt: {name}", request, (200, *REFUSED) if lenient else REFUSED)
    queries = (
        "changes?since=-1", "changes?since=x", "changes?wait=1e309", "changes?wait=-1",
        "labels?format=exe", "labels?format=../x", "probabilities?object=1", "probabilities?object=1&slice=-1",
        f"probabilities?object={2**70}&slice=1", "objects/x", "jobs/" + "x" * 200,
    )  # fmt: skip
    for query in queries:
        yield Attack(f"query {query[:40]}", asked("GET", API + "/sessions/{session}/" + query), (400, 404, 405, 422))
    # revisions that never were: a client of a store that was put back has them, and gets everything
    yield Attack("changes since never", asked("GET", API + f"/sessions/{{session}}/changes?since={2**80}"), (200, 422))
    for line in ("Last-Event-ID: x", f"Last-Event-ID: {2**80}", "Last-Event-ID: -1"):
        yield Attack(f"events {line[:22]}", begun("/events", line), (200, 400, 422))
    ranges = (
        "bytes=-1",
        f"bytes={2**70}-",
        "bytes=5-1",
        "bytes=" + "0-0," * 900 + "1-1",
        "x",
        "bytes=0-,5-",
        "bytes=--1",
    )
    for line in ranges:
        request = asked("GET", API + "/cases/{case}/volume", f"Range: {line}")
        yield Attack(f"range {line[:24]}", request, (200, 206, 400, 416))
    for line in ("x", f"{2**80}", '"1", "2"', "*"):
        request = asked("POST", API + "/sessions/{session}/undo", f"If-Match: {line}")
        yield Attack(f"undo if {line[:20]}", request, (200, 400, 409, 412, 422))
    lists = (f"cases?limit={10**9}", "cases?limit=-1", "cases?after=%00", "cases?q=%25%5F%27", "cases?limit=1&limit=x")
    for query in (*lists, f"cases?q={'a' * 5000}", f"audit?before={2**80}", "audit?user=%00"):
        yield Attack(f"query {query[:30]}", asked("GET", f"{API}/{query}", by="root"), (200, 404, 422))
    objects = (
        {"colour": "red"},
        {"name": "\ud800"},
        {"name": "a" * 10**5},
        {"name": "<script>"},
        {"locked": "perhaps"},
    )
    for change in objects:
        request = told("PATCH", "/sessions/{session}/objects/1", change)
        yield Attack(f"object {str(change)[:24]!a}", request, (200, 404, 422))
    for path, body in (("x/find", {"keys": {}}), ("..%2fx/find", {}), ("x/fetch", {"study": "../x", "series": "1"})):
        yield Attack(f"pacs {path}", told("POST", f"/pacs/{path}", body), (400, 404, 422))


def begun(path: str, line: str) -> Request:
    """The first bytes of a stream of events."""

    def send(target: Target) -> Answer:
        with socket.create_connection(("127.0.0.1", target.port), timeout=10) as one:
            lines = (line, f"Authorization: Bearer {target.tokens['ben']}")
            one.sendall(request_head("GET", f"/sessions/{target.session}{path}", *lines))
            found = re.match(rb"HTTP/1\.1 (\d{3})", one.recv(2**12))
        return Answer(int(found[1]) if found else 0)

    return send


# -- what is sent -----------------------------------------------------------------------------------------------------


def scan_bytes() -> bytes:
    """A small scan, as .nii.gz."""
    return gzip.compress(nifti_head((32, 32, 4)) + np.arange(32 * 32 * 4, dtype="<i2").tobytes())


def nifti_head(shape: tuple[int, int, int]) -> bytes:
    """Of a NIfTI file of 16-bit numbers, whatever it says of its size."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<hh", head, 70, 4, 16)
    struct.pack_into("<8f", head, 76, 1, 1, 1, 2, 1, 1, 1, 1)
    struct.pack_into("<f", head, 108, 352)
    struct.pack_into("<hh", head, 252, 1, 1)
    for row in range(3):
        struct.pack_into("<4f", head, 280 + 16 * row, *[float(row == n) for n in range(3)], 0)
    head[344:348] = b"n+1\0"
    return bytes(head)


def zipped(files: dict[str, bytes], link: bool = False) -> bytes:
    """A zip of files, or of symbolic links to them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if link:
                info.external_attr = 0o120777 << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def lying_zip() -> bytes:
    """One whose directory says that a file of a million bytes has a hundred."""
    data = bytearray(zipped({"a.nii": b"\0" * 10**6}))
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, 100)
    return bytes(data)


def png_bomb() -> bytes:
    """A picture of 60,000 x 60,000 pixels in ten kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 10**7)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
