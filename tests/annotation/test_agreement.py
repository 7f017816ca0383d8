from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from projects import people
from tiny_training import SHAPE, STRUCTURES, shapes

from medsam.annotation.agreement import agreement, compare_tasks, disagreements, gold_results, pairs
from medsam.annotation.mixing import handed_in, next_task
from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import Settings
from medsam.annotation.starting import read_data, start_project
from medsam.cli.main import main
from medsam.masks import CompactMask
from medsam.metrics.surface import surface_distances
from medsam.store.project_records import NewAnnotation, Task
from medsam.store.readers import Role


@pytest.fixture
def project(tmp_path: Path):
    """Four scans to be drawn on, each by two people; nothing else is mixed in."""
    manifest, _ = read_data(shapes(tmp_path / "data"))
    unlabelled = replace(manifest, cases=tuple(replace(case, label=None) for case in manifest.cases))
    opened, _ = start_project(tmp_path / "project", unlabelled, STRUCTURES, Settings(second=1.0))
    with opened:
        yield opened


def bar(task: Task, index: int, columns: tuple[int, int], structure: str = "disc", **changes) -> NewAnnotation:
    """Two rows of a slice, from one column to another."""
    mask = np.zeros(SHAPE[1:], bool)
    mask[4:6, slice(*columns)] = True
    return NewAnnotation(task.scan, structure, "k", index, changes.pop("status", "edited"), CompactMask.of(mask))


def submit(project: AnnotationProject, reader, annotations, kinds=None) -> Task:
    """The reader's next task, handed in. annotations: of the task."""
    task = next_task(project, reader, kinds)
    assert task is not None
    project.store.submit_task(task.id, reader, annotations(task))
    return project.store.task(task.key)


def test_two_readers_are_compared_slice_by_slice_the_worst_first(project):
    anna, ben, _ = people(project.store)
    first = submit(project, anna, lambda task: [bar(task, 0, (0, 10)), bar(task, 1, (0, 10)), bar(task, 2, (0, 10))])
    (second,) = handed_in(project, first)
    assert (second.kind, second.after, second.scan) == ("second", first.id, first.scan)
    assert next_task(project, anna).id != second.id, "nobody reads a scan twice"
    second = submit(project, ben, lambda task: [bar(task, 0, (0, 10)), bar(task, 1, (5, 15))], kinds=["second"])
    (disc, other) = compare_tasks(project, first, second)
    assert disc.slices == ((2, 0.0), (1, 0.5), (0, 1.0))
    assert disc.dice == pytest.approx(2 * (20 + 10) / (60 + 40))
    assert (other.structure, other.dice) == ("bar", None), "neither has it"


def test_where_two_readers_differ_a_reviewer_decides_and_what_they_draw_stands(project):
    anna, ben, rita = people(project.store)
    first = submit(project, anna, lambda task: [bar(task, 0, (0, 10)), bar(task, 0, (0, 10), "bar")])
    handed_in(project, first)
    second = submit(project, ben, lambda task: [bar(task, 0, (8, 18)), bar(task, 0, (0, 10), "bar")], kinds=["second"])
    (decision,) = handed_in(project, second)
    assert (decision.kind, decision.structures, decision.after) == ("adjudicate", ("disc",), first.id)
    assert handed_in(project, second) == [], "once"
    ((pair, worst, deciding),) = disagreements(project)
    assert (pair.readers, worst.structure, deciding.id) == (("Anna", "Ben"), "disc", decision.id)
    assert next_task(project, ben, ["adjudicate"]) is None
    submit(project, rita, lambda task: [bar(task, 0, (2, 12))], kinds=["adjudicate"])
    stands = {one.structure: one for one in project.store.standing(first.scan)}
    assert stands["disc"].mask.bounds[1] == (2, 12)
    assert stands["bar"].by == anna.id
    lines = agreement(project)
    assert [(one["structure"], one["dice"], one["scans"]) for one in lines] == [("bar", 1.0, 1), ("disc", 0.2, 1)]


def test_readings_that_agree_need_nobody(project):
    anna, ben, _ = people(project.store)
    first = submit(project, anna, lambda task: [bar(task, 0, (0, 10))])
    handed_in(project, first)
    second = submit(project, ben, lambda task: [bar(task, 0, (0, 8))], kinds=["second"])
    assert handed_in(project, second) == []
    assert disagreements(project) == []
    assert agreement(project)[0]["hd95_mm"] is None
    (line,) = agreement(project, distances=True)
    assert (line["structure"], line["readers"]) == ("disc", ["Anna", "Ben"])
    ours, theirs = (bar(first, 0, columns).mask.to_array()[None] for columns in ((0, 10), (0, 8)))
    assert line["hd95_mm"] == surface_distances(ours, theirs, (3, 1, 1)).hd95()


