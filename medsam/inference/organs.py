"""Every structure that heads know, without a prompt: who looks for which, on a scan of what modality, and numbers.

Heads of both kinds are asked together: those that answer names (`by_name`) and detectors (`detect`, whose boxes `auto`
answers). A slice is encoded once for all of them. Of several heads that know a structure the one with the highest Dice
on patients it never saw answers.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medsam.errors import InputError, PromptError
from medsam.inference.auto import segment_found
from medsam.inference.by_name import KnownName, NameAnswers, NamedMask, NameReader, modality_of, remarks
from medsam.inference.detect import Detections, Search
from medsam.inference.image_predictor import ImagePredictor, ScanEncoder
from medsam.inference.segmentation import Segmentation
from medsam.inference.segmentation_builder import SegmentationBuilder
from medsam.inference.usage import Usage
from medsam.labels import canonical_name, english, named
from medsam.models.heads import Head, bundled_heads, find_head
from medsam.postprocess.clean import Cleanup
from medsam.progress import ProgressCallback
from medsam.prompts.plan import plan
from medsam.prompts.prompt import Prompt
from medsam.transforms.intensity import is_hounsfield
from medsam.volume import Volume

# how the modality of a scan is known
By = Literal["stated", "file", "units", "air and bone", "not below 0", "nothing"]
_HOW: Mapping[By, str] = {
    "stated": "as stated",
    "file": "as the file says",
    "units": "guessed: the values are Hounsfield units",
    "air and bone": "guessed: values reach from air to bone in Hounsfield units",
    "not below 0": "guessed: a volume whose values do not go below 0",
    "nothing": "nothing says it",
}
COLUMNS = (
    *("structure", "label", "voxels", "ml", "found", "head"),
    *("tested_on_patients", "tested_dice", "tested_scans_without"),
)


@dataclass(frozen=True)
class GuessedModality:
    """name: DICOM's word for the scanner, None where nothing says it. by: how it is known."""

    name: str | None
    by: By

    @property
    def how(self) -> str:
        """`by` in words."""
        return _HOW[self.by]


def guessed_modality(scan: Volume, stated: str | None = None) -> GuessedModality:
    """What is stated, or what the file says, else what the values look like. Reads every voxel for the last."""
    if stated:
        return GuessedModality(stated.strip().upper(), "stated")
    if scan.modality:
        return GuessedModality(scan.modality, "file")
    if is_hounsfield(scan):
        return GuessedModality("CT", "units")
    low, high = float(scan.array.min()), float(scan.array.max())
    if low <= -900 and high >= 200:
        return GuessedModality("CT", "air and bone")
    if scan.array.ndim == 3 and scan.geometry.shape[0] > 1 and low >= 0:
        return GuessedModality("MR", "not below 0")
    return GuessedModality(None, "nothing")


@dataclass(frozen=True)
class Lack:
    """Why nothing can be looked for: there is no head, none for this modality, or none that was measured."""

    why: Literal["no head", "modality", "untested"]
    text: str


def label_of(known: KnownName) -> str:
    """What the structure is called in outputs: one that was not measured says so in its name."""
    return f"{english(known.name)}{' (untested)' if known.untested else ''}"


