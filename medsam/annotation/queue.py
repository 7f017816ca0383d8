"""Which scan comes first: the one of which a person's work tells the model most.

unsure      least expected of the model's own answer, but never two scans in a row that look the same
different   least like those that are done: the farthest of all in embeddings, then the farthest from these, ...
rare        what probably holds the structures with the fewest masks, by proposals and by scans that look alike
random      by the seed

Scans of the frozen side come before all others, in an order of their own: without them nothing is measured. Of one seed
and one state of the project there is one order. A scan that cannot be read goes last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from medsam.annotation.finding import Finder
from medsam.annotation.looks import Looks
from medsam.annotation.probe import probe
from medsam.annotation.project import AnnotationProject
from medsam.annotation.waiting import FROZEN, Placed, diversity, keep_why, queue_of, why_of
from medsam.errors import InputError
from medsam.inference.predictor import Predictor
from medsam.progress import ProgressCallback
from medsam.store.project_records import StoredScan, Task

# scans that look like the one in hand by which it is guessed what it holds
_NEIGHBOURS = 5
# why a scan stands where it does, where another order is set and where it is this one
_BY_SEED = ("by the seed; `annotate queue --reorder` asks the model", "by the seed")


class Expects(Protocol):
    """How good the model's own answer on a scan probably is, in [0, 1], and in a few words what that number is."""

    def __call__(self, scan: StoredScan) -> tuple[float, str]: ...


def order_queue(
    project: AnnotationProject,
    predictor: Predictor | None = None,
    *,
    expects: Expects | None = None,
    progress: ProgressCallback | None = None,
    training: ProgressCallback | None = None,
) -> list[Placed]:
    """Put the drawing that waits in the order of the project's settings; as it then is.

    predictor: the model that answers now; without one the order is random whatever is set, and only of what was not
    ordered yet where it is another. expects: default what the model finds on a few slices (`finding`), and where
    nothing is known to find it by, `probe.probe`. progress: called with (scans done, scans); training: see
    `Finder.learnt`.
    """
    settings, store = project.settings, project.store
    scans = {scan.id: scan for scan in store.scans()}
    waiting = store.tasks(states=["open"], kinds=["draw"])
    kept = _kept(project, waiting) if predictor is None and settings.order != "random" else {}
    waiting = [task for task in waiting if task.key not in kept]
    todo = [scans[task.scan] for task in waiting]
    apart = diversity(project)
    if predictor is None or settings.order == "random":
        order = sorted(todo, key=lambda scan: _chance(settings.seed, scan))
        said = dict.fromkeys((scan.id for scan in order), _BY_SEED[settings.order == "random"])
    else:
        looks = Looks(project, predictor)
        ordering = _Ordering(project, looks, expects or _expects(project, looks, training))
        order, said = ordering.of(todo, progress)
        apart = ordering.apart
    rank = {scan.id: 1 - place / len(order) for place, scan in enumerate(order)}
    frozen = {scan.id: FROZEN if scan.side == "test" else 0.0 for scan in order}
    store.order_tasks({task.id: rank[task.scan] + frozen[task.scan] for task in waiting})
    keep_why(project, {**kept, **{task.key: said[task.scan] for task in waiting}}, apart)
    return queue_of(project)


def _kept(project: AnnotationProject, waiting: Sequence[Task]) -> dict[str, str]:
    """Key of a task -> why it stands where it does, of those that stay there."""
    before = why_of(project)
    return {task.key: before[task.key] for task in waiting if task.key in before}


def _chance(seed: int, scan: StoredScan) -> str:
    """A number of each scan that others do not change."""
    return hashlib.sha256(f"{seed} {scan.name}".encode()).hexdigest()


