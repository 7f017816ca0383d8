"""One slice and its prompts -> masks: which crops the network sees, and how its answers become one mask a prompt.

A network that is shown a whole slice at 256 pixels a side misses what is thin, sees a lung through a window made for
the liver, and answers many boxes with a mask that leaves most of the box empty. Three remedies, each chosen by
measurement and none of them trained (docs/results/README.md, "A closer look"):

closer      where the whole slice is shrunk for the network, and the answer on it leaves part of a small box empty, the
            box is looked at again in a *tile* with more of the detail that the scan has, and the logits of both are
            averaged. Tiles have fixed places, so that a slice's boxes, and what is asked of it later, share them
            (`looks`). Whether a box is looked at again depends on it alone.
window      where the slice's window clips most of the box's pixels away (lung and bone under soft tissue on CT), the
            crops use the wide window. Only when the window was left to us.
priors      to the averaged logits is added what the box and the brightness of its pixels say: see `priors`.

Nothing outside a given box is kept: of a pixel that its edge cuts all may stay, of others nothing. Where a click inside
lies beyond the box, the box reaches to it (`clicks.box_including`).

Letters: P prompts, C crops, h and w of the stored slice, s the side of the network's logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np

from medsam.errors import PromptError
from medsam.inference.clicks import (
    Said,
    as_box,
    box_including,
    clicked_inside,
    is_alone,
    refuted,
    search,
    with_clicks,
)
from medsam.inference.combine import combine, trust_of
from medsam.inference.corrections import marks_of
from medsam.inference.image_predictor import Crop, Embedding, LogitsFor, Prediction, ScanEncoder
from medsam.inference.likely_masks import likely_answer
from medsam.inference.looks import clicks_inside, first_crop, looks_for
from medsam.inference.signs import pooled
from medsam.inference.slice_request import CropAnswer, SliceRequest, SliceResult, Zoom
from medsam.inference.usage import Usage
from medsam.models.specs import takes_clicks
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import Box, SlicePrompt
from medsam.prompts.simulate import tight_box
from medsam.prompts.strokes import Scribble, marked
from medsam.transforms.prepare import check_slice


class _Embeddings:
    """The embeddings of one call. usage: of all that it runs. at_hand, progress, trust: see `segment_slice`.

    The whole slice is kept meanwhile: a search for a box and the prediction in it share it.
    """

    def __init__(
        self,
        scan_encoder: ScanEncoder,
        index: int,
        at_hand: bool = False,
        progress: ProgressCallback | None = None,
        trust: bool = False,
    ) -> None:
        self.scan_encoder, self.index, self.usage, self.at_hand = scan_encoder, index, Usage(), at_hand
        self.progress, self._crops, self.trust = progress, 0, trust
        self._whole: Embedding | None = None

    def may_show(self, crop: Crop) -> bool:
        """Whether the network is shown a crop: all, but where only those at hand are wanted."""
        return not self.at_hand or self.scan_encoder.at_hand(crop)

    def whole(self) -> Embedding:
        """Of the slice in the scan's own window."""
        if self._whole is None:
            self._whole = self._encoded(Crop(self.index))
        return self._whole

    def of(self, crop: Crop) -> Embedding:
        return self.whole() if crop == Crop(self.index) else self._encoded(crop)

    @property
    def no_contrast(self) -> bool:
        """Whether the whole slice was encoded, and the window left no contrast in it."""
        return self._whole is not None and self._whole.no_contrast

    def _encoded(self, crop: Crop) -> Embedding:
        if self.progress is not None:
            self.progress(self._crops, None)
        self._crops += 1
        (embedding,) = self.scan_encoder.encode_many([crop])
        self.usage += embedding.usage
        return embedding


