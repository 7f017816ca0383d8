"""Embeddings kept: a crop that was encoded once is never encoded again, in this run or the next.

An embedding is filed under a digest of everything the encoder's answer depends on (`embedding_key`), so nothing ever
has to be declared out of date: a changed scan, window, crop, preprocessing or checkpoint asks for another key.

    FOLDER/ab/abcdef….safetensors     "features" float32 (C, h', w'); metadata: the key, and a CRC-32 of the values

Who shares what: one `EmbeddingCache` may serve many threads. Its lock guards the memory and the counters only and is
never held while a file is read or written, so a slow disk does not delay callers whose embedding is in memory. Many
processes, on one machine or several, may share a folder: files appear under their name complete or not at all, and two
writers of one key write the same values.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from medsam.errors import InputError
from medsam.files import write_whole

if TYPE_CHECKING:
    from medsam.inference.engines.base import Engine
    from medsam.models.mask_decoder import ImageTokens

# part of every key: raise it when encoding changes in a way that neither the input nor the weights show
_FORMAT = 2
_NAME = "features"
# The embeddings used last, which keep what prompts share as long as they can.
_IN_USE = 2


def embedding_key(pixels: Tensor, weights: str, engine: str = "torch", precision: str = "float32") -> str:
    """What an embedding is filed under: 64 hexadecimal digits.

    pixels: the prepared model input (3, S, S). It is all the encoder sees, and already holds the scan's values, the
    window, the crop, resampling and normalisation; that is why a change to any of them can never meet a stale
    embedding, and why equal slices share one.
    weights: `weights_digest` of the model.
    engine: who computes. Two of them sum in different orders, and a mask may differ in a pixel by it; the same command
    gives the same masks whichever engine filled the folder.
    precision: what the encoder computes in. bfloat16 keeps eight bits of a number, so its embedding must not stand in
    for one in float32. The device is left out on purpose: for one engine and precision devices differ by rounding (as
    do numbers of threads), and embeddings that torch made on a GPU should serve it on a machine without one.
    """
    values = pixels.detach().cpu().contiguous()
    head = (_FORMAT, str(values.dtype), tuple(values.shape), weights, engine, precision)
    digest = hashlib.sha256(repr(head).encode())
    digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Precomputed:
    """What all prompts on one embedding share (`Engine.precompute`), made by the first that needs it.

    Belongs to one engine: another makes its own in its place, since its answers need not be the same to the bit. For
    any number of threads; a copy starts empty.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # weak: an embedding that is kept keeps no model
        self._made: tuple[weakref.ref[Engine], ImageTokens | None] | None = None

    def __reduce__(self) -> tuple[type[Precomputed], tuple[()]]:
        return Precomputed, ()

    def of(self, engine: Engine, features: Tensor) -> tuple[ImageTokens | None, bool]:
        """What the engine makes of an embedding (1, C, h', w'), and whether it was made just now."""
        with self._lock:
            made = self._made
            if made is not None and made[0]() is engine:
                return made[1], False
            tokens = engine.precompute(features)
            self._made = weakref.ref(engine), tokens
            return tokens, tokens is not None

    def forget(self) -> None:
        """Give the memory back; the next prompt makes it again."""
        self._made = None

    @property
    def nbytes(self) -> int:
        made = self._made
        return 0 if made is None or made[1] is None else sum(tensor.nbytes for tensor in made[1])


class Kept(NamedTuple):
    """An embedding in the cache: features (C, h', w') float32 on the CPU, never to be changed, and what prompts on it
    share."""

    features: Tensor
    precomputed: Precomputed

    @property
    def nbytes(self) -> int:
        return self.features.nbytes + self.precomputed.nbytes