def _expects(project: AnnotationProject, looks: Looks, training: ProgressCallback | None) -> Expects:
    """By what people drew, where that is enough to find anything by."""
    finder: Finder | None = None
    if project.settings.order == "unsure":
        finder = Finder.learnt(project, looks.predictor, names=False, training=training)
    if finder is None or not finder.structures:
        return lambda scan: (probe(looks.encoder(scan)), "sure of a grid of prompts on its middle slice")
    return lambda scan: (finder.expects(scan), "expected Dice of what the model finds on a few slices")


class _Ordering:
    """Scans with their mean embeddings, those that are done as well. apart: see `waiting.diversity`."""

    def __init__(self, project: AnnotationProject, looks: Looks, expects: Expects) -> None:
        self.project, self.looks, self.expects = project, looks, expects
        self.apart: float | None = None

    def of(
        self, todo: Sequence[StoredScan], progress: ProgressCallback | None
    ) -> tuple[list[StoredScan], dict[int, str]]:
        """todo in order, and why each stands there."""
        settings = self.project.settings
        done = self._done()
        means, expected = self._looked(done, todo, progress)
        readable = sorted((scan for scan in todo if scan.id in means), key=lambda one: _chance(settings.seed, one))
        lost = [scan for scan in todo if scan.id not in means]
        said = {scan.id: "it cannot be read" for scan in lost}
        if readable:
            apart = _distances(np.array([means[scan.id] for scan in (*readable, *_there(done, means))]))
            if apart.shape[1] > len(readable):
                self.apart = float(apart[: len(readable), len(readable) :].min(axis=1).mean())
            known, order = list(range(len(readable), len(apart))), list[StoredScan]()
            # a scan that is only measured on teaches nothing, so those like it are not done with
            for mine in _frozen_and_others(readable):
                scans, here = [readable[n] for n in mine], apart[np.ix_([*mine, *known], [*mine, *known])]
                found, why = getattr(self, f"_{settings.order}")(scans, _there(done, means), here, expected)
                said |= dict(zip((scan.id for scan in scans), why, strict=True))
                order += [scans[n] for n in found]
            return [*order, *lost], said
        return lost, said

    def _looked(
        self, done: Sequence[StoredScan], todo: Sequence[StoredScan], progress: ProgressCallback | None
    ) -> tuple[dict[int, np.ndarray], dict[int, tuple[float, str]]]:
        """The mean of each scan that can be read, by id, and what is expected of those to do."""
        means: dict[int, np.ndarray] = {}
        expected: dict[int, tuple[float, str]] = {}
        for number, scan in enumerate((*done, *todo)):
            if progress is not None:
                progress(number, len(done) + len(todo))
            try:
                means[scan.id] = self.looks.of(scan).mean
                if self.project.settings.order == "unsure" and number >= len(done):
                    expected[scan.id] = self.expects(scan)
            except InputError:
                means.pop(scan.id, None)
        return means, expected

    def _done(self) -> list[StoredScan]:
        """Scans that the model may learn from, or has."""
        scans = self.project.store.scans("train")
        finished = {task.scan for task in self.project.store.tasks(["submitted", "approved", "withdrawn"], ["draw"])}
        return [scan for scan in scans if scan.labelled or scan.id in finished]

    def _different(
        self, todo: Sequence[StoredScan], done: Sequence[StoredScan], apart: np.ndarray, _: object
    ) -> tuple[list[int], list[str]]:
        order, far = _farthest(apart, len(todo), np.ones(len(todo)), 0.0)
        typical = not done
        return order, [
            "the most typical one, to begin with"
            if typical and n == order[0]
            else f"{far[n]:.2f} from the nearest before it"
            for n in range(len(todo))
        ]

    def _unsure(
        self,
        todo: Sequence[StoredScan],
        done: Sequence[StoredScan],
        apart: np.ndarray,
        expected: Mapping[int, tuple[float, str]],
    ) -> tuple[list[int], list[str]]:
        told = [expected[scan.id] for scan in todo]
        doubt = np.array([1 - value for value, _ in told])
        order, _ = _farthest(apart, len(todo), np.maximum(doubt, 1e-3), _usual(apart))
        return order, [f"{what}: {value:.2f}" for value, what in told]

    def _rare(
        self, todo: Sequence[StoredScan], done: Sequence[StoredScan], apart: np.ndarray, _: object
    ) -> tuple[list[int], list[str]]:
        store, asked = self.project.store, self.project.asked.structures
        masks = store.standing_places()
        proposed = store.standing_places(["proposed"])
        counts = {name: sum(one.get(name, 0) for one in masks.values()) for name in asked}
        order = sorted(asked, key=lambda name: (counts[name], asked.index(name)))
        labelled = [set(asked) if scan.labelled else set(masks.get(scan.id, {})) for scan in done]
        scores, why = [], []
        for n, scan in enumerate(todo):
            near = np.argsort(apart[n, len(todo) :], kind="stable")[:_NEIGHBOURS]
            likely = {
                name: 1.0
                if name in proposed.get(scan.id, {})
                else float(np.mean([name in labelled[m] for m in near]))
                if len(near)
                else 0.5
                for name in asked
            }
            scores.append(sum(likely[name] / (1 + counts[name]) for name in asked))
            rarest = order[0]
            why.append(f"{rarest}, of which there are {counts[rarest]}, is there with a chance of {likely[rarest]:.1f}")
        return sorted(range(len(todo)), key=lambda n: -scores[n]), why