class OrganReader:
    """Looks for structures with the heads that fit a model.

    names: who answers names. heads: files or names of detectors, beside those that `medsam models list` has; heads of
    another kind are left to `names`. answering: who answers the boxes of a detector (`auto.answering`).
    Raises CheckpointError for a head that does not fit.
    """

    def __init__(
        self,
        images: ImagePredictor,
        names: NameReader,
        heads: Iterable[str | Path] = (),
        answering: Callable[[Head], ImagePredictor] | None = None,
    ) -> None:
        given = [head for head in (find_head(source, images.sam) for source in heads) if head.card.kind == "detector"]
        there = {head.card.name for head in given}
        bundled = [head for head in bundled_heads("detector", images.sam) if head.card.name not in there]
        self.names, self.detectors = names, [*given, *bundled]
        self._answering = answering or (lambda _: images)

    @property
    def known(self) -> list[KnownName]:
        """All that any head knows: a structure comes once for each."""
        return [one for head in (*self.names.heads, *self.detectors) for one in _of_head(head)]

    def offered(self, modality: str | None, *, untested: bool = False) -> list[KnownName]:
        """What can be looked for on such a scan, a structure once: by the head that was measured best.

        modality: None, where it is not known, for heads of any. untested: also what was not measured on patients that
        the head never saw.
        """
        best: dict[str, KnownName] = {}
        for one in self.known:
            if not one.head.card.is_for(modality) or (one.untested and not untested):
                continue
            if one.name not in best or _dice(one) > _dice(best[one.name]):
                best[one.name] = one
        return list(best.values())

    def asked(self, modality: str | None, *, untested: bool = False) -> list[KnownName]:
        """`offered`. Raises PromptError where that is nothing, and says why."""
        if found := self.offered(modality, untested=untested):
            return found
        lack = self.lack(modality)
        more = " Say `untested` to have it nevertheless." if lack.why == "untested" else ""
        raise PromptError(f"{lack.text}{more}", parameter="untested")

    def lack(self, modality: str | None) -> Lack:
        """Why nothing is offered on such a scan."""
        known = self.known
        if not known:
            text = "No head here knows a structure: train one (docs/names.md, docs/automatic.md) and give it as `head`."
            return Lack("no head", text)
        fit = {one.name for one in known if one.head.card.is_for(modality)}
        if not fit:
            kinds = sorted({kind for one in known for kind in one.head.card.modalities})
            return Lack("modality", f"The heads here learnt from {', '.join(kinds)}, and this scan is {modality}.")
        which = "The one structure" if len(fit) == 1 else f"None of the {len(fit)} structures"
        was = "was not" if len(fit) == 1 else "was"
        return Lack("untested", f"{which} that heads here know of such scans {was} measured on unseen patients.")

    def answer(
        self, scan_encoder: ScanEncoder, organs: Sequence[KnownName], progress: ProgressCallback | None = None
    ) -> FoundOrgans:
        """The masks of structures through a scan. progress: called once a slice; slices with boxes count once more."""
        count = scan_encoder.plane.count
        names = NameAnswers(self.names, scan_encoder, [one for one in organs if one.by_name])
        asked: dict[Head, list[KnownName]] = {}
        for one in organs:
            if not one.by_name:
                asked.setdefault(one.head, []).append(one)
        # what is offered was chosen before
        searches = {
            head: Search(scan_encoder, head, [one.own_name for one in wanted], untested=True)
            for head, wanted in asked.items()
        }
        usage = Usage()
        for index in range(count):
            if progress is not None:
                progress(index, count)
            embedding = scan_encoder.encode(index)
            usage += embedding.usage
            names.add(index, embedding)
            for search in searches.values():
                search.add(index, embedding)
        found = {one.known: one for one in names.finish()}
        detections = {head: search.finish() for head, search in searches.items()}
        for head, masks, spent in self._answered(scan_encoder, detections, progress):
            usage += spent
            found |= {one: _detected(one, masks, detections[head]) for one in asked[head]}
        return FoundOrgans([found[one] for one in organs], usage)

    def _answered(
        self, scan_encoder: ScanEncoder, detections: Mapping[Head, Detections], progress: ProgressCallback | None
    ) -> Iterator[tuple[Head, Mapping[str, np.ndarray], Usage]]:
        """Detectors with the masks that their boxes were answered with, by what they call them."""
        done = scan_encoder.plane.count
        boxed = {head: len({n for one in found.objects for n in one.boxes}) for head, found in detections.items()}
        total = done + sum(boxed.values())
        for head, found in detections.items():

            def report(slices: int, _: int | None, before: int = done) -> None:
                if progress is not None:
                    progress(before + slices, total)

            encoder = _seen_by(self._answering(head), scan_encoder)
            # what looking has used is counted already
            given = segment_found(encoder, replace(found, usage=Usage()), head, progress=report)
            done += boxed[head]
            whole = given.structures or {
                name: given.labels.array == number for number, name in given.labels.names.items()
            }
            yield head, whole, given.usage
        if progress is not None:
            progress(total, total)


@dataclass(frozen=True, eq=False)
class FoundOrgans:
    """masks: of each structure that was looked for, in order. usage: what was run for them."""

    masks: list[NamedMask]
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, eq=False)
class Organs:
    """What `Predictor.organs` found. segmentation: the label map, with what is to be said of it. asked: who answered,
    in the order of its labels."""

    segmentation: Segmentation
    modality: GuessedModality
    asked: tuple[KnownName, ...]

    @property
    def structures(self) -> list[dict[str, Any]]:
        """Statistics: a row a structure, with `COLUMNS`; each is counted whole, also where the label map gives a voxel
        to another."""
        geometry, found = self.segmentation.labels.geometry, self.segmentation
        counts = np.bincount(found.labels.array.ravel(), minlength=len(self.asked) + 1)
        rows = []
        for (number, name), one in zip(found.labels.names.items(), self.asked, strict=True):
            voxels = int(counts[number]) if found.structures is None else found.structures.voxels[name]
            rows.append(row_of(one, name, voxels, voxels * geometry.voxel_ml if geometry.calibrated else None))
        return rows


