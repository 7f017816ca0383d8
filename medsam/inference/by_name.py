"""Structures by name through a volume: masks, and on which slices they are, of the heads that know the names.

Each slice is encoded once, whatever number of names is asked; a name then costs a decode a slice. A slice whose
presence lies below the head's threshold is empty. Letters: K, J, I voxels of the scan; h, w rows and columns of a
slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medsam.errors import CheckpointError, PromptError
from medsam.inference.image_predictor import Embedding, ImagePredictor, ScanEncoder
from medsam.inference.name_embeddings import NameEmbeddings
from medsam.inference.naming import understand
from medsam.labels import english
from medsam.models.heads import Head, bundled_heads, find_head
from medsam.models.name_head import NameHead, slice_places
from medsam.models.sam import Sam
from medsam.postprocess.clean import clean
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import Prompt
from medsam.transforms.intensity import is_hounsfield
from medsam.volume import Volume

# names decoded together: more of them are no faster on a CPU, and want memory
_AT_ONCE = 16
# pieces of a structure below this share of its largest one are taken for errors
_PIECE = 0.1


@dataclass(frozen=True, eq=False)
class KnownName:
    """A structure that a head knows.

    name: canonical, or as the head says it where the vocabulary does not know it. head: which knows it. measured: what
    was found on patients it never saw, None where nothing was. said: what the head calls it, where that is another.
    """

    name: str
    head: Head
    measured: Mapping[str, object] | None
    said: str = ""

    @property
    def own_name(self) -> str:
        """What the head calls it."""
        return self.said or self.name

    @property
    def by_name(self) -> bool:
        """Whether it is answered by its name; else a detector looks for it."""
        return self.head.card.kind == "names"

    @property
    def threshold(self) -> float:
        """The logit of presence from which it counts as there."""
        return float(self.head.card.thresholds.get(self.own_name, 0.0))

    @property
    def untested(self) -> str:
        """What every output has to say of it; "" where it was measured."""
        if self.measured is not None:
            return ""
        return (
            f"UNTESTED: {english(self.name)} by {self.head.card.name} was not measured on patients that it had not "
            "been trained on."
        )


@dataclass(frozen=True, eq=False)
class NamedMask:
    """A structure as a head answered. mask: bool (K, J, I). presence: logits (slices,) along the scan's axis."""

    known: KnownName
    mask: np.ndarray
    presence: np.ndarray

    @property
    def found(self) -> bool:
        """Whether it is on any slice."""
        return bool(self.mask.any())


