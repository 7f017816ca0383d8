from __future__ import annotations

import json

from projects import mask, people, scans
from stores import square

from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import Settings
from medsam.annotation.status import status_of
from medsam.cli.main import main
from medsam.store.project_records import NewAnnotation, NewTask


def test_a_project_says_where_it_stands_and_what_to_do(tmp_path, capsys):
    with AnnotationProject.create(tmp_path / "p", "livers", ("liver", "kidney"), Settings(stage=2)) as project:
        store = project.store
        anna, _, _ = people(store)
        one, other, _ = scans(store)
        asked = ("liver", "kidney")
        store.add_tasks([NewTask(one.id, asked, priority=1.0), NewTask(other.id, asked)])
        store.add_annotations([NewAnnotation(other.id, "kidney", "k", 0, "proposed", square(1, 4))])
        task = store.next_task(anna, 60)
        store.submit_task(task.id, anna, [mask(one.id, 0), mask(one.id, 1, status="accepted")])
        found = status_of(project)
    assert found["tasks"] == {"draw": {"open": 1, "submitted": 1}}
    assert found["masks"] == {"liver": {"accepted": 1, "edited": 1}, "kidney": {"proposed": 1}}
    assert found["missing"] == {"liver": 1.0, "kidney": 0.0}
    (line,) = found["effort"]["reader"]
    assert (line["key"], line["masks_per_hour"], line["clicks_per_mask"], line["share_untouched"]) == (
        "Anna",
        900,
        2,
        0.5,
    )
    assert [sentence.partition(":")[0] for sentence in found["next"]] == [
        "1 task to be reviewed, on the page.",
        "1 task to be drawn",
        "2 masks that no round has seen",
        "Masks that come filled in",
    ]
    assert main(["annotate", "status", str(tmp_path / "p"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["masks"] == found["masks"]
    assert main(["annotate", "status", str(tmp_path / "p")]) == 0
    shown = capsys.readouterr().out
    assert "Anna" in shown
    assert "50 %" in shown


def test_what_waits_for_another_reader_is_nothing_left_to_do(tmp_path, capsys):
    with AnnotationProject.create(tmp_path / "p", "livers", ("liver",), Settings()) as project:
        store, me = project.store, project.store.local_reader()
        (scan,) = scans(store, 1)
        (task,) = store.add_tasks([NewTask(scan.id, ("liver",))])
        store.next_task(me, 60)
        store.submit_task(task.id, me, [mask(scan.id, 0)])
        store.begin_round({})
        store.round_event(1, "ended", {"promoted": False})
        store.add_tasks([NewTask(scan.id, ("liver",), "second", after=task.id)])
        found = status_of(project)
        assert [one.partition(":")[0] for one in found["next"]] == [
            "Everything is drawn and seen",
            "1 second reading waits for another reader.",
        ]
        assert (found["nobodys"], found["to_review"]) == ({"second": 1}, 0)
        assert main(["annotate", "queue", str(tmp_path / "p")]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "0 tasks waiting; 1 task that nobody here may take" in shown
        assert "waits for another reader" in shown
        anna, _, _ = people(store)
        found = status_of(project)
        assert found["next"][:2] == [
            "1 task to be reviewed, on the page.",
            f"1 task to be drawn: `medsam serve --project {tmp_path / 'p'}`.",
        ]
        assert store.next_task(anna, 60).kind == "second"


def test_a_folder_without_a_project_is_refused(tmp_path, capsys):
    assert main(["annotate", "status", str(tmp_path)]) == 2
    assert "holds no project: `medsam annotate init` makes one" in capsys.readouterr().err
