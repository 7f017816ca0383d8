"""A project from a program: what the page does, without a browser."""

from __future__ import annotations

import numpy as np
import pytest
from annotating_house import STRUCTURES, app_on, make_project, tokens_of
from over_a_port import serving
from readings_house import two_blocks

from medsam.client.client import Client
from medsam.errors import InputError


def test_a_program_draws_what_is_left_and_a_reviewer_decides(tmp_path):
    folder = tmp_path / "project"
    with make_project(folder, 2) as project:
        tokens = tokens_of(project.store)
    _, left, right = two_blocks()
    with (
        app_on(folder) as app,
        serving(app) as url,
        Client(url, tokens["ann"]) as client,
        Client(url, tokens["rita"]) as reviewer,
    ):
        project = client.annotate()
        assert project.project()["name"] == "blocks"
        first = project.next()
        project.alive(first)
        assert project.leave(first, 1.0).state == "open"
        done = []
        while (task := project.next()) is not None:
            session = project.open(task)
            assert project.open(task).id == session.id
            for name, mask in zip(STRUCTURES, (left, right), strict=True):
                y, x = np.nonzero(mask[1])
                session.box(1, (x.min() - 2, y.min() - 2, x.max() + 3, y.max() + 3), label=name)
                session.click(1, int(x.mean()), int(y.mean()), label=name)
            done.append(project.submit(task, session, seconds=5.0, difficulty="easy"))
            assert project.submit(task, session, seconds=5.0).masks == 2
        assert [(one.masks, one.clicks, one.dice) for one in done] == [(2, 2, None)] * 2
        assert [one.state for one in project.tasks()] == ["submitted"] * 2
        rita = reviewer.annotate()
        assert rita.review(done[0].task, "returned", "once more").state == "open"
        assert rita.review(done[1].task, "approved").state == "approved"
        again = project.task(done[0].task.id)
        assert (again.note, again.structures) == ("once more", STRUCTURES)
        with pytest.raises(InputError, match="reviewer and above"):
            project.review(again, "approved")
        assert project.skip(project.next(), "motion").state == "skipped"
        assert [one.more["why"] for one in rita.tasks("skipped")] == ["motion"]
        with pytest.raises(InputError, match="reviewer and above"):
            project.reopen(again)
        assert rita.reopen(again).state == "open"
        numbers = rita.statistics()
        assert (numbers["masks"], numbers["readers"][0]["clicks_per_mask"]) == (4, 1.0)
        assert [one["kind"] for one in rita.models()] == ["started"]
        assert rita.disagreements() == []
        with pytest.raises(InputError, match="administrator"):
            rita.back()


def test_a_server_without_a_project_says_so(live):
    with Client(live.url, live.tokens["ada"]) as client, pytest.raises(InputError, match="no project"):
        client.annotate().project()
