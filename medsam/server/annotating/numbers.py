"""What a project has cost, how far its readers agree, and its models, as clients are told. All of this asks the store
or its folder, in threads."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from medsam.annotation.agreement import agreement, disagreements, gold_results
from medsam.annotation.audits import wilson
from medsam.annotation.project import AnnotationProject
from medsam.annotation.status import line_of
from medsam.server.annotating.schemas import (
    Disagreement,
    EffortInfo,
    GoldInfo,
    ModelLine,
    ReadersAgreement,
    RoundEffort,
    SliceDice,
    Statistics,
    Verdicts,
)
from medsam.store.project_records import EffortLine
from medsam.store.readers import Reader


def statistics(project: AnnotationProject, reader: Reader) -> Statistics:
    """What people's masks cost, by all that tells them apart, and how good they are. Of gold tasks, one's own alone;
    reviewers are told everybody's."""
    store = project.store
    effort = store.efforts()
    structures = effort["structure"]
    ended = {str(one.number): dict(one.events["ended"][1]) if "ended" in one.events else {} for one in store.rounds()}
    verdicts = Counter(one.verdict for one in store.verdicts())
    low, high = wilson(verdicts["good"], verdicts.total())
    return Statistics(
        masks=sum(one.masks for one in structures),
        untouched=sum(one.untouched for one in structures),
        readers=[EffortInfo(**_told(one)) for one in effort["reader"]],
        structures=[EffortInfo(**_told(one)) for one in structures],
        rounds=[RoundEffort(**_told(one), **_outcome(ended.get(one.key, {}))) for one in effort["round"]],
        stages=[EffortInfo(**_told(one)) for one in effort["stage"]],
        agreement=[
            ReadersAgreement(**{name: one[name] for name in ReadersAgreement.model_fields})
            for one in agreement(project)
        ],
        gold=[GoldInfo(**one) for one in gold_results(project) if reader.sees_all or one["reader"] == reader.name],
        verdicts=Verdicts(good=verdicts["good"], wrong=verdicts["wrong"], low=low, high=high),
    )


def _told(line: EffortLine) -> dict[str, Any]:
    told = line_of(line)
    return {name: told[name] for name in EffortInfo.model_fields}


def _outcome(ended: dict[str, Any]) -> dict[str, Any]:
    return {name: ended.get(name) for name in ("promoted", "dice_before", "dice_after")}


def apart(project: AnnotationProject) -> list[Disagreement]:
    """Where two readers differ by more than the project allows, the worst first."""
    names: dict[int, str] = {}
    found = []
    for pair, one, decision in disagreements(project):
        scan = pair.first.scan
        names[scan] = names.get(scan) or project.store.scan(scan).name
        found.append(
            Disagreement(
                task=pair.first.key,
                second=pair.second.key,
                scan=names[scan],
                structure=one.structure,
                dice=cast(float, one.dice),
                slices=[SliceDice(slice=index, dice=dice) for index, dice in one.slices],
                readers=pair.readers,
                adjudicate=None if decision is None else decision.key,
            )
        )
    return found


def models(project: AnnotationProject, active: int) -> list[ModelLine]:
    """All that ever answered, the first one first. active: id of the row of the one that answers here."""
    return [
        ModelLine(
            round=one.round,
            kind=cast(Any, one.kind),
            at=one.at,
            weights=one.weights,
            active=one.id == active,
            dice_before=one.details.get("dice_before"),
            dice_after=one.details.get("dice_after"),
            why=one.details.get("why"),
        )
        for one in project.store.models()
    ]
