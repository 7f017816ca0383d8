"""Prompt one model as a protocol says: slice by slice, and once for a volume.

Every kind of prompt is asked apart: what else is asked changes neither its answers nor its cost. A run asks a slice
many things and encodes it once; so that "point" does not look cheaper than "box" because it came second, every kind is
charged for each crop it looks at what the crop took when it was first encoded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medsam.evaluation.cost import Cost
from medsam.evaluation.interactive import CorrectFn, by_clicks, by_human_clicks, by_scribbles, rounds
from medsam.evaluation.protocol import CorrectedBy, PromptSetting, Protocol
from medsam.evaluation.steps import Step, step_of
from medsam.evaluation.tables import ORACLE
from medsam.evaluation.targets import Target
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.propagate import propagate_all
from medsam.inference.segment_slice import segment_slice
from medsam.inference.slice_request import SliceResult
from medsam.inference.trust import ExpectedDice
from medsam.metrics.overlap import iou
from medsam.postprocess.clean import Cleanup
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.strokes import spots


@dataclass(frozen=True)
class ScoredMask:
    """One answer. prompt: its name in the tables. asked: with all clicks; None on a slice that was only reached.

    mask: bool (h, w), as it is scored. predicted_iou: the network's guess. seconds, encoder_calls: this structure's
    share. steps: what each correction did, with the answer to the most of a kind. expected_dice: see `trust`.
    """

    prompt: str
    structure: str
    index: int
    asked: SlicePrompt | None
    mask: np.ndarray
    predicted_iou: float
    seconds: float
    encoder_calls: float
    steps: tuple[Step, ...] = ()
    expected_dice: ExpectedDice | None = None


def evaluate_slice(
    scan_encoder: ScanEncoder, index: int, targets: Sequence[Target], protocol: Protocol
) -> Iterator[ScoredMask]:
    """All of a protocol but propagation, for every structure of a slice together."""
    asked: dict[tuple[str, CorrectedBy], list[PromptSetting]] = {}
    for setting in sorted(protocol.settings, key=lambda setting: setting.corrections == 0):
        if setting.first not in ("propagate", "auto"):
            # what is not corrected is on the way to what is, whatever that is corrected with
            alike = [key for key in asked if key[0] == setting.family] if not setting.corrections else []
            asked.setdefault(alike[0] if alike else (setting.family, setting.by), []).append(setting)
    for settings in asked.values():
        yield from _evaluate_family(scan_encoder, index, targets, settings, protocol)
    if protocol.oracle:
        yield from _oracle(scan_encoder, index, targets, next(q for q in protocol.settings if q.first == "box"))


def _evaluate_family(
    scan_encoder: ScanEncoder,
    index: int,
    targets: Sequence[Target],
    settings: Sequence[PromptSetting],
    protocol: Protocol,
) -> Iterator[ScoredMask]:
    """Settings that differ in the number of corrections alone: what fewer give is on the way to what more give."""
    cleanup, plane = Cleanup(protocol.keep_islands), scan_encoder.plane
    wanted = {setting.corrections: setting for setting in settings}
    cost = Cost()

    def ask(prompts: list[SlicePrompt], previous: list[SliceResult | None]) -> list[SliceResult]:
        started = time.perf_counter()
        results = segment_slice(scan_encoder, index, prompts, zoom=protocol.zoom, previous=previous, trust=True)
        cost.add((result.usage for result in results), time.perf_counter() - started)
        return results

    truths = [target.truth for target in targets]
    first = None if settings[0].first is None else [target.first[settings[0]] for target in targets]
    steps: list[list[Step]] = [[] for _ in targets]
    before: list[tuple[SlicePrompt, SliceResult]] = []
    for number, prompts, answers in rounds(truths, ask, first, _corrections(settings[0], targets, protocol)):
        for n, (prompt, answer) in enumerate(before):
            if prompts[n] != prompt:
                masks = answer.mask, answers[n].mask
                steps[n].append(step_of(number, truths[n], masks, (prompt, prompts[n]), plane.spacing_mm))
        before = list(zip(prompts, answers, strict=True))
        if number in wanted:
            share = cost.shared(len(targets))
            for target, (prompt, answer), made in zip(targets, before, steps, strict=True):
                mask = cleanup(
                    answer.mask,
                    plane.spacing_mm,
                    calibrated=scan_encoder.scan.geometry.calibrated,
                    points=spots(prompt.marks, plane.shape),
                )
                name, last = wanted[number].name, tuple(made) if number == max(wanted) else ()
                told = answer.predicted_iou, *share, last, answer.expected_dice
                yield ScoredMask(name, target.structure, index, prompt, mask, *told)
        if number >= max(wanted):
            break


def _corrections(setting: PromptSetting, targets: Sequence[Target], protocol: Protocol) -> CorrectFn:
    """How the user of a setting corrects."""

    def chance(structure: int, number: int) -> np.random.Generator:
        return targets[structure].chance(protocol.seed, setting.by, number)

    if setting.by == "scribbles":
        return by_scribbles(chance, protocol.noise)
    return by_human_clicks(chance) if protocol.noise == "noisy" else by_clicks


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
        if setting.first != "propagate" or not middles:
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
