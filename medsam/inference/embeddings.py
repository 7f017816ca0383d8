"""Embeddings kept: a look that was encoded once is never encoded again, in this run or the next.

An embedding is filed under a digest of everything the encoder's answer depends on (`embedding_key`), so nothing ever
has to be declared out of date: a changed scan, window, crop, preprocessing or checkpoint asks for another key.

    FOLDER/ab/abcdef….safetensors     "features" float32 (C, h', w'); metadata: the key, and a CRC-32 of the values

Who shares what: one `EmbeddingCache` may serve many threads. Its lock guards the memory and the counters only and is
never held while a file is read or written, so a slow disk delays nobody who finds an answer in memory. Many processes,
on one machine or several, may share a folder: files appear under their name complete or not at all, and two writers
of one key write the same values.
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections import OrderedDict
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from medsam.errors import InputError
from medsam.files import write_whole

# part of every key: raise it when encoding changes in a way that neither the input nor the weights show
_FORMAT = 2
_NAME = "features"


def weights_digest(module: torch.nn.Module) -> str:
    """sha256 over names and values of all weights: the same for the same network, however it was stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def embedding_key(pixels: Tensor, weights: str, engine: str = "torch", precision: str = "float32") -> str:
    """What an embedding is filed under: 64 hexadecimal digits.

    pixels: the prepared model input (3, S, S). It is all the encoder sees, and already holds the scan's values, the
    window, the crop, resampling and normalisation; that is why a change to any of them can never meet a stale
    embedding, and why equal slices share one.
    weights: `weights_digest` of the model.
    engine: who computes. Two of them sum in different orders, and a mask may differ in a pixel by it; the same command
    gives the same masks whoever filled the folder.
    precision: what the encoder computes in. bfloat16 keeps eight bits of a number, so its embedding must not stand in
    for one in float32. The device is left out on purpose: for one engine and precision devices differ by rounding (as
    do numbers of threads), and embeddings that torch made on a GPU should serve it on a machine without one.
    """
    values = pixels.detach().cpu().contiguous()
    head = (_FORMAT, str(values.dtype), tuple(values.shape), weights, engine, precision)
    digest = hashlib.sha256(repr(head).encode())
    digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class EmbeddingCache:
    """Embeddings by key: in memory, the least recently used leaving first, and in a folder if one is given.

    memory_bytes: most the memory holds; a larger embedding is not kept there, and 0 keeps none.
    folder: made if it is not there. It is not bounded: 4 MiB a look for every public model.
    hits, misses: answers of `get`. written: bytes this object has put on the disk.
    A pickled or copied cache starts empty, with the same bound and folder.
    Raises InputError when the folder cannot be made.
    """

    def __init__(self, memory_bytes: int = 256 * 2**20, folder: str | Path | None = None) -> None:
        self.memory_bytes = memory_bytes
        self.folder = None if folder is None else Path(folder)
        self.hits = 0
        self.misses = 0
        self.written = 0
        self._lock = threading.Lock()
        self._memory: OrderedDict[str, Tensor] = OrderedDict()
        self._held = 0
        self._broken = False
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise _unwritable(self.folder, error) from error

    def __reduce__(self) -> tuple[type[EmbeddingCache], tuple[int, Path | None]]:
        return EmbeddingCache, (self.memory_bytes, self.folder)

    @property
    def held_bytes(self) -> int:
        """What the memory holds now."""
        return self._held

    def get(self, key: str) -> Tensor | None:
        """The embedding (C, h', w') float32 on the CPU, a copy of the caller's own; None when it is not kept.

        A file that is damaged, cut short or not ours counts as not there: it is encoded again and replaced.
        """
        with self._lock:
            found = self._memory.get(key)
            if found is not None:
                self._memory.move_to_end(key)
                self.hits += 1
        if found is not None:
            return found.clone()
        found = self._read(key)
        with self._lock:
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._remember(key, found)
        return found.clone()

    def put(self, key: str, features: Tensor) -> None:
        """Keep an embedding (C, h', w') float32, from whatever device it is on. Changing `features` later is safe.

        Raises InputError when the folder cannot be written (full, read-only). That happens once: from then on this
        object reads the folder but leaves it alone, since a full disk should not cost every later answer.
        """
        if features.dtype != torch.float32:
            raise ValueError(f"Embeddings are kept as float32, bit for bit; got {features.dtype}.")
        # copied even on the CPU: a row of a batch would keep the whole batch alive
        features = features.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        with self._lock:
            self._remember(key, features)
        if self.folder is not None and not self._broken:
            self._write(self.folder, key, features)

    def _remember(self, key: str, features: Tensor) -> None:
        """Under the lock."""
        before = self._memory.pop(key, None)
        if before is not None:
            self._held -= before.nbytes
        if features.nbytes > self.memory_bytes:
            return
        self._memory[key] = features
        self._held += features.nbytes
        while self._held > self.memory_bytes:
            self._held -= self._memory.popitem(last=False)[1].nbytes

    def _read(self, key: str) -> Tensor | None:
        if self.folder is None:
            return None
        path = _file(self.folder, key)
        try:
            # a pipe would be waited for
            if not path.is_file():
                return None
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                # read now: the tensor is a window on a file that others may replace
                features: Tensor = file.get_tensor(_NAME).clone()
        except (SafetensorError, OSError):
            return None
        # the format notices a file cut short, but not values that rotted or never reached the disk
        if features.dtype != torch.float32 or about.get("key") != key or about.get("crc32") != _checksum(features):
            return None
        return features

    def _write(self, folder: Path, key: str, features: Tensor) -> None:
        target = _file(folder, key)
        content = safetensors.torch.save({_NAME: features}, {"key": key, "crc32": _checksum(features)})
        try:
            target.parent.mkdir(exist_ok=True)
            with write_whole(target) as part:
                part.write_bytes(content)
        except OSError as error:
            with self._lock:
                first, self._broken = not self._broken, True
            if first:
                raise _unwritable(folder, error) from error
            return
        with self._lock:
            self.written += len(content)


def _file(folder: Path, key: str) -> Path:
    # 256 folders: some file systems grow slow with a hundred thousand files in one
    return folder / key[:2] / f"{key}.safetensors"


def _checksum(features: Tensor) -> str:
    return f"{zlib.crc32(features.numpy().data):08x}"


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"The embedding folder {folder} cannot be written: {error.strerror or error}. An embedding takes about 4 MiB a "
        "slice. Free some space, or name another folder."
    )
