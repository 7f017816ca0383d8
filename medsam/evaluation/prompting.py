"""Prompt one model as a protocol says: slice by slice, and once for a volume.

Prompts are drawn from what they are (seed, case, structure, slice), never from what was drawn before, so that resumed
and sharded runs draw the same. Every kind of prompt is asked apart: what else is asked changes neither its answers nor
its cost. A run asks a slice many things and encodes it once; so that "point" does not look cheaper than "box" because
it came second, every kind is charged for each crop it looks at what the crop took when it was first encoded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medsam.evaluation.cost import Cost
from medsam.evaluation.interactive import rounds
from medsam.evaluation.protocol import PromptSetting, Protocol
from medsam.evaluation.tables import ORACLE
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.propagate import propagate_all
from medsam.inference.segment_slice import segment_slice
from medsam.inference.slice_request import SliceResult
from medsam.metrics.overlap import iou
from medsam.postprocess.clean import Cleanup
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import jittered, rough_mask, seeded, tight_box


@dataclass(frozen=True)
class Target:
    """A structure on a slice where it is prompted. truth: bool (h, w). first: setting -> what it starts with."""

    structure: str
    index: int
    truth: np.ndarray
    first: dict[PromptSetting, SlicePrompt] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredMask:
    """One answer. prompt: its name in the tables. asked: with all clicks; None on a slice that was only reached.

    mask: bool (h, w), as it is scored. predicted_iou: the network's guess. seconds, encoder_calls: this structure's
    share.
    """

    prompt: str
    structure: str
    index: int
    asked: SlicePrompt | None
    mask: np.ndarray
    predicted_iou: float
    seconds: float
    encoder_calls: float


def targets_on(key: str, truths: Mapping[str, np.ndarray], index: int, protocol: Protocol) -> list[Target]:
    """The structures with enough pixels on a slice, with the boxes and rough masks they are asked with."""
    found = []
    for structure, truth in truths.items():
        tight = tight_box(truth, protocol.min_pixels)
        if tight is None:
            continue
        target = Target(structure, index, truth)
        for setting in protocol.settings:
            if setting.kind in ("box", "propagate"):
                rng = seeded(protocol.seed, key, structure, index)
                target.first[setting] = SlicePrompt(1, jittered(tight, setting.jitter_px, truth.shape, rng))
            elif setting.kind == "mask":
                rng = seeded(protocol.seed, key, structure, index, 1)
                target.first[setting] = SlicePrompt(1, mask=rough_mask(truth, rng))
        found.append(target)
    return found


def evaluate_slice(
    scan_encoder: ScanEncoder, index: int, targets: Sequence[Target], protocol: Protocol
) -> Iterator[ScoredMask]:
    """All of a protocol but propagation, for every structure of a slice together."""
    cleanup = Cleanup(protocol.keep_islands)
    asked: dict[tuple[str, int], list[PromptSetting]] = {}
    for setting in protocol.settings:
        if setting.kind != "propagate":
            asked.setdefault((setting.kind, setting.jitter_px), []).append(setting)
    for settings in asked.values():
        # these differ in their clicks alone: the answer to fewer is on the way to the answer to more
        wanted = {setting.clicks: setting for setting in settings}
        cost = Cost()

        def ask(prompts: list[SlicePrompt], previous: list[SliceResult | None], cost: Cost = cost) -> list[SliceResult]:
            started = time.perf_counter()
            results = segment_slice(scan_encoder, index, prompts, zoom=protocol.zoom, previous=previous)
            cost.add((result.usage for result in results), time.perf_counter() - started)
            return results

        first = None
        if settings[0].kind != "points":
            first = [target.first[settings[0]] for target in targets]
        for clicks, prompts, answers in rounds([target.truth for target in targets], ask, first):
            if clicks in wanted:
                share = cost.shared(len(targets))
                for target, prompt, answer in zip(targets, prompts, answers, strict=True):
                    name = wanted[clicks].name
                    mask = cleanup(
                        answer.mask,
                        scan_encoder.plane.spacing_mm,
                        calibrated=scan_encoder.scan.geometry.calibrated,
                        points=prompt.points,
                    )
                    yield ScoredMask(name, target.structure, index, prompt, mask, answer.predicted_iou, *share)
            if clicks >= max(wanted):
                break
    if protocol.oracle:
        yield from _oracle(scan_encoder, index, targets, next(q for q in protocol.settings if q.kind == "box"))


def _oracle(
    scan_encoder: ScanEncoder, index: int, targets: Sequence[Target], setting: PromptSetting
) -> Iterator[ScoredMask]:
    """The best of three masks on the whole slice, chosen by the reference."""
    prompts = [target.first[setting] for target in targets]
    cost, started = Cost(), time.perf_counter()
    embedding = scan_encoder.encode(index)
    three = scan_encoder.image_predictor.predict(embedding, prompts, multimask=True)
    cost.add((embedding.usage, three.usage), time.perf_counter() - started)
    share = cost.shared(len(targets))
    for target, prompt, masks, predicted_ious in zip(targets, prompts, three.masks, three.predicted_iou, strict=True):
        best = int(np.argmax([iou(target.truth, mask) for mask in masks]))
        yield ScoredMask(ORACLE, target.structure, index, prompt, masks[best], float(predicted_ious[best]), *share)


def evaluate_volume(
    scan_encoder: ScanEncoder,
    middles: Sequence[Target],
    references: Mapping[str, Sequence[int]],
    protocol: Protocol,
    progress: ProgressCallback | None = None,
) -> Iterator[ScoredMask]:
    """Propagation from one slice a structure, all structures together.

    references: structure -> the slices on which its reference has any pixel. Gives an answer, empty where there is
    none, for each of these and for every slice the answer spreads to.
    """
    for setting in protocol.settings:
        if setting.kind != "propagate" or not middles:
            continue
        seeds = {target.structure: {target.index: target.first[setting]} for target in middles}
        cost, started = Cost(), time.perf_counter()
        found = propagate_all(scan_encoder, seeds, zoom=protocol.zoom, progress=progress)
        cost.add((spread.usage for spread in found.values()), time.perf_counter() - started)
        for target in middles:
            spread = found[target.structure]
            geometry = scan_encoder.scan.geometry
            solid = spread.volume(scan_encoder.plane, geometry.shape)
            solid = Cleanup(protocol.keep_islands)(solid, geometry.spacing_mm, calibrated=geometry.calibrated)
            reached = {index for index in spread.masks if scan_encoder.plane.take(solid, index).any()}
            slices = sorted(reached | set(references[target.structure]))
            seconds, encoder_calls = (amount / len(slices) for amount in cost.shared(len(middles)))
            for index in slices:
                mask = scan_encoder.plane.take(solid, index)
                predicted_iou = spread.predicted_iou.get(index, np.nan) if index in reached else np.nan
                asked = seeds[target.structure].get(index)
                yield ScoredMask(
                    setting.name, target.structure, index, asked, mask, float(predicted_iou), seconds, encoder_calls
                )