class EmbeddingCache:
    """Embeddings by key: in memory, the least recently used leaving first, and in a folder if one is given.

    memory_bytes: most the memory holds; a larger embedding is not kept there, and 0 keeps none. What prompts share
    counts, and leaves before any embedding does, but for that of the last two.
    folder: made if it is not there. It is not bounded: 4 MiB a crop for every public model.
    hits, misses: embeddings that were there, or on their way, and those that were not. written: bytes this object has
    put on the disk.
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
        self._memory: OrderedDict[str, Kept] = OrderedDict()
        # those that some thread is making: the others wait for it
        self._making: dict[str, Future[Kept]] = {}
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
        with self._lock:
            return sum(kept.nbytes for kept in self._memory.values())

    def get(self, key: str) -> Kept | None:
        """The embedding, None when it is not kept.

        A file that is damaged, cut short or not ours counts as not there: it is encoded again and replaced.
        """
        with self._lock:
            found = self._in_memory(key)
        if found is None:
            found = self._read(key)
            with self._lock:
                if found is not None:
                    found = self._remember(key, found)
        with self._lock:
            self.hits += found is not None
            self.misses += found is None
        return found

    def holds(self, key: str) -> bool:
        """Whether the memory has the embedding; that is no use of it."""
        with self._lock:
            return key in self._memory

    def put(self, key: str, features: Tensor) -> Kept:
        """Keep an embedding (C, h', w') float32, from whatever device it is on. Changing `features` later is safe.

        Raises InputError when the folder cannot be written (full, read-only). That happens once: from then on this
        object reads the folder but leaves it alone, since a full disk should not cost every later answer.
        """
        kept = _as_kept(features)
        with self._lock:
            self._memory.pop(key, None)
            self._remember(key, kept)
        if self.folder is not None and not self._broken:
            self._write(self.folder, key, kept.features)
        return kept

    def fetch(self, keys: Sequence[str], make: Callable[[list[str]], Iterable[Tensor]]) -> dict[str, Kept]:
        """Embeddings by key; of those that are not kept, each is made by one of all the threads that ask at once.

        make: keys -> features (C, h', w') float32 each, in that order. What it raises is raised in every thread that
        waits for one of its keys, and nothing is kept; when it is interrupted, another thread takes its place.
        Raises InputError as `put` does.
        """
        found: dict[str, Kept] = {}
        while missing := [key for key in dict.fromkeys(keys) if key not in found]:
            mine: dict[str, Future[Kept]] = {}
            others: dict[str, Future[Kept]] = {}
            try:
                with self._lock:
                    for key in missing:
                        if (kept := self._in_memory(key)) is not None:
                            found[key] = kept
                        elif key in self._making:
                            others[key] = self._making[key]
                        else:
                            mine[key] = Future()
                            self._making[key] = mine[key]
                    self.hits += len(missing) - len(mine) - len(others)
                # own work first: two threads that wait for each other's keys have both done theirs
                found |= self._make(mine, make)
            except BaseException as error:
                self._give_up(mine, error)
                raise
            for key, future in others.items():
                with suppress(CancelledError):
                    found[key] = future.result()
                    with self._lock:
                        self.hits += 1
        return found

    def _make(self, mine: dict[str, Future[Kept]], make: Callable[[list[str]], Iterable[Tensor]]) -> dict[str, Kept]:
        """Embeddings that this thread answers for: from the folder, or made."""
        found: dict[str, Kept] = {}

        def settle(key: str, kept: Kept) -> None:
            with self._lock:
                found[key] = kept = self._remember(key, kept)
                del self._making[key]
            mine[key].set_result(kept)

        for key in mine:
            if (kept := self._read(key)) is not None:
                settle(key, kept)
        absent = [key for key in mine if key not in found]
        with self._lock:
            self.hits += len(found)
            self.misses += len(absent)
        if absent:
            for key, features in zip(absent, make(absent), strict=True):
                settle(key, _as_kept(features))
                if self.folder is not None and not self._broken:
                    self._write(self.folder, key, found[key].features)
        return found

    def _give_up(self, mine: dict[str, Future[Kept]], error: BaseException) -> None:
        """Let go of what this thread was to make and has not settled, wherever it was interrupted."""
        with self._lock:
            for key, future in mine.items():
                if self._making.get(key) is future:
                    del self._making[key]
        for future in mine.values():
            if future.done():
                continue
            # an interrupt is for this thread alone
            if isinstance(error, Exception):
                future.set_exception(error)
            else:
                future.cancel()

    def make_room(self) -> None:
        """Bring the memory under its bound again, after something was precomputed."""
        with self._lock:
            self._shrink()

    def _in_memory(self, key: str) -> Kept | None:
        """Under the lock."""
        found = self._memory.get(key)
        if found is not None:
            self._memory.move_to_end(key)
        return found

    def _remember(self, key: str, kept: Kept) -> Kept:
        """Under the lock. What is there already stays: prompts may share it by now."""
        there = self._in_memory(key)
        if there is not None:
            return there
        if kept.nbytes <= self.memory_bytes:
            self._memory[key] = kept
            self._shrink()
        return kept

    def _shrink(self) -> None:
        """Under the lock."""
        over = sum(kept.nbytes for kept in self._memory.values()) - self.memory_bytes
        keys = list(self._memory)
        # to precompute takes a tenth of encoding; a click on one object takes two crops at most
        for older in (keys[:-_IN_USE], keys[-_IN_USE:]):
            for key in older:
                if over > 0:
                    over -= self._memory[key].precomputed.nbytes
                    self._memory[key].precomputed.forget()
            for key in older:
                if over > 0:
                    over -= self._memory.pop(key).nbytes

    def _read(self, key: str) -> Kept | None:
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
        return Kept(features, Precomputed())

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


def _as_kept(features: Tensor) -> Kept:
    """A copy, and laid out as one from the folder: the decoder sums in another order where channels come last."""
    if features.dtype != torch.float32:
        raise ValueError(f"Embeddings are kept as float32, bit for bit; got {features.dtype}.")
    # copied even on the CPU: a row of a batch would keep the whole batch alive
    copy = features.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    return Kept(copy, Precomputed())


def _checksum(features: Tensor) -> str:
    return f"{zlib.crc32(features.numpy().data):08x}"


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"The embedding folder {folder} cannot be written: {error.strerror or error}. An embedding takes about 4 MiB a "
        "slice. Free some space, or name another folder."
    )