def segment_slice(
    scan_encoder: ScanEncoder,
    index: int,
    prompts: Sequence[SlicePrompt],
    *,
    zoom: Zoom = "auto",
    previous: Sequence[SliceResult | None] | None = None,
    at_hand: bool = False,
    progress: ProgressCallback | None = None,
    trust: bool = False,
) -> list[SliceResult]:
    """Masks of every prompt on slice `index`, in their order.

    zoom: "off" takes the whole slice once and answers as published, but for what lies apart from a box and its
    surroundings (`ImagePredictor.predict`, logits for "near_box"). "on" answers boxes from the closer crop alone. Both
    may leave the box. "auto" does all that is described above: at most two crops a box, both shared with others.
    previous: the result each prompt had before its last click, or None. Its logits go back into the network, and its
    crops are taken again, so nothing new is encoded while the clicks stay inside them; its corrections are not made
    again while the answer under them is the same.
    at_hand: whether the network is shown those crops alone whose embeddings are in memory, for an answer at once; the
    whole slice is encoded where even that is missing. `SliceResult.complete` tells whether a crop was left out.
    progress: called with (crops done, None) before each crop.
    trust: whether answers to boxes alone, with "auto", tell their `signs` and expected Dice; a millisecond or two each.
    One that is not complete does not.
    A mask of which is known how likely each pixel is in it (`SlicePrompt.likely`) is corrected by that, and the network
    is not asked.
    Raises PromptError for no such slice, no prompt, or an unknown zoom.
    """
    _check(scan_encoder, index, prompts, zoom)
    embeddings = _Embeddings(scan_encoder, index, at_hand, progress, trust)
    earlier = previous or [None] * len(prompts)
    asked = [n for n, prompt in enumerate(prompts) if prompt.likely is None]
    answers = _answered(embeddings, [prompts[n].boxed() for n in asked], zoom, [earlier[n] for n in asked])
    if embeddings.no_contrast:
        # the whole slice, in which a box was searched for
        answers = [replace(one, no_contrast=True) for one in answers]
    by_place = dict(zip(asked, answers, strict=True))
    results = [by_place.get(n) or likely_answer(prompt, scan_encoder.plane) for n, prompt in enumerate(prompts)]
    return [replace(results[0], usage=embeddings.usage), *results[1:]]


def _answered(
    embeddings: _Embeddings,
    prompts: Sequence[SlicePrompt],
    zoom: Zoom,
    previous: Sequence[SliceResult | None],
    found: Box | None = None,
) -> list[SliceResult]:
    """See `segment_slice`. found: the box of prompts of clicks and strokes alone; it is searched for otherwise."""
    scan_encoder, index = embeddings.scan_encoder, embeddings.index
    requests = [
        _first_look(embeddings, prompt, zoom, earlier, found) for prompt, earlier in zip(prompts, previous, strict=True)
    ]
    answers: list[dict[Crop, CropAnswer]] = [{} for _ in requests]
    for closer in (False, True):
        if closer:
            requests = [
                _look_closer(embeddings, request, zoom, looks) for request, looks in zip(requests, answers, strict=True)
            ]
        # one crop at a time, all its prompts together: embeddings of many closer crops need not be in memory at once
        for crop, members in _unanswered(requests, answers).items():
            shared, embedding = [requests[n] for n in members], embeddings.of(crop)
            # called here, and not in a function that would be one more stop on the way from a prompt to the decoder
            prediction = scan_encoder.image_predictor.predict(
                embedding,
                [clicks_inside(request.prompt, crop) for request in shared],
                previous=[request.previous_logits(crop) for request in shared],
                logits_for=_logits_for(scan_encoder, shared, zoom),
            )
            embeddings.usage += prediction.usage
            kind = _kind(embeddings, crop, embedding) if zoom == "auto" else None
            for n, answer in zip(members, _restored(prediction, embedding.no_contrast, kind), strict=True):
                answers[n][crop] = answer
    return [
        replace(
            combine(scan_encoder, index, request, [looks[crop] for crop in request.crops], zoom, embeddings.trust),
            complete=request.complete,
        )
        for request, looks in zip(requests, answers, strict=True)
    ]