class NameReader:
    """Answers names with the heads that fit a model.

    heads: more of them, by file or by name, beside those that `medsam models list` has; asked first. Those of another
    kind are left to others. clip: see `NameEmbeddings`.
    Raises CheckpointError for a head that does not fit.
    """

    def __init__(
        self, images: ImagePredictor, heads: Iterable[str | Path] = (), clip: str | Path | None = None
    ) -> None:
        self.images, self._embeddings = images, NameEmbeddings(clip)
        given = [head for head in (find_head(source, images.sam) for source in heads) if head.card.kind == "names"]
        self.heads = [
            *given,
            *(head for head in bundled_heads("names", images.sam) if head.card.name not in _names(given)),
        ]
        self._networks: dict[int, tuple[NameHead, Sam]] = {}

    @property
    def known(self) -> dict[str, KnownName]:
        """Canonical name -> who answers it."""
        found: dict[str, KnownName] = {}
        for head in self.heads:
            for name in head.card.classes:
                found.setdefault(name, KnownName(name, head, head.card.measured.get(name)))
        return found

    def named(self, text: str, *, untested: bool = False) -> tuple[KnownName, str]:
        """Who answers a name as it was typed, and what should be said of how it was read ("" mostly).

        Raises PromptError with a question where nobody does, and where that was not measured and `untested` is not set;
        CheckpointError where the head's CLIP is not at hand.
        """
        known = self.known
        offered = tuple(name for name, one in known.items() if untested or not one.untested)
        understood = understand(text, offered or None)
        one = known.get(understood.name)
        if one is None:
            can = ", ".join(english(name) for name in offered) or "none"
            raise PromptError(
                f"No head here answers {english(understood.name)!r} by its name (known: {can}). Train one "
                "(configs/train/names.yaml) and give it as `head`, or draw a box.",
                parameter=("text", "head"),
            )
        if one.untested and not untested:
            raise PromptError(f"{one.untested} Say `untested` to have it nevertheless.", parameter=("untested", "text"))
        # before anything is encoded
        self._embeddings.of(one.head, [one.name])
        return one, understood.note

    def answer(
        self, scan_encoder: ScanEncoder, names: Sequence[KnownName], progress: ProgressCallback | None = None
    ) -> list[NamedMask]:
        """The masks of several structures through a scan. progress: called with (slices done, slices)."""
        answers = NameAnswers(self, scan_encoder, names)
        count = scan_encoder.plane.count
        for index in range(count):
            if progress is not None:
                progress(index, count)
            answers.add(index, scan_encoder.encode(index))
        if progress is not None:
            progress(count, count)
        return answers.finish()

    def decode(
        self, features: torch.Tensor, names: Sequence[KnownName], place: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits (P, s, s) and presence (P,) of names of one head."""
        network, sam = self._network(names[0].head)
        device = self.images.device
        embedded = self._embeddings.of(names[0].head, [one.name for one in names])[None].to(device)
        with torch.inference_mode():
            logits, presence, _ = network.answer(
                sam, features.to(device), embedded, place.expand(1, len(names), -1).to(device)
            )
        if not presence.isfinite().all():
            raise CheckpointError(f"The head {names[0].head.card.name} answers with numbers that are not finite.")
        return logits[0].float(), presence[0].float()

    def _network(self, head: Head) -> tuple[NameHead, Sam]:
        if id(head) not in self._networks:
            sam = head.with_decoder(self.images.sam)
            if sam is self.images.sam:
                raise CheckpointError(
                    f"The head {head.card.name} answers names with a decoder of its own, learnt from that of "
                    f"{head.card.model}; {self.images.name} has another. Take --model {head.card.model}."
                )
            device = self.images.device
            self._networks[id(head)] = NameHead.of(head).to(device), sam.to(device).eval()
        return self._networks[id(head)]


class NameAnswers:
    """What the heads of a reader answer to several names, slice by slice: whoever encodes them adds all, in any order.

    names: of one scan, whose slices lie along `scan_encoder`'s axis.
    """

    def __init__(self, reader: NameReader, scan_encoder: ScanEncoder, names: Sequence[KnownName]) -> None:
        plane, geometry = scan_encoder.plane, scan_encoder.scan.geometry
        self._reader, self._plane, self._names, self._spacing = reader, plane, names, geometry.spacing_mm
        self._places = torch.from_numpy(slice_places(geometry, plane.axis))
        self._masks = [np.zeros(geometry.shape, dtype=bool) for _ in names]
        self._presence = np.full((len(names), plane.count), -np.inf, np.float32)

    def add(self, index: int, embedding: Embedding) -> None:
        """Answer on slice `index`. embedding: of the whole of it."""
        if embedding.no_contrast:
            return
        names, presence = self._names, self._presence
        for rows in _together(names):
            asked = [names[row] for row in rows]
            logits, here = self._reader.decode(embedding.features, asked, self._places[index])
            presence[rows, index] = here.cpu().numpy()
            there = [n for n, row in enumerate(rows) if presence[row, index] >= names[row].threshold]
            for n in there:
                found = embedding.frame.restore(logits[n : n + 1])[0] > 0
                self._plane.take(self._masks[rows[n]], index)[...] = found.cpu().numpy()

    def finish(self) -> list[NamedMask]:
        """The structures, in the order of their names, without their small pieces."""
        return [
            NamedMask(one, _cleaned(mask, self._spacing), logits)
            for one, mask, logits in zip(self._names, self._masks, self._presence, strict=True)
        ]


def _together(names: Sequence[KnownName]) -> list[list[int]]:
    """Numbers of the names that go through a decoder at once: of one head, `_AT_ONCE` at most."""
    by_head: dict[int, list[int]] = {}
    for row, one in enumerate(names):
        by_head.setdefault(id(one.head), []).append(row)
    return [rows[n : n + _AT_ONCE] for rows in by_head.values() for n in range(0, len(rows), _AT_ONCE)]


def _cleaned(mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    return clean(mask, spacing_mm, min_island_share=_PIECE)


def modality_of(scan: Volume) -> str | None:
    """What the file says, or CT where the values are Hounsfield units."""
    return scan.modality or ("CT" if is_hounsfield(scan) else None)


def _names(heads: Iterable[Head]) -> set[str]:
    return {head.card.name for head in heads}


@dataclass(frozen=True)
class AnsweredNames:
    """Prompts with every name replaced by the mask that it was answered with.

    said: label -> what every output has to say of it. notes: what a reader should know. named: the answers, in order.
    """

    prompts: list[Prompt]
    said: Mapping[str, str]
    notes: tuple[str, ...]
    named: tuple[NamedMask, ...]


def answer_names(
    reader: NameReader,
    scan_encoder: ScanEncoder,
    prompts: Sequence[Prompt],
    *,
    untested: bool = False,
    progress: ProgressCallback | None = None,
) -> AnsweredNames:
    """Answer the names among prompts through a scan; the other prompts stay as they are.

    A structure that is not there keeps its label, without a voxel. Labels of what was not tested say so.
    Raises PromptError as `NameReader.named` does, before anything is encoded.
    """
    asked = [one for one in prompts if one.text is not None]
    known = [reader.named(one.text or "", untested=untested) for one in asked]
    found = reader.answer(scan_encoder, [one for one, _ in known], progress)
    answered: dict[int, Prompt] = {}
    said: dict[str, str] = {}
    for prompt, one in zip(asked, found, strict=True):
        label = f"{prompt.label} (untested)" if one.known.untested else prompt.label
        answered[id(prompt)] = Prompt(label, drawn=one.mask, slice=None if one.found else 0)
        if one.known.untested:
            said[label] = one.known.untested
    notes = [*(note for _, note in known), *said.values(), *remarks(found, modality_of(scan_encoder.scan))]
    listed = [answered.get(id(one), one) for one in prompts]
    return AnsweredNames(listed, said, tuple(dict.fromkeys(filter(None, notes))), tuple(found))


def remarks(found: Sequence[NamedMask], modality: str | None) -> Iterator[str]:
    """What is not there, what may be drawn where it is not, and whose heads said so."""
    for one in found:
        if not one.found:
            below = "no slice reaches its threshold of presence" if one.known.by_name else "no box is sure enough"
            yield f"{english(one.known.name)} is not in this scan, says {one.known.head.card.name}: {below}."
    for one in found:
        card = one.known.head.card
        yield card.foreign(modality)
        here = [each.known for each in found if each.found and each.known.head is one.known.head]
        yield card.drawn_anyway([each.own_name for each in here])
        how = "Answered by name with" if one.known.by_name else "Found by"
        yield f"{how} the head {card.name} (licence of its weights: {card.licence or 'not stated'})."