def segment_organs(
    scan_encoder: ScanEncoder,
    reader: OrganReader,
    asked: Sequence[KnownName],
    modality: GuessedModality,
    progress: ProgressCallback | None = None,
) -> Organs:
    """Have structures looked for, and make a label map of them. asked: as `OrganReader.offered` gives them."""
    found = reader.answer(scan_encoder, asked, progress)
    prompts = [Prompt(label_of(one.known), drawn=one.mask, slice=None if one.found else 0) for one in found.masks]
    todo = plan(prompts, scan_encoder.scan.geometry, scan_encoder.plane.axis)
    # masks are as they shall be: nothing is asked of the network
    builder = SegmentationBuilder(scan_encoder, todo, "off", Cleanup())
    for index, on_slice in builder.slices():
        builder.add(index, on_slice, [])
    given = builder.finish()
    said = {label_of(one): one.untested for one in asked if one.untested}
    licences = [given.algorithm.licence, *(one.head.card.licence for one in asked)]
    notes = dict.fromkeys(filter(None, (*said.values(), *remarks(found.masks, modality_of(scan_encoder.scan)))))
    segmentation = replace(
        given,
        usage=found.usage + given.usage,
        notes=(*given.notes, *notes),
        said=said,
        algorithm=replace(given.algorithm, kind="AUTOMATIC", licence="; ".join(dict.fromkeys(filter(None, licences)))),
    )
    return Organs(segmentation, modality, tuple(asked))


def row_of(known: KnownName, label: str, voxels: int, ml: float | None) -> dict[str, Any]:
    """A structure's volume, and the head that answered with what was measured of it. ml: None without millimetres."""
    values = (english(known.name), label, voxels, ml, voxels > 0, *tested(known).values())
    return dict(zip(COLUMNS, values, strict=True))


def tested(known: KnownName) -> dict[str, Any]:
    """The last of `COLUMNS`: who answers, and what was measured of that."""
    measured = known.measured or {}
    return {
        "head": known.head.card.name,
        "tested_on_patients": measured.get("patients"),
        "tested_dice": measured.get("dice"),
        "tested_scans_without": measured.get("scans_without") or 0,
    }


def body_part(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the structures that were found say of it: those alone that heads were seen to miss where they are not."""
    there = [row for row in rows if row["found"]]
    told = [row["structure"] for row in there if row["tested_scans_without"]]
    if there and not told:
        return "Body part: not guessed. The heads here were never measured on scans without what they look for."
    return f"Body part, by what was found: {', '.join(told) if told else 'none of these structures is in the scan'}."


def statistics_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table, with a head; empty where nothing is known."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return text.getvalue()


def _of_head(head: Head) -> Iterator[KnownName]:
    """What a head knows, by canonical names; of two classes of one name the first."""
    there: set[str] = set()
    for said in head.card.classes:
        name = said if head.card.kind == "names" else canonical_of(said)
        if name not in there:
            there.add(name)
            yield KnownName(name, head, head.card.measured.get(said), said)


def canonical_of(said: str) -> str:
    """The canonical name of what is called so in any of the four languages; one that is not known comes back tidied."""
    try:
        return named(said) or canonical_name(said)
    except InputError:
        return said


def _dice(known: KnownName) -> float:
    """By which one head is preferred to another; what was not measured comes last."""
    dice = (known.measured or {}).get("dice")
    measured = float(dice) if isinstance(dice, int | float) and math.isfinite(dice) else 0.0
    return measured if known.measured is not None else -1.0


def _seen_by(images: ImagePredictor, scan_encoder: ScanEncoder) -> ScanEncoder:
    """The same scan, seen the same way, for who has another decoder."""
    if images is scan_encoder.image_predictor:
        return scan_encoder
    one = scan_encoder
    return ScanEncoder(images, one.scan, one.plane, one.window, one.wide_window, one.notes, one.modality)


def _detected(known: KnownName, masks: Mapping[str, np.ndarray], found: Detections) -> NamedMask:
    likely = np.array(found.presence[known.own_name], np.float32)
    with np.errstate(divide="ignore"):
        logits = np.log(likely) - np.log1p(-likely)
    return NamedMask(known, masks[known.own_name], np.where(np.isnan(likely), -np.inf, logits).astype(np.float32))