def _check(scan_encoder: ScanEncoder, index: int, prompts: Sequence[SlicePrompt], zoom: Zoom) -> None:
    if zoom not in get_args(Zoom):
        raise PromptError(f"There is no zoom {zoom!r}; use {', '.join(get_args(Zoom))}.", parameter="zoom")
    if not prompts:
        raise PromptError("No prompt: give at least one box, click or mask.")
    check_slice(scan_encoder.plane, index)


# -- which crops --------------------------------------------------------------------------------------------------


def _first_look(
    embeddings: _Embeddings, given: SlicePrompt, zoom: Zoom, previous: SliceResult | None, found: Box | None
) -> SliceRequest:
    """The prompt as the network can be shown it, and where first. found: as in `_answered`."""
    scan_encoder = embeddings.scan_encoder
    plane, earlier = scan_encoder.plane, previous
    prompt = with_clicks(given, plane)
    if not takes_clicks(scan_encoder.image_predictor.sam.spec):
        if is_alone(given) and found is None:
            found, previous = _found(embeddings, given, zoom, previous)
        prompt = as_box(given, plane, found)
        # a network that was shown boxes only makes nothing of its earlier logits
        earlier = None
    elif zoom != "off":
        if given.box is not None:
            prompt = replace(prompt, box=box_including(given.box, clicked_inside(given, plane), plane))
        if earlier is not None and any(clicks_inside(prompt, crop) != prompt for crop in earlier.crops):
            # a click outside the closer crop: another one has to be taken
            earlier = None
    crops, complete = _first_crops(embeddings, prompt, zoom, earlier)
    # of the same window: brightness is looked at in it
    same = previous is not None and previous.crops[:1] == crops[:1]
    fold = previous.fold if previous is not None and same else None
    if earlier is not None and earlier.crops != crops:
        earlier = None
    return SliceRequest(given, prompt, crops, earlier, fold, complete)


def _first_crops(
    embeddings: _Embeddings, prompt: SlicePrompt, zoom: Zoom, earlier: SliceResult | None
) -> tuple[tuple[Crop, ...], bool]:
    """Where a prompt is shown first, and whether that is all it should be."""
    scan_encoder, index = embeddings.scan_encoder, embeddings.index
    crops = (first_crop(scan_encoder, index, prompt.box, zoom),) if earlier is None else earlier.crops
    if all(map(embeddings.may_show, crops)):
        return crops, earlier is None or earlier.complete
    # the whole slice in the scan's window is what readers look at, and so the first to be there
    return (Crop(index),), crops == (Crop(index),)


def _found(
    embeddings: _Embeddings, given: SlicePrompt, zoom: Zoom, previous: SliceResult | None
) -> tuple[Box, SliceResult | None]:
    """The box of an object that was clicked or stroked alone, and the nearest result whose corrections still hold.

    Mark by mark: the first one inside finds it, and those that follow correct. One that refutes what stands makes the
    search again, for all that was said, and the box of what stands, once corrected, is tried as well. A box takes the
    place of the one before when its mask honours more, and after a stroke only if the mask that it gives is no larger
    than the corrected one. Strokes reach far through an object, so that what they corrected is seldom too small; and of
    two masks that hold all of them the larger is less likely, as strokes anywhere in it would have been.
    """
    scan_encoder, plane = embeddings.scan_encoder, embeddings.scan_encoder.plane
    said, before = Said.by(given, plane), _before_last(embeddings, given, zoom, previous)
    also: Box | None = None
    if before is not None and before.fold is not None and before.box is not None:
        where, inside = marked(given.marks[-1], plane.shape, plane.spacing_mm)
        if not refuted(before.fold.mask, where, inside, plane):
            return before.box, before
        (kept,) = _answered(embeddings, [given], zoom, [before], before.box)
        also = None if kept.fold is None else tight_box(kept.fold.mask, 1)
        before = kept
    window = scan_encoder.window
    pixels = np.clip(scan_encoder.pixels(embeddings.index), window.low, window.high)
    found = search(scan_encoder.image_predictor, embeddings.whole(), given, plane, pixels, also)
    embeddings.usage += found.usage
    if before is None or before.fold is None or before.box is None:
        return found.box, None
    if found.honoured <= said.honoured_by(before.fold.base):
        return before.box, before
    if isinstance(given.marks[-1], Scribble):
        (other,) = _answered(embeddings, [given], zoom, [before], found.box)
        if other.fold is not None and np.count_nonzero(other.fold.mask) > np.count_nonzero(before.fold.mask):
            return before.box, before
    return found.box, before


