"""Files of weights: safetensors and what torch.save wrote, read without running anything in them.

A pickle names classes and functions, and reading it calls them. torch's `weights_only` calls those of tensors alone.
Public training scripts save more beside the weights: a loss as a numpy scalar, arguments as an argparse.Namespace,
paths. None of these is needed here, so each name in `_BESIDE` stands for an empty object of ours that ignores its
arguments: nothing of numpy, argparse or pathlib is called either. Whatever else a file names is refused.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medsam.errors import CheckpointError, InputError
from medsam.io.files import check_regular, parse_json
from medsam.io.growth import check_growth

# Bytes; of torch's own memory on a CPU.
_ALIGNMENT = 64
# Where a checkpoint carries `ModelSpec.to_dict()`: a key beside "state_dict", or safetensors metadata (as JSON).
CARD_KEY = "medsam"
# In that card: the number of the format of a head (`heads`), which is no model.
HEAD_KEY = "head"
# keys under which training scripts save weights: Lightning and MONAI, MedSAM and SAM-Med2D, torch's tutorials, torch_em
_WEIGHT_KEYS = ("state_dict", "model", "model_state_dict", "model_state")


class _Beside:
    """Stands in a checkpoint for an object that is no weight."""

    of = ""

    def __init__(self, *args: object, **named: object) -> None:
        """Take anything."""

    def __setstate__(self, state: object) -> None:
        """Keep nothing."""


_NUMPY = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *("numpy.dtype", "numpy.ndarray", "_codecs.encode"),
    *(f"numpy.dtypes.{kind}{bits}DType" for kind, bits in [("Float", n) for n in (16, 32, 64)]),
    *(f"numpy.dtypes.{kind}{bits}DType" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Bool", "Str", "Object", "LongLong", "ULongLong")),
)
_BESIDE = (
    *_NUMPY,
    *("argparse.Namespace", "types.SimpleNamespace", "datetime.datetime", "datetime.timedelta", "datetime.timezone"),
    *(
        f"{module}.{kind}"
        for module in ("pathlib", "pathlib._local")
        for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath")
    ),
)
# dictionaries by another name: their entries may be weights
_DICTIONARIES = (
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "easydict.EasyDict",
)
_KNOWN: list[Callable | tuple[Callable, str]] = [
    *((type("Beside", (_Beside,), {"of": name}), name) for name in _BESIDE),
    *((OrderedDict, name) for name in _DICTIONARIES),
]


def weights_digest(module: torch.nn.Module) -> str:
    """sha256 over names and values of all weights: the same for the same network, however it was stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The weights of a file by its own names, and its card. Raises CheckpointError.

    Every tensor is plain: strided, on the CPU, of real numbers, and has as many bytes as its shape calls for.
    """
    try:
        if path.exists():
            check_regular(path)
        with path.open("rb") as stream:
            head = stream.read(9)
    except InputError as error:
        # an empty file is a damaged one
        raise CheckpointError(
            f"{path} cannot be read: {error} It is damaged, incomplete or not a checkpoint."
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    # safetensors begin with the length of a JSON header, eight bytes, then the header
    tensors, card = _read_safetensors(path) if head[8:9] == b"{" else _read_pickle(path)
    for name, tensor in tensors.items():
        what = _what_is_wrong(tensor)
        if what:
            raise CheckpointError(
                f"{path}: the weight {name} {what}. Save plain weights: "
                'torch.save({name: each.detach().cpu() for name, each in model.state_dict().items()}, "weights.pth").'
            )
    return tensors, card


def _what_is_wrong(tensor: Tensor) -> str:
    if tensor.is_quantized:
        return "is quantised"
    if tensor.layout is not torch.strided or tensor.is_nested:
        return "is sparse or nested"
    if tensor.device.type != "cpu":
        return f"has no values (it was saved from the device {tensor.device.type})"
    if tensor.is_complex():
        return "holds complex numbers"
    # a view may repeat a few values without end
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "repeats fewer values than its shape calls for"
    return ""


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    # what torch.save wrote is read without the package
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: _aligned(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - no iterator
    # the header may name types and shapes that torch does not take
    except Exception as error:
        raise _damaged(path, error) from error
    if CARD_KEY not in metadata:
        return tensors, None
    try:
        card = parse_json(metadata[CARD_KEY])
    except ValueError as error:
        raise CheckpointError(f"{path}: the model card in its metadata is not JSON ({str(error)[:200]}).") from error
    if not isinstance(card, dict):
        raise CheckpointError(f"{path}: the model card in its metadata is not a JSON object.")
    return tensors, card


def _aligned(tensor: Tensor) -> Tensor:
    """Where torch itself puts numbers. A file has them anywhere, by the length of its card, and a product's last digits
    depend on it: a copy of the weights in another process would give other ones."""
    return tensor if tensor.data_ptr() % _ALIGNMENT == 0 else tensor.clone()


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    content = _unpickled(path)
    if not isinstance(content, Mapping):
        kind = content.of if isinstance(content, _Beside) else type(content).__name__
        raise CheckpointError(f"{path} holds a {kind}, not a dictionary of weights.")
    card = content.get(CARD_KEY)
    weights = next((content[key] for key in _WEIGHT_KEYS if isinstance(content.get(key), Mapping)), content)
    tensors = {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}
    others = [
        f"  {name}: {value.of if isinstance(value, _Beside) else type(value).__name__}"
        for name, value in weights.items()
        if str(name) not in tensors and name != CARD_KEY
    ]
    if not tensors:
        keys = ", ".join(sorted(map(str, content)))[:300] or "nothing"
        raise CheckpointError(
            f"{path} holds no weights; it holds: {keys}. Save the dictionary of tensors alone, or under "
            f"one of {', '.join(_WEIGHT_KEYS)}."
        )
    if others:
        raise CheckpointError(
            f"{path} mixes weights with entries that are not tensors:\n" + "\n".join(others[:50]) + "\n"
            "Save the tensors alone (torch.from_numpy makes one of an array)."
        )
    return tensors, card if isinstance(card, dict) else None


def _unpickled(path: Path) -> object:
    """What torch.save wrote, with nothing of it run."""
    _check_zip(path)
    try:
        with torch.serialization.safe_globals(_KNOWN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch names the class or function it would have had to import
        what = re.search(r"GLOBAL (\S+)", str(error))
        if what is None:
            raise _damaged(path, error) from error
        raise CheckpointError(
            f"{path} does not hold plain weights: loading it would run code ({what[1]}), and code "
            "from a checkpoint is never run. If you trust its source, open it there and save only the weights, "
            'the dictionary of tensors in it (often under "state_dict" or "model"): '
            'torch.save({name: tensor for name, tensor in weights.items()}, "weights.pth").'
        ) from error
    # a damaged or hostile pickle can raise nearly anything on its way
    except Exception as error:
        raise _damaged(path, error) from error


def _check_zip(path: Path) -> None:
    """Raise CheckpointError when an entry of the zip that torch.save writes is damaged; torch compares no checksum."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            check_growth(path, sum(entry.file_size for entry in archive.infolist()), path.stat().st_size)
            damaged = archive.testzip()
    except InputError as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:
        raise _damaged(path, error) from error
    if damaged is not None:
        raise _damaged(path, ValueError(f"the checksum of {damaged} does not match"))


def _damaged(path: Path, error: Exception) -> CheckpointError:
    # torch's own message goes on to recommend loading without the safeguard
    reason = " ".join(str(error).split("WeightsUnpickler error:")[-1].split("Check the documentation")[0].split())
    return CheckpointError(
        f"{path} ({path.stat().st_size:,} bytes) is damaged, incomplete or not a checkpoint "
        f"({type(error).__name__}: {reason[:200]}). Fetch or copy it again."
    )
