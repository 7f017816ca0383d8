"""What becomes of tasks that were handed in, and who may say so."""

from __future__ import annotations

from unittest.mock import AsyncMock

import pytest
from annotating_house import STRUCTURES, annotating, make_project
from readings_house import two_blocks

from medsam.annotation.audits import sample
from medsam.masks import CompactMask
from medsam.store.project_records import NewAnnotation, NewTask


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "project"


def test_a_reviewer_returns_a_task_with_a_note_and_approves_it_then(folder, monkeypatch):
    make_project(folder, 2).close()
    with annotating(folder) as house:
        ann, ben, rita, readings = house.ann, house.ben, house.rita, house.app.state.services.readings
        ann.begin()
        ann.draw(1, 2)
        ann.submit(difficulty="hard")
        task, first = f"/annotate/tasks/{ann.task['id']}", ann.session
        assert ben.get(task, 404)
        assert ben.post(f"{task}/review", {"verdict": "approved"}, 403)
        (told,) = rita.get("/annotate/tasks", state="submitted")["tasks"]
        assert (told["holder"], told["masks"], told["difficulty"], told["session"]) == ("ann", 4, "hard", ann.session)
        assert rita.get(f"/sessions/{told['session']}")["closed"] is not None, "which can be looked at"
        rita.post(f"{task}/review", {"verdict": "returned", "note": "the third slice, too"})
        assert ben.take()["scan"] == "s1", "it is hers"
        ben.post(f"/annotate/tasks/{ben.task['id']}/leave", {})
        assert ann.take()["note"] == "the third slice, too"
        assert ann.open() != first
        assert len(list(house.store.standing())) == 4
        ann.prompt(1, 3, box=[4, 8, 22, 26])
        # as where the server is killed before the session is closed
        monkeypatch.setattr(type(readings), "end", AsyncMock())
        done = ann.submit()
        monkeypatch.undo()
        assert (done["masks"], done["untouched"], done["clicks"]) == (5, 0, 0)
        standing = list(house.store.standing())
        assert [(one.effort.boxes, one.status) for one in standing] == [
            *[(0, "edited")] * 2,
            (1, "edited"),
            *[(0, "edited")] * 2,
        ]
        rita.post(f"{task}/review", {"verdict": "returned", "note": "the first slice, too"})
        second = ann.session
        assert ann.begin() != second, "what was handed in is not drawn in any more"
        ann.prompt(1, 0, box=[4, 8, 22, 26])
        assert ann.submit()["masks"] == 6
        (line,) = rita.get("/annotate/statistics")["readers"]
        assert (line["masks"], line["boxes"], line["seconds"]) == (6, 6, 24.0), "each mask is one"
        rita.post(f"{task}/review", {"verdict": "approved"})
        assert {one.status for one in house.store.standing()} == {"approved"}
        assert rita.post(f"{task}/review", {"verdict": "approved"}, 409)
        assert rita.get("/annotate")["counts"]["approved"] == 1
        assert ann.post(f"{task}/review", {"verdict": "returned"}, 403)
        told = rita.post(f"{task}/review", {"verdict": "returned", "note": "now the last slice"})
        assert (told["state"], told["note"]) == ("open", "now the last slice")
        assert {one.status for one in house.store.standing()} == {"edited"}, "nobody vouches for it as a reviewer now"
        ann.begin()
        assert ann.task["note"] == "now the last slice"
        assert ann.submit()["masks"] == 6
        rita.post(f"{task}/review", {"verdict": "approved"})
        (line,) = rita.get("/annotate/statistics")["readers"]
        assert (line["masks"], line["boxes"]) == (6, 6)
        rita.begin()
        rita.submit(absent=list(STRUCTURES))
        assert (
            "did themselves"
            in rita.post(f"/annotate/tasks/{rita.task['id']}/review", {"verdict": "approved"}, 403)["detail"]
        )