def _frozen_and_others(scans: Sequence[StoredScan]) -> list[list[int]]:
    """Where those of each kind are among the scans, without a kind of which there is none."""
    sides = [[n for n, scan in enumerate(scans) if (scan.side == "test") == frozen] for frozen in (True, False)]
    return [side for side in sides if side]


def _there(scans: Sequence[StoredScan], means: Mapping[int, np.ndarray]) -> list[StoredScan]:
    return [scan for scan in scans if scan.id in means]


def _distances(means: np.ndarray) -> np.ndarray:
    """(n, n) between mean embeddings (n, C), each channel by how much it differs; usually 1."""
    spread = means.std(axis=0)
    scaled = (means - means.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    squares = (scaled**2).sum(axis=1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * scaled @ scaled.T, 0))
    np.fill_diagonal(apart, 0)
    usual = apart[~np.eye(len(apart), dtype=bool)].mean() if len(apart) > 1 else 1.0
    return np.asarray(apart / max(usual, 1e-9))


def _usual(apart: np.ndarray) -> float:
    """From a scan to the one most like it."""
    if len(apart) < 2:
        return 0.0
    return float(np.median((apart + np.diag(np.full(len(apart), np.inf))).min(axis=1)))


def _farthest(apart: np.ndarray, todo: int, weight: np.ndarray, enough: float) -> tuple[list[int], np.ndarray]:
    """The first `todo` of n, each time the one with the greatest weight times distance from those before it.

    apart: (n, n); those after `todo` are there already. enough: beyond this distance counts no more; 0: all counts.
    Also how far (todo,) each was from those before it.
    """
    far = apart[:todo, todo:].min(axis=1) if apart.shape[1] > todo else np.full(todo, np.inf)
    left, order, found = list(range(todo)), [], np.zeros(todo)
    if not np.isfinite(far).all() and enough == 0:
        # to begin with the one that is least far from all
        first = min(left, key=lambda n: (float(apart[n, :todo].sum()), n))
        left.remove(first)
        order.append(first)
        far = np.minimum(far, apart[first, :todo])
    while left:
        # nor does it ever count for all: of two that look the same the one in doubt comes first
        here = 0.1 + 0.9 * np.minimum(far[left], enough) / enough if enough else far[left]
        best = left[int(np.argmax(weight[left] * here))]
        found[best] = far[best]
        order.append(best)
        left.remove(best)
        far = np.minimum(far, apart[best, :todo])
    return order, found
