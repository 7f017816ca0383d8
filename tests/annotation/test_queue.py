from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stores import square
from tiny_training import drawn, write_case, write_manifest

from medsam.annotation.looks import Looks
from medsam.annotation.project import AnnotationProject
from medsam.annotation.queue import _farthest, order_queue
from medsam.annotation.settings import Settings
from medsam.annotation.starting import add_scans, read_data, start_project
from medsam.annotation.waiting import diversity, queue_of
from medsam.store.project_records import NewAnnotation
from medsam.store.readers import Role


@pytest.fixture
def project(tmp_path: Path):
    """Six scans: two are alike, one is of noise, one is to be measured on."""
    data = tmp_path / "data"
    data.mkdir()
    rows = []
    for n, side in enumerate(("train", "train", "train", "train", "val", "test")):
        scan, labels = drawn(0 if n == 1 else n)
        if n == 2:
            scan = np.random.default_rng(5).normal(0, 1, scan.shape).astype(np.float32)
        row = write_case(data, f"c{n}", scan, labels, side)
        rows.append({key: value for key, value in row.items() if key != "label"})
    manifest, _ = read_data(write_manifest(data, rows))
    opened, _ = start_project(tmp_path / "project", manifest, ("disc", "bar"), Settings(seed=3))
    with opened:
        yield opened


def names(project: AnnotationProject) -> list[str]:
    return [one.scan.name for one in queue_of(project)]


def ordered(project: AnnotationProject, predictor, order: str, **options) -> list[str]:
    project.change(replace(project.settings, order=order))
    return [one.scan.name for one in order_queue(project, predictor, **options)]


def test_the_measure_comes_first_and_chance_is_the_seeds(project, predictor):
    first = ordered(project, None, "random")
    assert first[0] == "c5"
    assert first == ordered(project, predictor, "random")
    project.change(replace(project.settings, seed=4))
    assert ordered(project, None, "random") != first
    assert queue_of(project)[0].why == "frozen, to be measured on; by the seed"


def test_scans_that_come_later_leave_the_order_of_those_that_wait(project, predictor, tmp_path):
    order = ordered(project, predictor, "different")
    why = {one.scan.name: one.why for one in queue_of(project)}
    data = tmp_path / "data"
    manifest, _ = read_data(write_manifest(data, [write_case(data, "c9", *drawn(9), "train")]))
    add_scans(project, replace(manifest, cases=tuple(replace(case, label=None) for case in manifest.cases)))
    placed = order_queue(project)
    assert [one.scan.name for one in placed if one.scan.name != "c9"] == order
    assert {one.scan.name: one.why for one in placed if one.scan.name != "c9"} == why
    assert "by the seed" in next(one.why for one in placed if one.scan.name == "c9")


def test_the_most_different_scan_comes_before_one_like_those_that_are_done(project, predictor):
    order = ordered(project, predictor, "different")
    assert order == ordered(project, predictor, "different"), "the same again"
    assert order.index("c2") <= 2, "noise is like nothing else"
    assert max(order.index("c0"), order.index("c1")) == 5, "of two that are alike one comes last"
    assert "from the nearest before it" in queue_of(project)[-1].why


def test_the_least_expected_comes_first_but_not_twice_the_same(project, predictor):
    expected = {"c0": 0.1, "c1": 0.1, "c2": 0.9, "c3": 0.3, "c4": 0.5, "c5": 0.99}
    order = ordered(project, predictor, "unsure", expects=lambda scan: (expected[scan.name], "expected Dice"))
    assert order[:2] in (["c5", "c0"], ["c5", "c1"])
    assert order.index("c3") < max(order.index("c0"), order.index("c1"))
    assert queue_of(project)[1].why == "expected Dice: 0.10"


def test_without_anything_known_the_model_is_asked_how_sure_it_is(project, predictor):
    ordered(project, predictor, "unsure")
    values = [float(one.why.rpartition(" ")[2]) for one in queue_of(project)]
    assert all(0 <= value <= 1 for value in values)
    assert diversity(project) is None, "nothing is done"


def test_how_different_what_waits_is_from_what_is_done(project, predictor):
    anna = project.store.add_user("Anna", Role.READER, kind="proxy").reader
    (task,) = [one.task for one in queue_of(project) if one.scan.name == "c0"]
    project.store.take_task(task.id, anna, 60)
    project.store.submit_task(task.id, anna, [])
    ordered(project, predictor, "different")
    assert 0.3 < diversity(project) < 2


def test_scans_that_probably_hold_the_rarest_structure_come_first(project, predictor):
    store = project.store
    scans = {scan.name: scan.id for scan in store.scans()}
    masks = [NewAnnotation(scans["c0"], "disc", "k", n, "edited", square(1, 4)) for n in range(3)]
    store.add_annotations([*masks, NewAnnotation(scans["c3"], "bar", "k", 0, "proposed", square(1, 4))])
    assert ordered(project, predictor, "rare")[:2] == ["c5", "c3"]
    assert "bar, of which there are 0, is there with a chance of 1.0" in queue_of(project)[1].why


def test_a_scan_that_cannot_be_read_goes_last(project, predictor, tmp_path):
    (tmp_path / "data" / "c3.nii.gz").write_bytes(b"broken")
    assert ordered(project, predictor, "different")[-1] == "c3"
    assert queue_of(project)[-1].why == "it cannot be read"


def test_a_slice_is_looked_at_once(project, predictor):
    looks = Looks(project, predictor)
    scan = project.store.scans()[0]
    first = looks.of(scan, [1, 3])
    asked = predictor.cache.hits + predictor.cache.misses
    again = looks.of(scan, [3])
    assert again.slices.tolist() == [3]
    assert np.array_equal(again.grid[0], first.grid[1])
    assert np.array_equal(looks.of(scan, [0, 1, 3]).grid[1:], first.grid)
    assert predictor.cache.hits + predictor.cache.misses == asked + 1


def test_the_farthest_each_time():
    at = np.array([0.0, 1.0, 10.0, 3.0, 4.0])
    apart = np.abs(at[:, None] - at[None])
    assert _farthest(apart, 5, np.ones(5), 0.0)[0] == [3, 2, 0, 1, 4], "the most typical one, then far from all before"
    assert _farthest(apart, 3, np.ones(3), 0.0)[0] == [2, 0, 1], "the last two are there"
