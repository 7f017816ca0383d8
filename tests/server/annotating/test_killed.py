"""A server that is killed in the middle of the work loses nothing that it has confirmed, and does nothing twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import annotating_house
import numpy as np
import pytest
from annotating_house import STRUCTURES, annotating, make_project, tokens_of

import medsam
from medsam.annotation.project import AnnotationProject
from medsam.client import connection
from medsam.client.client import Client
from medsam.errors import MedSAMError
from medsam.wire import read_frames

KILLS = int(os.environ.get("MEDSAM_KILLS", "1"))
BOXES = dict(zip(STRUCTURES, ((4, 8, 22, 26), (32, 10, 52, 32)), strict=True))


@contextmanager
def served(folder: Path):
    """A server in a process of its own, and its address; killed at the end of the block, if it was not before."""
    tests = Path(annotating_house.__file__).parent
    path = os.pathsep.join((str(Path(medsam.__file__).parents[1]), str(tests)))
    command = [sys.executable, annotating_house.__file__, str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), lambda: os.killpg(process.pid, signal.SIGKILL)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("MEDSAM_LONG"), reason="takes a quarter of a minute: MEDSAM_LONG=1 ./scripts/test tests/server"
)
def test_what_was_drawn_is_there_again_and_what_was_handed_in_is_so_once(tmp_path, monkeypatch):
    # nobody comes back at that address
    monkeypatch.setattr(connection, "WAITS", ())
    folder, rng = tmp_path / "project", random.Random(1)
    with make_project(folder, KILLS) as project:
        token = tokens_of(project.store)["ann"]
    for number in range(KILLS):
        with served(folder) as (url, kill), Client(url, token) as client:
            project = client.annotate()
            task = project.next()
            session = project.open(task)
            drawn = {name: session.box(1, box, label=name).mask for name, box in BOXES.items()}
            # the answer to this one is lost, or not
            handing_in = threading.Thread(target=hand_in, args=(project, task, session))
            handing_in.start()
            time.sleep(rng.uniform(0, 0.1))
            kill()
            handing_in.join()
        with annotating(folder) as house:
            ann = house.ann
            ann.task, ann.session = ann.get(f"/annotate/tasks/{task.id}"), session.id
            if ann.task["state"] == "taken":
                assert ann.begin() == session.id
                frames = read_frames(ann.get(f"/sessions/{session.id}/changes"))
                assert {one.object: one.pixels.sum() for one in frames} == {
                    number: mask.sum() for number, mask in enumerate(drawn.values(), start=1)
                }
            assert ann.submit(seconds=4.0)["masks"] == 2
            assert ann.get("/annotate")["me"]["done"] == number + 1
    with AnnotationProject.open(folder) as project:
        standing = list(project.store.standing())
        assert len(standing) == 2 * KILLS
        assert all((one.mask.to_array() == drawn[one.structure]).all() for one in standing)
        assert [one.effort.boxes for one in standing] == [1] * len(standing)
        assert len(project.store.task_events(kinds=["submitted"])) == KILLS
        assert np.isclose(sum(one.effort.seconds for one in standing), 4.0 * KILLS)


def hand_in(project, task, session) -> None:
    with suppress(MedSAMError):
        project.submit(task, session, seconds=4.0)
