"""Cases on a real Ray cluster of several nodes, one of which is killed."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from medsam.errors import InputError
from medsam.inference.job_queue import Ended, Workers, queue_of
from medsam.inference.job_ray import _drive, _Pool
from medsam.inference.jobs import run_cases

pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("MEDSAM_LONG"), reason="takes minutes: MEDSAM_LONG=1 ./scripts/test tests/inference"
)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes as Linux shows them")
def test_a_node_is_killed_and_every_case_is_done_once(tmp_path):
    paths = os.pathsep.join(path for path in sys.path if path)
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).parents[1] / "ray_nodes.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])

    results = told["killed"]["results"]
    done = {n: [*(tmp_path / "slow").glob(f"{n}.done.*")] for n in range(10)}
    assert {n: len(files) for n, files in done.items()} == dict.fromkeys(range(10), 1)
    assert not [*(tmp_path / "slow").glob("*.repeated")]
    assert told["killed"]["failures"] == {}
    # of what was done before, or by the node that has gone, there is no result to be had but the file
    assert results[1] is None
    assert all(result in (None, 10 * n) for n, result in enumerate(results))
    assert results.count(None) <= 2
    begun = {n: len([*(tmp_path / "slow").glob(f"{n}.begun.*")]) for n in range(10)}
    assert sorted(begun.values()) == [0, *[1] * 8, 2], "one was at work when its node went, and was begun again"
    with (tmp_path / "jobs.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["state"] for row in rows] == ["done"] * 10
    assert all(row["host"] for n, row in enumerate(rows) if n != 1)

    assert told["failed"] == {"results": [2, None, 4], "failures": {"1": "-5 is negative."}}
    assert told["defect"][0] == "thirteen"
    assert "case_works.py" in told["defect"][1]
    assert told["ended"] is True, "a worker's case is unwound, not killed"


def test_where_no_cluster_is_it_is_said():
    with pytest.raises(InputError, match=r"no Ray cluster at 127\.0\.0\.1:1") as error:
        run_cases([1], lambda case, progress: case, Workers(ray="127.0.0.1:1"))
    assert error.value.parameter == "ray"


class Lost(Exception):
    pass


class TwoMachines:
    """Stands for Ray on two machines with room for a worker each; the second goes with the first case it is given."""

    exceptions = SimpleNamespace(RayError=Lost)

    def __init__(self):
        self.alive, self.begun, self.answers = ["a", "b"], [], {}

    def nodes(self):
        return [{"NodeID": n, "Alive": n in self.alive, "Resources": {"CPU": 1, "memory": 2**30}} for n in "ab"]

    def remote(self, kind):
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self.start))

    def start(self, content, threads):
        node = "ab"[len(self.begun)] if len(self.begun) < 2 else None
        self.begun.append(node)

        def said(answer):
            reference = object()
            if node is not None:
                self.answers[reference] = answer
            return reference

        def run(case):
            if node == "b":
                self.alive = ["a"]
            return said(Lost() if node == "b" else ("done", Ended(case, None, 0.0, node)))

        ready = SimpleNamespace(remote=lambda: said((node, node)))
        return SimpleNamespace(ready=ready, run=SimpleNamespace(remote=run))

    def wait(self, references, num_returns, timeout):
        there = [one for one in references if one in self.answers]
        assert there, "all wait for a worker that the cluster has no room for"
        return there[:num_returns], []

    def get(self, reference):
        if isinstance(self.answers[reference], Lost):
            raise self.answers[reference]
        return self.answers[reference]

    def kill(self, handle):
        pass


@pytest.mark.parametrize("cases", [2, 5], ids=["the other has nothing left to do", "the other is at work"])
def test_cases_of_a_machine_that_went_are_done_where_there_is_no_room_for_another_worker(cases):
    ray = TwoMachines()
    pool = _Pool(ray, b"", 1, cases, Workers(processes=None, ray="auto"))
    waiting = queue_of(range(cases), range(cases), None, {})
    done = dict(_drive(pool, range(cases), waiting, lambda: None, None))
    assert {number: ended.result for number, ended in done.items()} == {n: n for n in range(cases)}
    assert {ended.host for ended in done.values()} == {"a"}
