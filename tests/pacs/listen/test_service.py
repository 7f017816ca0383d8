"""The receiver as a whole: what is sent to it, what it makes, and what it sends back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import made_results
import pytest
from dicom_files import PATIENT, SERIES, STUDY, save
from running import KEY, QUIET, images
from senders import Peer, association, pdata, send, store_request

from medsam.pacs.listen.names import SeriesKey, short
from medsam.pacs.listen.outbox import Outbox, wait_after
from medsam.pacs.listen.rules import Command, Match, Rule

# what a command does without Python's start of a second
COUNT = Command(("/bin/sh", "-c", 'ls "$1" > "$2/names"', "count", "{folder}", "{out}"))
FAIL = Command(("/bin/sh", "-c", "echo DOE^JANE; exit 3", "fail", "{folder}"))


def test_a_series_is_worked_on_once_it_is_complete(run):
    found = run(Rule("count", Match(), COUNT))
    some = images(4)
    # over two associations, with another series in between
    send(found.port, [some[0], *images(1, "1.2.9.9"), some[1]])
    found.send(some[2:], calling="CT2")
    found.until(lambda: found.rounds())
    (made,) = found.rounds()
    assert (made.state, made.rule, made.instances, made.send) == ("done", "count", 4, None)
    names = (found.receiver.spool.find(KEY).results(1) / "names").read_text().split()
    assert names == sorted(f"{ds.SOPInstanceUID}.dcm" for ds in some)
    found.until(lambda: found.rounds(SeriesKey(STUDY, "1.2.9.9")))
    assert list((found.receiver.spool.folder / ".work").iterdir()) == []


def test_late_instances_make_another_round_and_it_is_said(run):
    found, some = run(Rule("count", Match(), COUNT)), images(4)
    found.send(some[:3])
    found.until(lambda: found.rounds())
    found.send(some[2:])
    found.until(lambda: len(found.rounds()) == 2)
    assert [made.instances for made in found.rounds()] == [3, 4]
    assert found.heard("late")[0]["instances"] == "4 instances"
    # the same again is nothing new
    found.send(some)
    found.until(lambda: not found.receiver.status()["arriving"])
    assert len(found.rounds()) == 2


def test_no_rule_no_work(run):
    found = run(Rule("mr", Match(modality=("MR",)), COUNT))
    found.send(images(1))
    found.until(lambda: found.rounds())
    assert found.rounds()[0].state == "none"
    assert not found.receiver.spool.failures()


def test_a_result_is_sent_to_the_server_of_its_rule(run, liver):
    found = run(liver)
    found.send(images(6))
    found.until(lambda: found.sent)
    ((server, (content,)),) = found.sent
    assert server == "main"
    made = found.rounds()[0]
    assert (found.receiver.spool.find(KEY).results(1) / made.results[0]["file"]).read_bytes() == content
    found.until(lambda: found.rounds()[0].send["state"] == "sent")
    # a result that an archive forwards to its sender is none of our business, even where a rule would take it
    assert found.receiver.jobs._is_ours(_facts_of(made.results[0]["instance"]))


def _facts_of(instance: str):
    from medsam.pacs.listen.rules import Facts

    empty = frozenset()
    return Facts(SeriesKey(STUDY, "1.2.55"), frozenset({instance}), "SEG", empty, empty, "", "", empty, ())


@pytest.fixture(scope="module")
def liver(tmp_path_factory) -> Rule:
    """Its command copies a result that was made of the six images before."""
    folder, out = tmp_path_factory.mktemp("scan"), tmp_path_factory.mktemp("made")
    for ds in images(6):
        save(ds, folder / f"{ds.SOPInstanceUID}.dcm")
    made = made_results.rtstruct(folder, out / "result.dcm")
    copy = Command(("/bin/sh", "-c", 'test -d "$2" && cp "$0" "$1"', str(made), "{out}", "{folder}"))
    return Rule("liver", Match(), copy, send_to="main")


def test_a_failed_job_is_recorded_and_tried_again_when_its_file_is_removed(run):
    found = run(Rule("fails", Match(), FAIL))
    found.send(images(1))
    found.until(lambda: found.rounds())
    (made,) = found.rounds()
    assert made.state == "failed"
    assert "exit status 3" in made.message
    (failure,) = found.receiver.spool.failures()
    assert json.loads(failure.read_text())["series"] == SERIES
    assert "DOE" not in failure.read_text() + json.dumps(found.said)
    # what it printed is there for whoever may see it
    assert "DOE" in (found.receiver.spool.find(KEY).results(1) / "command.log").read_text()
    failure.unlink()
    found.until(lambda: len(found.rounds()) == 2)


def test_sending_is_tried_again_with_growing_waits_and_after_a_restart(run, liver):
    found = run(liver)
    found.refuse.append("The server is not there.")
    found.send(images(6))
    found.until(lambda: found.heard("send_waiting"))
    assert found.heard("send_waiting")[0]["message"] == "The server is not there."
    found.ahead = 11.0
    found.until(lambda: len(found.heard("send_waiting")) == 2)
    found.ahead += 11.0
    time.sleep(0.1)
    assert len(found.heard("send_waiting")) == 2
    found.stop()
    again = run(liver)
    assert again.heard("resumed")[0]["results"] == "1 result"
    again.ahead = 60.0
    again.until(lambda: again.sent)
    assert len(again.rounds()) == 1


def test_a_record_that_cannot_be_written_does_not_send_again_at_once(run, liver, monkeypatch):
    found = run(liver)

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Outbox, "_after", full)
    found.send(images(6))
    found.until(lambda: found.heard("error"))
    for _ in range(20):
        found.receiver.tick()
    assert len(found.sent) == 1
    assert found.heard("error")[0]["message"] == "No space left on device"
    monkeypatch.undo()
    found.ahead = 61.0
    found.until(lambda: found.heard("send_sent"))


def test_waits_grow_to_an_hour():
    assert [wait_after(n) for n in (1, 2, 3, 20, 10**6)] == [10, 20, 40, 3600, 3600]


def test_what_is_never_taken_is_given_up_and_can_be_tried_again(run, liver):
    found = run(liver)
    found.refuse.append("No.")
    found.send(images(6))
    found.until(lambda: found.heard("send_waiting"))
    # a clock that is put forward gives nothing up
    found.ahead = 4 * 86400.0
    for attempt in range(2, 24):
        found.until(lambda attempt=attempt: len(found.heard("send_waiting")) == attempt)
        found.ahead += 3601.0
    found.until(lambda: found.heard("send_failed"))
    assert found.heard("send_failed")[0]["attempts"] == 24
    (failure,) = found.receiver.spool.failures()
    assert json.loads(failure.read_text())["message"] == "Not sent: No."
    found.refuse.clear()
    failure.unlink()
    found.until(lambda: found.sent)


def test_old_series_go_when_they_are_finished_and_not_before(run):
    found = run(Rule("fails", Match(description=("thorax*",)), FAIL), keep_s=86400.0)
    found.send(images(1))
    found.until(lambda: found.rounds() and not found.receiver.status()["at_work"])
    used = found.receiver.spool.space.used
    found.pass_time(80000.0)
    found.receiver._remove_old()
    assert found.receiver.spool.find(KEY).files()
    found.pass_time(10000.0)
    found.receiver._remove_old()
    assert not (found.receiver.spool.folder / "series" / STUDY).exists()
    assert found.receiver.spool.failures() == []
    assert found.receiver.spool.space.used < used
    assert found.heard("removed")


def test_what_arrives_or_waits_to_be_sent_is_never_old(run, liver):
    found = run(liver, keep_s=0.0)
    found.refuse.append("No.")
    found.send(images(6))
    found.receiver._remove_old()
    found.until(lambda: found.heard("send_waiting"))
    found.pass_time(1000.0)
    found.receiver._remove_old()
    assert len(found.receiver.spool.find(KEY).files()) == 6


def test_a_clock_that_is_put_forward_makes_nothing_old(run):
    found = run(Rule("count", Match(), COUNT), keep_s=86400.0)
    found.send(images(1))
    found.until(lambda: found.rounds() and not found.receiver.status()["at_work"])
    for jump in (400 * 86400.0, -3600.0):
        found.ahead += jump
        found.receiver._remove_old()
        assert found.receiver.spool.find(KEY).files()
    assert [one["where"] for one in found.heard("clock")] == ["forward", "back"]
    found.pass_time(90000.0)
    found.receiver._remove_old()
    assert not found.receiver.spool.find(KEY).files()


def test_a_clock_that_is_put_back_delays_no_sending(run, liver):
    found = run(liver)
    found.ahead = 7200.0
    found.refuse.append("No.")
    found.send(images(6))
    found.until(lambda: found.heard("send_waiting"))
    found.refuse.clear()
    found.ahead = 0.0
    found.until(lambda: found.sent)


def test_the_log_and_the_status_name_no_patient(run):
    found = run(Rule("fails", Match(), FAIL))
    found.send(images(2, AccessionNumber="ACC-1", StudyDescription=PATIENT))
    with association(found.port, calling="STRANGER"):
        pass
    found.until(lambda: found.receiver.status()["failed"])
    found.receiver._write_status()
    said = json.dumps(found.said)
    status = (found.receiver.spool.folder / "status.json").read_text()
    for secret in ("DOE", "JANE", "4711", "1950", "ACC-1", "thorax", STUDY + '"', SERIES):
        assert secret not in said + status
    assert short(SERIES) in said
    numbers = json.loads(status)
    assert (numbers["received_instances"], numbers["failed"]) == (2, 1)
    assert sum(numbers["refused"].values()) == 1


def test_a_stop_interrupts_jobs_which_begin_anew(run):
    slow = Rule("slow", Match(), Command(("/bin/sh", "-c", 'touch "$1/begun"; sleep 60', "slow", "{out}", "{folder}")))
    found = run(slow)
    found.send(images(1))
    found.until(lambda: list((found.receiver.spool.folder / ".work").rglob("begun")))
    began = time.monotonic()
    found.stop()
    assert time.monotonic() - began < 5
    assert found.rounds() == []
    again = run(Rule("count", Match(), COUNT))
    assert again.heard("resumed")[0]["series"] == "1 series"
    again.skipped += QUIET
    again.until(lambda: again.rounds())
    assert again.rounds()[0].state == "done"


CHILD = """
import sys
from pathlib import Path
from medsam.pacs.listen.config import ListenSettings
from medsam.pacs.listen.events import Events
from medsam.pacs.listen.rules import Command, Match, Rule
from medsam.pacs.listen.service import Receiver
rule = Rule("slow", Match(), Command(("/bin/sh", "-c", "sleep 60", "slow", "{folder}")))
settings = ListenSettings(Path(sys.argv[1]), port=0, calling=("CT1",), quiet_s=0.1, keep_free=0, rules=(rule,))
receiver = Receiver(settings, Events(), lambda *_: None)
receiver.start()
print(receiver.port, flush=True)
receiver.loop()
"""


def test_a_receiver_that_is_killed_goes_on_where_it_was(run, tmp_path):
    """In the middle of a file, and of a job."""
    folder = tmp_path / "folder"
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        send(port, images(2))
        peer = Peer(port).associate().send(pdata(store_request(), command=True, last=True))
        peer.send(pdata(b"\x08\x00\x05\x00" * 100, command=False, last=False))
        end = time.monotonic() + 20
        while not (list((folder / ".incoming").iterdir()) and list((folder / ".work").iterdir())):
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    peer.socket.close()
    found = run(Rule("count", Match(), COUNT))
    assert list((folder / ".incoming").iterdir()) == []
    found.skipped += QUIET
    found.until(lambda: found.rounds())
    assert [(made.state, made.instances) for made in found.rounds()] == [("done", 2)]
    assert [path.name for path in (folder / "series").iterdir()] == [STUDY]