def test_a_task_that_is_left_or_lost_comes_back_and_goes_on_for_who_had_it(folder):
    make_project(folder, 1).close()
    with annotating(folder) as house:
        ann, ben = house.ann, house.ben
        ann.begin()
        ann.draw(1, numbers=(1,))
        task = f"/annotate/tasks/{ann.task['id']}"
        assert ben.post(f"{task}/open", status=409)
        assert ann.post(f"{task}/alive")["until"] > ann.task["until"]
        assert ann.post(f"{task}/leave", {"seconds": 3.0})["state"] == "open"
        assert ann.post(f"{task}/alive", status=409)
        ben.begin()
        assert ben.session != ann.session
        assert ben.get(f"/sessions/{ben.session}")["revision"] <= 2, "nothing of hers is in it"
        ann.submit(409)
        ben.post(f"{task}/leave", {"seconds": 1.0})
        mine = ann.session
        assert ann.begin() != mine, "what Ben began is not hers"
        ann.post(f"/sessions/{ann.session}/objects", {"name": "cyst"}, 201)
        ann.prompt(3, 1, box=[4, 8, 22, 26])
        assert "'cyst' is none of what the task asks for" in ann.submit(422)["detail"]
        ann.ask("DELETE", f"/sessions/{ann.session}/objects/3")
        assert ann.submit(422, absent=["spleen"])["parameters"] == ["absent"]
        ann.draw(2)
        assert ann.submit(422, absent=[STRUCTURES[0]])["parameters"] == ["absent"]
        assert ann.post(f"{task}/skip", {"why": " "}, 422)["parameters"] == ["why"]
        assert ann.post(f"{task}/skip", {"why": "motion", "seconds": 2.0})["state"] == "skipped"
        assert ann.post(f"{task}/reopen", {}, 403)
        (told,) = house.rita.get("/annotate/tasks", state="skipped")["tasks"]
        assert (told["why"], told["holder"]) == ("motion", "ann")
        assert house.rita.post(f"{task}/reopen", {"why": "it can be seen"})["state"] == "open"
        assert house.rita.post(f"{task}/reopen", {}, 409)
        event = house.store.task_events(kinds=["reopened"])[-1]
        assert (event.by, event.details["why"]) == (house.store.user_named("rita").id, "it can be seen")
        assert ann.get(f"/sessions/{ann.session}")["closed"] is not None
        mine = ann.session
        assert ann.begin() != mine
        assert ann.submit()["masks"] == 3, "and all that she drew is there"
        assert [
            (one.kind, one.details.get("seconds")) for one in house.store.task_events(kinds=["left", "skipped"])
        ] == [
            ("left", 3.0),
            ("left", 1.0),
            ("skipped", 2.0),
        ]


def test_gold_tasks_are_compared_with_the_reference_and_others_are_kept_to_their_slices(folder):
    with make_project(folder, 1, gold=True) as project:
        whole = project.store.tasks(kinds=["draw"])[0]
        project.store.add_tasks([NewTask(whole.scan, STRUCTURES[:1], slices=(1, 3), priority=5.0)])
    with annotating(folder) as house:
        ann = house.ann
        assert ann.post("/annotate/next", {"kinds": ["gold"]}, 204) == b"", "nor can it be asked for"
        ann.take(kinds=["draw"])
        ann.open()
        assert ann.task["kind"] == "draw", "its reader is not to know"
        assert ann.get("/annotate/tasks", kind="gold")["tasks"] == []
        assert [one["id"] for one in ann.get("/annotate/tasks", kind="draw")["tasks"]] == [ann.task["id"]]
        assert [one["kind"] for one in house.rita.get("/annotate/tasks", kind="gold")["tasks"]] == ["gold"]
        (asked,) = house.store.tasks(["taken"])
        assert asked.kind == "gold"
        ann.draw(0, 1, 2, 3)
        ann.prompt(2, 3, drawn={"size": [40, 60], "counts": "P[2"})
        dice = ann.submit()["dice"]
        assert dice == {STRUCTURES[0]: 1.0, STRUCTURES[1]: pytest.approx(6 / 7)}
        assert [one["kind"] for one in ann.get("/annotate/tasks", kind="gold")["tasks"]] == ["gold"], "it is known now"
        assert ann.get("/annotate")["me"]["gold"] == pytest.approx((1 + 6 / 7) / 2)
        assert list(house.store.standing()) == [], "it makes no masks of the project"
        told = ann.get("/annotate/statistics")
        assert told["gold"] == [{"reader": "ann", "tasks": 1, "dice": pytest.approx((1 + 6 / 7) / 2)}]
        assert house.ben.get("/annotate/statistics")["gold"] == [], "others' are theirs and the reviewers'"
        assert house.rita.get("/annotate/statistics")["gold"] == told["gold"]
        ann.begin()
        assert ann.task["slices"] == [1, 3]
        ann.draw(0, 1, numbers=(1,))
        assert ann.submit()["masks"] == 1
        assert [(one.slice, one.effort.boxes) for one in house.store.standing()] == [(1, 1)]
        event = house.store.task_events(kinds=["submitted"])[-1]
        assert event.details["boxes"] == 2, "what was drawn beside it was work, too"
        assert ann.take()["id"] == whole.key


def test_where_two_readers_differ_a_reviewer_decides(folder):
    make_project(folder, 1, second=1.0).close()
    with annotating(folder) as house:
        ann, ben, rita = house.ann, house.ben, house.rita
        ann.begin()
        ann.draw(1)
        ann.submit()
        assert ann.post("/annotate/next", status=204) == b"", "who did the first does not do the second"
        assert [house.people[one].get("/annotate")["counts"]["mine"] for one in ("ann", "ben")] == [0, 1]
        ben.begin()
        assert (ben.task["kind"], ben.task["after"], ben.task["proposals"]) == ("second", ann.task["id"], 0)
        ben.draw(1, numbers=(1,))
        ben.prompt(2, 1, lasso=[[34, 12], [38, 12], [38, 30], [34, 30]])
        ben.submit()
        assert ben.get("/annotate/disagreements", 403)
        (told,) = rita.get("/annotate/disagreements")
        assert (told["structure"], told["readers"], told["second"]) == (STRUCTURES[1], ["ann", "ben"], ben.task["id"])
        assert told["dice"] == told["slices"][0]["dice"] < 0.8
        rita.begin()
        assert (rita.task["id"], rita.task["kind"], rita.task["structures"]) == (
            told["adjudicate"],
            "adjudicate",
            [STRUCTURES[1]],
        )
        assert rita.task["own"] is False, "neither reading is hers"
        assert rita.submit()["masks"] == 1, "hers, as it stood"
        _, left, right = two_blocks()
        areas = {one.structure: one.mask.area for one in house.store.standing()}
        assert areas == {STRUCTURES[0]: left[1].sum(), STRUCTURES[1]: right[1].sum()}
        numbers = rita.get("/annotate/statistics")
        assert [(one["structure"], one["readers"], one["scans"]) for one in numbers["agreement"]] == [
            (name, ["ann", "ben"], 1) for name in STRUCTURES
        ]
        assert [(one["key"], one["masks"], one["boxes"]) for one in numbers["readers"]] == [
            ("ann", 2, 2),
            ("rita", 1, 0),
        ]


