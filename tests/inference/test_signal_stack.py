"""Signals are handled on memory that is still there after engines have come and gone."""

import ctypes
import gc
import sys
from pathlib import Path

import pytest
import torch

from medsam.inference.engines.openvino import OpenVinoEngine
from medsam.models.build import build_model
from medsam.models.specs import tiny_spec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")

DISABLED = 2


class SignalStack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> tuple[int, int] | None:
    """First and last address of this thread's stack for signals."""
    found = SignalStack()
    assert ctypes.CDLL(None, use_errno=True).sigaltstack(None, ctypes.byref(found)) == 0
    return None if found.flags & DISABLED else (found.start, found.start + found.size - 1)


def is_mapped(address: int) -> bool:
    ranges = (line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    return any(int(start, 16) <= address < int(end, 16) for start, end in ranges)


def test_the_stack_for_signals_outlives_the_engines(tmp_path):
    """Of two OpenVINO cores, the second to go puts the first one's freed stack back."""
    sam = build_model(tiny_spec("tiny_vit")).eval()
    first, second = (OpenVinoEngine(sam, "float32", tmp_path) for _ in range(2))
    side = sam.spec.embed_side
    for engine in (first, second):
        # the smallest graph: the first of them writes it
        engine.precompute(torch.rand(1, sam.spec.decoder.width, side, side))
    del engine, first
    gc.collect()
    del second
    gc.collect()
    stack = signal_stack()
    assert stack is None or all(map(is_mapped, stack))
