"""How a project stands, in numbers: tasks, masks, what they cost, rounds, and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from medsam.annotation.agreement import agreement, gold_results
from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import Settings
from medsam.annotation.waiting import WHOM, diversity
from medsam.errors import counted
from medsam.store.annotations import DONE
from medsam.store.project_records import EffortLine, Side, TaskKind
from medsam.store.store import Store

_SIDES: tuple[Side, ...] = ("train", "val", "test")
# what nobody may do now is called; a gold task of who has left is nothing to wait for
_WAITS: Mapping[TaskKind, str] = {"second": "second reading", "adjudicate": "decision", "audit": "audit"}


def status_of(project: AnnotationProject) -> dict[str, Any]:
    """Ready for JSON. No mask is read but for what two readers have in common, once."""
    store, asked = project.store, project.asked
    settings, readers, counts = Settings.from_dict(asked.settings), store.readers(), store.scan_counts()
    tasks: dict[str, dict[str, int]] = {}
    for (kind, state), count in store.task_counts().items():
        tasks.setdefault(kind, {})[state] = count
    masks: dict[str, dict[str, int]] = {name: {} for name in asked.structures}
    for (structure, status), count in store.standing_counts().items():
        masks.setdefault(structure, {})[status] = count
    model, stored = project.model()
    rounds = store.rounds()
    verdicts = Counter(one.verdict for one in store.verdicts())
    document = {
        "project": asked.name,
        "structures": list(asked.structures),
        "stage": settings.stage,
        "order": settings.order,
        "scans": {
            side: dict(zip(("scans", "patients", "labelled"), counts.get(side, (0, 0, 0)), strict=True))
            for side in _SIDES
        },
        "tasks": tasks,
        "nobodys": Counter(store.nobodys_tasks(readers).values()),
        "to_review": store.count_to_review(readers),
        "masks": masks,
        "effort": {by: [line_of(one) for one in lines] for by, lines in store.efforts().items()},
        "agreement": agreement(project),
        "gold": gold_results(project),
        "rounds": [{"round": one.number, **_ended(one.events)} for one in rounds],
        "model": {"path": model, "kind": stored.kind, "round": stored.round, "weights": stored.weights},
        "verdicts": {"good": verdicts["good"], "wrong": verdicts["wrong"]},
        "missing": _missing(store, asked.structures),
        "diversity": diversity(project),
    }
    return {**document, "next": _next(project, document, rounds[-1].last if rounds else 0)}


def line_of(line: EffortLine) -> dict[str, Any]:
    """With rates: masks an hour, of those whose time is known; clicks a mask."""
    # of a hand-in all masks have a time or none
    hours = line.seconds / 3600
    return {
        **asdict(line),
        "masks_per_hour": line.timed / hours if hours else None,
        "clicks_per_mask": line.clicks / line.masks if line.masks else None,
        "share_untouched": line.untouched / line.masks if line.masks else None,
    }


def _ended(events: Mapping[str, tuple[Any, Mapping[str, Any]]]) -> dict[str, Any]:
    """How a round ended, as it said itself; what step it has reached where it did not."""
    if "ended" in events:
        at, details = events["ended"]
        return {"ended": at.isoformat(), **details}
    return {"ended": None, "step": ([None, *events])[-1]}


def _missing(store: Store, structures: Sequence[str]) -> dict[str, float]:
    """Structure -> share of the waiting scans on which no model has proposed it: what is left for people to find."""
    waiting = {task.scan for task in store.tasks(states=["open", "taken"], kinds=["draw"])}
    there = store.standing_places(("proposed", *DONE), waiting)
    return {
        name: sum(name not in there.get(scan, {}) for scan in waiting) / len(waiting) if waiting else 0.0
        for name in structures
    }


def _next(project: AnnotationProject, document: Mapping[str, Any], seen: int) -> list[str]:
    """Sentences on what to do, the most pressing first, and what nobody here can do. seen: id of the last annotation
    that a round saw."""
    tasks, nobodys, rounds, folder = document["tasks"], document["nobodys"], document["rounds"], project.folder

    def some(*kinds: TaskKind) -> int:
        return sum(tasks.get(kind, {}).get("open", 0) - nobodys[kind] for kind in kinds)

    going = bool(rounds) and rounds[-1]["ended"] is None
    new = project.store.masks_since(seen)
    decide, draw, audit = some("adjudicate"), some("draw", "second", "gold"), some("audit")
    filled = document["stage"] >= 2 and draw and any(share > 0 for share in document["missing"].values())
    said = (
        (going, f"Round {len(rounds)} did not end: `medsam annotate round {folder}` goes on with it."),
        (decide, f"{counted(decide, 'scan')} on which two readers differ: a reviewer decides, on the page."),
        (document["to_review"], f"{counted(document['to_review'], 'task')} to be reviewed, on the page."),
        (draw, f"{counted(draw, 'task')} to be drawn: `medsam serve --project {folder}`."),
        (audit, f"{counted(audit, 'mask')} that the model drew alone to be audited, on the page."),
        (new and not going, f"{counted(new, 'mask')} that no round has seen: `medsam annotate round {folder}`."),
        (filled, f"Masks that come filled in: `medsam annotate propose {folder}`."),
    )
    nothing = f"Everything is drawn and seen: `medsam annotate export {folder}`."
    waits = [
        f"{counted(count, f'{_WAITS[kind]} waits', f'{_WAITS[kind]}s wait')} for {WHOM[kind]}."
        for kind, count in nobodys.items()
        if kind in _WAITS
    ]
    return [*([sentence for there, sentence in said if there] or [nothing]), *waits]
