"""Tasks over HTTP: taken, drawn, handed in, given back."""

from __future__ import annotations

import pytest
from annotating_house import STRUCTURES, annotating, make_project, propose
from readings_house import two_blocks

from medsam.masks import CompactMask
from medsam.store.project_records import NewAnnotation


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "project"


def test_two_readers_draw_in_turn_and_what_they_hand_in_is_the_projects(folder):
    make_project(folder).close()
    _, left, right = two_blocks()
    with annotating(folder) as house:
        ann, ben = house.ann, house.ben
        for one in (ann, ben):
            one.begin()
        assert (ann.task["scan"], ben.task["scan"]) == ("s0", "s1")
        told = ann.get(f"/sessions/{ann.session}")
        assert [(one["id"], one["name"]) for one in told["objects"]] == [(1, STRUCTURES[0]), (2, STRUCTURES[1])]
        assert ann.get("/version")["project"]
        project = ann.get("/annotate")
        assert [one["colour"] for one in project["structures"]] == [one["colour"] for one in told["objects"]]
        assert project["me"]["task"] == ann.task["id"]
        assert project["me"]["case"] == ann.task["case"]
        assert {name: count for name, count in project["counts"].items() if count} == {"taken": 2}
        ann.draw(1, 2)
        ann.prompt(1, 2, points=[[10, 14, 1], [12, 16, 1]])
        ann.post(f"/sessions/{ann.session}/undo")
        done = ann.submit()
        assert (done["masks"], done["untouched"], done["clicks"], done["dice"]) == (4, 0, 2, None)
        assert done["task"]["state"] == "submitted"
        standing = list(house.store.standing())
        assert [(one.structure, one.slice, one.status) for one in standing] == [
            (name, index, "edited") for name in STRUCTURES for index in (1, 2)
        ]
        assert (standing[0].mask.to_array() == left[1]).all()
        assert (standing[2].mask.to_array() == right[1]).all()
        assert [(one.effort.clicks, one.effort.boxes, one.effort.seconds) for one in standing] == [
            (0, 1, 2.0),
            (2, 1, 2.0),
            (0, 1, 2.0),
            (0, 1, 2.0),
        ]
        assert {one.model for one in standing} == {"threshold"}
        assert standing[0].weights == ann.get("/annotate")["weights"]
        # the answer was lost, and is asked for again
        assert ann.submit() == done
        assert len(list(house.store.standing())) == 4
        assert ann.get("/annotate")["me"] == {
            "task": None,
            "case": None,
            "done": 1,
            "today": 1,
            "masks": 4,
            "gold": None,
        }
        assert ann.post("/annotate/next", status=204) == b""
        ben.submit(422)
        assert ben.submit(absent=list(STRUCTURES))["masks"] == 0


def test_proposals_are_taken_untouched_changed_or_removed(folder):
    project = make_project(folder, 1)
    _, left, _ = two_blocks()
    (scan,) = project.store.scans()
    ids = [propose(project.store, scan, left[0], index) for index in (0, 1, 2)]
    project.close()
    with annotating(folder) as house:
        ann = house.ann
        assert ann.take()["proposals"] == 3
        task = f"/annotate/tasks/{ann.task['id']}"
        assert ann.post(f"{task}/open")["unseen"] == {STRUCTURES[0]: [0, 1, 2]}
        ann.open()
        # another one drawn, one taken away, one left
        ann.prompt(1, 1, lasso=[[6, 10], [14, 10], [14, 24], [6, 24]])
        nothing = {"size": [40, 60], "counts": "P[2"}
        ann.prompt(1, 2, drawn=nothing)
        ann.prompt(2, 3, box=[32, 10, 52, 32])
        assert ann.post(f"{task}/open")["unseen"] == {STRUCTURES[0]: [0]}
        # a session that begins from this one, as after another model came
        ann.ask("DELETE", f"/sessions/{ann.session}", status=204)
        again = ann.post(f"{task}/open")
        assert (again["session"] != ann.session, again["unseen"]) == (True, {STRUCTURES[0]: [0]})
        ann.session = again["session"]
        done = ann.submit()
        assert (done["masks"], done["untouched"]) == (3, 1)
        found = {
            (one.structure, one.slice): one for one in house.store.standing(scan.id, ("accepted", "edited", "rejected"))
        }
        kept, changed, gone = (found[STRUCTURES[0], index] for index in (0, 1, 2))
        assert (kept.status, kept.parent, kept.model, kept.expected_dice) == ("accepted", ids[0], "tiny", 0.9)
        assert (changed.status, changed.parent, changed.effort.strokes) == ("edited", ids[1], 1)
        assert (gone.status, gone.parent) == ("rejected", ids[2])
        assert found[STRUCTURES[1], 3].parent is None
        (event,) = house.store.task_events(kinds=["submitted"])
        assert (event.details["strokes"], event.details["boxes"], event.details["session"]) == (2, 1, ann.session)


def test_work_that_was_interrupted_is_all_told_and_what_comes_meanwhile_is_not_what_it_began_from(folder):
    project = make_project(folder)
    scan, other = project.store.scans()
    project.close()
    _, left, _ = two_blocks()
    with annotating(folder) as house:
        ann, ben, store = house.ann, house.ben, house.store
        first = ann.begin()
        ann.draw(1)
        ann.prompt(1, 3, box=[4, 8, 22, 26])
        ann.post(f"/sessions/{first}/undo")
        ann.post(f"/annotate/tasks/{ann.task['id']}/leave", {"seconds": 4.0})
        ann.ask("DELETE", f"/sessions/{first}", status=204)
        assert ann.begin() != first
        # the same as hers, and she never saw it
        propose(store, scan, left[1], 1)
        ann.draw(2, numbers=(2,))
        done = ann.submit(seconds=8.0)
        assert (done["masks"], done["untouched"]) == (3, 0)
        standing = list(store.standing())
        assert [(one.structure, one.slice, one.status, one.parent) for one in standing] == [
            (STRUCTURES[0], 1, "edited", None),
            (STRUCTURES[1], 1, "edited", None),
            (STRUCTURES[1], 2, "edited", None),
        ]
        assert {(one.model, one.weights) for one in standing} == {("threshold", ann.get("/annotate")["weights"])}
        assert all(one.predicted_iou is not None for one in standing), "whichever session it was drawn in"
        (line,) = store.effort("reader")
        assert (line.masks, line.boxes, line.seconds, line.timed) == (3, 4, 12.0, 3), "also what came to nothing"
        assert store.standing_counts() == {(STRUCTURES[0], "edited"): 1, (STRUCTURES[1], "edited"): 2}
        store.add_annotations([NewAnnotation(other.id, STRUCTURES[0], "i", 1, "edited", CompactMask.of(left[:, :, 5]))])
        ben.take()
        told = ben.post(f"/annotate/tasks/{ben.task['id']}/open", status=422)
        assert "masks on slices across axis i, and is drawn on across k" in told["detail"]