def test_the_command_tells_how_far_two_readers_agree_and_where_they_differ_most(project, tmp_path, capsys):
    words = ["annotate", "agreement", str(project.folder)]
    assert main(words) == 0
    assert "No scan was drawn by two readers yet" in capsys.readouterr().out
    anna, ben, rita = people(project.store)
    first = submit(project, anna, lambda task: [bar(task, n, (0, 10)) for n in range(3)])
    handed_in(project, first)
    second = submit(project, ben, lambda task: [bar(task, 0, (0, 10)), bar(task, 1, (5, 15))], kinds=["second"])
    handed_in(project, second)
    project.store.change_user(rita.id, active=False)
    ben = project.store.change_user(ben.id, role=Role.REVIEWER).reader
    submit(project, ben, lambda task: [bar(task, 0, (0, 10))], kinds=["adjudicate"])
    assert main([*words, "--json", "--csv", str(tmp_path / "agreement.csv")]) == 0
    found = json.loads(capsys.readouterr().out)
    (line,) = found["agreement"]
    (disc, _) = compare_tasks(project, first, second, distances=True)
    assert {name: line[name] for name in ("structure", "readers", "scans", "masks")} == {
        "structure": "disc",
        "readers": ["Anna", "Ben"],
        "scans": 1,
        "masks": 3,
    }
    assert (line["dice"], line["dice_min"], line["hd95_mm"]) == (pytest.approx(0.6), pytest.approx(0.6), disc.hd95_mm)
    scan = project.store.scan(first.scan).name
    assert line["places"] == [{"scan": scan, "slice": n, "dice": dice} for n, dice in ((2, 0.0), (1, 0.5), (0, 1.0))]
    assert (found["decisions"], found["own"]) == (1, 1)
    (row,) = csv.DictReader((tmp_path / "agreement.csv").read_text().splitlines())
    assert (row["reader"], row["other_reader"], row["masks"], row["worst_slice"]) == ("Anna", "Ben", "3", "2")
    assert float(row["hd95_mm"]) == disc.hd95_mm
    assert main(words) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{scan} 2 (0.00), {scan} 1 (0.50)" in shown
    assert "1 decision by reviewers; 1 of them by one of the two readers" in shown


def test_a_scan_that_is_gone_leaves_its_readings_to_be_compared(project):
    anna, ben, _ = people(project.store)
    first = submit(project, anna, lambda task: [bar(task, 0, (0, 10))])
    handed_in(project, first)
    submit(project, ben, lambda task: [bar(task, 0, (0, 8))], kinds=["second"])
    project.case(project.store.scan(first.scan)).image.unlink()
    (line,) = agreement(project, distances=True)
    assert (line["dice"], line["hd95_mm"]) == (pytest.approx(8 / 9), None)


def test_a_reading_that_was_returned_counts_as_it_was_handed_in_last(project):
    anna, ben, rita = people(project.store)
    first = submit(project, anna, lambda task: [bar(task, 0, (0, 10)), bar(task, 1, (0, 10))])
    handed_in(project, first)
    second = submit(project, ben, lambda task: [bar(task, 0, (0, 10)), bar(task, 3, (0, 10))], kinds=["second"])
    assert pairs(project)[0].agreed[0].dice == 0.5
    project.store.review_task(second.id, rita, "returned", "not on slice 3")
    assert pairs(project) == []
    submit(project, ben, lambda task: [bar(task, 0, (0, 10)), bar(task, 1, (0, 10))], kinds=["second"])
    assert pairs(project)[0].agreed[0].dice == 1.0
    (project.folder / "agreement.json").write_text("{broken")
    assert pairs(project)[0].agreed[0].dice == 1.0, "what is kept can be lost"


def test_gold_tasks_are_a_share_of_a_readers_own_and_never_twice_the_same(tmp_path):
    path = shapes(tmp_path / "data", ("train", "train", "train", "val", "test"))
    manifest, _ = read_data(path)
    cases = tuple(replace(case, label=None) if n == 0 else case for n, case in enumerate(manifest.cases))
    more = tuple(replace(cases[0], id=f"d{n}", patient=f"d{n}") for n in range(5))
    opened, _ = start_project(tmp_path / "p", replace(manifest, cases=cases + more), STRUCTURES, Settings(gold=1.0))
    with opened as project:
        anna, ben, _ = people(project.store)
        done = []
        while (task := next_task(project, anna)) is not None:
            details = {"dice": {"disc": 0.5, "bar": 0.9}} if task.kind == "gold" else {}
            project.store.submit_task(task.id, anna, [], details)
            done.append(task)
        kinds = [task.kind for task in done]
        assert kinds == ["draw", "gold"] * 3 + ["draw"] * 3, "three scans have a reference that is no measure"
        assert len({task.scan for task in done}) == len(done)
        assert gold_results(project) == [{"reader": "Anna", "tasks": 3, "dice": pytest.approx(0.7)}]
        assert next_task(project, ben) is None, "they were Anna's alone"
