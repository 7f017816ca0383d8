"""Which engine suits a device."""

from __future__ import annotations

import logging
from typing import get_args

import torch

from medsam.errors import InputError
from medsam.inference.engines.base import Engine, EngineName, FallbackEngine, Precision
from medsam.inference.engines.openvino import OpenVinoEngine
from medsam.inference.engines.torch import TorchEngine
from medsam.models.sam import Sam

# A smaller network answers at once in torch, and exporting it would take longer than all it will ever be asked.
_WORTH_EXPORTING = 1_000_000

_log = logging.getLogger(__name__)


def choose_engine(sam: Sam, device: torch.device, precision: Precision = "auto", engine: EngineName = "auto") -> Engine:
    """What suits a device: OpenVINO on a CPU for networks of some size, torch everywhere else and where it is missing.

    Unless OpenVINO was asked for, torch stands in for it where a graph cannot be made.
    Raises InputError for an unknown precision or engine, or one this machine does not have.
    """
    if precision not in get_args(Precision):
        raise InputError(f"There is no precision {precision!r}; use {', '.join(get_args(Precision))}.")
    if engine not in get_args(EngineName):
        raise InputError(f"There is no engine {engine!r}; use {', '.join(get_args(EngineName))}.")
    if engine == "openvino" and device.type != "cpu":
        raise InputError(f"OpenVINO runs on the CPU, not on {device}.")
    worth = isinstance(sam, Sam) and sum(weight.numel() for weight in sam.parameters()) >= _WORTH_EXPORTING
    if engine == "openvino" or (engine == "auto" and device.type == "cpu" and worth):
        try:
            graphs = OpenVinoEngine(sam, precision)
        except ImportError as error:
            if engine == "openvino":
                raise
            _log.warning("OpenVINO is missing (%s): torch answers, about half as fast.", error)
        else:
            # torch has no int8
            replaceable = engine == "auto" and precision != "int8"
            return FallbackEngine(graphs, TorchEngine(sam, device, precision)) if replaceable else graphs
    return TorchEngine(sam, device, precision)


def pick_device(device: str = "auto") -> torch.device:
    """The torch device for "auto", "cpu", "cuda" or "mps"; InputError when this machine has none of that kind."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in have.items() if there))
    kind = device.split(":")[0]
    if kind not in have:
        raise InputError(f"There is no device {device!r}; use auto, cpu, cuda or mps.", parameter="device")
    if not have[kind]:
        raise InputError(
            f"This machine has no {kind} device that torch can use. Leave `device` out.", parameter="device"
        )
    # a processor has no number: "cpu:0" would be another device than the one that engines name
    return torch.device("cpu" if kind == "cpu" else device)