def _before_last(
    embeddings: _Embeddings, given: SlicePrompt, zoom: Zoom, previous: SliceResult | None
) -> SliceResult | None:
    """The answer to clicks and strokes alone before the last of them: `previous` where it is that one, else made anew.

    None where nothing was said to be inside before.
    """
    plane = embeddings.scan_encoder.plane
    before = given.marked(given.marks[:-1])
    if not len(clicked_inside(before, plane)):
        return None
    marks = marks_of(before, plane.shape, plane.spacing_mm)
    known = () if previous is None or previous.fold is None else previous.fold.marks
    # what was answered in haste is no ground for more than an answer in haste
    if previous is not None and not (previous.complete or embeddings.at_hand):
        known = ()
    if len(known) == len(marks) and all(one.same(other) for one, other in zip(known, marks, strict=True)):
        return previous
    return _answered(embeddings, [before], zoom, [previous])[0]


def _look_closer(
    embeddings: _Embeddings, request: SliceRequest, zoom: Zoom, answers: Mapping[Crop, CropAnswer]
) -> SliceRequest:
    """The same with the crops that its answer on the whole slice asks for."""
    box = request.prompt.box
    if zoom != "auto" or box is None or request.previous is not None:
        return request
    looks = looks_for(embeddings.scan_encoder, embeddings.index, box, answers[request.crops[0]])
    shown = tuple(filter(embeddings.may_show, looks))
    return replace(request, crops=(*request.crops, *shown), complete=request.complete and shown == looks)


def _unanswered(
    requests: Sequence[SliceRequest], answers: Sequence[Mapping[Crop, CropAnswer]]
) -> dict[Crop, list[int]]:
    """Which crops are wanted and by whom, the numbers of the prompts."""
    wanted: dict[Crop, list[int]] = {}
    for n, (request, found) in enumerate(zip(requests, answers, strict=True)):
        for crop in request.crops:
            if crop not in found:
                wanted.setdefault(crop, []).append(n)
    return wanted


# -- what the network says of them --------------------------------------------------------------------------------


def _kind(embeddings: _Embeddings, crop: Crop, embedding: Embedding) -> np.ndarray | None:
    """What kind of picture the whole slice is, where that is asked and something was learnt of such."""
    asked = embeddings.trust and crop.region is None
    return pooled(embedding) if asked and trust_of(embeddings.scan_encoder) is not None else None


def _restored(found: Prediction, no_contrast: bool, kind: np.ndarray | None) -> list[CropAnswer]:
    """Prompt by prompt, on the slice. found: one mask a prompt, in one crop. kind: of picture, see `CropAnswer`."""
    restored = found.frame.restore(found.logits[:, 0]).cpu().numpy()
    return [
        CropAnswer(restored[row], found.logits[row, 0].cpu(), float(found.predicted_iou[row, 0]), no_contrast, kind)
        for row in range(len(restored))
    ]


def _logits_for(scan_encoder: ScanEncoder, requests: Sequence[SliceRequest], zoom: Zoom) -> LogitsFor:
    """Which logits become a mask, or are given back to the network."""
    if takes_clicks(scan_encoder.image_predictor.sam.spec) or any(
        request.given.mask is not None for request in requests
    ):
        return "all"
    if zoom == "auto":
        return "in_box"
    return "all" if any(request.given.points or request.given.scribbles for request in requests) else "near_box"