def test_a_lone_reader_is_told_that_what_is_left_waits_for_another_and_may_decide_then(folder):
    make_project(folder, 1, second=1.0).close()
    with annotating(folder) as house:
        ann, ada, store = house.ann, house.ada, house.store
        for name in ("ann", "ben", "rita"):
            store.change_user(store.user_named(name).id, active=False)
        ada.begin()
        ada.draw(1)
        ada.submit()
        assert ada.post("/annotate/next", status=204) == b""
        counts = ada.get("/annotate")["counts"]
        assert [counts[name] for name in ("open", "audits", "mine", "second", "to_review")] == [0, 0, 0, 1, 0]
        store.change_user(store.user_named("ann").id, active=True)
        ann.headers["Authorization"] = f"Bearer {store.add_token(store.user_named('ann').id, 'more')[1]}"
        assert ada.get("/annotate")["counts"]["second"] == 0
        ann.begin()
        ann.draw(1, numbers=(1,))
        ann.prompt(2, 1, lasso=[[34, 12], [38, 12], [38, 30], [34, 30]])
        ann.submit()
        ada.begin()
        assert (ada.task["kind"], ada.task["own"]) == ("adjudicate", True)


def test_what_a_model_made_alone_is_good_or_wrong_with_or_without_a_better_mask(folder):
    _, left, _ = two_blocks()
    name = STRUCTURES[0]
    with make_project(folder, 1) as project:
        (draw,) = project.store.tasks()
        rows = [NewAnnotation(draw.scan, name, "k", k, "accepted", CompactMask.of(left[1]), 3) for k in range(4)]
        project.store.add_annotations(rows)
        project.store.withdraw_tasks([draw.id], "made by the model alone")
        assert len(sample(project, 4)) == 4
    with annotating(folder) as house:
        ann, rita = house.ann, house.rita
        assert ann.post("/annotate/next", status=204) == b"", "reviewers audit"
        said = {"good": "good", "wrong": "wrong", "drawn": "wrong", "gone": "wrong"}
        for what, verdict in said.items():
            rita.take()
            opened = rita.post(f"/annotate/tasks/{rita.task['id']}/open")
            rita.session, (index,) = opened["session"], opened["task"]["slices"]
            assert opened["unseen"] == {name: [index]}
            if what == "drawn":
                rita.prompt(1, index, lasso=[[6, 10], [14, 10], [14, 24], [6, 24]])
                assert rita.submit(422, verdict="good")["parameters"] == ["verdict"]
            elif what == "gone":
                rita.prompt(1, index, drawn={"size": [40, 60], "counts": "P[2"})
            rita.submit(verdict=verdict)
            rita.submit(verdict=verdict)
        found = [(one.verdict, one.dice) for one in house.store.verdicts()]
        assert found[:2] == [("good", 1.0), ("wrong", None)]
        assert found[2][0] == "wrong"
        assert 0 < found[2][1] < 1
        assert found[3] == ("wrong", 0.0)
        assert [one.status for one in house.store.standing()] == ["accepted", "edited"], "the good one, and hers"
        counts = rita.get("/annotate")["counts"]
        assert (counts["submitted"], counts["to_review"]) == (4, 0), "nobody reviews a verdict"
        ann.begin()
        assert (ann.task["kind"], ann.task["id"]) == ("draw", draw.key), "it is drawn again"
        assert ann.submit(422, verdict="good")["parameters"] == ["absent"]
        assert ann.submit(422, absent=[STRUCTURES[1]], verdict="good")["parameters"] == ["verdict"]


def test_there_is_nothing_where_no_project_is_served(serve):
    client = serve()
    for method, path in (
        ("GET", ""),
        ("POST", "/next"),
        ("GET", "/tasks"),
        ("GET", "/tasks/abc"),
        ("POST", "/tasks/abc/open"),
        ("GET", "/statistics"),
        ("GET", "/disagreements"),
        ("GET", "/models"),
    ):
        answer = client.request(method, f"/api/v1/annotate{path}")
        assert (answer.status_code, "no project" in answer.json()["detail"]) == (404, True), path
