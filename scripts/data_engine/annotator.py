"""A simulated annotator: works through the queue of a project as a person at the page would, over the server's API.

On every slice of a task and for every structure that the reference has there: what is proposed is accepted untouched
where its Dice is 0.90 or more; else clicks go where the answer is wrong until it is, 20 at most, and then the rest is
painted with a brush. A click goes where the worst error is deepest (`medsam.prompts.simulate.next_click`), or, where it
was already and changed nothing, on another wrong pixel. The reference is the annotator's eye: nothing else here has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medsam.client.annotate import RemoteTask
from medsam.client.client import Client
from medsam.client.session import RemoteSession
from medsam.errors import PromptError
from medsam.metrics.overlap import dice
from medsam.prompts.simulate import MIN_PIXELS, next_click, seeded

# structure -> bool (K, J, I)
Truth = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Rules:
    """enough: Dice from which a mask is taken. most: clicks, before the brush."""

    enough: float = 0.90
    most: int = 20


@dataclass
class Tally:
    """What came of some masks. clicks: of each. seconds: of the machine, waiting for answers among them."""

    masks: int = 0
    untouched: int = 0
    brushed: int = 0
    removed: int = 0
    seconds: float = 0.0
    clicks: list[int] = field(default_factory=list)
    first: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """As a line of a table."""
        return {
            "masks": self.masks,
            "clicks_per_mask": round(float(np.mean(self.clicks)), 3) if self.clicks else "",
            "median_clicks": float(np.median(self.clicks)) if self.clicks else "",
            "untouched": round(self.untouched / max(self.masks, 1), 3),
            "brushed": round(self.brushed / max(self.masks, 1), 3),
            "removed": self.removed,
            "dice_of_first_answer": round(float(np.mean(self.first)), 3) if self.first else "",
            "machine_seconds": round(self.seconds, 1),
        }


def work(client: Client, truth_of: Callable[[str], Truth], rules: Rules, seed: int, tasks: int) -> Tally:
    """Do so many tasks of the project that a server has, or as many as there are. truth_of: name of a scan -> masks."""
    tally, desk = Tally(), client.annotate()
    for _ in range(tasks):
        task = desk.next()
        if task is None:
            break
        began = time.perf_counter()
        session = desk.open(task)
        absent = _scan(session, task, truth_of(task.scan), rules, seed, tally)
        desk.submit(task, session, seconds=time.perf_counter() - began, absent=absent)
        tally.seconds += time.perf_counter() - began
    return tally


def _scan(session: RemoteSession, task: RemoteTask, truth: Truth, rules: Rules, seed: int, tally: Tally) -> list[str]:
    """All masks of a task; the structures that are on none of its slices."""
    absent = []
    for name in task.structures:
        whole = np.moveaxis(truth[name], "kji".index(session.axis), 0)
        there = False
        for index in range(len(whole)) if task.slices is None else task.slices:
            wanted = whole[index] if np.count_nonzero(whole[index]) >= MIN_PIXELS else np.zeros_like(whole[index])
            there |= _mask(session, task.scan, name, int(index), wanted, rules, seed, tally)
        if not there:
            absent.append(name)
    return absent


def _mask(
    session: RemoteSession, scan: str, name: str, index: int, truth: np.ndarray, rules: Rules, seed: int, tally: Tally
) -> bool:
    """One mask; whether there is one in the end."""
    result = session.result(index, name)
    answer = None if result is None or not result.mask.any() else result.mask
    if not truth.any():
        if answer is not None:  # proposed where there is nothing
            session.draw(index, truth, name)
            tally.removed += 1
        return False
    tally.masks += 1
    if answer is not None:
        tally.first.append(dice(truth, answer))
        if tally.first[-1] >= rules.enough:
            tally.untouched += 1
            tally.clicks.append(0)
            return True
    tally.clicks.append(_clicks(session, scan, name, index, truth, answer, rules, seed, tally))
    return True


def _clicks(
    session: RemoteSession,
    scan: str,
    name: str,
    index: int,
    truth: np.ndarray,
    answer: np.ndarray | None,
    rules: Rules,
    seed: int,
    tally: Tally,
) -> int:
    """Correct until it is good enough, or paint: how many clicks it took."""
    rng, clicked = seeded(seed, scan, name, index), set[tuple[int, int, int]]()
    unseen = answer is None
    for done in range(rules.most):
        if answer is not None and dice(truth, answer) >= rules.enough:
            return done
        click = next_click(truth, answer)
        if click in clicked:
            click = next_click(truth, answer, rng)
        if click is None:
            return done
        clicked.add(click)
        x, y, inside = click
        try:
            session.click(index, x, y, bool(inside), name)
        except PromptError:
            # contradicts an earlier one: the answer has flipped there; a person would look for another place
            continue
        answer = session.wait_refined(index, name).mask
        if unseen:
            tally.first.append(dice(truth, answer))
            unseen = False
    if answer is None or dice(truth, answer) < rules.enough:
        session.draw(index, truth, name)
        tally.brushed += 1
    return rules.most
